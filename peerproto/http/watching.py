"""What those are told who watch a node: the stream of events, and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from peerproto import StickTableService
from peerproto.http.access import Access
from peerproto.http.collector import NodeCollector
from peerproto.http.events import Events
from peerproto.http.lateness import Lateness
from peerproto.http.metrics import CONTENT_TYPE as METRICS_TYPE
from peerproto.http.metrics import Metrics, TopEntries
from peerproto.http.routes import Parameter, Routes, Schema
from peerproto.http.sse import CONTENT_TYPE as EVENTS_TYPE
from peerproto.http.wanted import QUERY

TEXT: Final[Schema] = {"type": "string"}

LAST_EVENT: Final = Parameter(
    "Last-Event-ID", "The id of the last event that was read: what has changed since comes first."
)


class Watching:
    """Has the routes for them, and what works behind these."""

    def __init__(
        self,
        service: StickTableService,
        access: Access,
        clock: IReactorTime,
        timer: Callable[[], float] = time.thread_time,
    ) -> None:
        """``timer`` measures in s what work costs."""
        self.events = Events(service, clock, lambda: access.settings.event_clients, timer)
        self._lateness = Lateness(clock)
        node = NodeCollector(service, self._lateness, self.events.metrics)
        self._metrics = Metrics(
            service, node, TopEntries(service, lambda: access.settings.metrics_top)
        )

    def add_to(self, routes: Routes) -> None:
        """Have the routes among others."""
        routes.add(
            "GET",
            "/metrics",
            self._metrics.show,
            "What is measured, in Prometheus's text format",
            answers={200: TEXT},
            problems=(503,),
            content_type=METRICS_TYPE,
        )
        routes.add(
            "GET",
            "/v1/events",
            self.events.follow,
            "What happens, as it happens, as server-sent events",
            query=QUERY,
            headers=(LAST_EVENT,),
            answers={200: TEXT},
            problems=(404, 422, 503),
            content_type=EVENTS_TYPE,
        )

    def start(self) -> None:
        """Begin to look how late the reactor is."""
        self._lateness.start()

    def stop(self) -> None:
        """Let all clients go."""
        self._lateness.stop()
        self.events.stop()

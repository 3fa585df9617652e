"""``/metrics``: a node in Prometheus's text format, written in turns with other work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred

from peerproto import StickTableService
from peerproto.http.collector import NodeCollector
from peerproto.http.top import TopEntries
from peerproto.service.query import Steps

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Writes all that is measured."""

    def __init__(self, service: StickTableService, node: NodeCollector, top: TopEntries) -> None:
        self._service = service
        self._node = node
        self._process = ProcessCollector(registry=None)
        self._top = top
        self._waiting: list[Deferred[bytes]] = []
        """Who waits for the text that is being written."""

    def text(self) -> Deferred[bytes]:
        """The text, one for all who ask at the same time.

        Fails with ``CancelledError`` when the service stops.
        """
        waiter: Deferred[bytes] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._write()).addBoth(self._written)
        return waiter

    def _written(self, result: object) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(result)  # type: ignore[arg-type]  # or a Failure

    async def _write(self) -> bytes:
        top = await self._top.family()
        return await self._service.in_turns(self._steps(() if top is None else (top,)))

    def _steps(self, more: Iterable[Metric]) -> Steps[bytes]:
        pieces = []
        for families in (self._node.collect(), more, self._process.collect()):
            for family in families:
                pieces.append(generate_latest(_Alone(family)))
                yield
        return b"".join(pieces)


class _Alone(Collector):
    """One family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        return (self._family,)

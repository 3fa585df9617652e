"""``/metrics``: a node in Prometheus's text format, written in turns with other work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Optional

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from peerproto import Entry, LocalProtocolError, StickTableService
from peerproto.http.answers import Answer
from peerproto.http.collector import NodeCollector
from peerproto.http.routes import Call
from peerproto.http.top import Top
from peerproto.service.printable import printable
from peerproto.service.query import Steps
from peerproto.service.text import format_key

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

    async def show(self, call: Call) -> Answer:
        """Answer with the text."""
        return Answer(await self.text(), content_type=CONTENT_TYPE)

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


class TopEntries:
    """Finds the entries, in turns with other work."""

    _log = Logger()

    def __init__(self, service: StickTableService, tops: Callable[[], tuple[Top, ...]]) -> None:
        """``tops`` gives what is asked for now."""
        self._service = service
        self._tops = tops
        self._told: dict[Top, str] = {}
        """What was logged of those that failed."""

    async def family(self) -> Optional[GaugeMetricFamily]:
        """All that is found; ``None`` if nothing was asked for. A table that is not there has no
        entries.

        :raises CancelledError: the service stops.
        """
        tops = self._tops()
        if not tops:
            return None
        family = GaugeMetricFamily(
            "peerproto_top",
            "Entries with the highest values, as metrics-top asks for them",
            labels=("table", "value", "key", "peer"),
        )
        for top in tops:
            for entry in await self._find(top):
                key = format_key(entry.raw_key, entry.layout.key_type)
                labels = (printable(top.table), top.by, key, printable(entry.peer or ""))
                family.add_metric(labels, entry.number(top.by))
        return family

    async def _find(self, top: Top) -> list[Entry]:
        table = self._service.find_table(top.table)
        try:
            found = [] if table is None else await table.top_in_turns(top.count, top.by)
        except CancelledError:
            raise
        except LocalProtocolError as problem:
            if self._told.get(top) != str(problem):
                self._told[top] = str(problem)
                self._log.warn(
                    "metrics-top {table}:{by}: {problem}",
                    table=top.table,
                    by=top.by,
                    problem=problem,
                )
            return []
        return found


class _Alone(Collector):
    """One family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        return (self._family,)

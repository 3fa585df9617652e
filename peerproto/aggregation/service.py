"""All aggregates of a node, as a service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from peerproto import LocalProtocolError, StickTableService
from peerproto.aggregation.aggregate import Aggregate
from peerproto.aggregation.part import NAME, AggregationPart
from peerproto.aggregation.rules import Rules, check_no_circle


class Aggregation(Service):
    """Adds up what the peers of a `StickTableService` count: one `Aggregate` for each table.

    Start it before the service of the tables, of which it is the part ``aggregation``.
    """

    _log = Logger()

    def __init__(
        self, tables: StickTableService, rules: Iterable[Rules] = (), reactor: Any = None
    ) -> None:
        """
        :param tables: the service whose tables are summed.
        :param reactor: the reactor, or a clock of tests.
        :raises LocalProtocolError: see `check_no_circle`.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._tables = tables
        self._clock: IReactorTime = reactor
        self._rules = {one.source: one for one in rules}
        check_no_circle(self._rules.values())
        self.aggregates: dict[str, Aggregate] = {}
        """By the name of the table that is summed."""

    def startService(self) -> None:
        """Share the tables as sums need them, and begin to publish."""
        super().startService()
        self._tables.add_part(NAME, AggregationPart(self._tables, self.aggregates))
        for rules in self._rules.values():
            self._begin(rules)

    def stopService(self) -> None:
        """Publish nothing more."""
        super().stopService()
        for aggregate in self.aggregates.values():
            aggregate.stop()
        self.aggregates.clear()
        self._tables.remove_part(NAME)

    def take(self, rules: Iterable[Rules]) -> None:
        """Have these aggregates from now on: those that stay as they are go on. No session is
        touched.

        :raises LocalProtocolError: see `check_no_circle`. Nothing is changed then.
        """
        after = {one.source: one for one in rules}
        check_no_circle(after.values())
        before, self._rules = self._rules, after
        if not self.running:
            return
        for source, old in before.items():
            if after.get(source) != old:
                aggregate = self.aggregates.pop(source, None)
                if aggregate is not None:
                    aggregate.stop()
                if source not in after:
                    self._share_evenly(old)
        for source, new in after.items():
            if before.get(source) != new:
                self._begin(new)

    def _begin(self, rules: Rules) -> None:
        aggregate = self.aggregates[rules.source] = Aggregate(self._tables, rules, self._clock)
        aggregate.start()

    def _share_evenly(self, rules: Rules) -> None:
        """An aggregate is none any more: its tables are as all others are."""
        for name in (rules.source, *rules.made):
            try:
                self._tables.share(name)
            except LocalProtocolError as problem:
                self._log.error("table {name}: {problem}", name=name, problem=problem)

"""All aggregates of a node, as a service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from peerproto import LocalProtocolError, StickTableService
from peerproto.aggregation.part import NAME, AggregationPart
from peerproto.aggregation.rules import Rules, check_no_circle

if TYPE_CHECKING:
    from peerproto.aggregation.aggregate import Aggregate


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
        self._own: set[str] = set()
        """The outputs that aggregates have declared themselves."""

    def startService(self) -> None:
        """Share the tables as sums need them, and begin to publish."""
        super().startService()
        self._tables.add_part(NAME, AggregationPart(self._tables, self.aggregates))
        for problem in self._begin_all():
            self._log.error("an aggregate has not begun: {problem}", problem=problem)

    def stopService(self) -> None:
        """Publish nothing more."""
        super().stopService()
        for source in list(self.aggregates):
            self._end(source)
        self._tables.remove_part(NAME)

    def leave(self, rules: Iterable[Rules]) -> None:
        """End the aggregates that are not, or not so, among these: their tables are as all others
        are, but for those that are summed or made all the same.

        :raises LocalProtocolError: see `check_no_circle`. Nothing is changed then.
        """
        after = {one.source: one for one in rules}
        check_no_circle(after.values())
        stay = {table for one in after.values() for table in (*one.shared, *one.made)}
        for source, aggregate in list(self.aggregates.items()):
            old = aggregate.rules
            if after.get(source) != old:
                self._end(source)
                self._share_evenly({*old.shared, *old.made} - stay)

    def take(self, rules: Iterable[Rules]) -> None:
        """Have these aggregates from now on: those that stay as they are go on. No session is
        touched.

        :raises LocalProtocolError: see `check_no_circle`, when nothing is changed; or one of the
            aggregates could not begin, while the others have.
        """
        rules = list(rules)
        self.leave(rules)
        self._rules = {one.source: one for one in rules}
        problems = self._begin_all() if self.running else []
        for problem in problems[1:]:
            self._log.error("an aggregate has not begun: {problem}", problem=problem)
        if problems:
            raise problems[0]

    def _begin_all(self) -> list[LocalProtocolError]:
        """Begin the aggregates that have not begun: why some of them could not."""
        problems: list[LocalProtocolError] = []
        if not self._rules:
            return problems
        # A node without aggregates starts sooner without this.
        from peerproto.aggregation.aggregate import Aggregate

        for source, rules in self._rules.items():
            if source not in self.aggregates:
                aggregate = Aggregate(self._tables, rules, self._clock, self._own)
                try:
                    aggregate.start()
                except LocalProtocolError as problem:
                    aggregate.stop()
                    problems.append(problem)
                else:
                    self.aggregates[source] = aggregate
        return problems

    def _end(self, source: str) -> None:
        try:
            self.aggregates.pop(source).stop()
        except Exception:
            self._log.failure("aggregate {name} has not ended well", name=source)

    def _share_evenly(self, names: Iterable[str]) -> None:
        """Tables of an aggregate are as all others are."""
        for name in names:
            try:
                self._tables.share(name)
            except LocalProtocolError as problem:
                self._log.error("table {name}: {problem}", name=name, problem=problem)

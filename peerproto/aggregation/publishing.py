"""Publishing: sums of keys, from the shares of a source into the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from twisted.logger import Logger

from peerproto import LocalProtocolError, StickTable, StickTableService
from peerproto.aggregation.returns import Returns
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.sources import Sources
from peerproto.aggregation.throughput import Throughput
from peerproto.service.lastsaid import LastSaid
from peerproto.service.sums import Sums, Total


class Publisher:
    """Adds up keys, and stores the sums. It can as long as `open` was called with two tables."""

    _log = Logger()

    def __init__(
        self,
        service: StickTableService,
        rules: Rules,
        sources: Sources,
        connected: Callable[[str], bool],
    ) -> None:
        """
        :param connected: tells whether the current connections of a peer count.
        """
        self._service = service
        self._rules = rules
        self._sources = sources
        self._connected = connected
        self._sums: Optional[Sums] = None
        self.last_said: Optional[LastSaid] = None
        """What sources have said last, as far as they say different things."""
        self._layouts: Optional[tuple[object, ...]] = None
        """The source, its layout and that of the output, for which that is so."""
        self.output: Optional[StickTable] = None
        """The table that the sums go to; ``None`` if nothing can be summed."""
        self.lacks: Optional[str] = None
        """Why the output has not all sums, in words; ``None`` if it has."""
        self.published = Throughput()
        """How many sums were stored."""

    def open(self, source: StickTable, output: StickTable) -> None:
        """Publish from one table to another one from now on.

        :raises LocalProtocolError: one cannot be summed to the other; nothing is published then.
        """
        self.close()
        layouts = source, source.layout, output.layout
        self._sums = Sums(
            source,
            output,
            self._rules.tags,
            stamped=self._rules.stamped,
            numbered=self._rules.source_lease is not None,
            last_said=self.last_said if layouts == self._layouts else None,
        )
        self.last_said, self._layouts = self._sums.last_said, layouts
        self.output = output

    def close(self) -> None:
        """Publish nothing."""
        self._sums = self.output = self.lacks = None

    @property
    def is_open(self) -> bool:
        """Whether there is something to publish from, and to."""
        return self._sums is not None

    @property
    def has_conn_cur(self) -> bool:
        """Whether current connections are added up."""
        return self._sums is not None and self._sums.has_conn_cur

    def publish(self, keys: list[bytes], returns: Returns) -> None:
        """Store the sums of some keys as they are now, and have keys return when these must be
        summed again."""
        output, sums = self.output, self._sums
        assert output is not None and sums is not None
        now = self._service.now()
        totals, nothing = sums.of(keys, self._sources.words(), self._connected)
        for total in totals:
            returns.put(total.raw_key, None if total.again is None else now + total.again)
        self.published.add(self._store(output, totals), now)
        for key in nothing:
            returns.put(key, None)
        left = [key for key in nothing if output.get_raw(key) is not None]
        if left:
            # What was summed was removed before its time.
            output.forget_raw(left)

    def _store(self, output: StickTable, totals: list[Total]) -> int:
        """Store sums: how many were stored."""
        entries = [(one.raw_key, one.record, one.life) for one in totals]
        try:
            stored = output.replace_raw(entries)
        except LocalProtocolError as problem:
            if len(entries) > 1:
                return sum(self._store(output, [one]) for one in totals)
            self._left_out(f"a sum is left out: {problem}")
            return 0
        if stored < len(entries):
            self._left_out(f"there is no room in table {output.name} for all sums")
        return stored

    def _left_out(self, why: str) -> None:
        """The output has not all sums, for the reason in words: that is logged once."""
        if self.lacks is None:
            self.lacks = why
            self._log.error("aggregate {name}: {why}", name=self._rules.source, why=why)

"""The agenda of an aggregate: which keys are to be published, and when."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import islice
from typing import Final, Optional

from twisted.logger import Logger

from peerproto import LocalProtocolError, StickTable
from peerproto.aggregation.pacing import Pacing
from peerproto.aggregation.returns import Returns

_LOOKS: Final = 100
"""Entries that are looked at in one step: a ms."""


class Agenda:
    """Keys that have changed, or may have, in the order in which that was known; and those that
    come back at some time. Times are in ms."""

    _log = Logger()

    def __init__(self, interval: int) -> None:
        """``interval`` is that of `Pacing`."""
        self.returns = Returns()
        """Keys that are to be published again at some time."""
        self._pacing = Pacing(interval)
        self._pending: dict[bytes, int] = {}
        """Keys that are to be published now, and since when."""
        self._walks: dict[tuple[StickTable, Optional[str]], int] = {}
        """Tables whose keys are all to be published, or those with a value in a column; and since
        when."""
        self._walk: Optional[Generator[None, None, None]] = None
        """The first of them, under way."""

    def __len__(self) -> int:
        """How many keys are to be published now, as far as is known."""
        return len(self._pending)

    def clear(self) -> None:
        """Forget everything."""
        self.returns.clear()
        self._pacing.clear()
        self._pending.clear()
        self._forget_walks()

    def changed(self, keys: Iterable[bytes], now: int) -> None:
        """These keys have changed: they are to be published now, or after their interval."""
        for key in self._pacing.changed(keys, now):
            self._pending.setdefault(key, now)

    def look_at(self, tables: Iterable[StickTable], now: int, column: Optional[str] = None) -> None:
        """All keys of some tables are to be published; or those with a value in a column."""
        for table in tables:
            self._walks.setdefault((table, column), now)

    def look_at_all(self, tables: Iterable[StickTable], now: int) -> None:
        """The same for all tables that there are, and from their beginning."""
        self._forget_walks()
        self.look_at(tables, now)

    def _forget_walks(self) -> None:
        self._walk = None
        self._walks.clear()

    def take(self, most: int, now: int) -> list[bytes]:
        """Take keys to publish now, about so many at most.

        What has not changed has a part of them, however much has.
        """
        for key in self._pacing.due(now):
            self._pending.setdefault(key, now)
        keys = self.returns.due(now, most // 4 if self._pending else most)
        changed = list(islice(self._pending, most))
        for key in changed:
            del self._pending[key]
        return [*keys, *changed]

    def walk_on(self) -> bool:
        """Look at some more entries, if any are to be looked at: whether there are more."""
        if self._walk is None and self._walks:
            (table, column), since = next(iter(self._walks.items()))
            self._walk = self._walked(table, column, since)
        if self._walk is not None and next(self._walk, self) is self:
            self._walk = None
            del self._walks[next(iter(self._walks))]
        return bool(self._walks)

    def _walked(
        self, table: StickTable, column: Optional[str], since: int
    ) -> Generator[None, None, None]:
        try:
            for looked, (_, entry) in enumerate(table.walk(), 1):
                if entry is not None and (column is None or entry[column]):
                    self._pending.setdefault(entry.raw_key, since)
                if looked % _LOOKS == 0:
                    yield
        except LocalProtocolError:
            self._log.debug("{table} is gone", table=table)

    def has_some(self, now: int) -> bool:
        """Whether there is something to publish now."""
        back = self.returns.next_due
        return bool(self._pending or (back is not None and back <= now))

    def next_due(self) -> Optional[int]:
        """When there will be something to publish; ``None`` if nothing is known of that."""
        times = (self._pacing.next_due, self.returns.next_due)
        return min((one for one in times if one is not None), default=None)

    def oldest(self, now: int) -> int:
        """Since when the key waits that has waited longest, but for its interval; ``now`` if none
        does."""
        waits = [next(iter(some.values()), now) for some in (self._pending, self._walks)]
        back = self.returns.next_due
        return min(now, *waits, now if back is None else back)

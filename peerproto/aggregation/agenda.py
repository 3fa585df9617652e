"""The agenda of an aggregate: which keys are to be published, and when."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final, Optional, Protocol

from twisted.logger import Logger

from peerproto import LocalProtocolError, StickTable
from peerproto.aggregation.pacing import Pacing
from peerproto.aggregation.returns import Returns

_LOOKS: Final = 2000
"""Keys that are looked at in one step, or a few more: a ms."""

_READS: Final = 100
"""Entries of which a value is read in one step: a ms, too."""


class Keys(Protocol):
    """What has keys: a table, or another thing that is kept of keys."""

    def raw_keys(self) -> Iterator[bytes]:
        """All keys. They may change meanwhile."""


class Agenda:
    """Keys that have changed, or may have, in the order in which that was known; and those that
    come back at some time. Times are in ms."""

    _log = Logger()

    def __init__(self, interval: int) -> None:
        """``interval`` is that of `Pacing`."""
        self.returns = Returns()
        """Keys that are to be published again at some time."""
        self._pacing = Pacing(interval)
        self._pending: OrderedDict[bytes, int] = OrderedDict()
        """Keys that are to be published now, and since when."""
        self._found: dict[bytes, int] = {}
        """The same for keys that a walk has found, and that have not changed: they go once no walk
        is under way, since several tables may have the same ones."""
        self._walks: dict[tuple[Keys, Optional[str]], int] = {}
        """Tables whose keys are all to be published, or those with a value in a column; and since
        when."""
        self._walk: Optional[Generator[None, None, None]] = None
        """The first of them, under way."""

    def __len__(self) -> int:
        """How many keys are to be published now, as far as is known."""
        return len(self._pending) + len(self._found)

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

    def look_at(self, tables: Iterable[Keys], now: int, column: Optional[str] = None) -> None:
        """All keys of some tables are to be published; or those with a value in a column."""
        for table in tables:
            self._walks.setdefault((table, column), now)

    def look_at_all(self, tables: Iterable[Keys], now: int) -> None:
        """The same for all tables that there are, and from their beginning."""
        self._forget_walks()
        self.look_at(tables, now)

    def _forget_walks(self) -> None:
        self._walk = None
        self._found.clear()
        self._walks.clear()

    def take(self, most: int, now: int) -> list[bytes]:
        """Take keys to publish now, about so many at most.

        What has not changed has a part of them, however much has.
        """
        for key in self._pacing.due(now):
            self._pending.setdefault(key, now)
        found: dict[bytes, int] = {} if self._walks else self._found
        keys = self.returns.due(now, most // 4 if self._pending or found else most)
        for _ in range(min(most, len(self._pending))):
            key, _ = self._pending.popitem(last=False)
            self._found.pop(key, None)
            keys.append(key)
            most -= 1
        for _ in range(min(most, len(found))):
            keys.append(found.popitem()[0])
        return keys

    def walk_on(self) -> bool:
        """Look at some more keys, if any are to be looked at: whether there are more."""
        if self._walk is None and self._walks:
            (table, column), since = next(iter(self._walks.items()))
            self._walk = self._walked(table, column, since)
        if self._walk is not None and next(self._walk, self) is self:
            self._walk = None
            del self._walks[next(iter(self._walks))]
        return bool(self._walks)

    def _walked(
        self, table: Keys, column: Optional[str], since: int
    ) -> Generator[None, None, None]:
        try:
            if column is None or not isinstance(table, StickTable):
                raw_keys = table.raw_keys()
                while some := list(islice(raw_keys, _LOOKS)):
                    self._find(some, since)
                    yield
                return
            for read, (_, entry) in enumerate(table.walk(), 1):
                if entry is not None and entry[column]:
                    self._find((entry.raw_key,), since)
                if read % _READS == 0:
                    yield
        except LocalProtocolError:
            self._log.debug("{table} is gone", table=table)

    def _find(self, keys: Iterable[bytes], since: int) -> None:
        pending, found = self._pending, self._found
        for key in keys:
            if key not in pending:
                found.setdefault(key, since)

    def has_some(self, now: int) -> bool:
        """Whether there is something to publish now."""
        back = self.returns.next_due
        found = bool(self._found) and not self._walks
        return bool(self._pending) or found or (back is not None and back <= now)

    def next_due(self) -> Optional[int]:
        """When there will be something to publish; ``None`` if nothing is known of that."""
        times = (self._pacing.next_due, self.returns.next_due)
        return min((one for one in times if one is not None), default=None)

    def oldest(self, now: int) -> int:
        """Since when the key waits that has waited longest, but for its interval; ``now`` if none
        does."""
        waiting = self._pending, self._found, self._walks
        waits = [next(iter(some.values()), now) for some in waiting]
        back = self.returns.next_due
        return min(now, *waits, now if back is None else back)

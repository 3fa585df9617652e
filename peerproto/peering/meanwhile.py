"""What changed here while a lesson is awaited or under way, and is newer than the lesson.

A teacher writes a lesson without knowing what it has yet to read. So the values that
another peer sent meanwhile stay as they are, whatever the lesson has for them. An old
process knows less than the new one from the moment that this one began: what was removed
here stays away, too, if it is the old process that teaches. (A remote peer may teach
again what was removed here only, as with HAProxy.) Changes made here need no notes:
the log tells which of them a teacher has not acked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from peerproto.peering.memory import PeerMemory
from peerproto.tables.store import TableStore

_Learnt = dict[PeerMemory, dict[bytes, int]]
"""By peer and key, the columns that it sent."""

_FEW: Final = 1024
"""So many notes are kept whatever the table has."""


class ChangedMeanwhile:
    """Keys by their table; they are forgotten when all lessons are over."""

    def __init__(self) -> None:
        self._learnt: WeakKeyDictionary[TableStore, _Learnt] = WeakKeyDictionary()
        self._removed: WeakKeyDictionary[TableStore, set[bytes]] = WeakKeyDictionary()
        self._cleared: WeakSet[TableStore] = WeakSet()

    def learnt(
        self, table: TableStore, keys: Iterable[bytes], columns: int, source: PeerMemory
    ) -> None:
        """Note keys of which a peer sent these columns (as bits) outside of a lesson."""
        noted = self._learnt.setdefault(table, {}).setdefault(source, {})
        for key in keys:
            noted[key] = noted.get(key, 0) | columns
        if len(noted) > 2 * table.used + _FEW:
            gone = [key for key in noted if table.unconverted(key) is None]
            for key in gone:
                del noted[key]

    def removed(self, table: TableStore, keys: Iterable[bytes]) -> None:
        """Note keys that were removed here."""
        self._removed.setdefault(table, set()).update(keys)

    def cleared(self, table: TableStore) -> None:
        """Note that all keys of a table were removed here."""
        self._cleared.add(table)

    def columns(
        self, table: TableStore, keys: Collection[bytes], teacher: PeerMemory
    ) -> dict[bytes, int]:
        """The ones of ``keys`` of which the lesson of a peer has older values: with each, the
        columns. What it sent itself before is not among them: its lesson is newer than that."""
        found: dict[bytes, int] = {}
        for source, noted in self._learnt.get(table, {}).items():
            if source is not teacher:
                for key in noted.keys() & keys:
                    found[key] = found.get(key, 0) | noted[key]
        return found

    def gone(self, table: TableStore, keys: Collection[bytes]) -> Collection[bytes]:
        """The ones of ``keys`` that an old process is not to bring back."""
        return set(keys) if table in self._cleared else self._removed.get(table, ())

    def forget(self) -> None:
        """Forget everything: no lesson is awaited, and none is under way."""
        self._learnt.clear()
        self._removed.clear()
        self._cleared.clear()

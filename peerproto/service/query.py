"""Queries: a walk through a table, pages of it, and the entries with the highest values.

A walk goes from one partition to the next, and through the keys of each in their order. So the
place where it stands is told by a partition and a key, whatever comes and goes meanwhile.
"""

from __future__ import annotations

import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Final, Optional, TypeVar

import attrs

from peerproto.service.filters import Condition, Filter
from peerproto.tables.entry import Entry
from peerproto.tables.partitions import EPOCH
from peerproto.tables.store import TableStore
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Cell

AT_ONCE: Final = 64
"""Keys that are looked at in one step: a fraction of a ms."""

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work in short steps, and its result."""


@attrs.frozen
class Cursor:
    """Where a walk stands: behind one key of a table. ``str()`` gives it as text for others to
    keep, `parse` takes that back.

    It holds as long as the table does, whatever becomes of the key: not in another process, nor
    for a table that begins anew with other keys.
    """

    epoch: str
    """Tells tables from each other, also those of one name."""
    place: int
    """Number of the partition."""
    raw_key: bytes

    def __str__(self) -> str:
        data = bytes.fromhex(self.epoch) + bytes((self.place,)) + self.raw_key
        return urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read the text of a cursor.

        :raises LocalProtocolError: it is none.
        """
        try:
            data = urlsafe_b64decode(text.encode("ascii") + b"==")
        except ValueError:
            data = b""
        if len(data) <= EPOCH:
            raise LocalProtocolError("cursor", text, "the text of a cursor")
        cursor = cls(data[:EPOCH].hex(), data[EPOCH], data[EPOCH + 1 :])
        if str(cursor) != text:
            raise LocalProtocolError("cursor", text, "the text of a cursor")
        return cursor


class StaleCursor(LocalProtocolError):
    """A cursor of another table, or of another process: a walk has to begin anew."""


@attrs.frozen
class Page:
    """Some of the entries of a table."""

    entries: list[Entry]
    after: Optional[Cursor]
    """Where the next page begins; ``None`` after the last one."""


class Query:
    """The entries of one table that all of some conditions hold for."""

    def __init__(
        self,
        here: Callable[[], TableStore],
        stores: Callable[[], Mapping[Optional[str], TableStore]],
        now: Callable[[], int],
        conditions: Sequence[Condition] = (),
    ) -> None:
        """
        :param here: gives the table; raises if it is gone.
        :param stores: gives what stores the entries, by the peers whose shares these are.
        :param now: the time in ms.
        :raises LocalProtocolError: the table is gone, or has not what a condition is about.
        """
        self._here = here
        self._stores = stores
        self._now = now
        layout = here().layout
        self._filters: list[Filter] = []
        self._for_keys: list[Callable[[bytes], bool]] = []
        """What is asked of keys: before their entries are decoded."""
        for condition in conditions:
            if isinstance(condition, Filter):
                condition.check(layout)
                self._filters.append(condition)
            else:
                self._for_keys.append(condition.for_keys(layout))

    def walk(self, after: Optional[Cursor] = None) -> Iterator[tuple[Cursor, Optional[Entry]]]:
        """All entries, each behind its cursor, and ``None`` for each that is not meant.

        So each step is short, and the walk can be left at any of them. An entry that is there
        from beginning to end comes exactly once; others once or not at all.

        :raises StaleCursor: the cursor is not one of this table.
        :raises LocalProtocolError: the table is gone, also if it goes meanwhile.
        """
        for peer, store, place, raw_key in self._places(after):
            cursor = Cursor(store.partitions.epoch, place, raw_key)
            yield cursor, self._entry(peer, store, raw_key)

    def page(self, limit: int, after: Optional[Cursor]) -> Steps[Page]:
        """So many entries at most, from a cursor on."""
        if limit < 1:
            raise LocalProtocolError("entries of a page", limit, "1 at least")
        entries: list[Entry] = []
        for looked, (peer, store, place, raw_key) in enumerate(self._places(after), 1):
            entry = self._entry(peer, store, raw_key)
            if entry is not None:
                entries.append(entry)
                if len(entries) >= limit:
                    return Page(entries, Cursor(store.partitions.epoch, place, raw_key))
            if looked % AT_ONCE == 0:
                yield
        return Page(entries, None)

    def top(self, count: int, by: str, lowest: bool) -> Steps[list[Entry]]:
        """So many entries with the highest values, or the lowest, those first."""
        self._cell(by)
        sign = -1 if lowest else 1
        best: list[tuple[int, int, Entry]] = []
        for looked, (peer, store, _, raw_key) in enumerate(self._places(None), 1):
            entry = self._entry(peer, store, raw_key)
            if entry is not None and count > 0:
                value = entry.value(self._cell(by))
                assert isinstance(value, int)
                # Among equals those stay that came first.
                one = (sign * value, -looked, entry)
                if len(best) < count:
                    heapq.heappush(best, one)
                elif one[0] > best[0][0]:
                    heapq.heapreplace(best, one)
            if looked % AT_ONCE == 0:
                yield
        return [entry for _, _, entry in sorted(best, key=lambda one: one[:2], reverse=True)]

    def _cell(self, name: str) -> Cell:
        """The value of this name, as the table has it now."""
        cell = self._here().layout.cells.get(name)
        if cell is None or cell.is_text:
            raise LocalProtocolError(
                "order of entries", f"data.{name}", "a data type that is stored, and is a number"
            )
        return cell

    def _places(
        self, after: Optional[Cursor]
    ) -> Iterator[tuple[Optional[str], TableStore, int, bytes]]:
        """Whose, and which store, partition and key each row has, from a cursor on."""
        self._here()
        seen: set[TableStore] = set()
        if after is not None:
            stores = list(self._stores().items())
            epochs = [store.partitions.epoch for _, store in stores]
            if after.epoch not in epochs:
                raise StaleCursor("cursor", str(after), "one of this table, and of this process")
            at = epochs.index(after.epoch)
            seen.update(store for _, store in stores[: at + 1])
            peer, store = stores[at]
            for place, raw_key in store.partitions.walk(after.place, after.raw_key):
                yield peer, store, place, raw_key
        while following := [one for one in self._stores().items() if one[1] not in seen]:
            peer, store = following[0]
            seen.add(store)
            for place, raw_key in store.partitions.walk():
                yield peer, store, place, raw_key
        self._here()

    def _entry(self, peer: Optional[str], store: TableStore, raw_key: bytes) -> Optional[Entry]:
        self._here()
        if not all(means(raw_key) for means in self._for_keys):
            return None
        entry = store.get(raw_key, self._now())
        if entry is not None and peer is not None:
            entry = attrs.evolve(entry, peer=peer)
        if entry is None or not all(holds(entry) for holds in self._filters):
            return None
        return entry


def finish(steps: Steps[T]) -> T:
    """Do all steps at once: their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result

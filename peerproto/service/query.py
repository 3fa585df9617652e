"""Queries: a walk through a table, pages of it, and the entries with the highest values.

A walk goes from one partition to the next, and through the keys of each in their order. So the
place where it stands is told by a partition and a key, whatever comes and goes meanwhile.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right, insort
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Final, Optional, TypeVar, Union

import attrs

from peerproto.service.filters import Condition, Filter
from peerproto.tables.entry import Entry
from peerproto.tables.partitions import EPOCH, PARTS
from peerproto.tables.store import TableStore
from peerproto.wire.datatypes import Kind
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Cell
from peerproto.wire.peek import Row, peek_of

AT_ONCE: Final = 64
"""Keys that are looked at in one step: a fraction of a ms."""

_PIECE: Final = 256
"""Keys of which one number is read in one step; if all are decoded, some ms."""

_DECODING: Final = 20
"""How many keys could be looked at while one entry is decoded."""

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
        return _text_of(bytes.fromhex(self.epoch) + bytes((self.place,)) + self.raw_key)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read the text of a cursor.

        :raises LocalProtocolError: it is none.
        """
        data = _data_of(text)
        if len(data) <= EPOCH:
            raise LocalProtocolError("cursor", text, "the text of a cursor")
        cursor = cls(data[:EPOCH].hex(), data[EPOCH], data[EPOCH + 1 :])
        if str(cursor) != text:
            raise LocalProtocolError("cursor", text, "the text of a cursor")
        return cursor


@attrs.frozen(order=True)
class Rank:
    """Where an entry stands among all of a table, by a value and then by its place. ``str()`` gives
    it as text, `parse` takes that back: it holds as `Cursor` does."""

    value: int
    """The value, or its opposite where the highest come first."""
    epoch: str
    place: int
    raw_key: bytes

    def __str__(self) -> str:
        data = self.value.to_bytes(_VALUE, "big", signed=True)
        return _text_of(data + bytes.fromhex(self.epoch) + bytes((self.place,)) + self.raw_key)

    @classmethod
    def parse(cls, text: str) -> Rank:
        """Read the text of a rank.

        :raises LocalProtocolError: it is none.
        """
        data = _data_of(text)
        epoch, rest = data[_VALUE : _VALUE + EPOCH], data[_VALUE + EPOCH :]
        if rest:
            value = int.from_bytes(data[:_VALUE], "big", signed=True)
            rank = cls(value, epoch.hex(), rest[0], rest[1:])
            if str(rank) == text:
                return rank
        raise LocalProtocolError("cursor", text, "the text of a cursor")


_VALUE: Final = 9
"""Bytes of a value in the text of a rank: 64 bits, and a sign."""


def _text_of(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _data_of(text: str) -> bytes:
    """What `_text_of` has made a text of; nothing if it has made none so."""
    try:
        return urlsafe_b64decode(text.encode("ascii") + b"==")
    except ValueError:
        return b""


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
        for piece in self._pieces(after):
            for raw_key in piece.raw_keys:
                if raw_key in piece.part:
                    yield piece.cursor(raw_key), self._entry(piece, raw_key)

    def page(self, limit: int, after: Optional[Cursor], looks: Optional[int] = None) -> Steps[Page]:
        """So many entries at most, from a cursor on.

        :param looks: how many keys are looked at: the page ends then, though there may be more.
        """
        if limit < 1:
            raise LocalProtocolError("entries of a page", limit, "1 at least")
        entries: list[Entry] = []
        looked = 0
        for piece in self._pieces(after):
            looked += len(piece.raw_keys)
            for raw_key, _ in self._candidates(piece):
                looked += _DECODING
                entry = self._entry(piece, raw_key)
                if entry is not None:
                    entries.append(entry)
                    if len(entries) >= limit:
                        return Page(entries, piece.cursor(raw_key))
            if looks is not None and looked >= looks:
                return Page(entries, piece.cursor(piece.raw_keys[-1]))
            yield
        return Page(entries, None)

    def top(self, count: int, by: str, lowest: bool) -> Steps[list[Entry]]:
        """So many entries with the highest values, or the lowest, those first."""
        ranked = yield from self.ranked(count, by, lowest)
        return [entry for _, entry in ranked]

    def ranked(
        self, count: int, by: str, lowest: bool, after: Optional[Rank] = None
    ) -> Steps[list[tuple[Rank, Entry]]]:
        """`top`, each with its rank, from one rank on. Among equals the first of a walk are first.

        :raises StaleCursor: the rank is not one of this table.
        """
        self._cell(by)
        if after is not None:
            self._check_epoch(after)
        sign = 1 if lowest else -1
        best: list[tuple[Rank, Entry]] = []
        for piece in self._pieces(None, in_order=False):
            cell = self._cell(by)
            last = best[-1][0] if len(best) >= count > 0 else None
            is_rate = cell.column.data_type.kind is Kind.FREQUENCY
            factor = 0 if lowest and is_rate else sign * _factor(cell, piece.store)
            least, most = _bounds(piece, factor, last, None if is_rate else after)
            rows = self._candidates(piece) if count > 0 and least <= most else []
            for number, (raw_key, _) in piece.peek(cell, rows, least, most):
                # Of a rate, what is read is the most that it may be.
                if number is not None:
                    rank = piece.rank(number * factor, raw_key)
                    if after is not None and not is_rate and rank <= after:
                        continue
                    if len(best) >= count and rank > best[-1][0]:
                        continue
                entry = self._entry(piece, raw_key)
                if entry is None:
                    continue
                value = entry.value(cell)
                assert isinstance(value, int)
                rank = piece.rank(sign * value, raw_key)
                if after is None or rank > after:
                    insort(best, (rank, entry), key=_rank_of)
                    del best[count:]
            yield
        return best

    def _candidates(self, piece: _Piece) -> Sequence[Row]:
        """The rows of a piece that may be meant: nothing is decoded for that."""
        rows = piece.rows()
        for means in self._for_keys:
            rows = [row for row in rows if means(row[0])]
        for one in self._filters:
            cell = self._here().layout.cells.get(one.name)
            if cell is None or cell.is_text or one.word not in _BOUNDS:
                continue  # what is wrong is said once an entry is decoded
            least, most = _BOUNDS[one.word](one.value)
            if cell.column.data_type.kind is Kind.FREQUENCY:
                # What is read is no less than the rate.
                if least == -math.inf:
                    continue
                most, least = math.inf, -(-least // _factor(cell, piece.store))
            rows = [row for _, row in piece.peek(cell, rows, least, most)]
        return rows

    def _cell(self, name: str) -> Cell:
        """The value of this name, as the table has it now."""
        cell = self._here().layout.cells.get(name)
        if cell is None or cell.is_text:
            raise LocalProtocolError(
                "order of entries", f"data.{name}", "a data type that is stored, and is a number"
            )
        return cell

    def _check_epoch(self, after: Union[Cursor, Rank]) -> None:
        self._here()
        if after.epoch not in [one.partitions.epoch for one in self._stores().values()]:
            raise StaleCursor("cursor", str(after), "one of this table, and of this process")

    def _pieces(self, after: Optional[Cursor], in_order: bool = True) -> Iterator[_Piece]:
        """All rows, some of one partition at a time, from a cursor on."""
        self._here()
        seen: set[TableStore] = set()
        if after is not None:
            self._check_epoch(after)
            stores = list(self._stores().items())
            at = [store.partitions.epoch for _, store in stores].index(after.epoch)
            seen.update(store for _, store in stores[: at + 1])
            yield from _pieces_of(*stores[at], after, in_order)
        while following := [one for one in self._stores().items() if one[1] not in seen]:
            peer, store = following[0]
            seen.add(store)
            yield from _pieces_of(peer, store, None, in_order)
        self._here()

    def _entry(self, piece: _Piece, raw_key: bytes) -> Optional[Entry]:
        self._here()
        if not all(means(raw_key) for means in self._for_keys):
            return None
        entry = piece.store.get(raw_key, self._now())
        if entry is not None and piece.peer is not None:
            entry = attrs.evolve(entry, peer=piece.peer)
        if entry is None or not all(holds(entry) for holds in self._filters):
            return None
        return entry


@attrs.frozen
class _Piece:
    """Some rows of one partition."""

    peer: Optional[str]
    store: TableStore
    place: int
    raw_keys: list[bytes]
    """Their keys in order; none if ``read`` are the rows."""
    read: Sequence[Row] = ()
    """The rows as they were a moment ago."""

    @property
    def part(self) -> Mapping[bytes, bytes]:
        """What is stored for keys of the partition, by now."""
        return self.store.partitions.dicts[self.place]

    def rows(self) -> Sequence[Row]:
        """The rows that are there."""
        if self.read:
            return self.read
        stored = map(self.part.get, self.raw_keys)
        return [(key, row) for key, row in zip(self.raw_keys, stored) if row is not None]

    def cursor(self, raw_key: bytes) -> Cursor:
        """The cursor behind a key."""
        return Cursor(self.store.partitions.epoch, self.place, raw_key)

    def rank(self, value: int, raw_key: bytes) -> Rank:
        """The rank of a key, whose entry has such a value."""
        return Rank(value, self.store.partitions.epoch, self.place, raw_key)

    def peek(
        self, cell: Cell, rows: Sequence[Row], least: float, most: float
    ) -> list[tuple[Optional[int], Row]]:
        """The rows in which one number is within bounds, and those of earlier declarations: see
        `Peek`."""
        store = self.store
        peek = peek_of(store.layout.codec.kinds, cell.place, cell.index)
        return peek(rows, store.record_at, store.generations.present, least, most)


_BOUNDS: Final[dict[str, Callable[[int], tuple[float, float]]]] = {
    "eq": lambda value: (value, value),
    "le": lambda value: (-math.inf, value),
    "ge": lambda value: (value, math.inf),
    "lt": lambda value: (-math.inf, value - 1),
    "gt": lambda value: (value + 1, math.inf),
}
"""By the word of a filter, the least and the largest number that it holds for."""


def _bounds(
    piece: _Piece, factor: int, last: Optional[Rank], after: Optional[Rank]
) -> tuple[float, float]:
    """From where to where numbers may rank before ``last`` and behind ``after``; none if the least
    is above the largest.

    :param factor: the value of a rank is so many times the number; 0 for a rate, which may be 0
        whatever the number.
    """
    least, most = -math.inf, math.inf
    end = None if last is None else last.value
    if last is not None and end is not None and piece.rank(end, b"") > last:
        end -= 1  # equals rank behind it
    begin = None if after is None else after.value
    if not factor:
        return (0.0, -1.0) if end is not None and end < 0 else (least, most)
    if factor > 0:
        if end is not None:
            most = end // factor
        if begin is not None:
            least = -(-begin // factor)
    else:
        if end is not None:
            least = -(end // -factor)
        if begin is not None:
            most = -begin // -factor
    return least, most


def _pieces_of(
    peer: Optional[str], store: TableStore, after: Optional[Cursor], in_order: bool
) -> Iterator[_Piece]:
    begin = 0 if after is None else after.place
    for place in range(begin, PARTS):
        part = store.partitions.dicts[place]
        if not in_order:
            rows = list(part.items())
            for start in range(0, len(rows), _PIECE):
                yield _Piece(peer, store, place, [], rows[start : start + _PIECE])
            continue
        keys = sorted(part)
        first = 0
        if after is not None and place == begin:
            first = bisect_right(keys, after.raw_key)
        for start in range(first, len(keys), _PIECE):
            yield _Piece(peer, store, place, keys[start : start + _PIECE])


def _rank_of(ranked: tuple[Rank, Entry]) -> Rank:
    return ranked[0]


def _factor(cell: Cell, store: TableStore) -> int:
    """By what a number in a row is multiplied to be the value."""
    return store.declaration.brates_factor if cell.column.data_type.in_blocks else 1


def finish(steps: Steps[T]) -> T:
    """Do all steps at once: their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result

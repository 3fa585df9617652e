"""Taking a peer's updates into a table whose declaration may differ from its own.

Source: PROTOCOL.md, "Table definition": the key's type and length must agree,
or the table is not shared; data types need not. What the peer sends and the
table does not store is dropped, what the peer does not send stays as it is.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Optional

from peerproto.tables.declaration import Declaration
from peerproto.tables.stored import UNENDING, stamp
from peerproto.tables.table import StickTable, merge
from peerproto.wire.layout import Layout
from peerproto.wire.runs import RunReader

Update = tuple[bytes, Optional[int], bytes]
"""Raw key, expiry in ms of a timed update, and the record in the peer's layout."""


def disagreement(table: StickTable, layout: Layout) -> Optional[str]:
    """Why a peer's table of this name is not the same one, in words."""
    ours, theirs = table.layout, layout
    if theirs.key_type is not ours.key_type:
        return (
            f"table {table.name} differs in key type:"
            f" {theirs.key_type.word} there, {ours.key_type.word} here"
        )
    if theirs.key_length != ours.key_length:
        return (
            f"table {table.name} differs in key length:"
            f" {theirs.key_length} there, {ours.key_length} here"
        )
    return None


class Reception:
    """How updates of a peer's definition go into a table.

    Where both have the same columns, records are stored as they came.
    """

    def __init__(
        self,
        table: StickTable,
        layout: Layout,
        expire: Optional[int],
        texts: Optional[list[bytes]] = None,
    ) -> None:
        """``texts`` are those that values may refer to, as `RunReader` has them."""
        self.table = table
        self.layout = layout
        self.expire = expire
        self._own: Optional[Declaration] = None
        self._as_is = False
        self._places: list[Optional[int]] = []
        self._updates: list[Update] = []
        self._reader = _reader(layout, texts or [b""] * 256)

    @property
    def reader(self) -> Optional[RunReader]:
        """What reads runs of updates that are stored as they come."""
        if self._own is not self.table.declaration:
            self._compare(self.table.declaration)
        return self._reader if self._as_is else None

    def add(self, update: Update, now: int) -> None:
        """Take one update, to be stored with others."""
        reader = self.reader
        if reader is None:
            self._updates.append(update)
        else:
            key, expiry, record = update
            reader.add(key, stamp(now), UNENDING if expiry is None else expiry, record)

    def store(self, now: int, but: Container[bytes] = ()) -> Optional[list[bytes]]:
        """Store what was read and added, except for some keys: the keys that the table took.

        ``None`` if there was nothing.
        """
        reader = self._reader
        if self._updates:
            updates, self._updates = self._updates, []
            return self.table.store(
                self._transcoded((one for one in updates if one[0] not in but), now), now
            )
        if reader is None or not reader.keys:
            return None
        keys, values, shortest = reader.keys, reader.values, reader.shortest
        reader.clear()
        if but:
            pairs = [pair for pair in zip(keys, values) if pair[0] not in but]
            keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        return self.table.put(keys, values, shortest, now)

    def forget(self) -> None:
        """Drop what was read and added."""
        self._updates = []
        if self._reader is not None:
            self._reader.clear()

    def _compare(self, declaration: Declaration) -> None:
        self._own = declaration
        own = declaration.layout
        self._places = [
            None
            if column.data_type.local and not declaration.recv_only
            else self.layout.place_of(column.data_type.bit)
            for column in own.columns
        ]
        self._as_is = (
            self.layout.bits == own.bits
            and self.layout.codec is own.codec
            and None not in self._places
            and self._reader is not None
            # A table without expiry sends lives of 0.
            and (self.expire != 0 or not declaration.expire)
        )

    def _transcoded(
        self, updates: Iterable[Update], now: int
    ) -> Iterator[tuple[bytes, int, bytes]]:
        own, theirs = self.table.layout.codec, self.layout.codec
        blank = own.blank()
        for key, expiry, record in updates:
            entry = self.table.get(key, now)
            base = blank if entry is None else entry.values
            values = merge(theirs.decode(record, 0), self._places, base)
            yield key, self.table.life(None if self.expire == 0 else expiry), own.encode(values)


def _reader(layout: Layout, texts: list[bytes]) -> Optional[RunReader]:
    """``None`` for records with several dictionary values, which no table of HAProxy's has."""
    integers = layout.codec.integers
    if len(integers) > 2:
        return None
    before, after = integers if len(integers) == 2 else (integers[0], -1)
    longest = layout.key_length - 1
    return RunReader(layout.fixed_key_length, longest, before, after, texts)

"""Taking a peer's updates into a table whose declaration may differ from its own.

Source: PROTOCOL.md, "Table definition": the key's type and length must agree,
or the table is not shared; data types need not. What the peer sends and the
table does not store is dropped, what the peer does not send stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from peerproto.tables.stored import UNENDING
from peerproto.tables.table import StickTable, merge
from peerproto.wire.layout import Layout

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

    def __init__(self, table: StickTable, layout: Layout, expire: Optional[int]) -> None:
        self.table = table
        self.layout = layout
        self.expire = expire
        self._own: Optional[Layout] = None
        self._as_is = False
        self._places: list[Optional[int]] = []

    def take(self, updates: Iterable[Update], now: int) -> list[bytes]:
        """Store updates in the table: the keys that it took."""
        if self._own is not self.table.layout:
            self._compare(self.table.layout)
        return self.table.store(
            self._lives(updates) if self._as_is else self._transcoded(updates, now), now
        )

    def _compare(self, own: Layout) -> None:
        self._own = own
        recv_only = self.table.declaration.recv_only
        self._places = [
            None
            if column.data_type.local and not recv_only
            else self.layout.place_of(column.data_type.bit)
            for column in own.columns
        ]
        self._as_is = (
            self.layout.bits == own.bits
            and self.layout.codec is own.codec
            and None not in self._places
        )

    def _life(self, expiry: Optional[int]) -> int:
        # A table without expiry sends 0 in its timed updates.
        return self.table.life(None if self.expire == 0 else expiry)

    def _lives(self, updates: Iterable[Update]) -> Iterator[tuple[bytes, int, bytes]]:
        expire = self.table.declaration.expire or UNENDING
        if self.expire == 0 or expire == UNENDING:
            for key, _, record in updates:
                yield key, expire, record
        else:
            for key, expiry, record in updates:
                yield key, (expire if expiry is None or expiry > expire else expiry), record

    def _transcoded(
        self, updates: Iterable[Update], now: int
    ) -> Iterator[tuple[bytes, int, bytes]]:
        own, theirs = self.table.layout.codec, self.layout.codec
        blank = own.blank()
        for key, expiry, record in updates:
            entry = self.table.get(key, now)
            base = blank if entry is None else entry.values
            values = merge(theirs.decode(record, 0), self._places, base)
            yield key, self._life(expiry), own.encode(values)

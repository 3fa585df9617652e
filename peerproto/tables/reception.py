"""Taking a peer's updates into a table whose declaration may differ from its own.

Source: PROTOCOL.md, "Table definition": the key's type and length must agree,
or the table is not shared; data types need not. What the peer sends and the
table does not store is dropped, what the peer does not send stays as it is.
"""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from typing import Optional

from peerproto.tables.declaration import Declaration
from peerproto.tables.stored import UNENDING, unending
from peerproto.tables.table import StickTable
from peerproto.tables.transcoding import Transcoder
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

    Where both have the same columns, records are stored as they came; where not,
    they are transcoded when all that came in one read is stored.
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
        self._transcoder: Optional[Transcoder] = None
        self._reader = _reader(layout, texts or [b""] * 256)
        self.reader = self._reader if len(layout.codec.integers) <= 2 else None
        """What reads runs of updates.

        ``None`` for records with several dictionary values, which no table of HAProxy's has.
        """

    def add(self, update: Update, now: int) -> None:
        """Take one update, to be stored with others."""
        key, expiry, record = update
        life = UNENDING if expiry is None else expiry
        self._reader.add(key, self.table.stamp(now), life, record)

    def store(self, now: int, but: Container[bytes] = ()) -> Optional[list[bytes]]:
        """Store what was read and added, except for some keys: the keys that the table took.

        ``None`` if there was nothing.
        """
        reader = self._reader
        keys, values, shortest = reader.keys, reader.values, reader.shortest
        if not keys:
            return None
        reader.clear()
        if but:
            pairs = [pair for pair in zip(keys, values) if pair[0] not in but]
            keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        if self._own is not self.table.declaration:
            self._compare(self.table.declaration)
        if self.expire == 0 and self.table.declaration.expire:
            # A table without expiry sends lives of 0.
            values = list(map(unending, values))
            shortest = UNENDING
        if self._transcoder is not None:
            values = self._transcoded(self._transcoder, keys, values, now)
        return self.table.put(keys, values, shortest, now)

    def forget(self) -> None:
        """Drop what was read and added."""
        self._reader.clear()

    def _compare(self, declaration: Declaration) -> None:
        self._own = declaration
        own = declaration.layout
        places = [
            None
            if column.data_type.local and not declaration.recv_only
            else self.layout.place_of(column.data_type.bit)
            for column in own.columns
        ]
        if self.layout.stores_like(own) and None not in places:
            self._transcoder = None
        else:
            self._transcoder = Transcoder(self.layout, own, places)

    def _transcoded(
        self, transcoder: Transcoder, keys: list[bytes], values: list[bytes], now: int
    ) -> list[bytes]:
        """The values in our own layout; what the peer does not send stays as it is."""
        at = self.table.record_at
        transcode = transcoder.transcode
        if not transcoder.keeps:
            return [value[:at] + transcode(value, at) for value in values]
        record = partial(self.table.record, now=now, aged=transcoder.keeps_ages)
        return [value[:at] + transcode(value, at, record(key)) for key, value in zip(keys, values)]


def _reader(layout: Layout, texts: list[bytes]) -> RunReader:
    integers = layout.codec.integers
    before, after = integers if len(integers) == 2 else (integers[0], -1)
    longest = layout.key_length - 1
    return RunReader(layout.fixed_key_length, longest, before, after, texts)

"""Records: entries outside of their table, to be kept, and brought back later."""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.expiry import NEVER
from peerproto.tables.rowstore import RowStore
from peerproto.wire import keys, varint
from peerproto.wire.codec import EMPTY_TEXT, Values
from peerproto.wire.datatypes import Kind
from peerproto.wire.layout import Layout
from peerproto.wire.texts import TEXTS


@attrs.frozen
class Record:
    """An entry as it was when it was taken out of its table. It never changes: it may go to a
    thread, and into a file."""

    declaration: Declaration
    """That of the table."""
    raw_key: bytes
    """The key as on the wire."""
    arrived: int
    """When the values came, or were set, in ms since the epoch."""
    expires: Optional[int]
    """When the entry ends, in ms since the epoch; ``None`` if it does not."""
    values: bytes = attrs.field(repr=False)
    """The values, as on the wire, with ages as of `arrived`; but for a long text."""
    text: Optional[bytes] = None
    """The text that belongs into the values, if it is a long one."""
    peer: Optional[str] = None
    """The peer whose share it is of, where the table is shared per peer."""

    @property
    def key(self) -> keys.Key:
        """The key: ``int``, ``str``, ``bytes``, or an ``ipaddress`` object."""
        return keys.to_python(self.raw_key, self.declaration.layout.key_type)

    def entry(self, at: int) -> Entry:
        """The values decoded, with ages as of a time in ms since the epoch (`NodeTime.now`).

        ``expires_in`` is below 0 if the entry has ended by then.
        """
        layout = self.declaration.layout
        decoded = layout.codec.decode(self.values, 0, max(0, at - self.arrived))
        if self.text is not None:
            text = self.text.decode("utf-8", "surrogateescape")
            place = _text_place(layout)
            decoded = (*decoded[:place], text, *decoded[place + 1 :])
        left = None if self.expires is None else self.expires - at
        factor = self.declaration.brates_factor
        return Entry(layout, self.raw_key, decoded, left, factor, self.peer)

    @classmethod
    def of(
        cls, store: RowStore, raw_key: bytes, now: int, ahead: int, peer: Optional[str] = None
    ) -> Optional[Record]:
        """The record of a key; ``None`` if there is no entry, or it has expired.

        :param now: the time in ms.
        :param ahead: what the time since the epoch has more than that.
        :param peer: the peer whose share it is of.
        """
        row = store.stored(raw_key)
        if row is None:
            return None
        came, deadline = store.lifetime(row)
        if deadline <= now:
            return None
        values, text = _outside(store.layout, row, store.record_at)
        expires = None if deadline == NEVER else deadline + ahead
        return cls(store.declaration, raw_key, came + ahead, expires, values, text, peer)

    @classmethod
    def made(
        cls,
        declaration: Declaration,
        raw_key: bytes,
        arrived: int,
        expires: Optional[int],
        decoded: Values,
        peer: Optional[str] = None,
    ) -> Record:
        """The record of decoded values, in any thread: see the fields.

        :raises LocalProtocolError: a value is out of its type's range.
        """
        layout, text = declaration.layout, None
        if layout.codec.has_texts:
            place = _text_place(layout)
            if decoded[place] is not None:
                text = decoded[place].encode("utf-8", "surrogateescape")
            decoded = (*decoded[:place], None, *decoded[place + 1 :])
        values = layout.codec.encode(decoded)
        return cls(declaration, raw_key, arrived, expires, values, text, peer)

    def kept_values(self) -> Optional[bytes]:
        """The values as tables of this process keep them; ``None`` if there is no room for a long
        text."""
        if self.text is None:
            return self.values
        kept = TEXTS.keep(self.text)
        if kept is None:
            return None
        start, end = self.declaration.layout.codec.text(self.values, 0)
        return self.values[:start] + varint.encode(len(kept)) + kept + self.values[end:]


def _outside(layout: Layout, row: bytes, at: int) -> tuple[bytes, Optional[bytes]]:
    """The values in a row, and the text that is not in them but belongs there."""
    if not layout.codec.has_texts:
        return row[at:], None
    start, end = layout.codec.text(row, at)
    _, begin = varint.decode(row, start)
    kept = row[begin:end]
    text = TEXTS.text(kept)
    if text == kept:
        return row[at:], None
    return row[at:start] + EMPTY_TEXT + row[end:], text


def _text_place(layout: Layout) -> int:
    """The number of the column that is a text."""
    return next(
        place for place, one in enumerate(layout.columns) if one.data_type.kind is Kind.DICTIONARY
    )

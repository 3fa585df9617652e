"""Entries as they travel, read and written without the package's own codec.

What a peer really sent stays visible: a text that is referred to, an id that was
left out, values of a dictionary that say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

import attrs

from peerproto.wire import keys, varint
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.frames import (
    INCREMENTAL_TIMED_UPDATE,
    INCREMENTAL_UPDATE,
    STICK_TABLE,
    TIMED_UPDATE,
    UPDATE,
    Frame,
)
from peerproto.wire.keys import Key
from peerproto.wire.layout import Layout


@attrs.frozen
class Text:
    """A dictionary value: an id, and its text unless it is referred to."""

    id: int
    text: Optional[bytes] = None

    def encode(self) -> bytes:
        """The value with its length."""
        value = varint.encode(self.id)
        if self.text is not None:
            value += varint.encode(len(self.text)) + self.text
        return varint.encode(len(value)) + value


Value = Union[int, tuple[int, int, int], Text, None]
"""A number, a frequency counter (age in ms, current, previous), or a dictionary value.

Of the latter ``None`` is the byte 0, which says nothing.
"""

Values = Mapping[str, Union[Value, list[Value]]]
"""By the names of data types; of an array all elements."""


@attrs.frozen
class Update:
    """One entry, as it was sent."""

    table: str
    id: int
    """Of the update; where it was left out, the one before it plus 1."""
    with_id: bool
    expiry: Optional[int]
    """Milliseconds; ``None`` if the update is not timed."""
    key: Key
    values: Values


def write(
    layout: Layout,
    key: Key,
    values: Values,
    update_id: Optional[int] = None,
    expiry: Optional[int] = None,
) -> bytes:
    """An update of a table of this layout; values that are not named are 0."""
    raw = keys.to_raw(key, layout.key_type, layout.key_length)
    payload = keys.write(raw, layout.key_type)
    for column in layout.columns:
        value = values.get(column.name)
        items = value if isinstance(value, list) else [value]
        for item in items + [None] * ((column.elements or 1) - len(items)):
            payload += _write_value(column.data_type.kind, item)
    if expiry is not None:
        payload = expiry.to_bytes(4, "big") + payload
    if update_id is not None:
        payload = update_id.to_bytes(4, "big") + payload
        message_type = UPDATE if expiry is None else TIMED_UPDATE
    else:
        message_type = INCREMENTAL_UPDATE if expiry is None else INCREMENTAL_TIMED_UPDATE
    return Frame(STICK_TABLE, message_type, payload).encode()


def _write_value(kind: Kind, value: Value) -> bytes:
    if isinstance(value, Text):
        return value.encode()
    if kind is Kind.FREQUENCY:
        return b"".join(map(varint.encode, value if isinstance(value, tuple) else (0, 0, 0)))
    return varint.encode(value & varint.UINT64 if isinstance(value, int) else 0)


def read(frame: Frame, table: str, layout: Layout, last_id: int) -> Update:
    """The update in a frame, of a table whose update before it had ``last_id``."""
    payload, offset = frame.payload, 0

    def fixed() -> int:
        nonlocal offset
        offset += 4
        return int.from_bytes(payload[offset - 4 : offset], "big")

    def number() -> int:
        nonlocal offset
        value, offset = varint.decode(payload, offset)
        return value

    def text() -> Optional[Text]:
        nonlocal offset
        length = number()
        if not length:
            return None
        end = offset + length
        text_id = number()
        found = None
        if offset < end:
            size = number()
            found = payload[offset : offset + size]
        offset = end
        return Text(text_id, found)

    def value(kind: Kind) -> Value:
        if kind is Kind.FREQUENCY:
            return Frequency(number(), number(), number())
        if kind is Kind.DICTIONARY:
            return text()
        found = number()
        return ((found & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000 if kind is Kind.SIGNED else found

    with_id = frame.message_type in (UPDATE, TIMED_UPDATE)
    update_id = fixed() if with_id else last_id + 1 & 0xFFFFFFFF
    timed = frame.message_type in (TIMED_UPDATE, INCREMENTAL_TIMED_UPDATE)
    expiry = fixed() if timed else None
    raw, offset = keys.read(payload, offset, layout.key_type, layout.key_length)
    values: dict[str, Any] = {}
    for column in layout.columns:
        kind = column.data_type.kind
        values[column.name] = (
            value(kind)
            if column.elements is None
            else [value(kind) for _ in range(column.elements)]
        )
    key = keys.to_python(raw, layout.key_type)
    return Update(table, update_id, with_id, expiry, key, values)

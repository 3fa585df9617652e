"""How long messages may be that every HAProxy is to take.

A HAProxy takes what fits, together with its head, into a buffer of 16,384 bytes,
unless its ``tune.bufsize`` says otherwise. A message that is a few bytes longer
it waits for without an end, and one of over 16,384 bytes of payload it answers
with an error, each time it comes: then nothing that is behind it is ever taken.
So no entry is kept that could not be sent (doc/protocol.md, "Sizes").
"""

from __future__ import annotations

from typing import Final

from peerproto.wire import varint
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Layout
from peerproto.wire.texts import TEXTS

BUFFER: Final = 16384
"""Bytes of a HAProxy's buffer by default."""

LONGEST_UPDATE: Final = BUFFER - 12
"""Bytes of an update's payload at most: while a HAProxy writes one, it leaves 7 bytes before it,
and 5 more before a text."""

LONGEST_NAME: Final = 4096
"""Bytes of a table's name at most. A line of haproxy.cfg has half as many; what else there is in
a definition always fits in beside it."""

_ID_AND_EXPIRY: Final = 8
_STRING_LENGTH: Final = 3


def longest_update(layout: Layout, key: bytes, record: bytes) -> int:
    """Bytes of payload, at most and at any time, of updates for a key and a record."""
    codec = layout.codec
    size = _longest(layout, len(key), len(record))
    if codec.has_texts:
        start, end = codec.text(record, 0)
        kept = record[varint.decode(record, start)[1] : end]
        size += len(TEXTS.text(kept)) - len(kept)
    return size


def always_fits(layout: Layout) -> bool:
    """Whether no entry of this layout is too long: so it is, unless its keys are very long."""
    return _longest(layout, layout.key_length, layout.codec.longest) <= LONGEST_UPDATE


def _longest(layout: Layout, key_length: int, record_length: int) -> int:
    string = _STRING_LENGTH if layout.key_type is KeyType.STRING else 0
    return _ID_AND_EXPIRY + string + key_length + record_length + layout.codec.growth

"""What a table keeps for a key: when it came and how long it lives, the key again, the record.

A key of fixed length is there again because it stands between life and record
on the wire: so what came is stored without being taken apart (`peerproto.updates.runs`).
Bytes: 8 for the time in ms, 1 without meaning, 4 for the life in ms. The first
byte of the time tells how the record is stored, its *generation*
(`peerproto.tables.redeclaration`): of one generation, times can be compared as they are.
"""

from __future__ import annotations

import struct
from typing import Final

from peerproto.wire.layout import Layout

_HEAD: Final = struct.Struct(">QxI")

LIFE_AT: Final = 9
"""Where the life begins."""

KEY_AT: Final = _HEAD.size
"""Where the key begins, if its length is fixed."""

UNENDING: Final = 0xFFFFFFFF
"""Life of what lives as long as its table says."""

_UNENDING: Final = UNENDING.to_bytes(4, "big")

pack = _HEAD.pack
"""``pack(came, life)``: the head, both in ms."""


def unending(stored: bytes) -> bytes:
    """The same with a life as long as its table says."""
    return stored[:LIFE_AT] + _UNENDING + stored[KEY_AT:]


def has_own_life(stored: bytes) -> bool:
    """Whether it lives otherwise than its table says."""
    return not stored.startswith(_UNENDING, LIFE_AT)


GENERATION: Final = 1 << 56
"""What times of one generation have more than those of the one before."""

TIME: Final = GENERATION - 1
"""The bits of a time that are the time itself."""

unpack = _HEAD.unpack_from
"""``unpack(stored)``: when the record came and its life as it came, both in ms."""


stamp = struct.Struct(">Q").pack
"""``stamp(came)``: the part of the head that all have which came in one read."""


def record_at(layout: Layout) -> int:
    """Where the record begins."""
    return _HEAD.size + layout.fixed_key_length

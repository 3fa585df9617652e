"""What a table keeps for a key: when it came and how long it lives, the key again, the record.

A key of fixed length is there again because it stands between life and record
on the wire: so what came is stored without being taken apart (`peerproto.wire.runs`).
Bytes: 8 for the time in ms, 1 without meaning, 4 for the life in ms.
"""

from __future__ import annotations

import struct
from typing import Final

from peerproto.wire.layout import Layout

_HEAD: Final = struct.Struct(">QxI")

UNENDING: Final = 0xFFFFFFFF
"""Life of what lives as long as its table says."""

pack = _HEAD.pack
"""``pack(came, life)``: the head, both in ms."""

unpack = _HEAD.unpack_from
"""``unpack(stored)``: when the record came and its life as it came, both in ms."""


def stamp(came: int) -> bytes:
    """The part of the head that all have which came in one read."""
    return came.to_bytes(8, "big")


def record_at(layout: Layout) -> int:
    """Where the record begins."""
    return _HEAD.size + layout.fixed_key_length

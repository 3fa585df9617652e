"""What a table keeps for a key: when the record came and how long it lives, then it."""

from __future__ import annotations

import struct
from typing import Final

_HEAD: Final = struct.Struct(">QI")

LENGTH: Final = _HEAD.size
"""Where the record begins."""

UNENDING: Final = 0xFFFFFFFF
"""Life of an entry in a table without expiry."""

pack = _HEAD.pack
"""``pack(came, life)``: the head, both in ms."""

unpack = _HEAD.unpack_from
"""``unpack(stored)``: when the record came and its life, both in ms."""

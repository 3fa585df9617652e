"""What a table stored under earlier declarations, to what it would have stored under the present.

Entries are not rewritten when a table is declared anew, which would take seconds
for a large one: the first byte of each tells its *generation*, and it is
converted when it is read, or in passing (`StickTable.convert`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peerproto.tables.declaration import Declaration
from peerproto.tables.stored import KEY_AT, LIFE_AT, UNENDING, record_at
from peerproto.tables.transcoding import Transcoder

Conversion = Callable[[bytes], bytes]
"""From what is stored to what is to be stored, the same moment and life in it."""

MOST: Final = 256
"""Generations that can be told from each other."""

_UNENDING: Final = UNENDING.to_bytes(4, "big")


def conversion(earlier: Declaration, present: Declaration, generation: int) -> Conversion:
    """To ``present``, which has this ``generation``: entries keep what both store."""
    old, new = earlier.layout, present.layout
    places = [old.place_of(column.data_type.bit) for column in new.columns]
    transcode = Transcoder(old, new, places).transcode
    first = bytes((generation,))
    at = record_at(new)
    unending = not earlier.expire and present.expire

    def convert(stored: bytes) -> bytes:
        life = _UNENDING if unending else stored[LIFE_AT:KEY_AT]
        head = first + stored[1:LIFE_AT] + life + stored[KEY_AT:at]
        return head + transcode(stored, at)

    return convert

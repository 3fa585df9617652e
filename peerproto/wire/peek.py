"""One number of many records, read without decoding the rest.

A whole record takes ten times as long to decode. Who looks for some entries among a million
reads this one number of each first, and decodes those that may be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Optional

from peerproto.wire import varint
from peerproto.wire.datatypes import Kind
from peerproto.wire.shape import Kinds

Row = tuple[bytes, bytes]
"""A key, and what is stored for it."""

Peek = Callable[[Iterable[Row], int, int, float, float], list[tuple[Optional[int], Row]]]
"""``peek(rows, offset, first, least, most)``: the rows in whose record at ``offset`` the number is
from ``least`` to ``most``, each behind that number; and those that do not begin with the byte
``first``, behind ``None``."""

_READ = """\
        {name} = data[offset]
        if {name} < 240:
            offset += 1
        elif data[offset + 1] < 128:
            {name} += data[offset + 1] << 4
            offset += 2
        else:
            {name}, offset = varint(data, offset)
"""
"""An encoded integer; one of two bytes without a call."""

_SKIP_TEXT = "        offset += value\n"

_MASKED = {
    Kind.SIGNED: ["        value = ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000\n"],
    Kind.UNSIGNED32: ["        value &= 0xFFFFFFFF\n"],
}


@lru_cache(maxsize=512)
def peek_of(kinds: Kinds, place: int, index: Optional[int]) -> Peek:
    """The function for the value at a place of a decoded entry, and an element of it.

    Of a frequency counter it gives the events of both periods: the rate is that or less.
    The value is no text.
    """
    lines = [
        "def peek(rows, at, first, least, most):\n    found = []\n    append = found.append\n"
        "    for row in rows:\n        data = row[1]\n        if data[0] != first:\n"
        "            append((None, row))\n            continue\n        offset = at\n"
    ]
    for kind, elements in kinds[:place]:
        lines += _skipped(kind, elements or 1)
    kind = kinds[place][0]
    lines += _skipped(kind, index or 0)
    if kind is Kind.FREQUENCY:
        lines += [_READ.format(name=name) for name in ("value", "current", "previous")]
        lines.append("        value = (current & 0xFFFFFFFF) + (previous & 0xFFFFFFFF)\n")
    else:
        lines.append(_READ.format(name="value"))
        lines += _MASKED.get(kind, [])
    lines.append("        if least <= value <= most:\n            append((value, row))\n")
    lines.append("    return found\n")
    namespace: dict[str, Any] = {"varint": varint.decode}
    exec(compile("".join(lines), "<peerproto peek>", "exec"), namespace)
    peek: Peek = namespace["peek"]
    return peek


def _skipped(kind: Kind, elements: int) -> list[str]:
    """What goes past so many values."""
    each = [_READ.format(name="value")] * (3 if kind is Kind.FREQUENCY else 1)
    if kind is Kind.DICTIONARY:
        each.append(_SKIP_TEXT)
    return each * elements

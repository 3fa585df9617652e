"""Rows of a file that stand behind each other, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from operator import add, itemgetter
from typing import Final

from peerproto.storage.columns import END_OF_STRING, MARK_AT, SUM

_REST: Final = MARK_AT + 1
"""Where a row goes on behind the time, with which it begins, and its mark."""


def split(
    parts: list[bytes], before: int, fixed: int, shift: int, most: int
) -> tuple[list[bytes], list[bytes]]:
    """The keys and rows of some parts: in each its peer and key, a row, and its checksum.

    :param before: bytes of the peer.
    :param fixed: those of each key; 0 for strings, which have a NUL behind them.
    :param shift: what to add to the times of rows, in ms.
    :param most: the latest time that they may have then.
    """
    if fixed:
        at = before + fixed
        keys = list(map(_cut(before, at), parts))
    else:
        at = 0
        ends = [part.index(END_OF_STRING, before) for part in parts]
        keys = [part[before:end] for part, end in zip(parts, ends)]
        parts = [part[end + 1 :] for part, end in zip(parts, ends)]
    stamps = list(map(_cut(at, at + MARK_AT), parts))
    # Those of what came at once are the same.
    after: dict[bytes, bytes] = {}
    for stamp in set(stamps):
        came = max(0, min(int.from_bytes(stamp, "big") + shift, most))
        after[stamp] = came.to_bytes(MARK_AT, "big") + b"\0"
    rests = map(_cut(at + _REST, -SUM), parts)
    return keys, list(map(add, map(after.__getitem__, stamps), rests))


def _cut(begin: int, end: int) -> Callable[[bytes], bytes]:
    """What cuts a piece out of bytes: with ``map`` in half the time of a loop."""
    return itemgetter(slice(begin, end))

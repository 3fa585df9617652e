"""What a table stored under earlier declarations, to what it would have stored under the present.

Entries are not rewritten when a table is declared anew, which would take seconds
for a large one: the first byte of each tells its *generation*, and it is
converted when it is read, or in passing (`StickTable.convert`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peerproto.tables.declaration import Declaration
from peerproto.tables.stored import GENERATION, record_at, unending
from peerproto.tables.transcoding import Transcoder

Conversion = Callable[[bytes], bytes]
"""From what is stored to what is to be stored, the same moment and life in it."""

MOST: Final = 256
"""Generations that can be told from each other."""


class Generations:
    """Which declarations what is stored goes with, and how to make it go with the present one."""

    def __init__(self) -> None:
        self.origin = 0
        """What times in what is stored now have more than the time in ms."""
        self._present = 0
        self._earlier: dict[int, Declaration] = {}
        self._conversions: dict[int, Conversion] = {}

    def __len__(self) -> int:
        """Of how many earlier ones there may still be something."""
        return len(self._earlier)

    @property
    def full(self) -> bool:
        """Whether another one could not be told from these."""
        return len(self._earlier) >= MOST - 1

    def begin(self, earlier: Declaration, present: Declaration) -> None:
        """From now on, what is stored goes with ``present``; not while it is `full`."""
        self._earlier[self._present] = earlier
        self._present = (self._present + 1) % MOST
        self.origin = self._present * GENERATION
        self._conversions = {
            generation: conversion(declaration, present, self._present)
            for generation, declaration in self._earlier.items()
        }

    def end_earlier(self) -> None:
        """Everything is converted."""
        self._earlier = {}
        self._conversions = {}

    def convert(self, stored: bytes) -> bytes:
        """What is stored, as the present declaration has it."""
        if stored[0] == self._present:
            return stored
        return self._conversions[stored[0]](stored)


def conversion(earlier: Declaration, present: Declaration, generation: int) -> Conversion:
    """To ``present``, which has this ``generation``: entries keep what both store."""
    old, new = earlier.layout, present.layout
    places = [old.place_of(column.data_type.bit) for column in new.columns]
    transcode = Transcoder(old, new, places).transcode
    first = bytes((generation,))
    at = record_at(new)
    begins_to_end = not earlier.expire and present.expire

    def convert(stored: bytes) -> bytes:
        moved = first + stored[1:at] + transcode(stored, at)
        return unending(moved) if begins_to_end else moved

    return convert

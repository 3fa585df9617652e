"""Where ages and texts lie in a record: derived once, and looked up for each record.

A record is encoded integers and texts in the order of the columns. What has to find
something in it goes by its *segments*: runs of integers, with a text between each two.
Where the integers of a run begin and end depends on the classes of its bytes alone
(below 128, below 240, others): its *shape*. Few shapes occur, so a `ShapeCache` remembers
what was found out about each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Final, Optional, TypeVar

import attrs

from peerproto.wire.datatypes import Kind

Kinds = tuple[tuple[Kind, Optional[int]], ...]
"""Kind and number of elements of each column."""

Found = TypeVar("Found")


@attrs.frozen
class Run:
    """Integers that follow each other: how many, and which of them are ages."""

    count: int
    ages: tuple[int, ...]


@attrs.frozen
class Segments:
    """What the columns of a record are made of."""

    runs: tuple[Run, ...]
    """The integers before, between and behind texts."""
    cells: tuple[range, ...]
    """For each column, which of all integers and texts of the record are its own."""
    ages: tuple[int, ...]
    """Which of these are ages."""
    count: int
    """Integers and texts of a record."""


_CELLS: Final = {Kind.FREQUENCY: 3}
"""How many integers a value is, where it is not one integer or text."""


@lru_cache(maxsize=512)
def segments(kinds: Kinds) -> Segments:
    """Those of records with these columns."""
    runs: list[Run] = []
    cells: list[range] = []
    ages: list[int] = []
    cell = first = before = 0  # the run begins with cell `first`, of ages `before` came earlier
    for kind, elements in kinds:
        end = cell + _CELLS.get(kind, 1) * (elements or 1)
        cells.append(range(cell, end))
        if kind is Kind.FREQUENCY:
            ages += range(cell, end, _CELLS[kind])
        elif kind is Kind.DICTIONARY:
            for text in cells[-1]:
                runs.append(Run(text - first, tuple(age - first for age in ages[before:])))
                first, before = text + 1, len(ages)
        cell = end
    runs.append(Run(cell - first, tuple(age - first for age in ages[before:])))
    return Segments(tuple(runs), tuple(cells), tuple(ages), cell)


MOST: Final = 32_768
"""Shapes that are remembered, for whatever purpose: peers choose which occur."""

LONGEST: Final = 512
"""Bytes of a shape that is remembered at most."""


class ShapeCache(dict[bytes, Found]):
    """By shape, what was found out of it. ``cache[shape]`` finds it out if nobody asked before.

    All caches together remember `MOST` shapes at most, and begin again then.
    """

    remembered: ClassVar[int] = 0
    """Shapes in all caches, those included of which nobody makes use any more."""
    _filled: ClassVar[list[ShapeCache[Any]]] = []

    def __init__(self, find_out: Callable[[bytes], Found]) -> None:
        super().__init__()
        self._find_out = find_out

    def __missing__(self, shape: bytes) -> Found:
        found = self._find_out(shape)
        if len(shape) <= LONGEST:
            if ShapeCache.remembered >= MOST:
                for cache in self._filled:
                    cache.clear()
                self._filled.clear()
                ShapeCache.remembered = 0
            if not self:
                self._filled.append(self)
            self[shape] = found
            ShapeCache.remembered += 1
        return found

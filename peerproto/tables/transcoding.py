"""Records of one layout to those of another: cut into cells and put together anew.

A record is a row of encoded integers and texts. Each of them is a *cell*: what
both layouts have is copied as it is, and what only the other one has is blank,
which is a byte of 0 for integers and texts alike. What is to be copied of a
record without texts, to a new entry, depends on the classes of its bytes alone
(`peerproto.wire.shape`): it is remembered. Nothing is compiled for a
layout, since a peer may define a table anew with each update. Source:
doc/protocol.md, "Tables that differ".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final, Optional

from peerproto.wire import varint
from peerproto.wire.codec import aged, integers_pattern
from peerproto.wire.layout import Layout
from peerproto.wire.shape import Run, Segments, ShapeCache

_INTEGER: Final = re.compile(varint.VARINT, re.DOTALL)

_BLANK: Final = b"\x00"
"""The cell of an integer or a text in a new entry."""

Copied = tuple[bytes, int, int]
"""Blank cells, and from where to where a record is copied behind them."""


def _cut(data: bytes, at: int, segments: Segments) -> list[bytes]:
    """The cells of the record that begins at ``at`` and ends with ``data``; it is whole."""
    first, *after = segments.runs
    if not after:
        return _INTEGER.findall(data, at)
    end = _end(data, at, first)
    cells: list[bytes] = _INTEGER.findall(data, at, end)
    for run in after:
        length, start = varint.decode(data, end)
        at = start + length
        cells.append(data[end:at])
        end = _end(data, at, run)
        cells += _INTEGER.findall(data, at, end)
    return cells


def _end(data: bytes, at: int, run: Run) -> int:
    """Where a run of integers ends."""
    match = integers_pattern(run.count).match(data, at)
    assert match is not None
    return match.end()


def _plan(count: int, picks: list[int], shape: bytes) -> tuple[Copied, ...]:
    """What a new entry gets of a record of this shape, which has ``count`` cells."""
    edges = [0, *varint.ends(shape, count)]
    plan: list[Copied] = []
    before = b""
    for pick in picks:
        if pick < 0:
            before += _BLANK
            continue
        start, end = edges[pick], edges[pick + 1]
        if plan and not before and plan[-1][2] == start:
            plan[-1] = (*plan[-1][:2], end)
        else:
            plan.append((before, start, end))
            before = b""
    if before:
        plan.append((before, 0, 0))
    return tuple(plan)


class Transcoder:
    """Makes records of ``ours`` of those of ``theirs``."""

    def __init__(
        self, theirs: Layout, ours: Layout, places: Optional[Sequence[Optional[int]]] = None
    ) -> None:
        """``places`` are, for each column of ours, the one of theirs that is taken, if any.

        Without them it is the one of the same data type. Of arrays of different
        lengths, as many elements are taken as both have.
        """
        if places is None:
            places = [theirs.place_of(column.data_type.bit) for column in ours.columns]
        self._theirs, self._ours = theirs.codec.segments, ours.codec.segments
        count = self._ours.count
        self._picks = [*range(-count, 0)]
        """For each cell of ours: which of theirs; below 0, the one of ours from the end."""
        for own, place in zip(self._ours.cells, places):
            if place is not None:
                taken = self._theirs.cells[place][: len(own)]
                self._picks[own.start : own.start + len(taken)] = taken
        self._ages = [age for age in self._ours.ages if self._picks[age] < 0]
        """Cells of ours that are ages and not theirs."""
        texts = theirs.codec.has_texts
        self._plans: Optional[ShapeCache[tuple[Copied, ...]]] = None
        if not texts:
            self._plans = ShapeCache(partial(_plan, self._theirs.count, self._picks))
        self._new = [_BLANK] * count

    def transcode(self, data: bytes, at: int) -> bytes:
        """The record at ``at`` in our layout; what is not theirs is as in a new entry."""
        if self._plans is not None:
            record = data[at:]
            made = b""
            for before, start, end in self._plans[record.translate(varint.CLASSES)]:
                made += before + record[start:end]
            return made
        cells = _cut(data, at, self._theirs) + self._new
        return b"".join([cells[pick] for pick in self._picks])

    def merge(self, data: bytes, at: int, base: bytes, elapsed: int) -> bytes:
        """The same; what is not theirs is that of ``base``, a record of ours.

        Its ages have grown by ``elapsed`` ms.
        """
        kept = _cut(base, 0, self._ours)
        if elapsed:
            for age in self._ages:
                kept[age] = varint.encode(aged(varint.decode(kept[age], 0)[0], elapsed))
        cells = _cut(data, at, self._theirs) + kept
        return b"".join([cells[pick] for pick in self._picks])

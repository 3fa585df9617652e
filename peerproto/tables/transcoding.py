"""Records of one layout to those of another: cut into cells and put together anew.

A record is a row of encoded integers and texts, so a cell that both layouts
have is copied as it is. What is to be copied of a record without texts, to a
new entry, depends on the classes of its bytes alone (`peerproto.wire.varint`):
`_Plans` remembers it. Source: PROTOCOL.md, "Table definition".
"""

from __future__ import annotations

import re
from typing import Final, Optional

from peerproto.wire import varint
from peerproto.wire.codec import INTEGERS
from peerproto.wire.datatypes import Kind
from peerproto.wire.layout import Layout

_MOST_PLANS: Final = 4096

Copied = tuple[bytes, int, int]
"""Blank cells, and from where to where a record is copied behind them."""


class Cutter:
    """Cuts records of one layout into cells."""

    def __init__(self, layout: Layout) -> None:
        self.starts: list[int] = []
        """For each column, the number of its first cell."""
        patterns = [b""]
        count = 0
        for column in layout.columns:
            self.starts.append(count)
            elements = column.elements or 1
            count += elements
            kind = column.data_type.kind
            if kind is Kind.DICTIONARY:
                patterns += [b""] * elements
            else:
                patterns[-1] += (b"(%b{%d})" % (varint.VARINT, INTEGERS.get(kind, 1))) * elements
        self._before, *self._after = (re.compile(pattern, re.DOTALL) for pattern in patterns)

    def cut(self, data: bytes, at: int) -> list[bytes]:
        """The cells of the record at ``at``, which can be decoded."""
        match = self._before.match(data, at)
        assert match is not None
        cells = list(match.groups())
        for integers in self._after:
            length, start = varint.decode(data, match.end())
            cells.append(data[match.end() : start + length])
            match = integers.match(data, start + length)
            assert match is not None
            cells += match.groups()
        return cells


class _Plans(dict[bytes, tuple[Copied, ...]]):
    """By the classes of a record's bytes: what a new entry gets of it."""

    def __init__(self, theirs: Layout, picks: list[int], blank: list[bytes]) -> None:
        super().__init__()
        self._widths = [
            INTEGERS.get(column.data_type.kind, 1)
            for column in theirs.columns
            for _ in range(column.elements or 1)
        ]
        self._picks = picks
        self._blank = blank

    def __missing__(self, shape: bytes) -> tuple[Copied, ...]:
        ends = [0, *varint.ends(shape, sum(self._widths))]
        edges = [ends[sum(self._widths[:cell])] for cell in range(len(self._widths) + 1)]
        plan: list[Copied] = []
        before = b""
        for pick in self._picks:
            if pick < 0:
                before += self._blank[pick]
                continue
            start, end = edges[pick], edges[pick + 1]
            if plan and not before and plan[-1][2] == start:
                plan[-1] = (*plan[-1][:2], end)
            else:
                plan.append((before, start, end))
                before = b""
        if before:
            plan.append((before, 0, 0))
        if len(self) >= _MOST_PLANS:
            self.clear()
        self[shape] = tuple(plan)
        return self[shape]


class Transcoder:
    """Makes records of ``ours`` of those of ``theirs``."""

    def __init__(self, theirs: Layout, ours: Layout, places: list[Optional[int]]) -> None:
        """``places`` are, for each column of ours, the one of theirs that is taken, if any.

        Of arrays of different lengths, as many elements are taken as both have.
        """
        self._theirs, self._ours = Cutter(theirs), Cutter(ours)
        blank = ours.codec.blank()
        self._blank = self._ours.cut(ours.codec.encode(blank), 0)
        self._picks: list[int] = []
        """For each cell of ours: which of theirs; below 0, the one of ours from the end."""
        self.keeps_ages = False
        """Whether frequency counters stay that are not theirs."""
        for column, place in zip(ours.columns, places):
            elements = column.elements or 1
            taken = 0
            if place is not None:
                taken = min(elements, theirs.columns[place].elements or 1)
                start = self._theirs.starts[place]
                self._picks += range(start, start + taken)
            own = len(self._picks) - len(self._blank)
            self._picks += range(own, own + elements - taken)
            frequency = column.data_type.kind is Kind.FREQUENCY
            self.keeps_ages = self.keeps_ages or (frequency and taken < elements)
        self.keeps = min(self._picks, default=0) < 0
        """Whether anything stays that is not theirs."""
        texts = any(column.data_type.kind is Kind.DICTIONARY for column in theirs.columns)
        self._plans = None if texts else _Plans(theirs, self._picks, self._blank)

    def transcode(self, data: bytes, at: int, base: Optional[bytes] = None) -> bytes:
        """The record at ``at`` in our layout; what is not theirs is that of ``base``.

        ``base`` is a record of ours; without one, they are as in a new entry.
        """
        if base is None and self._plans is not None:
            record = data[at:]
            made = b""
            for before, start, end in self._plans[record.translate(varint.CLASSES)]:
                made += before + record[start:end]
            return made
        cells = self._theirs.cut(data, at)
        cells += self._blank if base is None else self._ours.cut(base, 0)
        return b"".join([cells[pick] for pick in self._picks])

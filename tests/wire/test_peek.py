"""One number of a record, read without the others."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.wire.codec import entry_codec
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.peek import peek_of

UINT32 = st.integers(0, 0xFFFFFFFF) | st.sampled_from((0, 239, 240, 2287, 2288))
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.SIGNED: st.integers(-(1 << 31), (1 << 31) - 1),
    Kind.UNSIGNED32: UINT32,
    Kind.UNSIGNED64: st.integers(0, (1 << 64) - 1),
    Kind.FREQUENCY: st.builds(Frequency, UINT32, UINT32, UINT32),
    Kind.DICTIONARY: st.none() | st.text(max_size=300),
}


@st.composite
def entries(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    """Columns, and the values of an entry."""
    kinds: list[tuple[Kind, Any]] = []
    values: list[Any] = []
    for kind in draw(st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=6)):
        if kind is Kind.DICTIONARY and any(one is kind for one, _ in kinds):
            continue
        elements = None if kind is Kind.DICTIONARY else draw(st.none() | st.integers(1, 4))
        kinds.append((kind, elements))
        some = [draw(VALUES[kind]) for _ in range(elements or 1)]
        values.append(some[0] if elements is None else tuple(some))
    return tuple(kinds), values


class PeekTests(SynchronousTestCase):
    @given(entries(), st.binary(max_size=5))
    def test_all(self, entry: tuple[Any, list[Any]], before: bytes) -> None:
        """It is what decoding gives; of a rate, the events of both periods."""
        kinds, values = entry
        before = b"\x07" + before
        row = before + entry_codec(kinds).encode(tuple(values))
        for place, (kind, elements) in enumerate(kinds):
            if kind is Kind.DICTIONARY:
                continue
            for index in range(elements) if elements else (None,):
                value = values[place] if index is None else values[place][index]
                if kind is Kind.FREQUENCY:
                    value = value.current + value.previous
                peek = peek_of(kinds, place, index)
                rows = [(b"a", row), (b"b", row)]
                at = len(before)
                both = [(value, row) for row in rows]
                self.assertEqual(peek(rows, at, 7, value, value), both)
                self.assertEqual(peek(rows, at, 7, -math.inf, math.inf), both)
                self.assertEqual(peek(rows, at, 7, value + 1, math.inf), [])
                self.assertEqual(peek(rows, at, 7, -math.inf, value - 1), [])
                self.assertEqual(peek(rows, at, 8, 0, 0), [(None, row) for row in rows])

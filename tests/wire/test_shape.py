from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.wire import shape
from peerproto.wire.datatypes import Kind
from peerproto.wire.layout import Layout
from peerproto.wire.shape import Run, ShapeCache
from tests.strategies import layouts


class SegmentsTests(SynchronousTestCase):
    def test_example(self) -> None:
        """A rate is three integers, the first of them an age; a text ends a run."""
        line = "type ip size 9 store gpc0,conn_rate(1s),server_key,gpt(2),gpc_rate(2,1s)"
        segments = Declaration.parse("t", line).layout.codec.segments
        self.assertEqual(segments.runs, (Run(4, (1,)), Run(8, (2, 5))))
        self.assertEqual(
            segments.cells, (range(1), range(1, 4), range(4, 5), range(5, 7), range(7, 13))
        )
        self.assertEqual(segments.ages, (1, 7, 10))
        self.assertEqual(segments.count, 13)

    @given(layouts())
    def test_every_cell_once(self, layout: Layout) -> None:
        """The columns have all cells in turn, and the runs all cells but texts."""
        segments = layout.codec.segments
        cells = [cell for one in segments.cells for cell in one]
        self.assertEqual(cells, list(range(segments.count)))
        kinds = [one.data_type.kind for one in layout.columns]
        texts = kinds.count(Kind.DICTIONARY)
        self.assertEqual(len(segments.runs), texts + 1)
        self.assertEqual(sum(run.count for run in segments.runs), segments.count - texts)


class ShapeCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[bytes] = []

    def find_out(self, shape: bytes) -> int:
        self.asked.append(shape)
        return len(shape)

    def test_found_out_once(self) -> None:
        """A shape is looked into once, unless it is very long."""
        cache = ShapeCache(self.find_out)
        short, long = b"\x01", bytes(shape.LONGEST + 1)
        found = [cache[one] for one in (short, long, short, long)]
        self.assertEqual(found, [1, len(long), 1, len(long)])
        self.assertEqual(self.asked, [short, long, long])

    def test_all_caches_together_are_bounded(self) -> None:
        """However many caches there are, they remember so many shapes; then they begin again."""
        self.patch(shape, "MOST", 10)
        caches = [ShapeCache(self.find_out) for _ in range(7)]
        for number in range(100):
            for cache in caches:
                self.assertEqual(cache[bytes(number)], number)
            self.assertLessEqual(sum(map(len, caches)), 10)
        self.assertEqual(ShapeCache.remembered, sum(map(len, caches)))

"""What changes of ours have replaced."""

from __future__ import annotations

from typing import Optional

from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.before import MOST, VALUES, WHILE, Before
from peerproto.tables.declaration import Declaration

LAYOUT = Declaration.parse("t", "type integer size 1k store gpt0,gpc0").layout
GPT0, GPC0 = (1 << column.data_type.bit for column in LAYOUT.columns)


class BeforeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = Before()

    def change(self, key: int, old: tuple[int, int], new: tuple[int, int], now: int = 0) -> None:
        self.before.note(b"%d" % key, LAYOUT, old, new, now)

    def of(self, key: int, now: int = 0) -> Optional[dict[int, list[int]]]:
        found = self.before.of([b"%d" % key], now).get(b"%d" % key)
        return None if found is None else {bit: list(values) for bit, values in found.items()}

    def test_columns(self) -> None:
        """Values are kept of the columns that were changed, and of no others."""
        self.change(1, (1, 2), (1, 3))
        self.assertEqual(self.of(1), {GPC0: [2]})
        self.change(2, (1, 2), (1, 2))
        self.assertIsNone(self.of(2))
        self.assertIsNone(self.of(3))

    def test_a_while(self) -> None:
        """They are kept for a while after the latest change of the key."""
        self.change(1, (0, 0), (1, 0), 0)
        self.change(2, (0, 0), (1, 0), 0)
        self.change(1, (1, 0), (1, 5), 600)
        self.assertEqual(self.of(1, WHILE - 1), {GPT0: [0], GPC0: [0]})
        self.assertIsNone(self.of(2, WHILE))
        self.assertEqual(self.of(1, WHILE + 599), {GPT0: [0], GPC0: [0]})
        self.assertIsNone(self.of(1, WHILE + 600))
        self.assertEqual(len(self.before), 0)

    def test_set_again(self) -> None:
        """A value that is set again is none that was replaced."""
        for old, new in ((0, 1), (1, 2), (2, 0), (0, 1)):
            self.change(1, (old, 0), (new, 0))
        self.assertEqual(self.of(1), {GPT0: [0, 2]})

    def test_another_layout(self) -> None:
        """What was replaced in other columns is forgotten."""
        self.change(1, (1, 2), (1, 3))
        other = Declaration.parse("t", "type integer size 1k store gpc0,gpc1").layout
        self.before.note(b"1", other, (3, 0), (3, 4), 1)
        bit = 1 << other.columns[1].data_type.bit
        self.assertEqual(self.of(1), {bit: [0]})

    def test_servers(self) -> None:
        """A server that was taken from an entry may be the next request's again."""
        line = "type integer size 1k store server_id,gpt0,server_key"
        layout = Declaration.parse("t", line).layout
        self.before.note(b"1", layout, (1, 1, "a"), (2, 2, ""), 0)
        self.assertEqual(self.of(1), {GPT0: [1]})

    def test_bounds(self) -> None:
        """Of a key that changes without end the latest values are kept, and of keys without end
        the latest."""
        for value in range(100):
            self.change(1, (0, value), (0, value + 1), value * 10)
        self.assertEqual(self.of(1, 1000), {GPC0: list(range(100 - VALUES, 100))})
        for key in range(2 * MOST):
            self.change(key, (0, 0), (0, 1), 1000)
        self.assertEqual(len(self.before), MOST)
        self.assertIsNone(self.of(MOST - 1, 1000))
        self.assertEqual(self.of(MOST, 1000), {GPC0: [0]})

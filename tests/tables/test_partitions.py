from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.partitions import PARTS, Partitions

CROWDED = 0x0A000000
"""Keys from here on, 65536 apart, are all in one part."""


def key_of(number: int) -> bytes:
    return (CROWDED + (number << 16)).to_bytes(4, "big")


class SweepTests(SynchronousTestCase):
    @given(
        st.integers(0, 90),
        st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from("psprrc"), st.integers(0, 120)),
            max_size=60,
        ),
    )
    def test_changes_meanwhile(self, size: int, steps: list[tuple[int, str, int]]) -> None:
        """Every key that is there at the end has come; for each that is removed one may come
        again."""
        parts = Partitions(4)
        parts.put([key_of(number) for number in range(size)], [b"old"] * size)
        sweep = parts.sweep()
        came: list[bytes] = []
        removed = 0
        for pieces, change, number in steps:
            for _ in range(pieces):
                came += (key for key, _ in next(sweep, []))
            if change == "r":
                removed += parts.pop(key_of(number)) is not None
            elif change == "c":
                removed += sum(map(len, parts.take_all()))
            else:
                parts.put([key_of(number)], [b"new"])
        came += (key for piece in sweep for key, _ in piece)
        self.assertLessEqual({key for part in parts.dicts for key in part}, set(came))
        self.assertLessEqual(len(came) - len(set(came)), 2 * removed)

    def test_order(self) -> None:
        """Entries come in about the order in which they were stored, a group after the other."""
        parts = Partitions(4)
        keys = [number.to_bytes(4, "big") for number in range(100 * PARTS)]
        parts.put(keys, keys)
        came = [key for piece in parts.sweep() for key, _ in piece]
        self.assertEqual(sorted(came), keys)
        for place, key in enumerate(came):
            in_group = 8 * (place % (100 * PARTS // 8))
            self.assertLess(abs(in_group - int.from_bytes(key, "big")), 32 * PARTS)

    def test_as_they_are_when_they_come(self) -> None:
        """A value that changes during a sweep comes as it is then."""
        parts = Partitions(4)
        keys = [key_of(number) for number in range(64)]
        parts.put(keys, [b"old"] * 64)
        sweep = parts.sweep()
        first = next(sweep)
        parts.put(keys, [b"new"] * 64)
        rest = [value for piece in sweep for _, value in piece]
        self.assertEqual({value for _, value in first}, {b"old"})
        self.assertEqual(rest, [b"new"] * (64 - len(first)))

    def test_cleared(self) -> None:
        """Of a table that was cleared only that comes which was stored since."""
        parts = Partitions(4)
        keys = [key_of(number) for number in range(64)]
        parts.put(keys, [b"old"] * 64)
        sweep = parts.sweep()
        next(sweep)
        parts.take_all()
        parts.put(keys[:9], [b"new"] * 9)
        self.assertEqual(
            [pair for piece in sweep for pair in piece], [(k, b"new") for k in keys[:9]]
        )

    def test_removals(self) -> None:
        """Keys come that are still to come, though others were removed that had come."""
        parts = Partitions(4)
        keys = [key_of(number) for number in range(64)]
        parts.put(keys, [b"old"] * 64)
        sweep = parts.sweep()
        next(sweep)
        for key in keys[:16]:
            parts.pop(key)
        self.assertEqual([key for piece in sweep for key, _ in piece], keys[16:])

    def test_after_its_end(self) -> None:
        """A sweep that has come to its end goes on with what is stored then, also after a clear;
        what has come does not come again, unless it is stored again."""
        parts = Partitions(4)
        keys = [key_of(number) for number in range(64)]
        parts.put(keys, [b"old"] * 64)
        sweep = parts.sweep()
        came = [key for piece in sweep for key, _ in piece]
        self.assertEqual(came, keys)
        self.assertEqual(sweep.taken, 64)
        parts.put([key_of(99), keys[0]], [b"new"] * 2)
        self.assertEqual([key for piece in sweep for key, _ in piece], [key_of(99)])
        parts.take_all()
        sweep.let_go()
        self.assertEqual(list(sweep), [])
        parts.put(keys[:3], [b"new"] * 3)
        self.assertEqual([key for piece in sweep for key, _ in piece], keys[:3])
        self.assertEqual(sweep.taken, 68)
        self.assertFalse(sweep.left_out)

    def test_grows_while_it_is_swept(self) -> None:
        """New entries without end do not make a sweep endless: as many come as there were at
        first, or 16384, and what was there at first comes in any case."""
        for size in (1, 20_000):
            parts = Partitions(4)
            numbers = itertools.count()
            old = [next(numbers).to_bytes(4, "big") for _ in range(size)]
            parts.put(old, old)
            sweep = parts.sweep()
            came = set()
            while piece := next(sweep, None):
                came |= {key for key, _ in piece}
                new = [next(numbers).to_bytes(4, "big") for _ in range(2 * len(piece))]
                parts.put(new, new)
            self.assertLessEqual(set(old), came)
            self.assertGreaterEqual(len(came), size + max(size, 1 << 14))
            # No more is begun then, but what was begun is gone through.
            self.assertLess(len(came), 4 * (2 * size + (1 << 14)))
            self.assertEqual(list(sweep), [])

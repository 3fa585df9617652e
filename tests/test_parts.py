from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.parts import PARTS, Parts

CROWDED = 0x0A000000
"""Keys from here on, 65536 apart, are all in one part."""


def key_of(number: int) -> bytes:
    return (CROWDED + (number << 16)).to_bytes(4, "big")


class SweepTests(SynchronousTestCase):
    @given(
        st.integers(0, 90),
        st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 120)), max_size=60),
    )
    def test_changes_meanwhile(self, size: int, steps: list[tuple[int, bool, int]]) -> None:
        """What is there from beginning to end comes; for each removed one may come again."""
        parts = Parts(4)
        parts.put([key_of(number) for number in range(size)], [b"old"] * size)
        staying = {key for part in parts.dicts for key in part}
        sweep = parts.sweep()
        came: list[bytes] = []
        removed = 0
        for pieces, remove, number in steps:
            for _ in range(pieces):
                came += (key for key, _ in next(sweep, []))
            if remove:
                removed += parts.pop(key_of(number)) is not None
                staying.discard(key_of(number))
            else:
                parts.put([key_of(number)], [b"new"])
        came += (key for piece in sweep for key, _ in piece)
        self.assertLessEqual(staying, set(came))
        self.assertLessEqual(len(came) - len(set(came)), 2 * removed)
        if not removed:
            self.assertEqual(len(came), len(set(came)))

    def test_order(self) -> None:
        """Entries come in about the order in which they were stored, a group after the other."""
        parts = Parts(4)
        keys = [number.to_bytes(4, "big") for number in range(100 * PARTS)]
        parts.put(keys, keys)
        came = [key for piece in parts.sweep() for key, _ in piece]
        self.assertEqual(sorted(came), keys)
        for place, key in enumerate(came):
            in_group = 8 * (place % (100 * PARTS // 8))
            self.assertLess(abs(in_group - int.from_bytes(key, "big")), 32 * PARTS)

    def test_as_they_are_when_they_come(self) -> None:
        """A value that changes during a sweep comes as it is then."""
        parts = Parts(4)
        keys = [key_of(number) for number in range(64)]
        parts.put(keys, [b"old"] * 64)
        sweep = parts.sweep()
        first = next(sweep)
        parts.put(keys, [b"new"] * 64)
        rest = [value for piece in sweep for _, value in piece]
        self.assertEqual({value for _, value in first}, {b"old"})
        self.assertEqual(rest, [b"new"] * (64 - len(first)))

    def test_cleared(self) -> None:
        """Of a table that was cleared nothing more comes, whatever was stored since."""
        parts = Parts(4)
        keys = [key_of(number) for number in range(64)]
        parts.put(keys, [b"old"] * 64)
        sweep = parts.sweep()
        next(sweep)
        parts.take_all()
        parts.put(keys, [b"new"] * 64)
        self.assertEqual(list(sweep), [])

    def test_grows_while_it_is_swept(self) -> None:
        """New entries without end do not make a sweep endless."""
        parts = Parts(4)
        parts.put([key_of(0)], [b"old"])
        count = 0
        for piece in parts.sweep():
            count += len(piece)
            self.assertLess(count, 99)
            parts.put([key_of(count + 1)], [b"new"])

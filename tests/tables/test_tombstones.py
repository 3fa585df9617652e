"""Tombstones: how long they stand, and how many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.expiry import NEVER
from peerproto.tables.tombstones import Tombstones


class TombstonesTests(SynchronousTestCase):
    def test_until_its_end(self) -> None:
        """One stands until its end, and is told to have fallen once."""
        stones = Tombstones()
        stones.put(b"a", 100)
        self.assertTrue(stones.stands(b"a", 99))
        self.assertFalse(stones.stands(b"a", 100))
        self.assertEqual(stones.due(99, 10), [])
        self.assertEqual(stones.next_due(), 100)
        self.assertEqual((stones.due(100, 10), stones.due(100, 10)), ([b"a"], []))
        self.assertEqual((len(stones), stones.next_due()), (0, None))

    def test_without_end(self) -> None:
        """One may have no end."""
        stones = Tombstones()
        stones.put(b"a", NEVER)
        self.assertEqual((stones.next_due(), stones.due(10**9, 10)), (None, []))
        self.assertTrue(stones.stands(b"a", 10**9))

    def test_most(self) -> None:
        """There are so many at most: the oldest make room."""
        stones = Tombstones(2)
        self.assertEqual(stones.put(b"a", 100) + stones.put(b"b", 50), [])
        self.assertEqual(stones.put(b"a", 200), [])
        self.assertEqual(stones.put(b"c", 300), [b"b"])
        self.assertEqual(sorted(stones), [b"a", b"c"])

    def test_memory(self) -> None:
        """Keys that are forgotten again and again take no more room for it."""
        stones = Tombstones(100)
        fallen = [len(stones.put(b"%d" % (number % 3), number)) for number in range(1000)]
        self.assertEqual((sum(fallen), len(stones)), (0, 3))
        self.assertEqual(sorted(stones.due(10**6, 200)), [b"0", b"1", b"2"])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "take", "due"]),
                st.sampled_from([b"a", b"b", b"c"]),
                st.integers(0, 30),
            )
        )
    )
    def test_model(self, steps: list[tuple[str, bytes, int]]) -> None:
        """Whatever is put up and taken away, those stand whose end has not come."""
        stones, ends, now = Tombstones(), dict[bytes, int](), 0
        for what, key, number in steps:
            if what == "put":
                ends[key] = now + number
                stones.put(key, ends[key])
            elif what == "take":
                ends.pop(key, None)
                stones.take([key])
            else:
                now += number
                fallen = sorted(one for one, end in ends.items() if end <= now)
                self.assertEqual(sorted(stones.due(now, 1000)), fallen)
                for one in fallen:
                    del ends[one]
            keys = [b"a", b"b", b"c"]
            self.assertEqual(
                stones.standing(keys, now), [one for one in keys if ends.get(one, now) > now]
            )

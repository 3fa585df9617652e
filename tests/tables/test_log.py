from __future__ import annotations

import time
import tracemalloc
from typing import Optional

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.log import BLOCK, ChangeLog


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


Steps = list[tuple[str, int, int, int]]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("record", "record", "record", "forget", "clear")),
        st.integers(0, 3 * BLOCK),
        st.sampled_from((1, 2, 10, BLOCK // 2, BLOCK, 2 * BLOCK)),
        st.integers(0, 7),
    ),
    max_size=8,
)
"""What is done, from which key on, to how many, and with which columns."""


class Model:
    """What a log is to say, kept as plainly as can be."""

    def __init__(self) -> None:
        self.head = 0
        self.changes: dict[bytes, list[tuple[int, int]]] = {}

    def after(self, number: int) -> list[tuple[int, int, bytes]]:
        found = []
        for one, changes in self.changes.items():
            columns = 0
            for at, of in changes:
                columns |= of if at > number else 0
            if changes[-1][0] > number:
                found.append((changes[-1][0], columns, one))
        return sorted(found)


class ChangeLogTests(SynchronousTestCase):
    @given(STEPS, st.lists(st.floats(0, 1), max_size=5))
    def test_one_place_each(self, steps: Steps, shares: list[float]) -> None:
        """However many entries change or go: each has the place of its latest change, with the
        columns that were changed since any number, and counting is no other than going through."""
        log, model = ChangeLog(), Model()
        for what, first, count, columns in steps:
            if what == "clear":
                log.clear()
                model.changes.clear()
            for number in range(first, first + count):
                if what == "record":
                    model.head += 1
                    self.assertEqual(log.record(key(number), columns), model.head)
                    model.changes.setdefault(key(number), []).append((model.head, columns))
                elif what == "forget":
                    log.forget(key(number))
                    model.changes.pop(key(number), None)
        self.assertEqual((log.head, len(log)), (model.head, len(model.changes)))
        for number in (0, 1, log.head - 1, log.head, *(int(log.head * one) for one in shares)):
            expected = model.after(number)
            self.assertEqual(list(log.after(number)), expected)
            self.assertEqual(log.count_after(number), len(expected))
            for _, columns, one in expected[:3]:
                self.assertEqual(log.columns(one, number), columns)

    def test_columns_since(self) -> None:
        """A change that comes again takes only those columns along that were not sent before."""
        log = ChangeLog()
        for columns in (0b001, 0b010, 0b010, 0b100, 0):
            log.record(b"a", columns)
        self.assertEqual(
            [[one[1] for one in log.after(number)] for number in range(6)],
            [[0b111], [0b110], [0b110], [0b100], [0], []],
        )
        log.forget(b"a")
        log.record(b"a", 0b001)
        self.assertEqual(list(log.after(0)), [(6, 0b001, b"a")])

    def test_overwritten(self) -> None:
        """Of some keys, those are known whose values are from here, from after a change."""
        for others in (0, 3 * BLOCK):
            log = ChangeLog()
            for number in range(others):
                log.record(b"other%d" % number, 1)
            start = log.head
            self.assertEqual(log.later([key(1)], start), {})
            for columns in (1, 2):
                for number in range(4):
                    log.record(key(number), columns)
            keys = [key(number) for number in (3, 1, 2, 3, 9)]
            self.assertEqual(log.later(keys, start), {key(n): 3 for n in (1, 2, 3)})
            self.assertEqual(log.later(keys, start + 6), {key(2): 2, key(3): 2})
            log.overwrite([key(1), key(9), b"nowhere"])
            self.assertEqual(log.later(keys, start), {key(n): 3 for n in (2, 3)})
            log.record(key(1), 4)
            log.forget(key(2))
            self.assertEqual(log.later(keys, start + 4), {key(1): 6, key(3): 2})
            log.clear()
            self.assertEqual(log.later(keys, 0), {})

    def test_stays_small(self) -> None:
        """Many changes to few entries keep few places, and little memory; so do many entries of
        which most go."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        log = ChangeLog()
        empty = tracemalloc.get_traced_memory()[0]
        log.record(b"old", 1)
        for number in range(20 * BLOCK):
            log.record(key(number % 10), 1)
        self.assertEqual(len(log), 11)
        self.assertLess(tracemalloc.get_traced_memory()[0] - empty, 500_000)
        for number in range(20 * BLOCK):
            log.record(key(number), 1)
            if number % 100:
                log.forget(key(number))
        left = len(range(0, 20 * BLOCK, 100))
        self.assertEqual(len(log), 1 + left)
        self.assertLess(tracemalloc.get_traced_memory()[0] - empty, 1_000_000)
        self.assertEqual(sum(map(len, log.clear())), 2 * (1 + left))

    def test_no_long_step(self) -> None:
        """With many places, no step takes long: the last changes are found without
        going through the others, and so is how many there are after any number."""
        log = ChangeLog()
        longest = 0.0
        for number in range(200_000):
            began = time.thread_time()
            log.record(key(number), 1)
            longest = max(longest, time.thread_time() - began)
        began = time.thread_time()
        for number in range(500):
            log.record(key(number), 1)
            self.assertEqual(sum(1 for _ in log.after(log.head - 1)), 1)
            self.assertEqual(log.count_after(number), 200_000)
        each = (time.thread_time() - began) / 500
        self.assertLess(each, 0.001)
        self.assertLess(longest, 0.02)

    def test_ids_wrap(self) -> None:
        """An id of 32 bits means the change that it is near to, across the wrap."""
        log = ChangeLog(head=2**32 - 2)
        for number in range(5):
            log.record(key(number), 1)
        self.assertEqual(log.head, 2**32 + 3)
        self.assertEqual(log.number_of_id(2**32 - 1, log.head), 2**32 - 1)
        self.assertEqual(log.number_of_id(0, log.head), 2**32)
        self.assertEqual(log.number_of_id(3, log.head), 2**32 + 3)
        self.assertIsNone(log.number_of_id(4, log.head))


@attrs.frozen(eq=False)
class Not:
    """Spares one peer."""

    peer: str

    def spares(self, peer: object) -> bool:
        return peer == self.peer


class SparingTests(SynchronousTestCase):
    """Changes that are not for all peers."""

    def setUp(self) -> None:
        self.log = ChangeLog()

    def after(self, peer: str, number: int = 0) -> list[tuple[int, bytes]]:
        return [(columns, key) for _, columns, key in self.log.after(number, peer)]

    def test_left_out(self) -> None:
        """What is not for a peer is left out for that one alone."""
        self.log.record(b"a", 1, Not("x"))
        self.log.record(b"b", 0, Not("y"))
        self.assertEqual(self.after("x"), [(0, b"b")])
        self.assertEqual(self.after("y"), [(1, b"a")])
        self.assertEqual(self.log.later([b"a", b"b"], 0, peer="x"), {b"b": 0})
        self.assertEqual(len(list(self.log.after(0))), 2)

    def test_by_columns(self) -> None:
        """Of an entry, those columns are left out that are not for the peer."""
        self.log.record(b"a", 3, Not("x"))
        self.log.record(b"a", 4, Not("y"))
        self.assertEqual((self.after("x"), self.after("y")), ([(4, b"a")], [(3, b"a")]))
        self.log.record(b"a", 7)
        self.assertEqual(self.after("x"), [(7, b"a")])

    def test_whether(self) -> None:
        """It is known whether anything after a change is not for a peer."""
        self.log.record(b"a", 1, Not("x"))
        self.log.record(b"b", 1)
        self.assertEqual([self.log.spares("x", after) for after in (0, 1)], [True, False])
        self.assertFalse(self.log.spares("y", 0))
        self.log.record(b"a", 1)
        self.assertFalse(self.log.spares("x", 0))
        self.log.record(b"a", 1, Not("x"))
        self.log.forget(b"a")
        self.assertFalse(self.log.spares("x", 0))

    def test_repeated(self) -> None:
        """What is noted again is not for those that it was not for before, and some more."""
        self.log.record(b"a", 1, Not("x"))
        self.assertTrue(self.log.repeat(b"a", 1, Not("y")))
        self.assertEqual([self.after(peer) for peer in "xyz"], [[], [], [(1, b"a")]])
        self.assertFalse(self.log.repeat(b"a", 1))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"a", b"b", b"c"]),
                st.integers(0, 7),
                st.sampled_from([None, "x", "y"]),
            )
        ),
        st.integers(0, 5),
    )
    def test_model(self, changes: list[tuple[bytes, int, Optional[str]]], number: int) -> None:
        """Each peer gets the columns whose latest change is for it."""
        log = ChangeLog()
        expected: dict[bytes, dict[int, tuple[int, Optional[str]]]] = {}
        for at, (key, columns, spared) in enumerate(changes, 1):
            log.record(key, columns, None if spared is None else Not(spared))
            bits = {bit: (at, spared) for bit in range(3) if columns >> bit & 1}
            expected.setdefault(key, {}).update(bits)
        for peer in ("x", "y"):
            wanted = {
                key: sum(1 << bit for bit, (at, but) in bits.items() if at > number and but != peer)
                for key, bits in expected.items()
            }
            got = {key: columns for _, columns, key in log.after(number, peer)}
            self.assertEqual(
                {key: one for key, one in got.items() if one},
                {key: one for key, one in wanted.items() if one},
            )

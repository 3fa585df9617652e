from __future__ import annotations

import random
from itertools import chain
from sys import getrefcount

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.partitions import Partitions
from peerproto.tables.row import KEY_AT, UNENDING, pack
from peerproto.updates.order import SLICE, Order, OrderedSweep

SCATTERED = random.Random(1).sample(range(1 << 32), 20_000)


def row(key: bytes, value: bytes, length: int = 4) -> bytes:
    """A row, with the key in it if that has a fixed length."""
    return pack(0, UNENDING) + key[:length] + value


def put(parts: Partitions, keys: list[bytes], value: bytes, length: int = 4) -> None:
    parts.put(keys, [row(key, value, length) for key in keys])


def full(keys: list[bytes], length: int = 4) -> Partitions:
    parts = Partitions(length)
    put(parts, keys, b"old", length)
    return parts


def sweep_of(parts: Partitions, length: int = 4) -> OrderedSweep:
    """A sweep that is ready to go through the first span."""
    sweep = OrderedSweep(Order(parts, length))
    while not sweep.prepare():
        pass
    return sweep


def kept_elsewhere(rows: list[bytes]) -> int:
    """How many of them something else refers to."""
    (alone,) = [getrefcount(one) for one in [row(b"", b"of nobody")]]
    return sum(count > alone for count in [getrefcount(one) for one in rows])


def with_keys(piece: list[tuple[bytes, bytes]], length: int = 4) -> list[tuple[bytes, bytes]]:
    """The same with all keys, which may be left out where rows have them."""
    return [(key or row[KEY_AT : KEY_AT + length], row) for key, row in piece]


def all_of(sweep: OrderedSweep, length: int = 4) -> list[tuple[bytes, bytes]]:
    """All that is still to come."""
    came: list[tuple[bytes, bytes]] = []
    while True:
        while not sweep.prepare():
            pass
        came += chain.from_iterable(with_keys(piece, length) for piece in sweep)
        if sweep.ended:
            return came


def keys_of(sweep: OrderedSweep, length: int = 4) -> list[bytes]:
    return [key for key, _ in all_of(sweep, length)]


def farthest(keys: list[bytes]) -> int:
    """How many places a key is away from where it would be if all were sorted, at most."""
    places = {key: place for place, key in enumerate(sorted(keys))}
    return max(abs(place - places[key]) for place, key in enumerate(keys))


class OrderTests(SynchronousTestCase):
    def test_neighbours_together(self) -> None:
        """Whatever the keys are, and however they cluster, each comes among its neighbours."""
        for length, numbers in (
            (4, [number.to_bytes(4, "big") for number in SCATTERED]),
            (4, [(0x0A000000 | number >> 16).to_bytes(4, "big") for number in SCATTERED]),
            (16, [b"\x20\x01\x0d\xb8" + number.to_bytes(12, "big") for number in SCATTERED]),
            (0, [b"visitor-%08x" % number for number in SCATTERED]),
        ):
            keys = list(dict.fromkeys(numbers))
            came = keys_of(sweep_of(full(keys, length), length), length)
            self.assertEqual(sorted(came), sorted(keys))
            self.assertLess(farthest(came), len(keys) // 4)

    def test_in_slices(self) -> None:
        """No step of making it takes more than a few thousand keys."""
        parts = full([number.to_bytes(4, "big") for number in SCATTERED])
        sweep = OrderedSweep(Order(parts, 4))
        steps = 1
        while not sweep.prepare():
            steps += 1
        self.assertGreaterEqual(steps, len(SCATTERED) // SLICE)

    @settings(max_examples=50)
    @given(
        st.sampled_from([4, 0]),
        st.lists(
            st.tuples(st.integers(0, 8), st.sampled_from("psrrcyeem"), st.integers(0, 9999)),
            max_size=40,
        ),
    )
    def test_changes_meanwhile(self, length: int, steps: list[tuple[int, str, int]]) -> None:
        """Every key that is there at the end has come, before or after the order was made, and
        each as it was when it came."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:10_000]]
        parts = full(keys[:9000], length)
        sweep = OrderedSweep(Order(parts, length))
        came: set[bytes] = set()

        def come(pieces: int) -> None:
            for _ in range(pieces):
                for key, stored in with_keys(next(sweep, [])):
                    self.assertEqual(stored, parts.of(key)[key])
                    came.add(key)

        for number, (pieces, change, place) in enumerate(steps):
            if sweep.prepare():
                come(pieces)
            key = keys[place]
            value = b"%d" % number
            if change == "r":
                parts.pop(key)
            elif change == "c" and place < 100:
                parts.take_all()
            elif change == "m" and place < 2000:
                put(parts, keys[place : place + 6000], value, length)
            elif change == "y":
                sweep = sweep.copy()
            elif change == "e":
                sweep.extend()
            else:
                put(parts, [key], value, length)
        while True:
            if sweep.prepare():
                come(1)
            if sweep.ended:
                break
        self.assertLessEqual({key for part in parts.dicts for key in part}, came)

    @given(st.sampled_from([4, 0]), st.integers(0, 200), st.integers(0, 40))
    def test_what_is_behind(self, length: int, pieces: int, new: int) -> None:
        """What one has behind it and what it has still to come is all; each once, if the table
        is taken as a whole."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:5000]]
        parts = full(keys, length)
        sweep = sweep_of(parts, length)
        more = [number.to_bytes(4, "big") for number in SCATTERED[5000 : 5000 + new]]
        put(parts, more, b"new", length)
        for _ in range(pieces):
            while not sweep.prepare():
                pass
            next(sweep, None)
        came = keys_of(sweep.behind()) + keys_of(sweep.copy())
        self.assertEqual(sorted(came if length else set(came)), sorted(keys + more))

    def test_cleared(self) -> None:
        """Of a table that was cleared only that comes which was stored since."""
        for length in (4, 0):
            keys = [number.to_bytes(4, "big") for number in SCATTERED[:5000]]
            parts = full(keys, length)
            sweep = sweep_of(parts, length)
            next(sweep)
            parts.take_all()
            self.assertFalse(sweep.extend())
            put(parts, keys[:9], b"new", length)
            new = [(key, row(key, b"new", length)) for key in keys[:9]]
            self.assertEqual(sorted(set(all_of(sweep))), sorted(new))

    def test_replaced(self) -> None:
        """Rows that are replaced come as they are by then, also when they are so many that the
        order is given up; those removed do not come."""
        for count in (100, 9000):
            for length in (4, 0):
                keys = [number.to_bytes(4, "big") for number in SCATTERED[:12_000]]
                parts = full(keys, length)
                sweep = sweep_of(parts, length)
                next(sweep)
                put(parts, keys[:count], b"new", length)
                for key in keys[count : count + 50]:
                    parts.pop(key)
                behind = sweep.behind()
                came = dict(all_of(sweep) + all_of(behind))
                now = dict(parts.items())
                self.assertEqual({key: came.get(key) for key in now}, now)
                self.assertFalse(set(keys[count : count + 50]) & set(came))

    def test_given_up(self) -> None:
        """Where the order was given up, what is behind a sweep and what is to come are all."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:12_000]]
        parts = full(keys)
        sweep = sweep_of(parts)
        next(sweep)
        put(parts, keys[:9000], b"new")
        self.assertTrue(sweep.extend())
        for _ in range(100):
            next(sweep)
        came = dict(all_of(sweep.behind()))
        self.assertLess(len(came), 2000)
        came.update(all_of(sweep.copy()))
        self.assertEqual(came, dict(parts.items()))

    def test_memory(self) -> None:
        """Rows of which thousands were replaced are not kept, however slow a pupil is; they go a
        few at a time, as do those of a lesson that is over."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED]
        parts = full(keys)
        sweep = sweep_of(parts)
        next(sweep)
        kept = parts.of(keys[0])[keys[0]]
        put(parts, keys, b"new")
        read = getrefcount(kept)
        slices = 0
        while parts.clearing:
            parts.clearing.discard(250)
            slices += 1
        self.assertLess(getrefcount(kept), read)
        self.assertGreater(slices, 10)
        self.assertTrue(all_of(sweep))
        sweep = sweep_of(parts)
        self.assertFalse(parts.clearing)
        del sweep
        self.assertTrue(parts.clearing)

    def test_memory_of_what_is_cleared(self) -> None:
        """Rows that are cleared are not kept for a pupil. Those of an order that was not ready
        when its lesson ended go a few at a time."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED]
        for slices in (2, 100):
            parts = full(keys)
            sweep = OrderedSweep(Order(parts, 4))
            for _ in range(slices):
                sweep.prepare()
            rows = [parts.of(key)[key] for key in keys]
            self.assertEqual(kept_elsewhere(rows), len(rows))
            parts.take_all()
            self.assertTrue(parts.clearing)
            while parts.clearing:
                parts.clearing.discard(250)
            # Before it is ready, those may still be there that are just being read.
            self.assertLess(kept_elsewhere(rows), 1 if slices == 100 else len(rows) // 5)
            self.assertEqual(all_of(sweep), [])
            parts = full(keys)
            sweep = OrderedSweep(Order(parts, 4))
            for _ in range(slices):
                sweep.prepare()
            del sweep
            self.assertTrue(parts.clearing)

    def test_shared(self) -> None:
        """An order serves later lessons while most keys are still those; all that is new comes."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED]
        parts = full(keys[:10_000])
        first = sweep_of(parts)
        order = first.order
        put(parts, keys[10_000:12_000], b"new")
        self.assertTrue(order.serves())
        self.assertEqual(sorted(keys_of(OrderedSweep(order, extended=True))), sorted(keys[:12_000]))
        put(parts, keys[12_000:], b"new")
        self.assertFalse(order.serves())

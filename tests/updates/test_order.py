from __future__ import annotations

import random
from sys import getrefcount

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.partitions import Partitions
from peerproto.tables.row import KEY_AT, UNENDING, pack
from peerproto.updates.order import SLICE, Order

SCATTERED = random.Random(1).sample(range(1 << 32), 20_000)

BEGUN = 7
"""Slices after which some rows are in their buckets, but not all."""


def row(key: bytes, value: bytes, length: int = 4) -> bytes:
    """A row, with the key in it if that has a fixed length."""
    return pack(0, UNENDING) + key[:length] + value


def put(parts: Partitions, keys: list[bytes], value: bytes, length: int = 4) -> None:
    parts.put(keys, [row(key, value, length) for key in keys])


def full(keys: list[bytes], length: int = 4) -> Partitions:
    parts = Partitions(length)
    put(parts, keys, b"old", length)
    return parts


def made(parts: Partitions, length: int = 4, plain: bool = False) -> Order:
    """An order of which all is done."""
    order = Order(parts, length, plain)
    while not order.prepare():
        pass
    return order


def kept_elsewhere(stored: list[bytes]) -> int:
    """How many of them something else refers to."""
    (alone,) = [getrefcount(one) for one in [row(b"", b"of nobody")]]
    return sum(count > alone for count in [getrefcount(one) for one in stored])


def piece_of(order: Order, place: int, length: int = 4) -> list[tuple[bytes, bytes]]:
    """A piece with all keys, which may be left out where rows have them."""
    return [(key or row[KEY_AT : KEY_AT + length], row) for key, row in order.entries(place)]


def all_of(order: Order, length: int = 4, place: int = 0) -> list[tuple[bytes, bytes]]:
    """All from a place on."""
    came: list[tuple[bytes, bytes]] = []
    while order.has(place):
        came += piece_of(order, place, length)
        place += 1
    return came


def keys_of(order: Order, length: int = 4) -> list[bytes]:
    return [key for key, _ in all_of(order, length)]


def places_of(order: Order) -> int:
    """How many pieces there are, with those of what was stored since it was made."""
    place = 0
    while order.has(place):
        place += 1
    return place


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
            came = keys_of(made(full(keys, length), length), length)
            self.assertEqual(sorted(came), sorted(keys))
            self.assertLess(farthest(came), len(keys) // 4)

    def test_in_slices(self) -> None:
        """No step of making it takes more than a few thousand keys."""
        parts = full([number.to_bytes(4, "big") for number in SCATTERED])
        order = Order(parts, 4)
        steps = 1
        while not order.prepare():
            steps += 1
        self.assertGreaterEqual(steps, len(SCATTERED) // SLICE)

    @settings(max_examples=50)
    @given(
        st.sampled_from([4, 0]),
        st.booleans(),
        st.lists(
            st.tuples(st.integers(0, 8), st.sampled_from("psrrceem"), st.integers(0, 9999)),
            max_size=40,
        ),
    )
    def test_changes_meanwhile(
        self, length: int, plain: bool, steps: list[tuple[int, str, int]]
    ) -> None:
        """Every key that is there when no piece is left has come, before or after the order was
        made, and each as it was when it came. Where it is given up, that counts for a plain one
        that begins then."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:10_000]]
        parts = full(keys[:9000], length)
        order = Order(parts, length, plain)
        place = 0
        came: set[bytes] = set()

        def come(pieces: int) -> bool:
            """Take some pieces: whether there are more."""
            nonlocal order, place
            if order.rows.ended:
                order, place = Order(parts, length, plain=True), 0
            if not order.prepare():
                return True
            for _ in range(pieces):
                if not order.has(place):
                    return False
                for key, stored in piece_of(order, place, length):
                    self.assertEqual(stored, parts.of(key)[key])
                    came.add(key)
                place += 1
            return True

        for number, (pieces, change, at) in enumerate(steps):
            come(pieces)
            key = keys[at]
            value = b"%d" % number
            if change == "r":
                parts.pop(key)
            elif change == "c" and at < 100:
                parts.take_all()
            elif change == "m" and at < 2000:
                put(parts, keys[at : at + 6000], value, length)
            elif change == "e":
                come(50)
            else:
                put(parts, [key], value, length)
        while come(1):
            pass
        self.assertLessEqual({key for part in parts.dicts for key in part}, came)

    @given(st.sampled_from([4, 0]), st.booleans(), st.integers(0, 200), st.integers(0, 40))
    def test_from_any_place(self, length: int, plain: bool, begin: int, new: int) -> None:
        """What comes from a place on, and what comes before it, is all, and each once; also when
        some of it was stored meanwhile, and another lesson has come to its end before."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:5000]]
        parts = full(keys, length)
        order = made(parts, length, plain)
        for place in range(begin):
            order.has(place)
        more = [number.to_bytes(4, "big") for number in SCATTERED[5000 : 5000 + new]]
        put(parts, more, b"new", length)
        places = places_of(order)
        begin = min(begin, places)
        came: list[tuple[bytes, bytes]] = []
        for place in (*range(begin, places), *range(begin)):
            self.assertTrue(order.has(place))
            came += piece_of(order, place, length)
        self.assertFalse(order.has(places))
        self.assertEqual(sorted(came), sorted(parts.items()))

    def test_stored_at_the_end(self) -> None:
        """What is stored when no piece is left comes in another one, of which no key has come
        before unless it was removed."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:3000]]
        for plain in (False, True):
            parts = full(keys[:2000])
            order = made(parts, plain=plain)
            end = places_of(order)
            put(parts, keys[2000:2100], b"new")
            parts.pop(keys[7])
            put(parts, [keys[7]], b"new")
            came = dict(all_of(order, place=end))
            self.assertLessEqual({*keys[2000:2100], keys[7]}, came.keys())
            self.assertLessEqual(len(came), 102)
            self.assertEqual(set(came.values()), {row(key, b"new") for key in came})

    def test_removed_before_they_come(self) -> None:
        """Others that were stored come, though those are gone that were to come next."""
        kinds = [[(one << 16 | kind).to_bytes(4, "big") for one in range(100)] for kind in range(3)]
        parts = full([one[0] for one in kinds])
        order = made(parts)
        end = places_of(order)
        put(parts, [key for one in kinds for key in one[1:]], b"new")
        self.assertTrue(order.has(end))
        came = {key for key, _ in piece_of(order, end)}
        self.assertTrue(all(came.intersection(one) for one in kinds))
        for key in kinds[1]:
            parts.pop(key)
        came.update(key for key, _ in all_of(order, place=end))
        self.assertLessEqual({*kinds[0][1:], *kinds[2][1:]}, came)

    def test_cleared(self) -> None:
        """An order is given up when its table is cleared. Of what a plain one has, only that comes
        which was stored since."""
        for length in (4, 0):
            keys = [number.to_bytes(4, "big") for number in SCATTERED[:5000]]
            for plain in (False, True):
                parts = full(keys, length)
                order = made(parts, length, plain)
                self.assertTrue(order.has(0))
                parts.take_all()
                self.assertFalse(order.serves())
                self.assertEqual(order.rows.ended, not plain)
                put(parts, keys[:9], b"new", length)
                new = [(key, row(key, b"new", length)) for key in keys[:9]]
                if plain:
                    self.assertEqual(sorted(set(all_of(order, length, place=1))), sorted(new))
                order = made(parts, length, plain=True)
                self.assertEqual(sorted(all_of(order, length)), sorted(new))

    def test_replaced(self) -> None:
        """Rows that are replaced come as they are by then, wherever one begins; those removed do
        not come."""
        for plain in (False, True):
            for length in (4, 0):
                keys = [number.to_bytes(4, "big") for number in SCATTERED[:12_000]]
                parts = full(keys, length)
                order = made(parts, length, plain)
                self.assertTrue(order.has(9))
                put(parts, keys[:9000] if plain else keys[:100], b"new", length)
                for key in keys[9000:9050]:
                    parts.pop(key)
                self.assertFalse(order.rows.ended)
                came = all_of(order, length)
                self.assertEqual(dict(came), dict(parts.items()))
                # For each that is removed another one may come again.
                self.assertLessEqual(len(came), len(parts) + 50)

    def test_given_up(self) -> None:
        """An order is given up once an eighth of the rows was replaced, and 4096 more. A plain
        one is not, however many are."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:12_000]]
        for length in (4, 0):
            parts = full(keys, length)
            order, plain = made(parts, length), made(parts, length, plain=True)
            put(parts, keys[: 4096 + 12_000 // 8], b"new", length)
            self.assertTrue(order.serves())
            put(parts, keys[-1:], b"new", length)
            self.assertTrue(order.rows.ended)
            self.assertFalse(order.serves())
            self.assertTrue(order.prepare())
            put(parts, keys, b"newer", length)
            self.assertEqual(sorted(all_of(plain, length)), sorted(parts.items()))

    def test_memory(self) -> None:
        """Rows of which thousands were replaced are not kept, however slow a pupil is; they go a
        few at a time, as do those of a lesson that is over."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED]
        parts = full(keys)
        order = made(parts)
        kept = parts.of(keys[0])[keys[0]]
        put(parts, keys, b"new")
        read = getrefcount(kept)
        slices = 0
        while parts.clearing.under_way:
            parts.clearing.discard(250)
            slices += 1
        self.assertLess(getrefcount(kept), read)
        self.assertGreater(slices, 10)
        self.assertTrue(order.rows.ended)
        order = made(parts)
        self.assertFalse(parts.clearing.under_way)
        del order
        self.assertTrue(parts.clearing.under_way)

    def test_memory_of_what_is_cleared(self) -> None:
        """Nothing that is cleared is kept for a pupil, whether the order was ready, has grown
        since, or is plain. What it had goes a few at a time, also when a lesson ends before the
        order is ready."""
        for plain, slices, more in (
            (False, BEGUN, 0),
            (False, 100, 0),
            (False, 100, 3000),
            (True, 0, 3000),
        ):
            keys = [number.to_bytes(4, "big") for number in SCATTERED]
            parts = full(keys[: len(keys) - more])
            order = Order(parts, 4, plain)
            for _ in range(slices):
                order.prepare()
            place = 0
            put(parts, keys[len(keys) - more :], b"new")
            while more and place < 250 and order.has(place):
                place += 1
            stored = [parts.of(key)[key] for key in keys]
            self.assertEqual(kept_elsewhere(stored), len(stored))
            parts.take_all()
            self.assertTrue(parts.clearing.under_way)
            while parts.clearing.under_way:
                parts.clearing.discard(250)
            # Before it is ready, those may still be there that are just being read.
            self.assertLess(kept_elsewhere(stored), len(stored) // 5 if slices == BEGUN else 1)
            self.assertEqual(all_of(made(parts, plain=True)), [])
            if plain:
                self.assertEqual(all_of(order), [])
        parts = full(keys)
        order = Order(parts, 4)
        for _ in range(BEGUN):
            order.prepare()
        del order
        self.assertTrue(parts.clearing.under_way)

    def test_memory_of_keys_that_are_cleared(self) -> None:
        """A plain order keeps no key that is cleared either."""
        numbers = SCATTERED[:5000]
        parts = full([number.to_bytes(4, "big") for number in numbers])
        order = made(parts, plain=True)
        places_of(order)
        keys = [key for key, _ in parts.items()]
        parts.take_all()
        while parts.clearing.under_way:
            parts.clearing.discard(250)
        self.assertEqual(kept_elsewhere(keys), 0)
        self.assertEqual(all_of(order), [])

    def test_shared(self) -> None:
        """An order serves later lessons while most keys are still those; all that is new comes."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED]
        for plain in (False, True):
            parts = full(keys[:10_000])
            order = made(parts, plain=plain)
            put(parts, keys[10_000:12_000], b"new")
            self.assertTrue(order.serves())
            self.assertEqual(sorted(keys_of(order)), sorted(keys[:12_000]))
            self.assertTrue(order.serves())
            put(parts, keys[12_000:], b"new")
            self.assertFalse(order.serves())
        parts = full(keys[:10_000])
        order = made(parts)
        for key in keys[:1900]:
            parts.pop(key)
        self.assertTrue(order.serves())
        for key in keys[1900:2100]:
            parts.pop(key)
        self.assertFalse(order.serves())

    def test_does_not_serve_without_end(self) -> None:
        """A few keys that come and go again and again are in ever more pieces: before these are
        many, the order serves no longer, though the table has as many keys as ever."""
        keys = [number.to_bytes(4, "big") for number in SCATTERED[:10_000]]
        parts = full(keys)
        order = made(parts)
        before = place = places_of(order)
        laps = 0
        while order.serves():
            for key in keys[:100]:
                parts.pop(key)
            put(parts, keys[:100], b"%d" % laps)
            while order.has(place):
                place += 1
            laps += 1
            self.assertLess(laps, 100)
        self.assertFalse(order.rows.ended)
        self.assertGreater(laps, 10)
        self.assertLess(place, before + before // 2)

    def test_left_out(self) -> None:
        """Where far more keys come and go than there were, no further piece comes at last, and
        it is said that keys were left out; not so if what is left is gone by then."""
        for plain in (False, True):
            parts = full([number.to_bytes(4, "big") for number in range(1000)])
            order = made(parts, plain=plain)
            place = 0
            while order.has(place):
                self.assertFalse(order.left_out)
                first = len(parts)
                put(parts, [(first + one).to_bytes(4, "big") for one in range(200)], b"new")
                place += 1
            self.assertTrue(order.left_out)
            self.assertFalse(order.serves())
            self.assertGreater(64 * place, 1 << 14)
        parts.take_all()
        self.assertFalse(order.has(place))
        self.assertFalse(order.left_out)

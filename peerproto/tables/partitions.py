"""The dicts of a table: keys spread over many, so that none is ever large.

A dict that grows to a million keys stops everything while it is moved; one of
256 parts does so for a 256th of the time. A scan takes one part at a time while
the others change.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import is_
from typing import Final, Optional
from weakref import ref

from peerproto.tables.clearing import Clearing
from peerproto.tables.follower import Follower

PARTS: Final = 256

EPOCH: Final = 6
"""Bytes that tell one mapping from another."""

_AT_ONCE: Final = 16
"""Keys of one part that a sweep takes before it goes to the next part."""

_GROUP: Final = 32
"""Partitions that a sweep visits in turns. With all, it would go once through memory instead of
eight times, but have as many iterators."""

_LATEST: Final = 64
"""Keys of one part that are looked for from its end on, if no more are left."""

_MORE: Final = 1 << 14
"""Keys that a sweep goes on with at least, if so many are stored meanwhile."""

_SIZE: Final = "I"
_COUNT: Final = "Q"
"""Types of the numbers that are kept for each part: keys in it, and keys that ever were."""

_MANY: Final = 256
"""So many keys are worth counting all that there are."""

_ADDRESS: Final = 4
"""Length of keys whose part is told by their last two bytes: IPv4 addresses and integers.

Both of them, since addresses are often cut to networks of 24 bits. Other keys
go by their hash, which costs more to ask for: by high bits, since a dict places
its keys by the low ones, which are to differ within a part.
"""


class Partitions:
    """A mapping of raw keys to what is stored."""

    def __init__(self, fixed_key_length: int) -> None:
        self._by_bytes = fixed_key_length == _ADDRESS
        self.dicts: list[dict[bytes, bytes]] = [{} for _ in range(PARTS)]
        self.epoch = os.urandom(EPOCH).hex()
        """Tells this mapping from others, also from those of another process: which key is in which
        part is for this one alone."""
        self.clears = 0
        """How often all keys were removed at once."""
        self.removed = array(_COUNT, [0]) * PARTS
        """How many keys were removed from each part so far."""
        self._new_in_a_row = 0
        self._followers: list[ref[Follower]] = []
        self.clearing = Clearing()
        """What was here, or was read ahead from here, and whose memory is to be given back."""

    def _place(self, key: bytes) -> int:
        return key[3] ^ key[2] if self._by_bytes else hash(key) >> 40 & 0xFF

    def of(self, key: bytes) -> dict[bytes, bytes]:
        """The dict in which a key is, if it is in any."""
        return self.dicts[self._place(key)]

    def places(self, keys: Iterable[bytes]) -> list[int]:
        """The number of the partition of each of ``keys``, in all tables with keys of this type."""
        if self._by_bytes:
            return [key[3] ^ key[2] for key in keys]
        return [hash(key) >> 40 & 0xFF for key in keys]

    def of_each(
        self, keys: Sequence[bytes], places: Optional[list[int]] = None
    ) -> list[Optional[bytes]]:
        """What is stored for each of ``keys``, ``None`` where nothing is; ``places`` are theirs, if
        they are known."""
        dicts = self.dicts
        if places is None:
            places = self.places(keys)
        return [dicts[place].get(key) for key, place in zip(keys, places)]

    def follow(self, follower: Follower) -> None:
        """Let somebody hear of rows that are replaced or removed, for as long as they live."""
        self._followers = [one for one in self._followers if one() is not None]
        self._followers.append(ref(follower))

    def replaced(self, keys: Iterable[bytes]) -> None:
        """Say that rows were replaced, which was done in the dicts themselves."""
        if self._followers:
            for follower in self._following():
                follower.replaced(keys)

    def _following(self) -> list[Follower]:
        """Those of the followers that still live."""
        return [follower for one in self._followers if (follower := one()) is not None]

    def _note(self, keys: list[bytes], new: int) -> None:
        """Keys were stored, of which so many are ``new``."""
        if new == len(keys):
            self._new_in_a_row += new
        else:
            self._new_in_a_row = 0
            self.replaced(keys)

    def __len__(self) -> int:
        return sum(map(len, self.dicts))

    def walk(self, place: int = 0, after: Optional[bytes] = None) -> Iterator[tuple[int, bytes]]:
        """All keys, each with the number of its part, from one key of a part on.

        Parts may change meanwhile. A key that is there from beginning to end comes exactly once,
        others once or not at all; also when the walk is left, and begun again behind any key.
        """
        for number in range(place, PARTS):
            keys = sorted(self.dicts[number])
            begin = 0 if after is None or number > place else bisect_right(keys, after)
            for position in range(begin, len(keys)):
                if keys[position] in self.dicts[number]:
                    yield number, keys[position]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and what is stored for them, as `walk` has them, but for their order."""
        for place in range(PARTS):
            for key in list(self.dicts[place]):
                stored = self.dicts[place].get(key)
                if stored is not None:
                    yield key, stored

    def sweep(self) -> Sweep:
        """All keys and what is stored for them, in about the order in which they came."""
        return Sweep(self, self.sizes(), 2 * len(self) + _MORE)

    def sizes(self) -> array[int]:
        """Number of keys of each part."""
        return array(_SIZE, map(len, self.dicts))

    def take_all(self) -> list[dict[bytes, bytes]]:
        """Leave all parts empty: those that were not."""
        full = [part for part in self.dicts if part]
        self.dicts = [{} for _ in range(PARTS)]
        self.clears += 1
        self._new_in_a_row = 0
        for follower in self._following():
            follower.cleared()
        return full

    def put(self, keys: list[bytes], values: list[bytes]) -> tuple[Sequence[bytes], int]:
        """Store values: the keys that were new, each once, and how many they are.

        In a lesson all are new, batch after batch. Once that was so for as many as
        there are now, it is not asked key by key: if some are not new after all, the
        result has keys too many, but never more than have been new before.
        """
        count = len(keys)
        if count == 1:
            key = keys[0]
            part = self.dicts[self._place(key)]
            if key not in part:
                part[key] = values[0]
                self._new_in_a_row += 1
                return keys, 1
            part[key] = values[0]
            self._note(keys, 0)
            return (), 0
        if _MANY <= count <= self._new_in_a_row:
            before = len(self)
            self._store(keys, values)
            grown = len(self) - before
            self._note(keys, grown)
            return keys, grown
        dicts = self.dicts
        if self._by_bytes:
            new = [key for key in keys if key not in dicts[key[3] ^ key[2]]]
        else:
            new = [key for key in keys if key not in dicts[hash(key) >> 40 & 0xFF]]
        if len(new) > 1:
            new = list(dict.fromkeys(new))
        self._store(keys, values)
        self._note(keys, len(new))
        return new, len(new)

    def add(self, keys: list[bytes], values: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Store values for keys that have none: those keys, and the others, whose values stay."""
        dicts = self.dicts
        if self._by_bytes:
            there = [
                dicts[key[3] ^ key[2]].setdefault(key, value) for key, value in zip(keys, values)
            ]
        else:
            there = [
                dicts[hash(key) >> 40 & 0xFF].setdefault(key, value)
                for key, value in zip(keys, values)
            ]
        if all(map(is_, there, values)):
            self._new_in_a_row += len(keys)
            return keys, []
        self._new_in_a_row = 0
        new = [key for key, mine, value in zip(keys, there, values) if mine is value]
        return new, [key for key, mine, value in zip(keys, there, values) if mine is not value]

    def _store(self, keys: list[bytes], values: list[bytes]) -> None:
        dicts = self.dicts
        if self._by_bytes:
            for key, value in zip(keys, values):
                dicts[key[3] ^ key[2]][key] = value
        else:
            for key, value in zip(keys, values):
                dicts[hash(key) >> 40 & 0xFF][key] = value

    def pop(self, key: bytes) -> Optional[bytes]:
        """Remove a key: what was stored for it, if anything."""
        place = self._place(key)
        stored = self.dicts[place].pop(key, None)
        if stored is not None:
            self.removed[place] += 1
            self.replaced((key,))
        return stored

    def pop_each(self, keys: Iterable[bytes]) -> list[bytes]:
        """Remove keys: those that were there."""
        gone: list[bytes] = []
        for key in keys:
            place = self._place(key)
            if self.dicts[place].pop(key, None) is not None:
                self.removed[place] += 1
                gone.append(key)
        if gone:
            self.replaced(gone)
        return gone


_NONE: Final[tuple[int, Iterator[tuple[bytes, bytes]]]] = (-1, iter(()))


def _after(part: dict[bytes, bytes], position: int) -> Iterator[tuple[bytes, bytes]]:
    """What is in a part from a position on. A few of the latest are found from the end, since to
    walk over thousands of others for each of them would take far longer."""
    left = max(0, len(part) - position)
    if left > _LATEST:
        return islice(part.items(), position, None)
    latest = list(islice(reversed(part), left))
    latest.reverse()
    # Values as they are when they are asked for.
    return zip(latest, map(part.__getitem__, latest))


class Sweep:
    """Goes through one group of parts after the other, a few keys of each part in turns.

    Memory is read in the order in which it was written, which is several times
    as fast as another order when there is much of it.

    The parts may change meanwhile. Whatever is there from beginning to end comes; and
    a sweep that comes to its end goes on with what was stored since it began, so that
    every key that is there when it ends has come, also one that was removed and stored
    again. Only where more are stored than it began with, it leaves the rest at last, and says
    so. For each key that is removed one may come again.
    """

    def __init__(self, parts: Partitions, ends: array[int], most: int) -> None:
        """``ends`` is how many keys of each part are meant at first: the oldest ones.

        It goes on with others until ``most`` have come.
        """
        self.parts = parts
        # Not the dicts themselves: when they are cleared, their memory is to be given back.
        self._clears = parts.clears
        self._ends = ends
        self._most = most
        self.left_out = False
        """Whether it has ended though there was more, since too many came and went."""
        self.taken = 0
        """How many keys have come so far."""
        self._positions = array(_SIZE, [0]) * PARTS
        self._removed = parts.removed[:]
        self._iterators: dict[int, tuple[int, Iterator[tuple[bytes, bytes]]]] = {}
        """With the size that the part had: one of another size cannot be iterated on."""
        self._group = 0
        """The first of the parts that are visited in turns."""
        self._places: list[int] = []

    def __iter__(self) -> Sweep:
        return self

    def __next__(self) -> list[tuple[bytes, bytes]]:
        if self._clears != self.parts.clears and not self._begin_anew():
            raise StopIteration
        if not self._places and not self._next_round() and not self._go_on():
            raise StopIteration
        place = self._places.pop()
        part = self.parts.dicts[place]
        position = self._position(place)
        size, iterator = self._iterators.get(place, _NONE)
        removed = self.parts.removed[place]
        if len(part) != size or removed != self._removed[place]:
            iterator = _after(part, position)
            self._iterators[place] = (len(part), iterator)
            self._removed[place] = removed
        taken = list(islice(iterator, _AT_ONCE))
        if len(taken) < _AT_ONCE:
            del self._iterators[place]
        self._positions[place] = position + len(taken)
        self.taken += len(taken)
        return taken

    def _position(self, place: int) -> int:
        """How many keys of a part have come, at least: it may be that all removed were of them."""
        removed = self.parts.removed[place] - self._removed[place]
        return max(0, self._positions[place] - removed)

    def _left(self, place: int) -> bool:
        """Whether there are keys of a part to come."""
        return self._position(place) < min(self._ends[place], len(self.parts.dicts[place]))

    def _next_round(self) -> bool:
        """Visit the parts of this group once more, or those of the next one with anything left."""
        for _ in range(PARTS // _GROUP + 1):
            left = [
                place for place in range(self._group, self._group + _GROUP) if self._left(place)
            ]
            if left:
                left.reverse()
                self._places = left
                return True
            self._iterators = {}
            self._group = (self._group + _GROUP) % PARTS
        return False

    def _go_on(self) -> bool:
        """Visit the parts in which keys were stored meanwhile."""
        if self.taken >= self._most:
            self.left_out = any(
                self._position(place) < size for place, size in enumerate(self.parts.sizes())
            )
            return False
        self._ends[:] = self.parts.sizes()
        return self._next_round()

    def _begin_anew(self) -> bool:
        """All keys were removed at once: go on with those that were stored since."""
        if self.taken >= self._most:
            self.left_out = len(self.parts) > 0
            return False
        self._clears = self.parts.clears
        self._ends[:] = self.parts.sizes()
        self._positions = array(_SIZE, [0]) * PARTS
        self._removed = self.parts.removed[:]
        self._iterators = {}
        self._places = []
        return True

    def let_go(self) -> None:
        """Refer to no part: all were cleared, and their memory is to be given back."""
        self._iterators = {}

"""The dicts of a table: keys spread over many, so that none is ever large.

A dict that grows to a million keys stops everything while it is moved; one of
256 parts does so for a 256th of the time. A scan takes one part at a time while
the others change.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Optional

PARTS: Final = 256

_AT_ONCE: Final = 16
"""Keys of one part that a sweep takes before it goes to the next part."""

_GROUP: Final = 32
"""Parts that a sweep visits in turns. With all, it would go once through memory instead of
eight times, but have as many iterators."""

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


class Parts:
    """A mapping of raw keys to what is stored."""

    def __init__(self, fixed_key_length: int) -> None:
        self._by_bytes = fixed_key_length == _ADDRESS
        self.dicts: list[dict[bytes, bytes]] = [{} for _ in range(PARTS)]
        self.removed = array(_COUNT, [0]) * PARTS
        """How many keys were removed from each part so far."""
        self._new_in_a_row = 0

    def _place(self, key: bytes) -> int:
        return key[3] ^ key[2] if self._by_bytes else hash(key) >> 40 & 0xFF

    def of(self, key: bytes) -> dict[bytes, bytes]:
        """The dict in which a key is, if it is in any."""
        return self.dicts[self._place(key)]

    def __len__(self) -> int:
        return sum(map(len, self.dicts))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and what is stored for them; the parts may change meanwhile."""
        for place in range(PARTS):
            part = self.dicts[place]
            for key in list(part):
                stored = part.get(key)
                if stored is not None:
                    yield key, stored

    def sweep(self) -> Sweep:
        """All keys and what is stored for them, in about the order in which they came."""
        return Sweep(self, self.sizes())

    def sizes(self) -> array[int]:
        """Number of keys of each part."""
        return array(_SIZE, map(len, self.dicts))

    def take_all(self) -> list[dict[bytes, bytes]]:
        """Leave all parts empty: those that were not."""
        full = [part for part in self.dicts if part]
        self.dicts = [{} for _ in range(PARTS)]
        self._new_in_a_row = 0
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
            new: Sequence[bytes] = () if key in part else keys
            part[key] = values[0]
            self._new_in_a_row = self._new_in_a_row + 1 if new else 0
            return new, len(new)
        if _MANY <= count <= self._new_in_a_row:
            before = len(self)
            self._store(keys, values)
            grown = len(self) - before
            self._new_in_a_row = self._new_in_a_row + count if grown == count else 0
            return keys, grown
        dicts = self.dicts
        if self._by_bytes:
            new = [key for key in keys if key not in dicts[key[3] ^ key[2]]]
        else:
            new = [key for key in keys if key not in dicts[hash(key) >> 40 & 0xFF]]
        if len(new) > 1:
            new = list(dict.fromkeys(new))
        self._store(keys, values)
        self._new_in_a_row = self._new_in_a_row + count if len(new) == count else 0
        return new, len(new)

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
        return stored


_NONE: Final[tuple[int, Iterator[tuple[bytes, bytes]]]] = (-1, iter(()))


class Sweep:
    """Goes through one group of parts after the other, a few keys of each part in turns.

    Memory is read in the order in which it was written, which is several times
    as fast as another order when there is much of it. The parts may change
    meanwhile: what is there from beginning to end comes, and for each key that
    is removed one may come again.
    """

    def __init__(self, parts: Parts, ends: array[int]) -> None:
        """``ends`` is how many keys of each part are meant at most: the first ones."""
        self._parts = parts
        self._dicts = parts.dicts
        self._ends = ends
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
        parts = self._parts
        if self._dicts is not parts.dicts:
            raise StopIteration
        if not self._places and not self._next_round():
            raise StopIteration
        place = self._places.pop()
        part = self._dicts[place]
        position = self._positions[place]
        size, iterator = self._iterators.get(place, _NONE)
        if len(part) != size or parts.removed[place] != self._removed[place]:
            # What was not read yet has moved up by no more than so many places.
            position = max(0, position - (parts.removed[place] - self._removed[place]))
            iterator = islice(part.items(), position, None)
            self._iterators[place] = (len(part), iterator)
            self._removed[place] = parts.removed[place]
        taken = list(islice(iterator, _AT_ONCE))
        if len(taken) < _AT_ONCE:
            self._positions[place] = max(position + len(taken), self._ends[place])
            del self._iterators[place]
        else:
            self._positions[place] = position + _AT_ONCE
        return taken

    def _next_round(self) -> bool:
        """Visit the parts of this group once more, or those of the next one with anything left."""
        for _ in range(PARTS // _GROUP + 1):
            left = [
                place
                for place in range(self._group, self._group + _GROUP)
                if self._positions[place] < self._ends[place]
            ]
            if left:
                left.reverse()
                self._places = left
                return True
            self._iterators = {}
            self._group = (self._group + _GROUP) % PARTS
        return False

    def extend(self) -> bool:
        """Go on to the end as it is now: whether that can be done, since something is left.

        Copies do so, too.
        """
        if self._dicts is not self._parts.dicts:
            return False
        left = any(position < end for position, end in zip(self._positions, self._ends))
        if left:
            self._ends[:] = self._parts.sizes()
        return left

    def behind(self) -> Sweep:
        """Another one, of what this one has behind it."""
        behind = Sweep(self._parts, self._positions[:])
        behind._dicts = self._dicts
        return behind

    def copy(self) -> Sweep:
        """Another one that goes on from here."""
        copy = Sweep(self._parts, self._ends)
        copy._dicts = self._dicts
        copy._positions = self._positions[:]
        copy._removed = self._removed[:]
        copy._group = self._group
        copy._places = self._places[:]
        return copy

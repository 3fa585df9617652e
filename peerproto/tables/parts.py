"""The dicts of a table: keys spread over many, so that none is ever large.

A dict that grows to a million keys stops everything while it is moved; one of
256 parts does so for a 256th of the time. A scan takes one part at a time while
the others change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Optional

PARTS: Final = 256

_AT_ONCE: Final = 16
"""Keys of one part that a sweep takes before it goes to the next part."""

_MANY: Final = 256
"""So many keys are worth counting all that there are."""

_ADDRESS: Final = 4
"""Length of keys whose part is told by their last two bytes: IPv4 addresses and integers.

Both of them, since addresses are often cut to networks of 24 bits. Other keys
go by their hash, which costs more to ask for.
"""


class Parts:
    """A mapping of raw keys to what is stored."""

    def __init__(self, fixed_key_length: int) -> None:
        self._by_bytes = fixed_key_length == _ADDRESS
        self.dicts: list[dict[bytes, bytes]] = [{} for _ in range(PARTS)]
        self._removed = [0] * PARTS
        """How many keys were removed from each part so far."""
        self._new_in_a_row = 0

    def _place(self, key: bytes) -> int:
        return key[3] ^ key[2] if self._by_bytes else hash(key) & 0xFF

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

    def sweep(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """All keys and what is stored for them, a few at a time, in about the order they came in.

        Memory is read in the order in which it was written, which is several times
        as fast as another order when there is much of it. So the parts are visited
        in turns. They may change meanwhile: what is there from beginning to end
        comes, and comes again at most as often as something else is removed.
        """
        dicts = self.dicts
        ends = [len(part) for part in dicts]
        positions = [0] * PARTS
        removed = list(self._removed)
        sizes = list(ends)
        iterators = [iter(part.items()) for part in dicts]
        places = [place for place in range(PARTS) if ends[place]]
        while places:
            for place in places:
                if dicts is not self.dicts:
                    return
                part = dicts[place]
                if len(part) != sizes[place] or self._removed[place] != removed[place]:
                    # What was not read yet has moved up by no more than so many places.
                    gone = self._removed[place] - removed[place]
                    positions[place] = max(0, positions[place] - gone)
                    iterators[place] = islice(part.items(), positions[place], None)
                    sizes[place] = len(part)
                    removed[place] = self._removed[place]
                taken = list(islice(iterators[place], _AT_ONCE))
                positions[place] += len(taken)
                if not taken:
                    ends[place] = 0
                yield taken
            places = [place for place in places if positions[place] < ends[place]]

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
            new = [key for key in keys if key not in dicts[hash(key) & 0xFF]]
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
                dicts[hash(key) & 0xFF][key] = value

    def pop(self, key: bytes) -> Optional[bytes]:
        """Remove a key: what was stored for it, if anything."""
        place = self._place(key)
        stored = self.dicts[place].pop(key, None)
        if stored is not None:
            self._removed[place] += 1
        return stored

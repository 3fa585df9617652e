"""The log of local changes (doc/protocol.md, "Update ids" and "Acks").

Changes are numbered from 1 without end; on the wire travels the low half, an
update id of 32 bits that wraps. An entry has one place in the log: that of its
latest change, so that ten quick changes travel as one update. The place tells
for each column when it was changed last, so that a peer gets those alone that
were changed since the change that it has.

The log is cut into blocks, so that no step is long however many entries have a
place: a block that entries have left is joined with the one before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import islice, takewhile
from typing import Final, Optional, Protocol
from weakref import WeakKeyDictionary

import attrs

ID_MASK: Final = 0xFFFFFFFF

BLOCK: Final = 2048
"""Numbers that a block is for, and the most entries that have a place in it."""

_SPARSE: Final = BLOCK // 4
"""A block of so many entries is joined with another where that can be done."""

_PARTS: Final = 256
"""Dicts that the keys are spread over: see `peerproto.tables.partitions`."""

Change = tuple[int, ...]
"""The number of the latest change and the columns that it was of, as bits of their data
types; then, for columns that were changed before it alone, the same again."""

_MOST_TIMES: Final = 1024
"""Times of changes that are kept: when there are more, some of the old ones go."""

_EXACT: Final = 32
"""A time may be earlier than that of a change by the ``1 / _EXACT``-th of how long ago it is."""

Block = dict[bytes, Change]
"""The changes of some entries, in order."""


class Sparing(Protocol):
    """Whom a change is not for. No two are equal: it counts how long each lives."""

    def spares(self, peer: object) -> bool:
        """Whether a peer does not need it, and needs not ack it."""


@attrs.frozen(eq=False)
class Either:
    """A change that is not for those that either of two spares."""

    one: Sparing
    other: Sparing

    def spares(self, peer: object) -> bool:
        """Whether a peer is one of them."""
        return self.one.spares(peer) or self.other.spares(peer)


class ChangeLog:
    """The order in which entries were last changed here, and which columns of them."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        """Number of the latest change."""
        self._times: list[tuple[int, int]] = []
        """From which number on changes were made at which time (ms), or later; in order."""
        self._count: int
        self._firsts: list[int]
        """By the least number that each may have, the blocks; in order."""
        self._blocks: dict[int, Block]
        self._places: list[dict[bytes, int]]
        """The block in which each entry has its place."""
        self._overwritten: set[bytes]
        """Keys that a peer has changed since they were changed here."""
        self._repeated: set[bytes]
        """Keys of which the latest change is one of before, noted again."""
        self._sparing: dict[int, Sparing]
        """By their numbers: the changes that are not for all peers."""
        self._latest_of: WeakKeyDictionary[Sparing, int]
        """The latest change that each of them was given for."""
        self._begin()

    def __len__(self) -> int:
        """How many entries have a place."""
        return self._count

    @property
    def latest(self) -> int:
        """Number of the latest change of an entry that is still there; 0 if there is none."""
        for first in reversed(self._firsts):
            block = self._blocks[first]
            if block:
                return next(reversed(block.values()))[0]
        return 0

    def record(self, key: bytes, columns: int, sparing: Optional[Sparing] = None) -> int:
        """Note a change of some columns of ``key``, given as bits: the number of the change.

        ``sparing`` tells whom it is not for.
        """
        self.head = number = self.head + 1
        last = self._firsts[-1]
        if number >= last + BLOCK:
            last = number
            self._firsts.append(number)
            self._blocks[number] = {}
        places = self._places[hash(key) >> 40 & 0xFF]
        place = places.get(key)
        if place is None:
            self._count += 1
            self._blocks[last][key] = (number, columns)
        else:
            block = self._blocks[place]
            before = block.pop(key)
            if len(before) == 2 and not before[1] & ~columns:
                self._blocks[last][key] = (number, columns)
            else:
                self._blocks[last][key] = (number, columns, *_other_columns(before, columns))
            if self._sparing:
                self._spare_no_more(before, self._blocks[last][key])
            if len(block) <= _SPARSE and place != last:
                self._join(place)
        places[key] = last
        if sparing is not None:
            self._sparing[number] = sparing
            self._latest_of[sparing] = number
        self._overwritten.discard(key)
        self._repeated.discard(key)
        return number

    def mark(self, now: int) -> None:
        """Note that the next changes are made at ``now`` (ms)."""
        times = self._times
        if times and times[-1][1] == now:
            return
        if times and times[-1][0] == self.head + 1:
            del times[-1]
        times.append((self.head + 1, now))
        if len(times) > _MOST_TIMES:
            kept = times[:1]
            for number, made in times[1:]:
                if _EXACT * (made - kept[-1][1]) >= now - made:
                    kept.append((number, made))
            self._times = kept

    def made_at(self, number: int) -> int:
        """When a change was made, in ms, or up to a thirtieth of its age before that.

        :raises IndexError: no change was marked before it.
        """
        return self._times[bisect_right(self._times, (number + 1,)) - 1][1]

    def repeat(self, key: bytes, columns: int, sparing: Optional[Sparing] = None) -> bool:
        """Note a change of some columns once more, so that peers get it again: whether that was
        done.

        It is not if the change was repeated already: for peers that count without end it would
        be sent without end. ``sparing`` tells whom it is not for, beside those that it was not for
        before.
        """
        if key in self._repeated or not self.number(key):
            return False
        before = self.sparing(key)
        if before is not None and sparing is not None:
            sparing = Either(before, sparing)
        self.record(key, columns, sparing or before)
        self._repeated.add(key)
        return True

    def sparing(self, key: bytes) -> Optional[Sparing]:
        """Whom the latest change of an entry is not for."""
        return self._sparing.get(self.number(key))

    def spares(self, peer: object, after: int) -> bool:
        """Whether any change after a number may be one that is not for a peer."""
        if not self._sparing:
            return False
        return any(
            number > after and sparing.spares(peer)
            for sparing, number in list(self._latest_of.items())
        )

    def number(self, key: bytes) -> int:
        """The number of the latest change of an entry; 0 if it has no place."""
        if key not in self._places[hash(key) >> 40 & 0xFF]:
            return 0
        return self._change(key)[0]

    def forget(self, key: bytes) -> None:
        """The entry is gone: it has no place any more."""
        place = self._places[hash(key) >> 40 & 0xFF].pop(key, None)
        if place is not None:
            self._count -= 1
            self._overwritten.discard(key)
            self._repeated.discard(key)
            block = self._blocks[place]
            gone = block.pop(key)
            if self._sparing:
                self._spare_no_more(gone, ())
            if len(block) <= _SPARSE and place != self._firsts[-1]:
                self._join(place)

    def clear(self) -> list[Collection[bytes]]:
        """All entries are gone. Numbers go on from where they are.

        Returns what is to be dropped a piece at a time, since that takes long.
        """
        pieces: list[Collection[bytes]] = [*self._places, *self._blocks.values()]
        self._begin()
        return [piece for piece in pieces if piece]

    def after(self, number: int, peer: object = None) -> Iterator[tuple[int, int, bytes]]:
        """Changes later than ``number``, oldest first, one for each entry.

        Each is its own number, the columns changed after ``number``, and the
        key. With a ``peer``, what is not for it is left out. The log must not change while the
        iterator is in use.
        """
        if number >= self.head:
            return
        for first in islice(self._firsts, self._index(number + 1), None):
            for key, change in self._later(self._blocks[first], number):
                columns = self._columns_for(change, number, peer)
                if columns is not None:
                    yield change[0], columns, key

    def count_after(self, number: int) -> int:
        """How many entries were changed after ``number``: about as quick for many as for few."""
        if number >= self.head:
            return 0
        index = self._index(number + 1)
        blocks = self._blocks
        block = blocks[self._firsts[index]]
        here = len(block) - bisect_left(list(block.values()), (number + 1,))
        return here + sum(len(blocks[first]) for first in islice(self._firsts, index + 1, None))

    def columns(self, key: bytes, after: int = 0) -> int:
        """The columns of an entry that were changed after ``after``, as bits; 0 also for none."""
        if key not in self._places[hash(key) >> 40 & 0xFF]:
            return 0
        return _columns_after(self._change(key), after)

    def overwrite(self, keys: Collection[bytes]) -> Collection[bytes]:
        """Note that a peer has changed ``keys``: their values are not from here any more.

        Returns the ones of which the values were from here until now.
        """
        if not self._count:
            return ()
        placed = self._placed(keys)
        if not placed:
            return ()
        others = set(placed) - self._overwritten
        self._overwritten |= others
        return others

    def later(
        self,
        keys: Collection[bytes],
        number: int,
        overwritten: bool = False,
        peer: object = None,
    ) -> dict[bytes, int]:
        """The ones of ``keys`` whose values are from here, and from after change ``number``.

        With each, the columns that were changed after it. Or all that were changed after it,
        also those that are ``overwritten`` since. With a ``peer``, what is not for it is left out.
        """
        if number >= self.head or not self._count:
            return {}
        placed = self._placed(keys)
        if not placed:
            return {}
        but: Collection[bytes] = () if overwritten else self._overwritten
        changes = {key: self._change(key) for key in placed if key not in but}
        return {
            key: columns
            for key, change in changes.items()
            if change[0] > number
            and (columns := self._columns_for(change, number, peer)) is not None
        }

    def overwritten(self, after: int, last: int) -> dict[bytes, int]:
        """The changes after one and up to another whose keys a peer has changed since.

        By key, their columns.
        """
        if not self._overwritten:
            return {}
        changes = takewhile(lambda change: change[0] <= last, self.after(after))
        return {key: columns for _, columns, key in changes if key in self._overwritten}

    def number_of_id(self, update_id: int, latest: int) -> Optional[int]:
        """The change that an update id means, at or before ``latest``.

        ``None`` if the id lies more than half the numbers behind it, which is
        ahead of it in serial-number arithmetic.
        """
        distance = (latest - update_id) & ID_MASK
        return None if distance > ID_MASK >> 1 else latest - distance

    def _later(self, block: Block, number: int) -> Iterable[tuple[bytes, Change]]:
        """What a block has of after ``number``."""
        most = self.head - number
        if most < len(block):
            later = [one for one in islice(reversed(block.items()), most) if one[1][0] > number]
            later.reverse()
            return later
        return islice(block.items(), bisect_left(list(block.values()), (number + 1,)), None)

    def _begin(self) -> None:
        """No entry has a place."""
        self._count = 0
        self._firsts = [self.head + 1]
        self._blocks = {self.head + 1: {}}
        self._places = [{} for _ in range(_PARTS)]
        self._overwritten = set()
        self._repeated = set()
        self._sparing = {}
        self._latest_of = WeakKeyDictionary()

    def _spare_no_more(self, before: Change, change: Change) -> None:
        """Forget whom changes were not for that have no place any more."""
        for number in before[::2]:
            if number not in change[::2]:
                self._sparing.pop(number, None)

    def _columns_for(self, change: Change, number: int, peer: object) -> Optional[int]:
        """The columns that were changed after a number, of a change that came after it, as far as
        they are for a peer; ``None`` if nothing is."""
        if peer is None or not self._sparing:
            return _columns_after(change, number)
        columns: Optional[int] = None
        for at in range(0, len(change), 2):
            sparing = self._sparing.get(change[at]) if change[at] > number else None
            if change[at] > number and (sparing is None or not sparing.spares(peer)):
                columns = (columns or 0) | change[at + 1]
        return columns

    def _placed(self, keys: Collection[bytes]) -> Collection[bytes]:
        """The ones of ``keys`` that have a place."""
        if len(self._firsts) == 1:
            # With few changes, as mostly, those who learn much are not to wait for this.
            return self._blocks[self._firsts[0]].keys() & keys
        places = self._places
        return [key for key in keys if key in places[hash(key) >> 40 & 0xFF]]

    def _change(self, key: bytes) -> Change:
        """The change of an entry that has a place."""
        return self._blocks[self._places[hash(key) >> 40 & 0xFF][key]][key]

    def _index(self, number: int) -> int:
        """The block in which a number has its place, if it has one."""
        return max(0, bisect_right(self._firsts, number) - 1)

    def _join(self, first: int) -> None:
        """Put the changes of a sparse block into the one before it, if they fit in."""
        block = self._blocks[first]
        index = self._index(first)
        if index:
            into = self._firsts[index - 1]
            before = self._blocks[into]
            if len(before) + len(block) > BLOCK:
                return
            before.update(block)
            places = self._places
            for key in block:
                places[hash(key) >> 40 & 0xFF][key] = into
        elif block:
            return
        del self._firsts[index], self._blocks[first]


def _columns_after(change: Change, number: int) -> int:
    """The columns that were changed after a number, of a change that came after it."""
    columns = change[1]
    for at in range(2, len(change), 2):
        if change[at] > number:
            columns |= change[at + 1]
    return columns


def _other_columns(change: Change, columns: int) -> Iterator[int]:
    """What a change says of other columns than these."""
    for at in range(0, len(change), 2):
        left = change[at + 1] & ~columns
        if left:
            yield change[at]
            yield left

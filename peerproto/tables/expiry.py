"""Which entries are due, without a place in a heap for each.

Keys wait in slots of time. A key is in one slot, no later than the end of its
entry's life as it was when the entry was made; when the slot comes due the
entry itself is asked, and goes to a later slot if it was refreshed. So a
refresh costs nothing here, and a batch of new entries costs one slot. Since
all keys of a slot may have been refreshed, or removed, those that end first are
looked for among so many that it takes a few ms.

A key that is removed keeps its place, and gets another one when it is stored again: to
look for places would cost more than they do. Once there are many more places than
entries, the slots are emptied into new ones (`EarlierSlots`).

Many keys stay together as they came, in tuples: the garbage collector, which
would look at each of a million in lists, forgets tuples of bytes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Optional

NEVER: Final = 1 << 62
"""Deadline in ms of what does not expire."""

_SLOTS_PER_LIFE = 1024
_LONGEST_SLOT = 1000

_LONGEST_PIECE: Final = 4096
DeadlineOf = Callable[[bytes], Optional[int]]
"""When the entry of a key is over, in ms; ``None`` if there is none."""

_LOOKS: Final = 8
_MOST_LOOKS: Final = 4096
"""So many entries are looked at for each that is to end, and in one go at most if fewer are."""

_FEW: Final = 32
"""Keys that are gathered with others of their slot, rather than kept apart: a tuple of so many
takes less than 2 bytes a key beside what it holds."""

_SETS: Final = 256
_FREED: Final = 8
"""So many keys are given back in the time in which one is moved."""


class _Slot:
    """Keys that are to be looked at together, in the order in which they came."""

    def __init__(self) -> None:
        self.pieces: deque[Sequence[bytes]] = deque()
        self.taken = 0
        """How many keys of the first piece were taken."""
        self.gathered: list[bytes] = []
        """What came after the pieces: few."""

    def end_piece(self) -> None:
        """Keep what was gathered."""
        self.pieces.append(tuple(self.gathered))
        self.gathered = []

    def keep(self, keys: Sequence[bytes]) -> None:
        """Add keys in pieces of their own."""
        if self.gathered:
            self.end_piece()
        for start in range(0, len(keys), _LONGEST_PIECE):
            self.pieces.append(tuple(keys[start : start + _LONGEST_PIECE]))

    def take(self, limit: int) -> Sequence[bytes]:
        """At most ``limit`` keys of one piece; none are left if there are none."""
        if not self.pieces:
            self.pieces.append(self.gathered)
            self.gathered = []
        piece = self.pieces[0]
        keys = piece[self.taken : self.taken + limit]
        self.taken += limit
        if self.taken >= len(piece):
            self.pieces.popleft()
            self.taken = 0
        return keys


class ExpirySlots:
    """Keys by the slot in which they are to be looked at."""

    def __init__(self, expire: int) -> None:
        """``expire`` is the longest life of an entry in ms, 0 for without end."""
        self.expire = expire
        self.width = max(1, min(expire // _SLOTS_PER_LIFE, _LONGEST_SLOT))
        self._slots: dict[int, _Slot] = {}
        self._order: list[int] = []
        self.places = 0
        """Number of places: a key may have several, and one without an entry has those that
        it had."""

    def __bool__(self) -> bool:
        """Whether any keys wait."""
        return bool(self._order)

    def slot_of(self, deadline: int) -> int:
        """The first slot that comes due when ``deadline`` (ms) has passed."""
        return -(-deadline // self.width)

    def add(self, keys: Sequence[bytes], deadline: int) -> None:
        """Look at ``keys`` when ``deadline`` has passed."""
        count = len(keys)
        self.places += count
        number = self.slot_of(deadline)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
            heapq.heappush(self._order, number)
        if count >= _FEW:
            slot.keep(keys)
            return
        slot.gathered += keys
        if len(slot.gathered) >= _FEW:
            slot.end_piece()

    def next_due(self) -> Optional[int]:
        """When (in ms) the first slot comes due; ``None`` if nothing ever does."""
        if not self._order or self._order[0] >= self.slot_of(NEVER):
            return None
        return self._order[0] * self.width

    def take(self, limit: int, now: Optional[int] = None) -> tuple[int, Sequence[bytes]]:
        """Take some keys of the first slot, at most ``limit``: its deadline in ms and the keys.

        With ``now``, only if it is due. Some keys may come twice; none when there is no slot.
        """
        if not self._order or (now is not None and self._order[0] * self.width > now):
            return NEVER, ()
        number = self._order[0]
        slot = self._slots[number]
        keys = slot.take(limit)
        self.places -= len(keys)
        if not slot.pieces and not slot.gathered:
            heapq.heappop(self._order)
            del self._slots[number]
        return number * self.width, keys

    def due(self, now: int, limit: int, deadline_of: DeadlineOf) -> list[bytes]:
        """Take the keys of entries that are over, looking at about ``limit``; each once.

        Those of entries that live longer are looked at later.
        """
        looked_at: dict[bytes, None] = {}
        while len(looked_at) < limit:
            _, keys = self.take(limit - len(looked_at), now)
            if not keys:
                break
            looked_at |= dict.fromkeys(keys)
        over: list[bytes] = []
        later: list[tuple[int, bytes]] = []
        for key in looked_at:
            deadline = deadline_of(key)
            if deadline is None:
                continue
            if deadline <= now:
                over.append(key)
            else:
                later.append((deadline, key))
        self.add_each(later)
        return over

    def first(self, wanted: int, deadline_of: DeadlineOf) -> list[bytes]:
        """Take the keys of ``wanted`` entries that end first, each once; fewer if there are few.

        Not all that were refreshed are looked at: then those go that end first of the
        ones that were.
        """
        first: dict[bytes, None] = {}
        later: dict[bytes, int] = {}
        looks = max(wanted, min(_LOOKS * wanted, _MOST_LOOKS))
        gone = 0
        while len(first) < wanted and looks > 0 and gone < _MOST_LOOKS:
            slot_end, keys = self.take(min(wanted - len(first), looks))
            if not keys:
                break
            looks -= len(keys)
            for key in keys:
                deadline = deadline_of(key)
                if deadline is None:
                    looks += 1
                    gone += 1
                elif deadline <= slot_end:
                    first[key] = None
                else:
                    later[key] = deadline
        rest = sorted((deadline, key) for key, deadline in later.items() if key not in first)
        missing = wanted - len(first)
        self.add_each(rest[missing:])
        return [*first, *(key for _, key in rest[:missing])]

    def add_each(self, keys: list[tuple[int, bytes]]) -> None:
        """`add` for keys that have a deadline each."""
        by_slot: dict[int, list[bytes]] = {}
        for deadline, key in keys:
            by_slot.setdefault(self.slot_of(deadline), []).append(key)
        for number, together in by_slot.items():
            self.add(together, number * self.width)

    def take_all(self) -> list[Sequence[bytes]]:
        """Forget all keys: the pieces that they were in, none of them long."""
        pieces = [piece for slot in self._slots.values() for piece in (*slot.pieces, slot.gathered)]
        self._slots = {}
        self._order = []
        self.places = 0
        return pieces


class EarlierSlots:
    """Slots that are emptied into others: of each key one place goes over, however many it has."""

    def __init__(self, slots: ExpirySlots) -> None:
        self.slots = slots
        # A set that grows to a million keys stops everything while it is moved, and when it goes.
        self._taken: list[set[bytes]] = [set() for _ in range(_SETS)]

    def __bool__(self) -> bool:
        """Whether `take` has something left to do."""
        return bool(self.slots or self._taken)

    def take(self, limit: int) -> list[bytes]:
        """Take about ``limit`` places: their keys, less those that were taken before."""
        keys: list[bytes] = []
        left = limit
        while left > 0 and self.slots:
            _, places = self.slots.take(left)
            left -= len(places)
            for key in places:
                taken = self._taken[hash(key) >> 40 & 0xFF]
                if key not in taken:
                    taken.add(key)
                    keys.append(key)
        while left >= 0 and self._taken and not self.slots:
            left -= len(self._taken.pop()) // _FREED
        return keys

    def take_all(self) -> list[Collection[bytes]]:
        """Forget all keys: the pieces that they were in, none of them long."""
        pieces = [*self.slots.take_all(), *self._taken]
        self._taken = []
        return pieces

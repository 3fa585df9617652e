"""Which entries are due, without a place in a heap for each.

Keys wait in slots of time. A key is in one slot, no later than the end of its
entry's life as it was when the entry was made; when the slot comes due the
entry itself is asked, and goes to a later slot if it was refreshed. So a
refresh costs nothing here, and a batch of new entries costs one slot.

Many keys stay together as they came, in tuples: the garbage collector, which
would look at each of a million in lists, forgets tuples of bytes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final, Optional

import attrs

NEVER: Final = 1 << 62
"""Deadline in ms of what does not expire."""

_SLOTS_PER_LIFE = 1024
_LONGEST_SLOT = 1000

_LONGEST_PIECE: Final = 4096
_FEW: Final = 128
"""Keys that are gathered with others of their slot, rather than kept apart."""


@attrs.define(eq=False)
class _Slot:
    """Keys that are to be looked at together, in the order in which they came."""

    pieces: deque[Sequence[bytes]] = attrs.field(factory=deque)
    taken: int = 0
    """How many keys of the first piece were taken."""
    gathered: list[bytes] = attrs.field(factory=list)
    """What came after the pieces."""

    def keep(self, keys: Sequence[bytes]) -> None:
        """Add keys in pieces of their own."""
        if self.gathered:
            self.pieces.append(tuple(self.gathered))
            self.gathered = []
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
        self.width = max(1, min(expire // _SLOTS_PER_LIFE, _LONGEST_SLOT))
        self._slots: dict[int, _Slot] = {}
        self._order: list[int] = []

    def slot_of(self, deadline: int) -> int:
        """The first slot that comes due when ``deadline`` (ms) has passed."""
        return -(-deadline // self.width)

    def add(self, keys: Sequence[bytes], deadline: int) -> None:
        """Look at ``keys`` when ``deadline`` has passed."""
        number = self.slot_of(deadline)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
            heapq.heappush(self._order, number)
        if len(keys) < _FEW and len(slot.gathered) < _LONGEST_PIECE:
            slot.gathered += keys
        else:
            slot.keep(keys)

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
        if not slot.pieces and not slot.gathered:
            heapq.heappop(self._order)
            del self._slots[number]
        return number * self.width, keys

    def take_all(self) -> list[Sequence[bytes]]:
        """Forget all keys: the pieces that they were in, none of them long."""
        pieces = [piece for slot in self._slots.values() for piece in (*slot.pieces, slot.gathered)]
        self._slots = {}
        self._order = []
        return pieces

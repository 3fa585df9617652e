"""Which entries are due, without a place in a heap for each.

Keys wait in slots of time. A key is in one slot, no later than the end of its
entry's life as it was when the entry was made; when the slot comes due the
entry itself is asked, and goes to a later slot if it was refreshed. So a
refresh costs nothing here, and a batch of new entries costs one slot.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final, Optional

NEVER: Final = 1 << 62
"""Deadline in ms of what does not expire."""

_SLOTS_PER_LIFE = 1024
_LONGEST_SLOT = 1000


class ExpirySlots:
    """Keys by the slot in which they are to be looked at."""

    def __init__(self, expire: int) -> None:
        """``expire`` is the longest life of an entry in ms, 0 for without end."""
        self.width = max(1, min(expire // _SLOTS_PER_LIFE, _LONGEST_SLOT))
        self._slots: dict[int, list[bytes]] = {}
        self._order: list[int] = []

    def slot_of(self, deadline: int) -> int:
        """The first slot that comes due when ``deadline`` (ms) has passed."""
        return -(-deadline // self.width)

    def add(self, keys: Iterable[bytes], deadline: int) -> None:
        """Look at ``keys`` when ``deadline`` has passed."""
        slot = self.slot_of(deadline)
        waiting = self._slots.get(slot)
        if waiting is None:
            waiting = self._slots[slot] = []
            heapq.heappush(self._order, slot)
        waiting.extend(keys)

    def next_due(self) -> Optional[int]:
        """When (in ms) the first slot comes due; ``None`` if nothing ever does."""
        if not self._order or self._order[0] >= self.slot_of(NEVER):
            return None
        return self._order[0] * self.width

    def pop(self, now: Optional[int] = None) -> tuple[int, list[bytes]]:
        """Take the first slot: its deadline in ms and its keys, of which some may come twice.

        With ``now``, only if it is due. Without keys when there is none.
        """
        if not self._order or (now is not None and self._order[0] * self.width > now):
            return NEVER, []
        slot = heapq.heappop(self._order)
        return slot * self.width, self._slots.pop(slot)

    def put_back(self, keys: list[bytes], deadline: int) -> None:
        """Put back what `pop` gave, before what has come to its slot since."""
        slot = self.slot_of(deadline)
        since = self._slots.get(slot)
        if since is None:
            heapq.heappush(self._order, slot)
        else:
            keys += since
        self._slots[slot] = keys

    def take_all(self) -> list[list[bytes]]:
        """Forget all keys: the lists that they were in."""
        waiting = list(self._slots.values())
        self._slots = {}
        self._order = []
        return waiting

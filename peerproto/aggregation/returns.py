"""Returns: keys that are to be summed again at some time, though nothing of them has changed."""

from __future__ import annotations

import heapq
from typing import Final, Optional

WIDTH: Final = 16
"""Time in ms within which keys come back together."""


class Returns:
    """Keys by the time at which they come back; one that has none costs nothing."""

    def __init__(self) -> None:
        self._slot_of: dict[bytes, int] = {}
        self._slots: dict[int, list[bytes]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def next_due(self) -> Optional[int]:
        """When (in ms) to call `due`; ``None`` if no key comes back."""
        return self._order[0] * WIDTH if self._order else None

    def put(self, key: bytes, at: Optional[int]) -> None:
        """Have a key come back at a time (ms), and at no other; with ``None`` at none."""
        if at is None:
            self._slot_of.pop(key, None)
            return
        number = -(-at // WIDTH)
        if self._slot_of.get(key) == number:
            return
        self._slot_of[key] = number
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = []
            heapq.heappush(self._order, number)
        slot.append(key)

    def due(self, now: int, most: int) -> list[bytes]:
        """Take keys whose time has come by ``now`` (ms), so many at most."""
        keys: list[bytes] = []
        while len(keys) < most and self._order and self._order[0] * WIDTH <= now:
            number = self._order[0]
            slot = self._slots[number]
            while slot and len(keys) < most:
                key = slot.pop()
                if self._slot_of.get(key) == number:
                    del self._slot_of[key]
                    keys.append(key)
            if not slot:
                heapq.heappop(self._order)
                del self._slots[number]
        return keys

    def clear(self) -> None:
        """Forget all keys."""
        self._slot_of.clear()
        self._slots.clear()
        self._order.clear()

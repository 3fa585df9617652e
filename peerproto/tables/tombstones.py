"""Tombstones: which entries were forgotten here, as long as they would have lived.

Peers hear of each as long as it stands, and no lesson brings its entry back.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterator
from typing import Final, Optional

from peerproto.tables.expiry import NEVER

MOST: Final = 1 << 17
"""Tombstones of a table at most: to let all of them go takes some ms."""


class Tombstones:
    """Those of one table: keys, with the time in ms at which each falls."""

    def __init__(self, most: int = MOST) -> None:
        """The oldest ones fall when there are more than ``most``."""
        self._most = most
        self._ends: dict[bytes, int] = {}
        self._order: list[tuple[int, bytes]] = []
        """A heap of ends, with keys that may have another end by now, or none."""
        self._oldest: deque[tuple[int, bytes]] = deque()
        """The same in the order in which they were put up."""

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._ends))

    def __contains__(self, key: bytes) -> bool:
        return key in self._ends

    def stands(self, key: bytes, now: int) -> bool:
        """Whether a key has one, and it is not about to fall."""
        return self._ends.get(key, now) > now

    def standing(self, keys: Collection[bytes], now: int) -> list[bytes]:
        """The ones of ``keys`` that have one."""
        ends = self._ends
        return [key for key in keys if key in ends and ends[key] > now] if ends else []

    def put(self, key: bytes, end: int) -> list[bytes]:
        """Put one up, in place of an earlier one if there is one: which others fall for it."""
        self._ends.pop(key, None)
        self._ends[key] = end
        self._oldest.append((end, key))
        if end != NEVER:
            heapq.heappush(self._order, (end, key))
        if len(self._oldest) > 2 * len(self._ends) + self._most // 2:
            self._oldest = deque((end, key) for key, end in self._ends.items())
            self._order = [one for one in self._oldest if one[0] != NEVER]
            heapq.heapify(self._order)
        fallen: list[bytes] = []
        while len(self._ends) > self._most:
            end, oldest = self._oldest.popleft()
            if self._ends.get(oldest) == end:
                del self._ends[oldest]
                fallen.append(oldest)
        return fallen

    def take(self, keys: Collection[bytes]) -> None:
        """These have an entry again."""
        for key in self._ends.keys() & keys:
            del self._ends[key]

    def shorten(self, end: int) -> None:
        """Let none stand longer than until ``end`` (ms)."""
        for key, stands in list(self._ends.items()):
            if stands > end:
                self.put(key, end)

    def clear(self) -> None:
        """No key has one any more."""
        self._ends = {}
        self._order = []
        self._oldest.clear()

    def next_due(self) -> Optional[int]:
        """When (in ms) `due` has something to look at; ``None`` for never."""
        return self._order[0][0] if self._order else None

    def due(self, now: int, limit: int) -> list[bytes]:
        """Let those fall whose time has come: their keys. Looks at ``limit`` at most."""
        fallen: list[bytes] = []
        for _ in range(limit):
            if not self._order or self._order[0][0] > now:
                break
            end, key = heapq.heappop(self._order)
            if self._ends.get(key) == end:
                del self._ends[key]
                fallen.append(key)
        return fallen

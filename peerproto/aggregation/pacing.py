"""Pacing: the first change of a key goes at once, those that follow soon go together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Optional


class Pacing:
    """Lets no key go more often than once in an interval."""

    def __init__(self, interval: int) -> None:
        """``interval`` is in ms."""
        self.interval = interval
        self._gone: dict[bytes, bool] = {}
        """Keys that went within the interval, and whether they changed since."""
        self._ends: deque[tuple[int, list[bytes]]] = deque()
        """When (in ms) their interval ends."""

    @property
    def next_due(self) -> Optional[int]:
        """When (in ms) to call `due`; ``None`` if no key went of late."""
        return self._ends[0][0] if self._ends else None

    def changed(self, keys: Iterable[bytes], now: int) -> list[bytes]:
        """The ones of ``keys`` that may go now (ms); the others wait."""
        gone = self._gone
        may_go = []
        for key in keys:
            if key in gone:
                gone[key] = True
            else:
                gone[key] = False
                may_go.append(key)
        if may_go:
            self._ends.append((now + self.interval, may_go))
        return may_go

    def due(self, now: int) -> list[bytes]:
        """The keys that have waited long enough: they may go now (ms)."""
        gone, ends = self._gone, self._ends
        waited: list[bytes] = []
        while ends and ends[0][0] <= now:
            for key in ends.popleft()[1]:
                if gone[key]:
                    gone[key] = False
                    waited.append(key)
                else:
                    del gone[key]
        if waited:
            ends.append((now + self.interval, waited))
        return waited

    def clear(self) -> None:
        """Forget all keys."""
        self._gone.clear()
        self._ends.clear()

"""Throughput: how many of something there were, in all and in a second."""

from __future__ import annotations


class Throughput:
    """Counts, in all and in the latest whole second."""

    def __init__(self) -> None:
        self.total = 0
        self._second = 0
        self._in_it = 0
        self._before = 0

    def add(self, count: int, now: int) -> None:
        """So many more, at ``now`` (ms)."""
        self._turn(now)
        self.total += count
        self._in_it += count

    def per_second(self, now: int) -> int:
        """How many there were in the last whole second before ``now`` (ms)."""
        self._turn(now)
        return self._before

    def _turn(self, now: int) -> None:
        second = now // 1000
        if second != self._second:
            self._before = self._in_it if second == self._second + 1 else 0
            self._second, self._in_it = second, 0

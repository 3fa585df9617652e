"""The time of a node as people and disks read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from peerproto.connections.clock import milliseconds

A_STEP: Final = 1000
"""Ms by which a wall clock is taken to have been set, and not slewed."""


class NodeTime:
    """Times of a service's clock as ms since the epoch.

    The wall clock is read once. So what steps it makes later changes nothing between two times
    of one process; `step` is how far it has gone away since.
    """

    def __init__(self, clock: Any, wall: Callable[[], float]) -> None:
        """``wall`` gives the time of the wall clock in seconds."""
        self._clock = clock
        self._wall = wall
        self.ahead = self._wall_ms() - milliseconds(clock)
        """What the time since the epoch has more than the clock's, in ms."""

    def now(self) -> int:
        """The time in ms since the epoch."""
        return milliseconds(self._clock) + self.ahead

    def step(self) -> int:
        """By how many ms the wall clock is ahead of `now`."""
        return self._wall_ms() - self.now()

    def steps(self) -> int:
        """`step`, where that is a second or more; 0 below, which is how clocks are rounded and
        slewed. So a time has the same reading again and again, as people's clocks have it."""
        step = self.step()
        return step if abs(step) >= A_STEP else 0

    def _wall_ms(self) -> int:
        return round(self._wall() * 1000)

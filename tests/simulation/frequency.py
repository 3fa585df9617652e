"""A frequency counter as a HAProxy has it: doc/protocol.md, "Frequency counters".

It knows nothing of the package: times are absolute here, in ms, and there is one way to read it.
"""

from __future__ import annotations

from typing import Final

import attrs

PERIOD: Final = 2000
"""The period in ms of all rates of the simulation: it ends often while a run lasts."""

_LONG_AGO: Final = -10 * PERIOD


@attrs.frozen
class FrequencyCounter:
    """Events of the present period, and of the one before."""

    start: int = _LONG_AGO
    """When the present period began: an even number, since HAProxy locks with the last bit."""
    current: int = 0
    previous: int = 0

    def counted(self, now: int, events: int) -> FrequencyCounter:
        """The same after some more events: a period that is over ends where the next one begins,
        but if that is over, too, one begins now."""
        if now - self.start < PERIOD:
            return FrequencyCounter(self.start, self.current + events, self.previous)
        if now - self.start < 2 * PERIOD:
            return FrequencyCounter(self.start + PERIOD, events, self.current)
        return FrequencyCounter(now & ~1, events, 0)

    def sent(self, now: int) -> tuple[int, int, int]:
        """What is sent of it: how old the present period is, and the events."""
        return now - self.start, self.current, self.previous

    @staticmethod
    def received(now: int, values: tuple[int, int, int]) -> FrequencyCounter:
        """What becomes of that where it is received."""
        age, current, previous = values
        return FrequencyCounter((now - age) & ~1, current, previous)

    def exactly(self, now: int) -> float:
        """The events of the last period, not rounded."""
        age, current, previous = self._turned(now)
        return current + previous * (PERIOD - age) / PERIOD

    def read(self, now: int) -> int:
        """What a HAProxy reads: rounded down, but for a single event."""
        _, current, previous = self._turned(now)
        return previous if not current and previous <= 1 else int(self.exactly(now))

    def turns(self, now: int) -> int:
        """When the present period ends, or ended if it is the last of which there is anything."""
        return self.start + (PERIOD if now - self.start < PERIOD else 2 * PERIOD)

    def _turned(self, now: int) -> tuple[int, int, int]:
        age = now - self.start
        if age < PERIOD:
            return age, self.current, self.previous
        if age < 2 * PERIOD:
            return age - PERIOD, 0, self.current
        return 0, 0, 0

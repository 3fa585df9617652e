"""How late the reactor is: what has to wait since something else keeps it."""

from __future__ import annotations

from collections import deque
from typing import Final, Optional

from prometheus_client.core import HistogramMetricFamily
from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL: Final = 0.1
"""Seconds from one look to the next."""

BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: the upper ends of the histogram's buckets."""

MEMORY: Final = 60
"""Seconds for which the longest lateness is remembered, and a look more at most."""

_PIECES: Final = 12


class Lateness:
    """Asks to be called ten times a second, and notes how late that is.

    A turn of the reactor that is longer than `INTERVAL` always makes a call late, a shorter one the
    more often the longer it is; none is later than the turn was long.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: Optional[IDelayedCall] = None
        self._due = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._longest: deque[tuple[float, float]] = deque(maxlen=_PIECES + 1)
        """When a piece of the time began, and the longest lateness in it, in seconds."""

    def start(self) -> None:
        """Begin to look."""
        self._wait()

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        self._note(max(0.0, now - self._due), now)
        self._wait()

    def _note(self, late: float, now: float) -> None:
        place = next((at for at, bound in enumerate(BOUNDS) if late <= bound), len(BOUNDS))
        self._counts[place] += 1
        self._sum += late
        if self._longest and now - self._longest[-1][0] < MEMORY / _PIECES:
            began, longest = self._longest[-1]
            self._longest[-1] = (began, max(late, longest))
        else:
            self._longest.append((now, late))

    def longest(self) -> float:
        """The longest lateness of the last minute, in seconds; 0 if nothing was noted."""
        since = self._clock.seconds() - MEMORY - MEMORY / _PIECES
        return max((late for began, late in self._longest if began > since), default=0.0)

    def histogram(self, name: str, words: str) -> HistogramMetricFamily:
        """All that was noted since the start; ``words`` say what it is."""
        buckets = []
        total = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(name, words, buckets=buckets, sum_value=self._sum)

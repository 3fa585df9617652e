"""The time by which lives, ages and sessions go: one that nobody sets."""

from __future__ import annotations

import time
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

ORIGIN: Final = 100 * 365 * 24 * 3600 * 1000
"""The time in ms at which clocks begin: entries that are brought back may be older than they."""

TURN: Final = 0.005
"""Seconds that those who share the reactor may have it before others are heard."""


def milliseconds(clock: IReactorTime) -> int:
    """The time of a clock in ms.

    A reactor whose ``seconds`` are the wall clock's, which is Twisted's default, is read by the
    monotonic clock instead: a step of the wall clock neither ends a life nor makes it longer.
    """
    seconds = clock.seconds
    return ORIGIN + int((time.monotonic() if seconds is time.time else seconds()) * 1000)


def make_monotonic(reactor: Any) -> None:
    """Have a reactor's own delayed calls go by the monotonic clock, too.

    To be called before the first delayed call. Clocks of tests stay as they are.
    """
    if reactor.seconds is time.time:
        reactor.seconds = time.monotonic


class Turn:
    """What tells a ``Cooperator`` that a turn is over: its own would never, after the wall clock
    was set back."""

    def __init__(self) -> None:
        self._end = time.monotonic() + TURN

    def __call__(self) -> bool:
        return time.monotonic() >= self._end

"""Conditions to wait for: within the reactor, and without one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.task import deferLater

reactor: Any = installed_reactor

PATIENCE = 60.0
"""Seconds after which a condition counts as never met."""

ENDLESS = 600.0
"""The same for `wait`, and for an answer."""


async def pause(seconds: float) -> None:
    """Let other things happen."""
    await deferLater(reactor, seconds)


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE
) -> Any:
    """Wait until ``condition`` gives something true: that.

    An error in it counts as not true, since processes come and go.

    :raises AssertionError: it did not come true within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    result: Any = None
    while time.monotonic() < deadline:
        try:
            result = await condition()
        except (OSError, AssertionError, KeyError, ConnectionError) as problem:
            result = problem
        except Exception as problem:
            if not type(problem).__module__.startswith("twisted.internet.error"):
                raise
            result = problem
        if result and not isinstance(result, Exception):
            return result
        await pause(0.05)
    raise AssertionError(f"{what}: not within {patience} s; the last result was {result!r}")


async def endlessly(
    what: Callable[[int], Awaitable[None]], stop: list[bool], every: float = 0.002
) -> int:
    """Do something again and again until ``stop`` has something in it: how often."""
    times = 0
    while not stop:
        await what(times)
        times += 1
        await pause(every)
    return times


def wait(condition: Callable[[], bool]) -> None:
    """Wait without a reactor until ``condition`` holds.

    :raises TimeoutError: it did not within `ENDLESS` seconds.
    """
    deadline = time.monotonic() + ENDLESS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)

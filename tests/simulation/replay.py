"""Plays steps that were found once, as the simulation prints them."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.machine import Simulation


def play(steps: Callable[[Simulation], None]) -> list[str]:
    """Take steps, then let all come to rest: what happened.

    :raises Broken: a promise was not kept.
    """
    state = Simulation()
    try:
        steps(state)
    except BaseException:
        state.leave()
        raise
    state.teardown()
    return state.fleet.history

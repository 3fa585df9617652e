"""Whether the simulation of nodes that add up finds a fault that is put in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Optional

from tests.simulation.promise import Broken
from tests.simulation.sums import SumsSimulation

Steps = Callable[[SumsSimulation], None]

FIRST, SECOND = 0, 1
"""Two HAProxies, by their places among the sources."""


def broken(
    fault: AbstractContextManager[Any],
    steps: Steps,
    short_lived: bool = False,
    nodes_stay: bool = False,
) -> Optional[str]:
    """Which promise is broken with a fault; ``None`` if none is."""
    with fault:
        simulation = SumsSimulation()
        try:
            simulation.begin("one", 20, 1, True, True, False, short_lived, nodes_stay)
            steps(simulation)
        except Broken as problem:
            return str(problem)
        finally:
            try:
                simulation.teardown()
            except Broken as problem:
                return str(problem)
    return None

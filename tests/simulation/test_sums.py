"""Runs of the simulation of nodes that add up, the same each time."""

from __future__ import annotations

import os
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.run import run_some
from tests.simulation.sums import STEPS, SumsSimulation

EXAMPLES: Final = int(os.environ.get("PEERPROTO_SIMULATIONS", "20"))
"""How many runs there are; ``make test`` asks for more."""


class SumsTests(SynchronousTestCase):
    def test_promises_are_kept(self) -> None:
        """Whatever happens to nodes that add up and to HAProxies, no sum that may be relied on is
        wrong, and in the end all are right."""
        run_some(EXAMPLES, STEPS, SumsSimulation)

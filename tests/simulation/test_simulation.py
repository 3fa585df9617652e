"""Some hundred runs of the simulation, the same each time; ``make simulate`` tries others."""

from __future__ import annotations

import os
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.run import run_some

EXAMPLES: Final = int(os.environ.get("PEERPROTO_SIMULATIONS", "20"))
"""How many runs there are; ``make test`` asks for more."""


class SimulationTests(SynchronousTestCase):
    def test_promises_are_kept(self) -> None:
        """Whatever happens to a mesh, nothing is lost, and nobody says more than is so."""
        run_some(EXAMPLES)

"""Runs of the simulation of a hub, the same each time."""

from __future__ import annotations

import os
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.hub import HubSimulation, OlderLeafSimulation, TwoHubsSimulation
from tests.simulation.run import run_some

EXAMPLES: Final = int(os.environ.get("PEERPROTO_SIMULATIONS", "20"))
"""How many runs there are; ``make test`` asks for more."""


class HubTests(SynchronousTestCase):
    def test_promises_are_kept(self) -> None:
        """Whatever happens to a hub and its peers, each share is its peer's, and all others have
        what one says."""
        run_some(EXAMPLES, machine=HubSimulation)

    def test_two_hubs(self) -> None:
        """It is so with two hubs, which know each other, and nothing goes round without end."""
        run_some(EXAMPLES, machine=TwoHubsSimulation)

    def test_older_peer(self) -> None:
        """It is so, too, if one of the peers knows of no relays."""
        run_some(EXAMPLES // 2, machine=OlderLeafSimulation)

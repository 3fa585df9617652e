"""Runs of the simulation, the same for the same seed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.simulation.machine import Simulation

STEPS: Final = 20
"""Steps of a run at most."""

SEEDS: Final = 3
"""Seeds that share the runs of the tests."""


def run_some(
    examples: int, steps: int = STEPS, machine: type[RuleBasedStateMachine] = Simulation
) -> None:
    """Make so many runs of a few seeds together."""
    for number in range(SEEDS):
        share = (examples + number) // SEEDS
        if share:
            run(number, share, steps, machine=machine)


def run(
    number: int,
    examples: int,
    steps: int = STEPS,
    phases: Collection[Phase] = tuple(Phase),
    machine: type[RuleBasedStateMachine] = Simulation,
) -> None:
    """Make the runs of a seed; an error tells the shortest that breaks a promise."""
    run_state_machine_as_test(
        seed(number)(type("Simulation", (machine,), {})),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            report_multiple_bugs=False,
            phases=tuple(phases),
        ),
    )

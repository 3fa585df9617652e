"""Runs the simulation for ever: ``python -m tests.simulation``, or ``make simulate``.

Each seed makes many runs. The first that fails is shrunk to its shortest steps, and ends it all.
With ``--fault`` one that the package had once is put in: then a run should fail.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from contextlib import nullcontext
from itertools import count

from hypothesis import Phase
from hypothesis.stateful import RuleBasedStateMachine

from tests.simulation.faults import FAULTS
from tests.simulation.hub import HubSimulation, TwoHubsSimulation
from tests.simulation.machine import Simulation
from tests.simulation.run import STEPS, run
from tests.simulation.sums import SumsSimulation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="only this one; by default 0, 1, 2, …")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    parser.add_argument("--examples", type=int, default=200, help="runs of each seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a run at most")
    parser.add_argument("--off", default="", help="steps that are not taken, with commas")
    parser.add_argument("--fault", choices=FAULTS, help="one that is put in, to be found")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--hub", action="store_true", help="a hub with shares and a relay instead")
    others.add_argument("--hubs", action="store_true", help="two hubs with a relay")
    others.add_argument("--sums", action="store_true", help="nodes that add up, and HAProxies")
    parser.add_argument("--as-found", action="store_true", help="do not look for shorter steps")
    options = parser.parse_args()
    Simulation.OFF = frozenset(filter(None, options.off.split(",")))
    seeds = count(options.first) if options.seed is None else [options.seed]
    for seed in seeds:
        print(f"seed {seed}", flush=True)
        with FAULTS[options.fault]() if options.fault else nullcontext():
            machine = _machine(options)
            holds = _holds(seed, options.examples, options.steps, options.as_found, machine)
        if not holds:
            chosen = f"--seed {seed} --examples {options.examples} --steps {options.steps}"
            words = ("hub", "hubs", "sums")
            chosen += "".join(f" --{word}" for word in words if getattr(options, word))
            chosen += "".join(
                f" --{n} {v}" for n, v in (("off", options.off), ("fault", options.fault)) if v
            )
            print(f"\nAgain: make simulate SIMULATE='{chosen}'")
            sys.exit(1)


def _machine(options: argparse.Namespace) -> type[RuleBasedStateMachine]:
    """What is simulated."""
    if options.sums:
        return SumsSimulation
    if options.hubs:
        return TwoHubsSimulation
    return HubSimulation if options.hub else Simulation


def _holds(
    seed: int,
    examples: int,
    steps: int,
    as_found: bool,
    machine: type[RuleBasedStateMachine],
) -> bool:
    """Whether all runs of a seed keep the promises; prints the shortest that does not."""
    phases = (Phase.generate,) if as_found else (Phase.generate, Phase.shrink)
    try:
        run(seed, examples, steps, phases, machine)
    except Exception as broken:
        traceback.print_exc(limit=-1)
        print("\n".join(getattr(broken, "__notes__", ())))
        return False
    return True


if __name__ == "__main__":
    main()

"""The simulation finds the faults that the package had once, when they are put in again.

For each the shortest steps that show it: with the fault they break a promise, without it they
do not. ``python -m tests.simulation --fault acks-by-name`` looks for other steps.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation import faults
from tests.simulation.machine import Simulation
from tests.simulation.promise import Broken
from tests.simulation.replay import play


class FaultTests(SynchronousTestCase):
    def shows(self, fault: faults.Fault, steps: Callable[[Simulation], None], why: str) -> None:
        """Steps break a promise with a fault, and none without it."""
        with fault():
            broken = self.assertRaises(Broken, play, steps)
        self.assertIn(why, str(broken))
        self.flushLoggedErrors(AssertionError)
        play(steps)

    def test_set_while_learning(self) -> None:
        """What a node sets while it learns is not overwritten by its lesson."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.kill(at=0, start=True)
            state.wait(ms=20)
            state.set(at=0, some=list(range(60)), table="t")

        self.shows(faults.lessons_overwrite, steps, "that a set at 7.020: in step with a")

    def test_broken_lesson(self) -> None:
        """A node with a part of a lesson does not count itself up to date."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.kill(at=2, start=False)
            state.kill(at=0, start=True)
            state.wait(ms=5)
            state.cut(pair=0, after=100, first=True)
            state.wait(ms=7000)

        self.shows(faults.partial_counts, steps, "a counts itself up to date without b")

    def test_taught_while_learning(self) -> None:
        """A teacher that was not up to date when a lesson began does not finish it."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.kill(at=1, start=True)
            state.wait(ms=20)
            state.kill(at=0, start=True)
            state.wait(ms=5)
            state.stall(pair=0, back=True)
            state.wait(ms=100)
            state.flow(pair=0)

        self.shows(faults.finished_if_up_to_date_at_the_end, steps, "a has ")

    def test_begun_anew(self) -> None:
        """The first changes of a table that begins anew are sent."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.undeclare(again=True, at=0, table="t")
            state.set(at=0, some=[0], table="t")

        self.shows(faults.acks_by_name, steps, "that a set at 7.000: in step with a")

    def test_declared_alike(self) -> None:
        """Tables that are declared alike by and by are shared on running sessions."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.declare_everywhere(ms=100, table="t", variant=1)

        self.shows(faults.not_shared_anew, steps, "table t differs in key type")

    def test_adopted(self) -> None:
        """An adopted table begins anew when its keys change where it came from."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=True, pace=20)
            state.declare_everywhere(ms=0, table="t", variant=1)

        self.shows(faults.adopted_for_ever, steps, "c has t as ('integer', 4), a ('string', 13)")

    def test_cleared_while_converted(self) -> None:
        """A table may be cleared while it is converted."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.declare(at=0, table="t", variant=2)
            state.clear(at=0, table="t")

        self.shows(faults.cleared_while_converted, steps, "an exception was logged")

    def test_mirrored(self) -> None:
        """Observers are told in the order in which it happened what made room for what."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=1000)
            state.declare(at=0, table="t", variant=7)
            state.wait(ms=500)
            state.set(at=1, some=[10, 13, 16, 19, 22], table="t")
            state.wait(ms=100)
            state.set(at=1, some=[25, 28, 31, 34, 10, 13], table="t")
            state.wait(ms=100)

        self.shows(faults.told_out_of_order, steps, "an observer of t at a lacks")

    def test_wall_clock(self) -> None:
        """A step of the wall clock ends no life."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.set_clock(minutes=60)
            state.wait(ms=500)

        self.shows(
            faults.times_of_the_wall_clock, steps, "expire at 7.000, though it was set at 6.000"
        )

    def test_made_smaller(self) -> None:
        """A table that was just made smaller takes new entries."""

        def steps(state: Simulation) -> None:
            state.begin(seed=0, count=3, adopter=False, pace=20)
            state.declare(at=0, table="t", variant=7)
            state.fill(at=0, count=5, first=100, table="t")

        self.shows(
            faults.too_little_room,
            steps,
            "a: table t: read 'a new entry, with 60 in it', expected room",
        )

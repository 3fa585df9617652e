"""Faults that are put into nodes that add up: the simulation sees each of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.memory import PeerMemory
from peerproto.peering.sharedtable import SharedTable
from peerproto.peering.waiting import WaitingShares
from peerproto.service.peer import Peer
from peerproto.tables.changes import Changes
from tests.simulation.promise import Broken
from tests.simulation.sums import SumsSimulation

Steps = Callable[[SumsSimulation], None]

FIRST, SECOND = 0, 1
"""Two HAProxies, by their places among the sources."""


def same_number() -> AbstractContextManager[Any]:
    """A new process of a HAProxy is sent sums and leases under the number of the one before."""
    began = PeerMemory.began

    def begins(memory: PeerMemory, process: Optional[int]) -> bool:
        before = memory.number
        is_new = began(memory, process)
        memory.number = before or memory.number
        return is_new

    return patch.object(PeerMemory, "began", begins)


def silence_unseen() -> AbstractContextManager[Any]:
    """A lease is renewed though a source is silent."""
    return patch.object(Peer, "is_silent", property(lambda peer: False))


def nothing_waits() -> AbstractContextManager[Any]:
    """What a process says that counts from 0 is taken at once."""

    def put(
        waiting: WaitingShares,
        shared: SharedTable,
        keys: list[bytes],
        rows: list[bytes],
        shortest: int,
        now: int,
    ) -> list[Changes]:
        return shared.table.put(keys, rows, shortest, now)

    return patch.object(WaitingShares, "put", put)


def taught_late(simulation: SumsSimulation) -> None:
    """An old process teaches its new one the sums of 8 s ago."""
    simulation.reload(FIRST, freeze=True)
    simulation.count(SECOND, [0])
    simulation.wait(7000)
    simulation.wait(2500)
    simulation.thaw(FIRST)
    simulation.wait(2500)


def silent(simulation: SumsSimulation) -> None:
    """A HAProxy is not heard for 9 s, in which it counts."""
    simulation.wait(7000)
    simulation.stall(0, back=True)
    simulation.count(FIRST, [0])
    for _ in range(9):
        simulation.count(SECOND, [1])
        simulation.network.advance(1)


def counts_at_once(simulation: SumsSimulation) -> None:
    """A HAProxy is killed, and counts from 0 until it is taught."""
    for _ in range(5):
        simulation.count(FIRST, [0])
    simulation.wait(2500)
    simulation.kill(FIRST, 0)
    for _ in range(100):
        simulation.count(FIRST, [0])
        simulation.network.advance(0.02)


class SumFaultTests(SynchronousTestCase):
    def broken(self, fault: AbstractContextManager[Any], steps: Steps) -> Optional[str]:
        """Which promise is broken with a fault; ``None`` if none is."""
        with fault:
            simulation = SumsSimulation()
            try:
                simulation.begin("one", 20, 1, True, True, False)
                steps(simulation)
            except Broken as problem:
                return str(problem)
            finally:
                try:
                    simulation.teardown()
                except Broken as problem:
                    return str(problem)
        return None

    def check(self, fault: AbstractContextManager[Any], steps: Steps) -> None:
        self.assertIsNone(self.broken(nullcontext(), steps))
        self.assertIsNotNone(self.broken(fault, steps))

    def test_number(self) -> None:
        """A process needs a number of its own: its old one teaches it late."""
        self.check(same_number(), taught_late)

    def test_silence(self) -> None:
        """Sums are not vouched for while a source is silent."""
        self.check(silence_unseen(), silent)

    def test_waiting(self) -> None:
        """What is counted from 0 waits."""
        self.check(nothing_waits(), counts_at_once)

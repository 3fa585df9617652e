"""Faults that are put into nodes that add up: the simulation sees each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from peerproto.aggregation.aggregate import Aggregate
from peerproto.aggregation.lease import Lease, Vouch
from peerproto.aggregation.rules import Rules
from peerproto.peering.memory import PeerMemory
from peerproto.peering.sharedtable import SharedTable
from peerproto.peering.waiting import WaitingShares
from peerproto.service.feed import Feed
from peerproto.service.peer import Peer
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause, Changes
from tests.simulation.finding import FIRST, SECOND, Steps, broken
from tests.simulation.site import Site
from tests.simulation.sums import SumsSimulation


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


def touches_sessions() -> AbstractContextManager[Any]:
    """SIGHUP takes all peers out, and in again."""
    read_again = Site.read_again

    def reads(site: Site, name: str, rules: tuple[Rules, ...]) -> None:
        read_again(site, name, rules)
        service = site.nodes[name].service
        for peer in list(service.peers):
            service.remove_peer(peer)
            service.expect_peer(peer)

    return patch.object(Site, "read_again", reads)


@contextmanager
def vouches_on() -> Iterator[None]:
    """An aggregate that has gone with SIGHUP goes on to vouch for its sums."""
    with (
        patch.object(Lease, "stop", lambda lease: None),
        patch.object(Aggregate, "vouch", lambda one: Vouch(len(one.sources.names()))),
    ):
        yield


def lives_on() -> AbstractContextManager[Any]:
    """What has expired is not heard of, and stays in the sum."""
    feed = StickTableService.feed

    def hears(service: StickTableService, tables: Optional[Collection[str]] = None) -> Feed:
        return feed(service, tables, [one for one in Cause if one is not Cause.EXPIRED])

    return patch.object(StickTableService, "feed", hears)


def ends_early() -> AbstractContextManager[Any]:
    """A sum lives for a second."""
    replace_raw = StickTable.replace_raw

    def replaces(table: StickTable, entries: Iterable[tuple[bytes, bytes, Optional[int]]]) -> int:
        return replace_raw(table, [(key, record, 1000) for key, record, _ in entries])

    return patch.object(StickTable, "replace_raw", replaces)


def waits(simulation: SumsSimulation) -> None:
    """Nobody counts for some time."""
    simulation.count(FIRST, [0])
    simulation.wait(4000)


def goes(simulation: SumsSimulation) -> None:
    """The aggregates of a node go for some seconds, in which HAProxies count."""
    simulation.wait(2500)
    simulation.go_and_come(FIRST, 4000)


def changes(simulation: SumsSimulation) -> None:
    """The aggregates of a node have another interval."""
    simulation.change(FIRST, 50)
    simulation.count(FIRST, [0])
    simulation.wait(2500)


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
    short_lived = False

    def check(self, fault: AbstractContextManager[Any], steps: Steps) -> None:
        self.assertIsNone(broken(nullcontext(), steps, self.short_lived))
        self.assertIsNotNone(broken(fault, steps, self.short_lived))

    def test_sessions(self) -> None:
        """SIGHUP touches no session."""
        self.check(touches_sessions(), changes)

    def test_gone(self) -> None:
        """Sums that are not kept up any more are not vouched for."""
        self.check(vouches_on(), goes)

    def test_life(self) -> None:
        """Sums have what lives, and nothing else, and live as long as that."""
        self.short_lived = True
        self.check(lives_on(), waits)
        self.check(ends_early(), waits)

    def test_number(self) -> None:
        """A process needs a number of its own: its old one teaches it late."""
        self.check(same_number(), taught_late)

    def test_silence(self) -> None:
        """Sums are not vouched for while a source is silent."""
        self.check(silence_unseen(), silent)

    def test_waiting(self) -> None:
        """What is counted from 0 waits."""
        self.check(nothing_waits(), counts_at_once)

from __future__ import annotations

import random
from typing import cast

import attrs
from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from peerproto.interfaces import ITableObserver
from peerproto.service import StickTableService
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork
from peerproto.wire.errors import LocalProtocolError

RATES = {"rates": "type ip size 1k expire 1m store gpc0,http_req_rate(10s)"}


@implementer(ITableObserver)
class Witness:
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def tableChanged(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def seen(self) -> list[tuple[Cause, list[str]]]:
        return [(one.cause, [str(key) for key in one.keys()]) for one in self.batches]


class MeshTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)

    def mesh(self, *names: str) -> list[StickTableService]:
        services = [self.network.peer(name, RATES) for name in names]
        self.network.start()
        return services

    def gpc0(self, service: StickTableService, key: str) -> object:
        entry = service.table("rates").get(key)
        return None if entry is None else entry["gpc0"]

    def test_both_ways(self) -> None:
        """What is set at one peer shows at the other, and the other way round."""
        a, b = self.mesh("a", "b")
        a.table("rates").set("192.0.2.1", gpc0=1)
        b.table("rates").set("192.0.2.2", gpc0=2)
        self.network.advance(0)
        for service in (a, b):
            self.assertEqual([self.gpc0(service, f"192.0.2.{n}") for n in (1, 2)], [1, 2])

    def test_nothing_echoes(self) -> None:
        """In a mesh of three, every change travels once to each other peer, and then all rest."""
        services = self.mesh("a", "b", "c")
        services[0].table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(30)
        for service in services:
            sent = sum(peer.counters.tx_updates for peer in service.peers.values())
            self.assertEqual(sent, 2 if service is services[0] else 0)
            self.assertEqual(self.gpc0(service, "192.0.2.1"), 1)

    def test_lesson_for_a_newcomer(self) -> None:
        """Who starts empty is taught by one that is up to date, and then is so itself."""
        a, _ = self.mesh("a", "b")
        self.network.advance(6)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(1)
        c = self.network.peer("c", learn_tables=True)
        self.network.start()
        self.assertEqual(self.gpc0(c, "192.0.2.1"), 1)
        how = self.successResultOf(c.when_up_to_date())
        self.assertIn(how, ("finished by a", "finished by b"))
        self.assertEqual([peer.out_of_step() for peer in c.peers.values()], [[], []])

    def test_reconnect(self) -> None:
        """After a cut the peers connect again, and nothing that changed meanwhile is lost."""
        a, b = self.mesh("a", "b")
        self.network.advance(6)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(1)
        self.network.cut()
        a.table("rates").set("192.0.2.2", gpc0=2)
        b.table("rates").set("192.0.2.3", gpc0=3)
        self.assertIsNone(self.gpc0(b, "192.0.2.2"))
        self.network.advance(6)
        self.assertEqual(self.gpc0(b, "192.0.2.2"), 2)
        self.assertEqual(self.gpc0(a, "192.0.2.3"), 3)
        self.assertEqual(a.peers["b"].counters.tx_updates, 2)

    def test_collisions_come_to_rest(self) -> None:
        """Peers that call each other at the same time end up with one session per pair."""
        for seed in range(20):
            network = MemoryNetwork(seed)
            names = ["a", "b", "c"]
            services = [
                network.peer(name, RATES, calls=[other for other in names if other != name])
                for name in names
            ]
            network.start()
            network.advance(60)
            for service in services:
                self.assertEqual(
                    [peer.out_of_step() for peer in service.peers.values()], [[], []], seed
                )
                before = {name: peer.counters.new_conn for name, peer in service.peers.items()}
                network.advance(30)
                after = {name: peer.counters.new_conn for name, peer in service.peers.items()}
                self.assertEqual(before, after, "sessions stay")
            network.stop()
            self.assertEqual(network.clock.calls, [])

    def test_one_fault_touches_one_session(self) -> None:
        """A peer that sends garbage loses its session; the others notice nothing."""
        a, _, c = self.mesh("a", "b", "c")
        self.network.advance(6)
        bad = a.peers["b"].connection
        assert bad is not None
        bad.dataReceived(b"\xff\xff\xff")
        good = a.peers["c"].session
        self.network.advance(0)
        self.assertIsNone(a.peers["b"].session)
        self.assertIs(a.peers["c"].session, good)
        c.table("rates").set("192.0.2.9", gpc0=9)
        self.network.advance(0)
        self.assertEqual(self.gpc0(a, "192.0.2.9"), 9)
        self.network.advance(10)
        self.assertEqual(a.peers["b"].out_of_step(), [])

    def test_stranger(self) -> None:
        """A peer that the other does not know is told why, and tells its people."""
        a = self.network.peer("a", RATES)
        b = self.network.peer("b", RATES)
        del a.node.peers["b"]
        self.network.start()
        self.assertIn("504", b.peers["a"].out_of_step()[0])

    def test_nobody_listens(self) -> None:
        """A peer that cannot be reached is called again every 5 s."""
        a = self.network.peer("a", RATES, calls=["b"])
        a.expect_peer("b")
        self.network.start()
        self.assertIn("cannot connect", a.peers["b"].out_of_step()[0])
        self.network.peer("b", RATES, calls=[])
        self.network.start()
        self.network.advance(5.1)
        self.assertEqual(a.peers["b"].out_of_step(), [])

    def test_observers(self) -> None:
        """Observers are told of each table and read once; one that fails hurts nobody."""

        @implementer(ITableObserver)
        class Failing:
            def tableChanged(self, batch: Batch) -> None:
                raise RuntimeError("observer")

        self.assertTrue(verifyClass(ITableObserver, Witness))
        a, b = self.mesh("a", "b")
        here, there = Witness(), Witness()
        b.add_observer(Failing())
        a.add_observer(here)
        b.add_observer(there)
        for n in (1, 2, 3):
            a.table("rates").set(f"192.0.2.{n}", gpc0=n)
        a.table("rates").set("192.0.2.1", gpc0=7)
        self.network.advance(0)
        self.assertEqual(len(here.batches), 4)
        self.assertEqual(there.seen, [(Cause.LEARNT, ["192.0.2.2", "192.0.2.3", "192.0.2.1"])])
        (batch,) = there.batches
        self.assertEqual((batch.origin, len(batch)), ("a", 3))
        self.assertEqual([entry["gpc0"] for entry in batch.entries()], [2, 3, 7])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        b.table("rates").remove("192.0.2.2")
        b.remove_observer(there)
        b.table("rates").clear()
        self.assertEqual(there.seen[1:], [(Cause.CLEARED, ["192.0.2.2"])])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_observer_that_sets(self) -> None:
        """An observer may change tables: what that causes is told after."""
        order: list[tuple[str, list[str]]] = []

        @implementer(ITableObserver)
        class Blocking:
            def __init__(self, service: StickTableService) -> None:
                self.service = service

            def tableChanged(self, batch: Batch) -> None:
                keys = [str(key) for key in batch.keys()]
                order.append((batch.cause.value, keys))
                if batch.cause is Cause.LEARNT:
                    self.service.table("rates").set(keys[0], gpc0=99)

        a, b = self.mesh("a", "b")
        b.add_observer(Blocking(b))
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(0)
        self.assertEqual(order, [("learnt", ["192.0.2.1"]), ("set", ["192.0.2.1"])])
        self.assertEqual(self.gpc0(a, "192.0.2.1"), 99)

    def test_expiry(self) -> None:
        """Entries expire at every peer, and observers are told."""
        a, b = self.mesh("a", "b")
        witness = Witness()
        b.add_observer(witness)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(61)
        self.assertEqual([len(one.table("rates")) for one in (a, b)], [0, 0])
        self.assertEqual(witness.seen[-1], (Cause.EXPIRED, ["192.0.2.1"]))

    def test_trashed_entries_are_told(self) -> None:
        """What makes room in a full table is told to observers, too."""
        small = {"rates": "type ip size 2 expire 1m store gpc0"}
        a, b = self.network.peer("a", RATES), self.network.peer("b", small)
        witness = Witness()
        b.add_observer(witness)
        self.network.start()
        for n in (1, 2, 3):
            a.table("rates").set(f"192.0.2.{n}", gpc0=n)
            self.network.advance(1)
        self.assertEqual(witness.seen[-1], (Cause.TRASHED, ["192.0.2.1"]))


@implementer(IStreamServerEndpoint, IListeningPort)
@attrs.frozen
class At:
    """An endpoint, and a port, at an address."""

    host: str

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return succeed(cast(IListeningPort, self))

    def startListening(self) -> None:
        pass

    def stopListening(self) -> None:
        pass

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self.host, 10000)


class ServiceTests(SynchronousTestCase):
    def service(self) -> StickTableService:
        return StickTableService("app", tables=RATES, reactor=Clock(), chance=random.Random(1))

    def test_nests(self) -> None:
        """It starts and stops with its parent, and leaves nothing on the clock."""
        parent = MultiService()
        clock = Clock()
        service = StickTableService("app", tables=RATES, reactor=clock)
        service.setServiceParent(parent)
        parent.startService()
        self.assertTrue(service.running)
        self.successResultOf(parent.stopService())
        self.assertEqual(clock.calls, [])
        parent.startService()
        self.assertTrue(service.running)

    def test_tables(self) -> None:
        """Tables are looked up by name; entries by key, and by iteration."""
        service = self.service()
        rates = service.table("rates")
        rates.set("192.0.2.1", gpc0=1, http_req_rate=3)
        rates.set("192.0.2.2", {"gpc0": 2})
        self.assertEqual([table.name for table in service.tables], ["rates"])
        self.assertEqual(len(rates), 2)
        self.assertIn("192.0.2.1", rates)
        self.assertNotIn("192.0.2.9", rates)
        self.assertEqual(sorted(entry["gpc0"] for entry in rates), [1, 2])
        self.assertEqual(rates["192.0.2.1"].as_dict(), {"gpc0": 1, "http_req_rate": 3})
        self.assertEqual(list(rates["192.0.2.1"]), ["gpc0", "http_req_rate"])
        self.assertRaises(KeyError, rates.__getitem__, "192.0.2.9")
        self.assertRaises(KeyError, service.table, "none")
        self.assertRaises(LocalProtocolError, rates.get, 7)
        self.assertEqual(rates.update_id, 2)
        self.assertEqual(rates.clear(), 2)

    def test_one_table_of_a_name(self) -> None:
        """A second table of the same name is refused."""
        service = self.service()
        service.add_table(Declaration.parse("more", "type ip size 1k"))
        self.assertEqual(len(service.tables), 2)
        self.assertRaises(
            LocalProtocolError, service.add_table, Declaration.parse("more", "type ip size 1k")
        )

    def test_cannot_listen(self) -> None:
        """A port that is taken stops the start."""

        @implementer(IStreamServerEndpoint)
        class Taken:
            def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
                return fail(CannotListenError("127.0.0.1", 1, OSError("in use")))

        service = StickTableService("app", bind=Taken(), reactor=Clock())
        self.assertRaises(CannotListenError, service.startService)
        self.assertFalse(service.running)

    def test_open_bind_is_logged(self) -> None:
        """An address that others can reach is warned of, the loopback is not."""
        for host, warned in (("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)):
            with capturedLogs() as logs:
                service = StickTableService("app", bind=At(host), reactor=Clock())
                service.startService()
                service.stopService()
            said = [str(event.get("log_format")) for event in logs]
            self.assertEqual(any("open to whoever" in one for one in said), warned, host)

    def test_up_to_date(self) -> None:
        """With nobody to learn from, it is up to date after 5 s, and says why."""
        clock = Clock()
        service = StickTableService("app", reactor=clock)
        service.startService()
        waiting = service.when_up_to_date()
        clock.advance(4.9)
        self.assertNoResult(waiting)
        clock.advance(0.1)
        self.assertIn("no peer", self.successResultOf(waiting))

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import cast

import attrs
from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from peerproto.peering.limits import Limits
from peerproto.peering.states import ResyncState
from peerproto.service.batch import Batch
from peerproto.service.observers import IObserver, Observer
from peerproto.service.service import StickTableService
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.messages import Ack, Control, EntryUpdate
from tests.scripted import Scripted

RATES = {"rates": "type ip size 1k expire 1m store gpc0,http_req_rate(10s)"}


class Witness(Observer):
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def table_changed(self, batch: Batch) -> None:
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

    def test_changes_of_different_values(self) -> None:
        """Two peers that change different values of an entry in the same moment both succeed."""
        here, there = self.mesh("here", "there")
        here.table("rates").set("192.0.2.1", gpc0=1, http_req_rate=1)
        self.network.advance(1)
        here.table("rates").set("192.0.2.1", gpc0=2)
        there.table("rates").set("192.0.2.1", http_req_rate=9)
        self.network.advance(0)
        for service in (here, there):
            entry = service.table("rates")["192.0.2.1"]
            self.assertEqual((entry["gpc0"], entry["http_req_rate"]), (2, 9))

    def test_a_table_that_a_peer_adds_later(self) -> None:
        """What a peer has of a table that it did not share before is asked for, though it was
        declared here all the while."""
        late = Declaration.parse("late", RATES["rates"])
        c = self.network.peer("c", {**RATES, "late": RATES["rates"]})
        b = self.network.peer("b", RATES)
        a = self.network.peer("a", {**RATES, "late": RATES["rates"]}, calls=["b"])
        self.network.part("a", "c")
        self.network.start()
        self.network.advance(6)
        for number in range(20):
            c.table("late").set(f"192.0.2.{number}", gpc0=1)
        b.add_table(late)
        self.network.advance(30)
        self.assertEqual([len(one.table("late")) for one in (a, b, c)], [20, 20, 20])

    def test_a_table_that_comes_in_mid_lesson(self) -> None:
        """A lesson has the tables, too, that the teacher shares since it began."""
        line = "type ip size 10k expire 1h store gpc0"
        rates, both = {"rates": line}, {"rates": line, "late": line}
        c, b = self.network.peer("c", both), self.network.peer("b", rates)
        self.network.start()
        self.network.advance(6)
        for number in range(5000):
            c.table("rates").set(f"10.0.{number >> 8}.{number & 255}", gpc0=1)
        c.table("late").set("192.0.2.1", gpc0=1)
        self.network.advance(6)
        a = self.network.peer("a", both, calls=["b"])
        self.network.part("a", "c")
        self.network.pace = 100
        a.startService()
        self.network.advance(0.3)
        self.assertTrue(0 < len(a.table("rates")) < 5000)
        (connection,) = self.network.between("a", "b")
        connection.stall("b")
        b.add_table(Declaration.parse("late", line))
        self.network.advance(4)
        self.assertEqual((len(b.table("late")), len(a.table("late"))), (1, 0))
        connection.flow("b")
        self.network.advance(4)
        self.assertEqual((len(a.table("rates")), len(a.table("late"))), (5000, 1))

    def test_part_of_a_lesson(self) -> None:
        """A peer whose teacher left may begin by asking, and is asked for the part that it has."""
        line = {"rates": "type ip size 10k expire 1h store gpc0"}
        c, b = self.network.peer("c", line), self.network.peer("b", line)
        a = self.network.peer("a", line, calls=["b"])
        self.network.part("a", "b")
        self.network.part("a", "c")
        for service in (a, c):
            service.startService()
        self.network.advance(6)
        for number in range(5000):
            c.table("rates").set(f"10.0.{number >> 8}.{number & 255}", gpc0=1)
        self.network.pace = 100
        b.startService()
        while not b.table("rates"):
            self.network.advance(0.1)
        self.network.pace = None
        self.network.part("b", "c")
        had = len(b.table("rates"))
        self.assertTrue(0 < had < 5000)
        self.network.heal("a", "b")
        self.network.advance(60)
        self.assertEqual([len(one.table("rates")) for one in (a, b)], [had, had])

    def test_up_to_date_with_a_table_that_comes(self) -> None:
        """Who waits until the node is up to date waits for a table, too, that was just added."""
        late = Declaration.parse("late", RATES["rates"])
        a, b = self.mesh("a", "b")
        self.network.advance(6)
        b.add_table(late)
        b.table("late").set("192.0.2.1", gpc0=1)
        self.network.advance(6)
        self.successResultOf(a.when_up_to_date())
        a.add_table(late)
        waiting = a.when_up_to_date()
        self.assertNoResult(waiting)
        self.network.advance(1)
        self.assertEqual(self.successResultOf(waiting), "finished by b")
        self.assertEqual(len(a.table("late")), 1)

    def test_adopted_whole(self) -> None:
        """A peer that adopts a table from a change of one value has all of its columns."""
        here = self.network.peer("here", {"names": "type string size 1k store gpc0,server_key"})
        there = self.network.peer("there", learn_tables=True)
        self.network.start()
        self.network.advance(6)
        here.add_table(Declaration.parse("late", "type string size 1k store gpc0,gpt0,gpc1"))
        here.table("late").set("x", gpt0=1)
        here.table("late").set("y")
        self.network.advance(0)
        self.assertEqual(there.table("late").layout, here.table("late").layout)
        self.assertEqual(dict(there.table("late")["x"]), {"gpt0": 1, "gpc0": 0, "gpc1": 0})
        self.assertEqual(len(there.table("late")), 2)

    def test_cleared_text(self) -> None:
        """A text that is cleared at one peer is cleared at the others, and only then."""
        names = {"names": "type string size 1k store gpc0,server_key"}
        here, there = self.network.peer("here", names), self.network.peer("there", names)
        self.network.start()
        self.network.advance(6)
        here.table("names").set("x", server_key="s1")
        self.network.advance(0)
        here.table("names").set("x", gpc0=1)
        self.network.advance(0)
        self.assertEqual(dict(there.table("names")["x"]), {"gpc0": 1, "server_key": "s1"})
        here.table("names").set("x", server_key=None)
        self.network.advance(0)
        self.assertEqual(dict(there.table("names")["x"]), {"gpc0": 1, "server_key": None})

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

    def test_when_in_step(self) -> None:
        """Who waits for a peer to be in step hears of it when it has acked everything and owes
        nothing, over cuts of the connection, and not before."""
        a, b = self.mesh("a", "b")
        waiting = a.when_in_step("b")
        self.assertNoResult(waiting)
        self.network.advance(6)
        self.successResultOf(waiting)
        self.successResultOf(a.when_in_step("b"))
        self.network.part("a", "b")
        self.network.advance(1)
        a.table("rates").set("192.0.2.1", gpc0=1)
        waiting, given_up = a.when_in_step("b"), a.when_in_step("b")
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.network.advance(5)
        self.assertNoResult(waiting)
        self.network.heal("a", "b")
        for _ in range(200):
            self.network.advance(0.05)
            if self.gpc0(b, "192.0.2.1"):
                break
        self.network.advance(0)
        self.assertNoResult(waiting)
        self.network.advance(1)
        self.network.advance(0)
        self.successResultOf(waiting)
        self.assertEqual(a.peers["b"].out_of_step(), [])
        # Nobody waits any more: reads are no events.
        session = a.peers["b"].session
        assert session is not None
        self.assertFalse(session.watched)

    def test_when_in_step_again(self) -> None:
        """A peer that begins empty is not in step before it has learnt what it had."""
        a, b = self.mesh("a", "b")
        b.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(6)
        self.successResultOf(a.when_in_step("b"))
        b.stopService()
        self.network.advance(1)
        b.table("rates").clear()
        waiting = a.when_in_step("b")
        b.startService()
        for _ in range(300):
            self.network.advance(0.05)
            if waiting.called:
                break
        self.successResultOf(waiting)
        self.assertEqual(self.gpc0(b, "192.0.2.1"), 1)

    def test_when_in_step_one_after_the_other(self) -> None:
        """Who hears of it may cancel another one that waits."""
        a, _ = self.mesh("a", "b")
        first, second = a.when_in_step("b"), a.when_in_step("b")
        first.addCallback(lambda _: second.cancel())
        self.network.advance(6)
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_when_in_step_never(self) -> None:
        """Who waits for a peer that is removed, or when the service stops, is told so."""
        a = self.network.peer("a", RATES)
        self.assertRaises(KeyError, a.when_in_step, "b")
        for name in ("b", "c"):
            a.expect_peer(name)
        self.network.start()
        removed, stopped = a.when_in_step("b"), a.when_in_step("c")
        a.remove_peer("b")
        self.failureResultOf(removed, CancelledError)
        self.assertNoResult(stopped)
        a.stopService()
        self.failureResultOf(stopped, CancelledError)

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

    def test_a_lesson_that_breaks_off(self) -> None:
        """A node whose only teacher is cut off in mid-lesson is not up to date with a part of
        it: it calls soon, and learns the rest."""
        made: list[Scripted] = []

        def connection() -> Scripted:
            made.append(Scripted(b"200\n"))
            return made[-1]

        b = self.network.peer("b", RATES, calls=[])
        b.add_peer("a", self.network.client("a"))
        self.network.listen("a", Factory.forProtocol(connection))
        self.network.start()
        lesson = self.lesson("192.0.2.1", "192.0.2.2")
        made[0].say(lesson[:-8])
        self.network.advance(0)
        self.assertEqual(len(b.table("rates")), 1)
        made[0].hang_up()
        self.network.advance(0)
        self.assertIs(b.resync.state, ResyncState.WAITING)
        self.network.advance(2.1)
        self.assertIs(b.resync.state, ResyncState.LEARNING)
        made[1].say(lesson + Control.RESYNC_FINISHED.encode())
        self.network.advance(0)
        self.assertEqual(len(b.table("rates")), 2)
        self.assertEqual(b.resync.reason, "finished by a")

    def test_another_teacher_is_asked_at_once(self) -> None:
        """When a teacher leaves in mid-lesson, the request to the next one waits for nothing."""
        b = self.network.peer("b", RATES, calls=[])
        peers: dict[str, Scripted] = {}
        for name in ("a", "c"):
            peers[name] = Scripted(b"200\n")
            b.add_peer(name, self.network.client(name))
            self.network.listen(name, Factory.forProtocol(partial(peers.__getitem__, name)))
        self.network.start()
        request = Control.RESYNC_REQUEST.encode()
        (first,) = (one for one in peers.values() if request in one.received)
        (second,) = (one for one in peers.values() if one is not first)
        first.hang_up()
        self.network.advance(0)
        self.assertIn(request, second.received)

    def test_a_handshake_that_is_open_at_the_end(self) -> None:
        """A connection that has no session yet when the node stops gets none after."""
        for soft in (False, True):
            network = MemoryNetwork()
            a = network.peer("a", RATES)
            a.expect_peer("b")
            network.start()
            caller = Scripted(b"HAProxyS 2.1\na\n")
            network.connect("a", Factory.forProtocol(caller.itself))
            network.advance(0)
            if soft:
                a.stop_softly(network.client("a"))
            else:
                a.stopService()
            caller.say(b"b 1 1\n")
            network.advance(10)
            self.assertEqual(caller.received, b"")
            self.assertIsNone(a.peers["b"].session)
            network.stop()
            self.assertEqual(network.clock.calls, [])

    def test_a_table_that_both_declare_otherwise(self) -> None:
        """A table that was refused is defined anew when it begins anew, and learnt: nobody is
        said to differ who does not."""
        a, b = self.network.peer("a", RATES), self.network.peer("b", RATES)
        self.network.start()
        self.network.advance(6)
        strings = Declaration.parse("rates", "type string size 1k expire 1m store gpc0")
        a.declare_table(strings)
        a.table("rates").set("x", gpc0=1)
        self.network.advance(1)
        self.assertIn("differs in key type", b.peers["a"].out_of_step()[0])
        self.assertIn("differs in key type", a.peers["b"].out_of_step()[0])
        b.declare_table(strings)
        self.network.advance(1)
        self.assertEqual(a.peers["b"].out_of_step() + b.peers["a"].out_of_step(), [])
        self.assertEqual(b.table("rates")["x"]["gpc0"], 1)

    def test_an_adopted_table_that_begins_anew(self) -> None:
        """A table that others know as it was adopted is defined to them as it is now, and so it
        is to the peer that it came from."""
        a, b = self.network.peer("a", RATES), self.network.peer("b", RATES)
        adopter = self.network.peer("adopter", learn_tables=True)
        self.network.start()
        self.network.advance(6)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(0)
        adopter.table("rates").set("192.0.2.2", gpc0=1)
        self.network.advance(1)
        strings = Declaration.parse("rates", "type string size 1k expire 1m store gpc0")
        for declaring in (a, b):
            declaring.declare_table(strings)
            self.network.advance(1)
        for one in (a, b, adopter):
            self.assertEqual(one.table("rates").declaration.layout, strings.layout)
            for peer in one.peers.values():
                self.assertEqual(peer.out_of_step(), [])

    def lesson(self, *keys: str) -> bytes:
        """A definition of the table, and an update for each key."""
        declaration = Declaration.parse("rates", RATES["rates"])
        updates = [
            EntryUpdate(1, 1000, ip_address(key).packed, bytes(4)).encode(
                declaration.layout.key_type
            )
            for key in keys
        ]
        return declaration.definition(1).encode() + b"".join(updates)

    def one_that_calls(self, service: StickTableService, name: str) -> Scripted:
        """A peer that a test speaks for, with a session."""
        local = service.node.localpeer
        caller = Scripted(f"HAProxyS 2.1\n{local}\n{name} 1 1\n".encode())
        service.expect_peer(name)
        self.network.connect(local, Factory.forProtocol(caller.itself), name)
        self.network.advance(0)
        return caller

    def test_told_before_up_to_date(self) -> None:
        """Observers hear what a lesson brought before they hear what is changed once the node
        is up to date: it is all stored by then, and what came behind the lesson, too."""
        a = self.network.peer("a", RATES, calls=[])
        witness = Witness()
        a.add_observer(witness)
        self.network.start()
        b = self.one_that_calls(a, "b")
        a.when_up_to_date().addCallback(lambda _: a.table("rates").set("192.0.2.1", gpc0=9))
        end = Control.RESYNC_FINISHED.encode()
        b.say(self.lesson("192.0.2.1") + end + self.lesson("192.0.2.2"))
        self.network.advance(0)
        self.assertTrue(a.node.resync.up_to_date)
        self.assertEqual(
            witness.seen,
            [
                (Cause.LEARNT, ["192.0.2.1"]),
                (Cause.LEARNT, ["192.0.2.2"]),
                (Cause.SET, ["192.0.2.1"]),
            ],
        )

    def test_ended_when_told(self) -> None:
        """An observer may end the session when it hears what a lesson brought: the node does
        not count itself up to date by that lesson then."""
        a = self.network.peer("a", RATES, calls=[])

        class Satisfied(Observer):
            def table_changed(self, batch: Batch) -> None:
                connection = a.mesh.link(a.node.peers["b"]).connection
                assert connection is not None
                connection.close("it is enough")

        a.add_observer(Satisfied())
        self.network.start()
        b = self.one_that_calls(a, "b")
        b.say(self.lesson("192.0.2.1") + Control.RESYNC_FINISHED.encode())
        self.network.advance(0)
        self.assertEqual(a.peers["b"].out_of_step(), ["it is enough"])
        self.assertIs(a.node.resync.state, ResyncState.WAITING)

    def test_ended_when_told_of_a_tie(self) -> None:
        """What others need of a tie goes to them, too, if an observer has ended the session
        that it came from."""
        a, c = self.network.peer("a", RATES, calls=[]), self.network.peer("c", RATES, calls=["a"])

        class Satisfied(Observer):
            def table_changed(self, batch: Batch) -> None:
                if "192.0.2.2" in map(str, batch.keys()):
                    connection = a.mesh.link(a.node.peers["b"]).connection
                    assert connection is not None
                    connection.close("it is enough")

        a.add_observer(Satisfied())
        self.network.start()
        b = self.one_that_calls(a, "b")
        b.say(self.lesson() + Control.RESYNC_FINISHED.encode())
        self.network.advance(6)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(0)
        self.assertEqual(a.peers["c"].counters.tx_updates, 1)
        b.say(self.lesson("192.0.2.1"))
        self.network.advance(0)
        b.say(self.lesson("192.0.2.2") + Ack(1, 1).encode())
        self.network.advance(0)
        self.assertIsNone(a.peers["b"].session)
        self.assertEqual(a.peers["c"].counters.tx_updates, 2)
        self.assertEqual(self.gpc0(c, "192.0.2.1"), 1)

    def test_a_table_that_is_declared_while_connected(self) -> None:
        """A table that was refused, and is declared as the peer has it, is learnt at once."""
        a = self.network.peer("a", {"t": "type ip size 1k expire 1m store gpc0"})
        b = self.network.peer("b", {"t": "type string size 1k expire 1m store gpc0"})
        self.network.start()
        self.network.advance(6)
        a.table("t").set("192.0.2.1", gpc0=1)
        self.network.advance(0)
        self.assertIn("differs in key type", b.peers["a"].out_of_step()[0])
        session = b.peers["a"].session
        b.declare_table(Declaration.parse("t", "type ip size 1k expire 1m store gpc0"))
        self.network.advance(0)
        self.assertIs(b.peers["a"].session, session)
        self.assertEqual(b.table("t")["192.0.2.1"]["gpc0"], 1)
        self.assertEqual(b.peers["a"].out_of_step(), [])
        self.assertEqual(b.resync.reason, "finished by a")

    def test_tables_and_peers_that_go_and_come_back(self) -> None:
        """A node that had no peers and no tables for a while learns what it has missed."""
        a, b = self.mesh("a", "b")
        self.network.advance(6)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(0)
        b.remove_table("rates")
        b.remove_peer("a")
        self.network.advance(30)
        self.assertTrue(b.resync.up_to_date)
        b.add_table(Declaration.parse("rates", RATES["rates"]))
        b.add_peer("a", self.network.client("a"))
        self.assertFalse(b.resync.up_to_date)
        self.network.advance(0)
        self.assertEqual(self.gpc0(b, "192.0.2.1"), 1)

    def test_adoption_that_begins(self) -> None:
        """What connected peers have is adopted and learnt as soon as this may be, and nothing
        is said to differ any more."""
        more = {"rates": RATES["rates"].replace("gpc0", "gpc0,gpc1"), "b": "type string size 1k"}
        for tables, columns in ((True, False), (False, True), (True, True)):
            network = MemoryNetwork()
            self.addCleanup(network.stop)
            a = network.peer("a", more)
            there = {"a": network.client("a")}
            b = network.add(
                StickTableService(
                    "b",
                    there,
                    RATES,
                    learn_tables=False,
                    learn_columns=False,
                    reactor=network.clock,
                    chance=network.chance,
                )
            )
            network.start()
            network.advance(6)
            a.table("rates").set("192.0.2.1", gpc0=1, gpc1=7)
            a.table("b").set("x")
            network.advance(1)
            session = b.peers["a"].session
            self.assertEqual([table.name for table in b.tables], ["rates"])
            b.learn(tables, columns)
            network.advance(0)
            self.assertIs(b.peers["a"].session, session)
            self.assertEqual([len(one) for one in b.tables], [1, 1] if tables else [1])
            self.assertEqual(
                dict(b.table("rates")["192.0.2.1"]).get("gpc1"), 7 if columns else None
            )
            self.assertEqual(b.peers["a"].out_of_step() == [], tables)
            self.assertEqual(b.peers["a"].notes() == [], columns)
            self.assertTrue(b.resync.up_to_date)

    def test_one_that_cannot_look_again(self) -> None:
        """A session that fails when more is shared ends; the others are told all the same."""
        a, _, c = self.mesh("a", "b", "c")
        self.network.advance(6)
        bad = a.peers["b"].session
        self.patch(bad, "look_again", None)
        for service in (a, c):
            service.add_table(Declaration.parse("late", "type string size 1k store gpc0"))
        c.table("late").set("x")
        self.network.advance(0)
        self.assertIsNot(a.peers["b"].session, bad)
        self.assertIn("x", a.table("late"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_columns_that_come(self) -> None:
        """What peers have of data types that a table stores from now on is learnt."""
        more = {"rates": RATES["rates"].replace("gpc0", "gpc0,gpc1")}
        a, b = self.network.peer("a", more), self.network.peer("b", RATES)
        self.network.start()
        self.network.advance(6)
        a.table("rates").set("192.0.2.1", gpc1=7)
        self.network.advance(0)
        b.declare_table(Declaration.parse("rates", more["rates"]))
        self.network.advance(0)
        self.assertEqual(b.table("rates")["192.0.2.1"]["gpc1"], 7)

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
        bad = a.mesh.link(a.node.peers["b"]).connection
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

    def test_a_fault_found_in_a_later_turn(self) -> None:
        """A peer whose fault is read in a later turn ends its own session; what another one sent
        and is read in turns, too, is read to its end."""
        a = self.network.peer("a", RATES, calls=[])
        a.node.adoption.learn_tables = True
        self.network.start()
        callers = {name: self.one_that_calls(a, name) for name in "bc"}
        definitions = b"".join(
            Declaration.parse("t", f"type ip size 1k expire {seconds}s store gpc0")
            .definition(1)
            .encode()
            for seconds in range(1, 301)
        )
        callers["b"].say(definitions + b"\xff\x00")
        callers["c"].say(definitions + self.lesson("192.0.2.1"))
        self.network.advance(0)
        self.assertIsNone(a.peers["b"].session)
        self.assertIsNotNone(a.peers["c"].session)
        self.assertEqual(self.gpc0(a, "192.0.2.1"), 0)

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
        self.assertIsNotNone(a.peers["b"].session)
        self.network.advance(1)
        self.assertEqual(a.peers["b"].out_of_step(), [])

    def test_a_peer_that_called_and_left(self) -> None:
        """A peer that called us is not called meanwhile, and is called soon after it has left."""
        a = self.network.peer("a", RATES, calls=[])
        a.add_peer("b", self.network.client("b"))
        self.network.start()
        caller = Scripted(b"HAProxyS 2.1\na\nb 1 1\n")
        self.network.connect("a", Factory.forProtocol(lambda: caller))
        calls: list[Scripted] = []

        def called() -> Scripted:
            calls.append(Scripted(b""))
            return calls[-1]

        self.network.listen("b", Factory.forProtocol(called))
        self.network.advance(1)
        caller.say(Control.RESYNC_FINISHED.encode())
        for _ in range(10):
            self.network.advance(1)
            caller.say(Control.HEARTBEAT.encode())
        self.assertIsNotNone(a.peers["b"].session)
        self.assertEqual(len(calls), 0)
        caller.hang_up()
        self.network.advance(2.1)
        self.assertEqual(len(calls), 1)

    def test_the_address_of_a_peer_that_has_called(self) -> None:
        """A peer that has called us, and whose address we learn then, keeps its session, and is
        called there once it has left."""
        a = self.network.peer("a", RATES, calls=[])
        self.network.start()
        caller = self.one_that_calls(a, "b")
        session = a.peers["b"].session
        self.assertIsNotNone(session)
        called = Scripted(b"200\n")
        self.network.listen("b", Factory.forProtocol(called.itself))
        a.add_peer("b", self.network.client("b"))
        for _ in range(6):
            self.network.advance(1)
            caller.say(Control.HEARTBEAT.encode())
        self.assertIs(a.peers["b"].session, session)
        self.assertEqual(called.received, b"")
        caller.hang_up()
        self.network.advance(2.1)
        self.assertIn(b"HAProxyS 2.1\nb\na ", called.received)

    def test_another_address_of_a_peer_that_is_called(self) -> None:
        """A peer that we call is called at its new address at once."""
        a, b = self.network.peer("a", RATES), self.network.peer("b", RATES, calls=["a"])
        self.network.start()
        before = b.peers["a"].session
        self.assertIsNotNone(before)
        called = Scripted(b"200\n")
        self.network.listen("elsewhere", Factory.forProtocol(called.itself))
        b.add_peer("a", self.network.client("elsewhere"))
        self.network.advance(0)
        self.assertIsNot(b.peers["a"].session, before)
        self.assertIn(b"HAProxyS 2.1\na\nb ", called.received)
        self.assertIsNone(a.peers["b"].session)

    def test_stopped_when_all_is_closed(self) -> None:
        """It has stopped once no connection is open, whoever made it, and nothing is left on
        the clock then."""
        for greeting in (b"HAProxyS 2.1\na\nb 1 1\n", b"HAProxyS 2.1\n", b"HTTP\n"):
            network = MemoryNetwork()
            a = network.peer("a", RATES, calls=[])
            a.expect_peer("b")
            network.start()
            network.connect("a", Factory.forProtocol(Scripted(greeting).itself))
            network.turn()
            self.assertEqual(a.peers["b"].connected, greeting.endswith(b"b 1 1\n"))
            stopped = a.stopService()
            self.assertNoResult(stopped)
            network.settle()
            self.successResultOf(stopped)
            self.assertEqual(network.clock.calls, [])

    def test_stopped_when_callers_beyond_the_limit_are_gone(self) -> None:
        """That holds for connections that were too many, too."""
        a = self.network.add(
            StickTableService(
                "a",
                bind=self.network.server("a"),
                limits=Limits(handshakes=0),
                reactor=self.network.clock,
            )
        )
        self.network.start()
        self.network.connect("a", Factory.forProtocol(Scripted(b"").itself))
        stopped = a.stopService()
        self.assertNoResult(stopped)
        self.network.settle()
        self.successResultOf(stopped)

    def test_stopped_beside_one_that_does_not_read(self) -> None:
        """A peer that does not take what it was sent holds up the end for a second at most."""
        a, _ = self.mesh("a", "b")
        (connection,) = self.network.between("a", "b")
        connection.stall("a")
        a.table("rates").set("192.0.2.1")
        self.network.advance(0)
        stopped = a.stopService()
        self.network.advance(0.9)
        self.assertNoResult(stopped)
        self.network.advance(0.1)
        self.successResultOf(stopped)

    def test_observers(self) -> None:
        """Observers are told of each table and read once; one that fails hurts nobody."""

        class Failing(Observer):
            def table_changed(self, batch: Batch) -> None:
                raise RuntimeError("observer")

        self.assertTrue(verifyClass(IObserver, Witness))
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

        class Blocking(Observer):
            def __init__(self, service: StickTableService) -> None:
                self.service = service

            def table_changed(self, batch: Batch) -> None:
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

    def test_observer_that_never_stops(self) -> None:
        """An observer that changes something whenever something changes does not keep the
        reactor for itself: others have their turns, and the service can be stopped."""

        class Endless(Observer):
            def __init__(self, service: StickTableService) -> None:
                self.service = service
                self.told = 0

            def table_changed(self, batch: Batch) -> None:
                self.told += 1
                if self.told < 20_000:  # it would never end if it were told at once
                    self.service.table("rates").set("192.0.2.2", gpc0=self.told)

        clock = Clock()
        service = StickTableService("app", tables=RATES, reactor=clock)
        endless = Endless(service)
        service.add_observer(endless)
        service.startService()
        service.table("rates").set("192.0.2.1", gpc0=1)
        told = endless.told
        self.assertLess(told, 10_000)
        due = [call for call in clock.calls if call.getTime() <= clock.seconds()]
        self.assertNotEqual(due, [])
        service.stopService()
        self.assertEqual(clock.calls, [])

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
        self.assertEqual(
            witness.seen[-2:],
            [(Cause.TRASHED, ["192.0.2.1"]), (Cause.LEARNT, ["192.0.2.3"])],
        )

    def test_cause_before_consequence(self) -> None:
        """Every observer hears of a change before it hears of what another one did about it."""
        witness = Witness()

        class Answering(Observer):
            def table_changed(self, batch: Batch) -> None:
                if batch.cause is Cause.LEARNT:
                    b.table("rates").set("192.0.2.9", gpc0=99)
                    witness.batches.append(batch)

        a, b = self.mesh("a", "b")
        b.add_observer(Answering())
        b.add_observer(witness)
        a.table("rates").set("192.0.2.1", gpc0=1)
        self.network.advance(0)
        self.assertEqual(
            witness.seen,
            [(Cause.LEARNT, ["192.0.2.1"])] * 2 + [(Cause.SET, ["192.0.2.9"])],
        )


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
        self.assertEqual(dict(rates["192.0.2.1"]), {"gpc0": 1, "http_req_rate": 3})
        self.assertEqual(list(rates["192.0.2.1"]), ["gpc0", "http_req_rate"])
        self.assertRaises(KeyError, rates.__getitem__, "192.0.2.9")
        self.assertRaises(KeyError, service.table, "none")
        self.assertRaises(LocalProtocolError, rates.get, 7)
        self.assertEqual(rates.status().update_id, 2)
        self.assertEqual(rates.clear(), 2)

    def test_a_table_that_is_gone(self) -> None:
        """A table that was removed, or declared with other keys, says so to whoever still asks
        it for entries or changes it; nothing is told, and no room is lost."""
        service = StickTableService("app", tables=RATES, limits=Limits(entries=2), reactor=Clock())
        witness = Witness()
        for go in (
            partial(service.declare_table, Declaration.parse("rates", "type string size 1k")),
            partial(service.remove_table, "rates"),
        ):
            rates = service.table("rates")
            self.assertIs(service.table("rates"), rates)
            key = "192.0.2.1"
            rates.set(key)
            walk = iter(rates)
            self.assertTrue(rates.shared)
            go()
            service.add_observer(witness)
            uses: list[Callable[[], object]] = [
                partial(rates.set, key),
                partial(rates.get, key),
                partial(rates.__getitem__, key),
                partial(rates.__contains__, key),
                partial(rates.remove, key),
                rates.clear,
                partial(list, rates),
                partial(list, walk),
            ]
            for use in uses:
                problem = self.assertRaises(LocalProtocolError, use)
                self.assertIn("table rates: read 'one that is gone'", str(problem))
            self.assertEqual((rates.shared, len(rates), rates.name), (False, 0, "rates"))
            service.remove_observer(witness)
        self.assertEqual(witness.batches, [])

    def test_warnings_of_lines(self) -> None:
        """What a line warns of is logged when its table is shared."""
        with capturedLogs() as events:
            StickTableService("app", tables={"t": "type ip size 1 expire 1h30m"}, reactor=Clock())
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["expire of table t: read '1h30m' as '1h', as HAProxy does"],
        )

    def test_one_table_of_a_name(self) -> None:
        """A second table of the same name is refused."""
        service = self.service()
        service.add_table(Declaration.parse("more", "type ip size 1k"))
        self.assertEqual(len(service.tables), 2)
        self.assertRaises(
            LocalProtocolError, service.add_table, Declaration.parse("more", "type ip size 1k")
        )

    def test_addresses(self) -> None:
        """Addresses are read when the service is made, and an error names whose it is."""
        StickTableService("app", {"lb1": "127.0.0.1:10000"}, bind="127.0.0.1:1", reactor=Clock())
        for peers, bind, named in (
            ({"lb1": "nonsense"}, None, "address of peer lb1: read 'nonsense'"),
            ({}, "nonsense", "bind: read 'nonsense'"),
        ):
            problem = self.assertRaises(
                LocalProtocolError, StickTableService, "app", peers, bind=bind, reactor=Clock()
            )
            self.assertIn(named, str(problem))

    def test_our_own_name(self) -> None:
        """No peer can have our own name; in a list of all peers it is passed over."""
        service = StickTableService("app", {"app": "127.0.0.1:1"}, reactor=Clock())
        self.assertEqual(service.peers, {})
        for add in (
            partial(service.add_peer, "app", "127.0.0.1:1"),
            partial(service.expect_peer, "app"),
        ):
            self.assertIn("another name", str(self.assertRaises(LocalProtocolError, add)))

    def test_names_that_no_hello_can_have(self) -> None:
        """A name with white space or control characters is refused at once, a peer's and our own:
        no session would ever begin."""
        service = StickTableService("app", reactor=Clock())
        for name in ("", "lb 1", "lb1\n", "\x1b[2J"):
            for refused in (
                partial(service.add_peer, name, "127.0.0.1:1"),
                partial(service.expect_peer, name),
                partial(StickTableService, name, reactor=Clock()),
                partial(StickTableService, "app", {name: "127.0.0.1:1"}, reactor=Clock()),
            ):
                problem = self.assertRaises(LocalProtocolError, refused)
                self.assertEqual(
                    (problem.read, problem.expected), (name, "text without white space")
                )
        self.assertEqual(service.peers, {})

    def test_stop_before_it_is_up_to_date(self) -> None:
        """Nobody waits for a service that was stopped."""
        service = StickTableService("app", reactor=Clock())
        service.startService()
        waiting = service.when_up_to_date()
        service.stopService()
        self.failureResultOf(waiting, CancelledError)

    def test_start_after_a_soft_stop(self) -> None:
        """A service that stopped softly takes calls again once it is started again."""
        service = self.service()
        service.startService()
        self.assertFalse(self.successResultOf(service.stop_softly()))
        self.assertIsNone(service.accepting())
        service.stopService()
        service.startService()
        self.assertIsNotNone(service.accepting())

    def test_stop_after_a_soft_stop(self) -> None:
        """A service that is stopped in the midst of a soft stop leaves nothing on the clock."""
        clock = Clock()
        service = StickTableService("app", bind=At("127.0.0.1"), reactor=clock)
        service.startService()
        service.stop_softly(MemoryNetwork().client("app"))
        self.successResultOf(service.stopService())
        self.assertEqual(clock.calls, [])

    def test_cannot_listen(self) -> None:
        """A port that is taken stops the start."""

        @implementer(IStreamServerEndpoint)
        class Taken:
            def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
                return fail(CannotListenError("127.0.0.1", 1, OSError("in use")))

        service = StickTableService("app", bind=Taken(), reactor=Clock())
        self.assertRaises(CannotListenError, service.startService)
        self.assertFalse(service.running)

    def listening_later(self) -> tuple[StickTableService, Deferred[IListeningPort]]:
        """A service that was started, and the result for which its endpoint waits."""
        waiting: Deferred[IListeningPort] = Deferred()

        @implementer(IStreamServerEndpoint)
        class Slow:
            def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
                return waiting

        service = StickTableService("app", bind=Slow(), reactor=Clock())
        service.startService()
        return service, waiting

    def test_cannot_listen_later(self) -> None:
        """A port that turns out to be taken after the start is logged."""
        service, waiting = self.listening_later()
        waiting.errback(CannotListenError("127.0.0.1", 1, OSError("in use")))
        self.assertEqual(len(self.flushLoggedErrors(CannotListenError)), 1)
        service.stopService()

    def test_listens_after_the_end(self) -> None:
        """A port that is there only after the service was stopped is closed."""
        network = MemoryNetwork()
        service, waiting = self.listening_later()
        service.stopService()
        waiting.callback(network.listen("app", Factory()))
        self.assertRaises(ConnectError, network.connect, "app", Factory())
        self.assertIsNone(service.address())

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

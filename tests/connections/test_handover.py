from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerproto.connections.handover import HandOver
from peerproto.peering.states import ResyncState
from peerproto.service.service import StickTableService
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork
from peerproto.wire.messages import Control
from tests.scripted import Scripted

RATES = {"rates": "type integer size 100k expire 1m store gpc0"}


class HandOverTests(SynchronousTestCase):
    """An old and a new process of one name, at one address in memory."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.old = self.network.peer("us", RATES)
        self.network.start()
        self.network.advance(6)
        for number in range(1000):
            self.old.table("rates").set(number, gpc0=number)

    def new(self) -> StickTableService:
        bind: IStreamServerEndpoint = self.network.server("us")
        new = StickTableService("us", {}, RATES, bind, reactor=self.network.clock, expect_old=True)
        self.addCleanup(new.stopService)
        return new

    def hand_over(self) -> list[bool]:
        done: list[bool] = []
        HandOver(self.old.mesh, self.network.client("us")).start().addCallback(done.append)
        self.network.advance(0)
        return done

    def test_hand_over(self) -> None:
        """The new process has all, and is up to date since the old one was."""
        new = self.new()
        new.startService()
        self.assertIs(new.resync.state, ResyncState.EXPECTING_OLD)
        self.assertEqual(self.hand_over(), [True])
        self.assertEqual(len(new.table("rates")), 1000)
        self.assertEqual(new.resync.reason, "finished by us")
        self.assertIsNone(new.node.sessions.get(new.node.local))

    def test_what_is_newer_stays(self) -> None:
        """What peers and applications changed since the new process began is newer than what
        the old one knows: it stays."""
        new = self.new()
        lb1 = self.network.peer("lb1", RATES, calls=[])
        self.network.start()
        new.add_peer("lb1", self.network.client("lb1"))
        new.startService()
        self.network.advance(0)
        lb1.table("rates").set(1, gpc0=101)
        self.network.advance(0)
        new.table("rates").set(2, gpc0=102)
        self.assertEqual(self.hand_over(), [True])
        self.assertEqual([new.table("rates")[n]["gpc0"] for n in (1, 2, 3)], [101, 102, 3])
        lb1.table("rates").set(3, gpc0=103)
        self.network.advance(0)
        self.assertEqual(new.table("rates")[3]["gpc0"], 103)

    def test_newer_in_mid_lesson(self) -> None:
        """What the new process changes in mid-lesson is newer than the old one's own changes, in
        the rest of the lesson, too."""
        self.network.room = 100
        self.network.pace = 200
        new = self.new()
        new.startService()
        done = self.hand_over()
        while not len(new.table("rates")):
            self.network.advance(0.001)
        for number in range(1000):
            new.table("rates").set(number, gpc0=5000)
        self.network.advance(1)
        self.assertEqual(done, [True])
        self.assertEqual({entry["gpc0"] for entry in new.table("rates")}, {5000})

    def test_refused_at_first(self) -> None:
        """As long as nobody answers, it tries again every 500 ms."""
        self.network.close("us")
        done = self.hand_over()
        self.network.advance(2)
        self.assertEqual(done, [])
        new = self.new()
        new.startService()
        self.network.advance(0.6)
        self.assertEqual(done, [True])
        self.assertEqual(len(new.table("rates")), 1000)

    def test_cut_in_mid_lesson(self) -> None:
        """A lesson that is cut is given again, whole."""
        new = self.new()
        new.startService()
        done: list[bool] = []
        HandOver(self.old.mesh, self.network.client("us")).start().addCallback(done.append)
        self.network.cut()
        self.assertEqual(done, [])
        self.assertIs(new.resync.state, ResyncState.EXPECTING_OLD)
        self.network.advance(0.6)
        self.assertEqual(done, [True])
        self.assertEqual(len(new.table("rates")), 1000)

    def scripted(self, *said: bytes) -> list[Scripted]:
        """A new process that says these bytes at once and no more: its connections."""
        self.network.close("us")
        made: list[Scripted] = []

        def connection() -> Scripted:
            made.append(Scripted(b"".join(said)))
            return made[-1]

        self.network.listen("us", Factory.forProtocol(connection))
        return made

    def test_a_long_lesson(self) -> None:
        """A lesson that takes longer than 5 s is no failure: what counts is its confirm."""
        (made, done) = self.scripted(b"200\n"), self.hand_over()
        for _ in range(20):
            self.network.advance(1)
            made[0].say(Control.HEARTBEAT.encode())
        self.assertEqual(done, [])
        made[0].say(Control.RESYNC_CONFIRM.encode())
        self.network.advance(0)
        self.assertEqual(done, [True])

    def test_cut_without_a_confirm(self) -> None:
        """A new process that leaves before it confirms has not learnt everything."""
        (made, done) = self.scripted(b"200\n"), self.hand_over()
        made[0].hang_up()
        self.network.advance(0.4)
        self.assertEqual(done, [])
        self.network.advance(0.2)
        self.assertEqual(len(made), 2)
        made[1].hang_up()
        self.network.close("us")
        self.network.advance(5.6)
        self.assertEqual(done, [False])

    def test_a_connection_that_is_never_made(self) -> None:
        """Where a connection hangs, it gives up after 5 s, and the connection comes to nothing."""

        @implementer(IStreamClientEndpoint)
        class Hanging:
            def __init__(self) -> None:
                self.attempt: Deferred[IProtocol] = Deferred()

            def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
                return self.attempt

        done: list[bool] = []
        endpoint = Hanging()
        HandOver(self.old.mesh, endpoint).start().addCallback(done.append)
        self.network.advance(4.9)
        self.assertEqual(done, [])
        self.network.advance(0.2)
        self.assertEqual(done, [False])
        self.assertTrue(endpoint.attempt.called, "cancelled")

    def test_what_was_removed_stays_away(self) -> None:
        """What the new process removed or cleared is not brought back by the old one."""
        new = self.new()
        new.startService()
        new.add_table(Declaration.parse("more", "type integer size 100k store gpc0"))
        self.old.add_table(Declaration.parse("more", "type integer size 100k store gpc0"))
        self.old.table("more").set(7, gpc0=7)
        new.table("rates").set(1, gpc0=1)
        new.table("rates").remove(1)
        new.table("rates").remove(3)
        new.table("more").clear()
        new.table("more").set(8, gpc0=8)
        self.assertEqual(self.hand_over(), [True])
        self.assertNotIn(1, new.table("rates"))
        self.assertNotIn(3, new.table("rates"), "the lesson has yet to bring it")
        self.assertIn(2, new.table("rates"))
        self.assertEqual([entry.key for entry in new.table("more")], [8])

    def test_stopped_in_mid_lesson(self) -> None:
        """An old process that is stopped teaches nobody any more, however long it takes."""
        made = self.scripted(b"200\n")
        done: list[bool] = []
        self.old.stop_softly(self.network.client("us")).addCallback(done.append)
        self.network.advance(0.3)
        self.assertEqual((len(made), done), (1, []))
        self.old.stopService()
        self.network.advance(10)
        self.assertEqual((len(made), done), (1, [False]))
        self.assertEqual(self.network.clock.calls, [])

    def test_gives_up(self) -> None:
        """Without a session for 5 s it gives up, and nothing is left on the clock."""
        self.network.close("us")
        done = self.hand_over()
        self.network.advance(4.9)
        self.assertEqual(done, [])
        self.network.advance(0.2)
        self.assertEqual(done, [False])
        self.old.stopService()
        self.assertEqual(self.network.clock.calls, [])

    def test_old_one_is_not_up_to_date(self) -> None:
        """Taught with partial, the new process waits for another old one, then asks remotes."""
        lb1 = self.network.peer("lb1", RATES)
        self.network.start()
        self.network.advance(6)
        lb1.stopService()
        self.network.advance(0)
        self.old.resync.start(0)
        new = self.new()
        new.startService()
        new.expect_peer("lb1")
        self.assertEqual(self.hand_over(), [True])
        self.assertIs(new.resync.state, ResyncState.EXPECTING_OLD)
        self.assertEqual(len(new.table("rates")), 1000)
        self.network.advance(5.1)
        self.assertIs(new.resync.state, ResyncState.WAITING)
        self.network.advance(5.1)
        self.assertTrue(new.resync.up_to_date)

    def test_stop_softly_leaves_remote_peers(self) -> None:
        """Sessions with remote peers end first; without an address nobody can be taught."""
        lb1 = self.network.peer("lb1", RATES)
        lb1.expect_peer("caller")
        self.network.start()
        peers = {"lb1": self.network.client("lb1", "caller")}
        caller = StickTableService("caller", peers, RATES, reactor=self.network.clock)
        caller.startService()
        self.addCleanup(caller.stopService)
        self.network.advance(1)
        self.assertTrue(caller.peers["lb1"].connected)
        done: list[bool] = []
        caller.stop_softly().addCallback(done.append)
        self.assertEqual(done, [False])
        self.assertFalse(caller.peers["lb1"].connected)

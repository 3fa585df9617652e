from __future__ import annotations

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.trial.unittest import SynchronousTestCase

from peerproto.handover import HandOver
from peerproto.peering.resync import ResyncState
from peerproto.service import StickTableService
from peerproto.testing import MemoryNetwork

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
        HandOver(self.old.node, self.network.clock, self.network.client("us")).start().addCallback(
            done.append
        )
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
        self.assertIsNone(new.node.peers["us"].session)

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
        HandOver(self.old.node, self.network.clock, self.network.client("us")).start().addCallback(
            done.append
        )
        self.network.cut()
        self.assertEqual(done, [])
        self.assertIs(new.resync.state, ResyncState.EXPECTING_OLD)
        self.network.advance(0.6)
        self.assertEqual(done, [True])
        self.assertEqual(len(new.table("rates")), 1000)

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
        self.old.resync.start()
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
        lb1.stopService()

    def test_stop_softly_leaves_remote_peers(self) -> None:
        """Sessions with remote peers end first; without an address nobody can be taught."""
        self.network.peer("lb1", RATES)
        self.network.start()
        self.assertIsNotNone(self.old.peers["lb1"].session)
        self.old._port = None
        done: list[bool] = []
        self.old.stop_softly().addCallback(done.append)
        self.assertEqual(done, [False])
        self.assertIsNone(self.old.peers["lb1"].session)

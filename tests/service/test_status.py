"""Status: what is said of a node, its peers and its tables."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.service import StickTableService
from peerproto.service.status import Lag
from peerproto.testing import MemoryNetwork

LINE = "type integer size 1m expire 10m store gpc0"
MANY = 100_000


class NodeStatusTests(SynchronousTestCase):
    def test_node(self) -> None:
        """A node says how it is called, how long it runs, where its resync stands, how much it
        has; one that does not run says that."""
        clock = Clock()
        service = StickTableService("us", tables={"t": LINE, "u": LINE}, reactor=clock)
        service.table("t").set(1)
        before = service.status()
        self.assertEqual((before.running, before.uptime, before.up_to_date), (False, 0, False))
        clock.advance(3)
        service.startService()
        clock.advance(2)
        now = service.status()
        self.assertEqual((now.localpeer, now.running, now.uptime), ("us", True, 2000))
        self.assertEqual((now.up_to_date, now.resync, now.reason), (False, "waiting", "started"))
        clock.advance(4)
        now = service.status()
        self.assertEqual(
            (now.up_to_date, now.resync, now.resync_in_words),
            (True, "up_to_date", "up to date"),
        )
        self.assertEqual((now.entries, now.connected, now.peers), (1, 0, {}))
        self.assertEqual(list(now.tables), ["t", "u"])
        service.stopService()

    def test_stays_as_it_was(self) -> None:
        """What was said does not change when the node does."""
        network = MemoryNetwork()
        here, there = network.peer("here", {"t": LINE}), network.peer("there", {"t": LINE})
        network.start()
        network.advance(6)
        before = here.status()
        again = here.status()
        self.assertEqual(before, again)
        there.table("t").set(1)
        network.advance(1)
        self.assertEqual(before, again)
        self.assertEqual((before.entries, here.status().entries), (0, 1))
        self.assertRaises(
            attrs.exceptions.FrozenInstanceError, setattr, before, "up_to_date", False
        )
        network.stop()

    def test_table(self) -> None:
        """A table says how much it has, what it changed, dropped and refused, and whose it is."""
        clock = Clock()
        small = "type integer size 2 expire 10m store gpc0"
        service = StickTableService(
            "us", tables={"t": small, "full": f"{small} nopurge"}, reactor=clock
        )
        table, full = service.table("t"), service.table("full")
        for one in range(3):
            table.set(one)
        for one in range(2):
            full.set(one)
        self.assertRaises(ValueError, full.set, 2)
        status = service.status().tables["t"]
        self.assertEqual(status, table.status())
        self.assertEqual(
            (status.name, status.used, status.trashed, status.update_id, status.adopted_from),
            ("t", 2, 1, 3, None),
        )
        self.assertIs(status.declaration, table.declaration)
        self.assertEqual((full.status().used, full.status().refused), (2, 1))


class PeerStatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.here = self.network.peer("here", {"t": LINE}, learn_tables=True)
        self.there = self.network.peer("there", {"t": LINE, "adopted": LINE})
        self.here.expect_peer("absent")
        self.network.start()
        self.network.advance(6)

    def tearDown(self) -> None:
        self.network.stop()

    def lag(self) -> Lag:
        return self.here.peers["there"].status().lag

    def test_connected(self) -> None:
        """A peer with a session says which, since when, and what there is between the two."""
        peer = self.here.status().peers["there"]
        self.assertEqual(peer, self.here.peers["there"].status())
        self.assertEqual(
            (peer.connected, peer.version, peer.state, peer.handshake_status, peer.trouble),
            (True, "2.1", "live", 200, None),
        )
        self.assertEqual((peer.handshake_ago, peer.reconnects), (6000, 0))
        self.assertEqual((peer.learning, peer.teaching, peer.out_of_step), (False, False, ()))
        self.assertEqual([one.name for one in peer.tables], ["t", "adopted"])
        self.assertEqual(self.here.status().tables["adopted"].adopted_from, "there")

    def test_away(self) -> None:
        """One that is away says when it was here last; one that never was says nothing of that."""
        self.network.part("here", "there")
        self.network.advance(10)
        peer = self.here.status().peers["there"]
        self.assertEqual(
            (peer.connected, peer.version, peer.state, peer.handshake_ago, peer.tables),
            (False, None, None, 16000, ()),
        )
        self.assertEqual((peer.trouble,), peer.out_of_step)
        never = self.here.status().peers["absent"]
        self.assertEqual(
            (never.handshake_ago, never.handshake_status, never.out_of_step),
            (None, None, ("not connected yet",)),
        )
        self.network.heal("here", "there")
        self.network.advance(10)
        peer = self.here.status().peers["there"]
        self.assertEqual((peer.reconnects, peer.trouble), (1, None))
        self.assertLess(peer.handshake_ago or 0, 10_000)

    def test_refused_definitions(self) -> None:
        """Definitions that cannot be shared are counted, each time that one is looked at."""
        other = self.network.peer("other", {"t": "type string size 1k store gpc0"})
        other.startService()
        self.network.advance(6)
        self.assertGreater(self.here.peers["other"].status().counters.refused_definitions, 0)
        self.assertEqual(self.here.peers["there"].status().counters.refused_definitions, 0)

    def test_lag(self) -> None:
        """Changes that a peer has not acked count, with the age of the oldest, also while it is
        away; those that it has acked, and those of tables that it never had, do not."""
        self.assertEqual(self.lag(), Lag(0, 0))
        self.here.table("t").set(1)
        self.network.advance(1)
        self.assertEqual(self.lag(), Lag(0, 0))
        self.network.part("here", "there")
        self.network.advance(5)
        self.here.table("t").set(1)
        self.network.advance(2)
        self.here.table("t").set(1)
        self.here.table("t").set(2)
        self.network.advance(3)
        self.assertEqual(self.lag(), Lag(3, 5000))
        never = self.here.peers["absent"].status()
        self.assertEqual(never.lag, Lag(0, 0))
        self.network.heal("here", "there")
        self.network.advance(10)
        self.assertEqual(self.lag(), Lag(0, 0))

    def test_lag_of_a_lesson(self) -> None:
        """A peer that has confirmed a lesson, and has not got the table, is not behind."""
        other = self.network.peer("other", {}, learn_tables=False)
        other.startService()
        self.network.advance(6)
        self.here.table("t").set(1)
        self.network.advance(5)
        self.assertEqual(self.here.peers["other"].out_of_step(), [])
        self.assertEqual(self.here.peers["other"].status().lag, Lag(0, 0))

    def test_lag_of_what_is_gone(self) -> None:
        """What was changed and removed at once is not waited for."""
        self.here.table("t").set(1)
        self.network.advance(1)
        self.here.table("t").set(2)
        self.here.table("t").remove(2)
        self.network.advance(600)
        self.assertEqual(self.lag(), Lag(0, 0))

    def test_lag_of_many(self) -> None:
        """A change that many followed is as old as it is, give or take a thirtieth; to say so,
        nobody goes through the changes."""
        self.network.part("here", "there")
        self.network.advance(5)
        began = self.here.now()
        table = self.here.table("t")
        for number in range(MANY):
            table.set(number)
            if number % 10 == 0:
                self.network.clock.advance(0.001)
        age = self.here.now() - began
        lag = self.lag()
        self.assertEqual(lag.changes, MANY)
        self.assertTrue(age <= lag.ms <= age * 31 / 30, (age, lag))
        # However many they are, a few are looked at.
        self.patch(self.here.node.tables["t"].log, "after", None)
        self.patch(self.here.node.tables["t"].log, "count_after", None)
        memory = self.here.node.peers["there"]
        self.assertEqual(Lag.of(memory, [self.here.node.tables["t"]], self.here.now()), lag)

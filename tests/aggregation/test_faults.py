"""An aggregate when something goes wrong, or goes away, among peers in memory."""

from __future__ import annotations

import attrs

from peerproto import Declaration, LocalProtocolError, StickTableService
from peerproto.aggregation.lease import LINE as LEASE
from peerproto.aggregation.relay import Relay
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from tests.aggregation.fleet import LINE, RULES, AggregateTestCase


class FaultTests(AggregateTestCase):
    rules = attrs.evolve(RULES, sources=("*",), lease="t.lease")

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.b.table("t").count(2, gpc0=5)
        self.network.advance(1)
        self.aggregate = self.aggregation.aggregates["t"]

    def test_peer_is_removed(self) -> None:
        """What a peer had leaves the sums when it is none any more."""
        self.hub.remove_peer("b")
        self.network.advance(1)
        self.assertEqual(self.sums(self.hub), {1: 3})
        self.assertEqual(self.sums(self.a), {1: 3})

    def test_begun_later(self) -> None:
        """An aggregate that is begun later waits for the lessons of its peers as one does that is
        begun at the start."""
        self.hub.add_table(Declaration.parse("u", LINE))
        for peer in (self.a, self.b):
            peer.add_table(Declaration.parse("u", LINE))
            peer.add_table(Declaration.parse("u.sum", LINE))
        self.a.table("u").count(1, gpc0=100)
        self.network.advance(2)
        self.aggregation.take([self.rules, Rules("u", "u.sum", expect=("a", "b"))])
        begun = self.aggregation.aggregates["u"]
        self.assertIsNotNone(begun.why_not())
        self.network.turn()
        self.assertIsNotNone(begun.why_not())
        self.network.advance(12)
        self.assertIsNone(begun.why_not())
        self.b.table("u").count(1, gpc0=2)
        self.network.advance(1)
        self.assertGreaterEqual(self.hub.table("u.sum")[1].number("gpc0"), 102)

    def test_source_goes_and_comes(self) -> None:
        """Nothing is vouched for while the source is gone, nor before peers have taught the next
        one; the node does not turn for nothing meanwhile."""
        self.a.table("t").count(1, http_req_rate=9)
        self.b.table("t").count(1, http_req_rate=9)
        self.network.advance(0.1)
        self.hub.remove_table("t")
        for _ in range(50):
            self.network.advance(0.5)
        self.assertFalse(self.vouched())
        self.hub.add_table(Declaration.parse("t", LINE))
        self.assertFalse(self.vouched())
        self.network.advance(15)
        self.assertTrue(self.vouched())
        self.assertEqual(self.sums(self.hub), {1: 7, 2: 5})

    def test_lease_goes_and_comes(self) -> None:
        """A lease whose table is removed has one again."""
        self.hub.remove_table("t.lease")
        self.network.advance(0.5)
        self.assertTrue(self.vouched())
        self.hub.remove_table("t.lease")
        self.aggregation.take([])
        self.network.advance(1)
        self.assertEqual([table.name for table in self.hub.tables].count("t.lease"), 0)

    def test_lease_is_taken_away(self) -> None:
        """An aggregate goes on without its lease."""
        self.aggregation.take([attrs.evolve(self.rules, lease=None)])
        self.a.table("t").count(1, gpc0=1)
        self.network.advance(15)
        self.assertEqual(self.sums(self.b), {1: 8, 2: 5})
        self.assertFalse(self.vouched())

    def test_one_cannot_begin(self) -> None:
        """An aggregate that cannot begin keeps no other one from it."""
        self.hub.add_table(Declaration.parse("bad", LEASE.replace("2s", "9s")))
        bad = Rules("v", "v.sum", lease="bad")
        problem = self.assertRaises(
            LocalProtocolError, self.aggregation.take, [bad, self.rules, Rules("w", "w.sum")]
        )
        self.assertIn("expire", str(problem))
        self.assertEqual(list(self.aggregation.aggregates), ["t", "w"])
        self.assertIs(self.aggregation.aggregates["t"], self.aggregate)

    def test_becomes_a_relay(self) -> None:
        """A table that is no source any more can be passed on."""
        self.aggregation.leave([])
        Relay(("t",)).begin(self.hub, Relay())
        self.aggregation.take([])
        self.network.advance(15)
        self.a.table("t").count(9, gpc0=1)
        self.network.advance(1)
        self.assertIn(9, [entry.key for entry in self.b.table("t")])

    def test_more_than_the_feed_holds(self) -> None:
        """If more changes than are held, all is looked at: what is gone leaves the sums, too."""
        self.b.table("t").update({key: {"gpc0": 1} for key in range(10, 700)})
        self.network.advance(1)
        self.assertEqual(len(self.sums(self.hub)), 692)
        feed = self.hub.dispatcher.feeds[0]
        feed.most = 100
        self.hub.table("t").contributions()["b"].clear()
        self.network.advance(5)
        self.assertEqual(self.sums(self.hub), {1: 3})
        self.assertTrue(self.vouched())

    def test_silent_source(self) -> None:
        """A source that is not heard is vouched for no longer than it may be silent."""
        (connection,) = self.network.between("h", "a")
        connection.stall("a")
        self.network.advance(4)
        self.network.advance(1.5)
        self.assertFalse(self.vouched())

    def test_waiters(self) -> None:
        """After a long time in which a peer was missed, a change is published once."""
        self.a.stopService()
        for _ in range(50):
            self.network.advance(1)
        before = self.aggregate.published.total
        self.b.table("t").count(2, gpc0=1)
        self.network.advance(1)
        self.assertEqual(self.aggregate.published.total, before + 1)


class HandOverTests(AggregateTestCase):
    rules = attrs.evolve(RULES, lease="t.lease")

    def test_new_process(self) -> None:
        """A new process of the node has all that the old one taught, though that one has a lease
        by now and it has none: it is up to date, and vouches, as soon as the peers are back."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.network.advance(1)
        new = StickTableService(
            "h",
            tables={"t": self.line},
            bind=self.network.server("h"),
            expect_old=True,
            reactor=self.network.clock,
            wall_clock=self.network.wall_clock,
        )
        new.expect_peer("a")
        new.expect_peer("b")
        aggregation = Aggregation(new, [self.rules], self.network.clock)
        self.addCleanup(new.stopService)
        self.addCleanup(aggregation.stopService)
        aggregation.startService()
        new.startService()
        taught = self.hub.stop_softly(self.network.client("h", "h"))
        self.network.advance(0)
        self.assertTrue(self.successResultOf(taught))
        self.assertIn("finished by h", new.resync.reason)
        self.stop_aggregation()
        self.hub.stopService()
        self.network.advance(8)
        self.hub = new
        self.assertTrue(self.vouched())
        self.assertEqual(self.sums(new), {1: 3})


class NoRoomTests(AggregateTestCase):
    rules = attrs.evolve(RULES, lease="t.lease")
    more = {"t.sum": LINE.replace("size 1m", "size 3 nopurge") + ",gpt(1)"}

    def test_no_room(self) -> None:
        """Sums that find no room are not vouched for, and that is said."""
        self.begin()
        self.b.table("t").update({key: {"gpc0": 1} for key in range(3)})
        self.network.advance(1)
        self.assertTrue(self.vouched())
        self.b.table("t").count(9, gpc0=1)
        self.network.advance(1)
        self.assertFalse(self.vouched())
        self.assertEqual(len(self.sums(self.hub)), 3)
        self.assertIn("authority: no (there is no room in table t.sum", self.ask("show aggregate"))


class LeftOutTests(AggregateTestCase):
    line = "type string len 16380 size 1k expire 1m store gpc0"

    def test_too_long(self) -> None:
        """A sum that is too long for a message is left out, and that is said; the others are
        published."""
        self.begin()
        length = 16_380
        longest = ""
        while not longest:
            length -= 1
            try:
                self.a.table("t").set("x" * length, gpc0=200)
                longest = "x" * length
            except LocalProtocolError:
                continue
        self.b.table("t").set(longest, gpc0=200)
        self.b.table("t").set("short", gpc0=4)
        self.network.advance(1)
        self.assertEqual(self.sums(self.a)["short"], 4)
        self.assertNotEqual(self.sums(self.a).get(longest), 400)
        self.assertIn(
            "authority: no (a sum is left out: entry of table t.sum", self.ask("show aggregate")
        )

"""Tables that are shared per peer, in one direction, one after the other, or passed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import attrs
from twisted.trial.unittest import SynchronousTestCase

from peerproto.runtime.protocol import runtime_commands
from peerproto.runtime.words import split_commands
from peerproto.service.filters import Filter
from peerproto.service.service import StickTableService
from peerproto.testing import MemoryNetwork
from peerproto.wire.errors import LocalProtocolError

LINE = "type integer size 1m expire 1m store gpc0,gpt0,server_key,http_req_rate(10s)"


class SharingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)

    def peers(self, names: str, line: str = LINE) -> Iterator[StickTableService]:
        """Peers with one table that know the first alone."""
        for name in names:
            calls = [] if name == names[0] else [names[0]]
            yield self.network.peer(name, {"t": line}, calls=calls)

    def apart(self, *names: str) -> None:
        """Peers that do not know each other."""
        for one in names:
            for other in names:
                if one != other:
                    self.network.services[one].remove_peer(other)

    def values(self, service: StickTableService, name: str = "gpc0") -> dict[Any, Any]:
        return {entry.key: entry[name] for entry in service.table("t")}


class PerPeerTests(SharingTestCase):
    """Each peer has what it said itself."""

    def setUp(self) -> None:
        super().setUp()
        self.hub, self.a, self.b = self.peers("hab")
        self.hub.share("t", per_peer=True)
        self.apart("a", "b")
        self.network.start()
        self.network.advance(6)
        self.table = self.hub.table("t")

    def hub_again(
        self, name: str = "h", peers: str = "ab", expect_old: bool = False
    ) -> StickTableService:
        """Another process of the hub."""
        new = StickTableService(
            name,
            {},
            {"t": LINE},
            self.network.server(name),
            expect_old=expect_old,
            reactor=self.network.clock,
            chance=self.network.chance,
            wall_clock=self.network.wall_clock,
        )
        for peer in peers:
            new.expect_peer(peer)
        return new

    def shares(self) -> dict[tuple[Any, Optional[str]], Any]:
        return {(entry.key, entry.peer): entry["gpc0"] for entry in self.table}

    def test_kept_apart(self) -> None:
        """What each of two says of one key is kept, and neither is sent the other's."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.b.table("t").set(2, gpc0=3)
        self.network.advance(2)
        self.assertEqual(self.shares(), {(1, "a"): 1, (1, "b"): 2, (2, "b"): 3})
        self.assertEqual(len(self.table), 3)
        self.assertEqual((self.values(self.a), self.values(self.b)), ({1: 1}, {1: 2, 2: 3}))
        self.assertEqual(self.table.status().shares, {"a": 1, "b": 2})
        self.assertEqual([peer.out_of_step() for peer in self.hub.peers.values()], [[], []])

    def test_taught_its_own(self) -> None:
        """A peer that has lost everything is taught what it had, and nothing of others."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        self.a.stopService()
        self.network.settle()
        del self.network.services["a"]
        again = self.network.peer("a", {"t": LINE}, calls=["h"])
        again.remove_peer("b")
        self.network.start()
        self.network.advance(6)
        self.assertEqual(self.values(again), {1: 1})
        self.assertEqual(self.shares(), {(1, "a"): 1, (1, "b"): 2})

    def test_set_for_one(self) -> None:
        """What is set or counted for one peer goes to that one alone, and the answer names it;
        without a peer it is refused."""
        self.assertEqual(self.table.set(1, gpc0=5, peer="a").peer, "a")
        self.assertEqual(self.table.count(1, gpc0=1, peer="a").peer, "a")
        self.network.advance(1)
        self.assertEqual((self.values(self.a), self.values(self.b)), ({1: 6}, {}))
        for do in (
            lambda: self.table.set(1, gpc0=1),
            lambda: self.table.count(1, gpc0=1),
            lambda: self.table.update({1: {"gpc0": 1}}),
            lambda: self.table.get(1),
            lambda: self.table.set(1, gpc0=1, peer="c"),
        ):
            problem = self.assertRaises(LocalProtocolError, do)
            self.assertIn("expected one of a, b", str(problem))
        entry = self.table.get(1, peer="a")
        assert entry is not None
        self.assertEqual((entry["gpc0"], self.table.get(1, peer="b")), (6, None))
        self.assertIn(1, self.table)

    def test_contributions(self) -> None:
        """Each share is a table of its own, which knows its peer."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        shares = self.table.contributions()
        self.assertEqual(sorted(shares), ["a", "b"])
        self.assertEqual([len(shares[name]) for name in "ab"], [1, 0])
        self.assertEqual(repr(shares["a"]), "<StickTable t of a: integer, 1 entries>")
        self.assertIs(self.table.contributions()["a"], shares["a"])
        self.assertEqual(
            (shares["a"].peer, self.table.peer, self.table.per_peer), ("a", None, True)
        )
        self.assertEqual(shares["a"][1].peer, "a")
        self.assertEqual(shares["a"].contributions(), {})

    def test_queries(self) -> None:
        """Walks, pages and the highest go over all shares, each entry with its peer, and can be
        left at any entry."""
        for number in range(20):
            (self.a, self.b)[number % 2].table("t").set(number // 2, gpc0=number)
        self.network.advance(1)
        expected = {(number // 2, "ab"[number % 2]): number for number in range(20)}
        self.assertEqual(self.shares(), expected)
        found: dict[tuple[Any, Optional[str]], Any] = {}
        after, pages = None, 0
        while pages == 0 or after is not None:
            page = self.table.page(3, after)
            found.update({(one.key, one.peer): one["gpc0"] for one in page.entries})
            after, pages = page.after, pages + 1
        self.assertEqual((found, pages), (expected, 7))
        top = self.table.top(3, "gpc0", Filter("gpc0", "lt", 19))
        self.assertEqual([(one.key, one.peer) for one in top], [(9, "a"), (8, "b"), (8, "a")])

    def test_removed_and_forgotten(self) -> None:
        """To remove, forget or clear concerns all shares; to forget tells each peer of its own."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        self.table.remove(1)
        self.assertEqual((len(self.table), self.values(self.a)), (0, {1: 1}))
        self.a.table("t").set(1, gpc0=3)
        self.network.advance(1)
        self.table.forget(1)
        self.network.advance(1)
        self.assertEqual((self.values(self.a), self.values(self.b)), ({}, {}))
        self.a.table("t").set(1, gpc0=4)
        self.network.advance(1)
        self.assertEqual((self.table.clear(), len(self.table)), (1, 0))

    def test_feeds(self) -> None:
        """A feed tells whose share has changed."""
        feed = self.hub.feed(["t"])
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        told = {
            (batch.table.peer, entry.key): (entry["gpc0"], entry.peer)
            for batch in feed.take()
            for entry in batch.entries()
        }
        self.assertEqual(told, {("a", 1): (1, "a"), ("b", 1): (2, "b")})

    def test_runtime(self) -> None:
        """`show table` has each entry with its peer; `set table` says that it needs one."""

        def ask(line: str) -> str:
            (words,) = split_commands(line)
            return "".join(runtime_commands(self.hub).answer(words))

        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        lines = ask("show table t key 1").splitlines()
        self.assertIn("used:2", lines[0])
        self.assertEqual([line[-6:] for line in lines[1:]], ["peer=a", "peer=b"])
        self.assertIn("expected one of a, b", ask("set table t key 1 data.gpc0 1"))
        ask("clear table t data.gpc0 eq 2")
        self.assertEqual(self.shares(), {(1, "a"): 1})

    def test_columns_are_united(self) -> None:
        """All shares store what any of the peers stores."""
        self.network.stop()
        self.network = MemoryNetwork()
        hub = self.network.peer("h")
        hub.share("t", per_peer=True)
        one = self.network.peer("a", {"t": "type integer size 1k expire 1m store gpc0"}, calls="h")
        other = self.network.peer("b", {"t": "type integer size 1k store gpc0,gpt0"}, calls="h")
        self.apart("a", "b")
        one.table("t").set(1, gpc0=1)
        other.table("t").set(1, gpt0=2)
        self.network.start()
        self.network.advance(8)
        table = hub.table("t")
        self.assertEqual(
            {entry.peer: (entry["gpc0"], entry["gpt0"]) for entry in table},
            {"a": (1, 0), "b": (0, 2)},
        )
        self.assertEqual([peer.out_of_step() for peer in hub.peers.values()], [[], []])

    def test_each_has_to_teach(self) -> None:
        """The node is up to date when each peer has taught, or did not come for 5 s."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        self.hub.stopService()
        self.network.settle()
        del self.network.services["h"]
        again = self.network.peer("h", {"t": LINE}, calls="ab")
        again.share("t", per_peer=True)
        again.expect_peer("c")
        self.network.part("h", "b")
        self.network.start()
        self.network.advance(1)
        self.assertEqual(again.status().reason, "finished by a, and not by b, c")
        self.assertFalse(again.status().up_to_date)
        self.network.heal("h", "b")
        self.network.advance(3)
        self.assertEqual(again.status().reason, "finished by b, and not by c")
        self.assertEqual(len(again.table("t")), 2)
        self.network.advance(5)
        self.assertEqual(again.status().reason, "c did not teach within 5 s")
        self.assertTrue(again.status().up_to_date)

    def test_peer_is_removed(self) -> None:
        """A peer that is none any more has no share; one that comes under its name begins empty."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        share = self.table.contributions()["a"]
        self.hub.remove_peer("a")
        self.network.advance(1)
        self.assertEqual((list(self.table.contributions()), share.shared), (["b"], False))
        self.assertEqual(len(self.table), 0)
        self.hub.expect_peer("a")
        self.assertEqual(len(self.table), 0)
        self.network.advance(10)
        self.assertEqual(self.shares(), {(1, "a"): 1})

    def test_shared_anew(self) -> None:
        """A table that was shared with all begins anew when it is to be shared per peer, and the
        other way round."""
        self.hub.share("t")
        self.network.advance(2)
        table = self.hub.table("t")
        self.assertFalse(self.table.shared)
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        self.assertEqual((self.values(self.b), len(table)), ({}, 1))
        self.hub.share("t", per_peer=True)
        self.network.advance(2)
        self.assertEqual({entry.peer: entry["gpc0"] for entry in self.hub.table("t")}, {"a": 1})

    def test_records(self) -> None:
        """Records know their peer, and go back into its share."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        records, before = list(self.table.records()), self.shares()
        self.table.clear()
        self.assertEqual(self.table.restore(records), 2)
        self.assertEqual(self.shares(), before)

    def test_hand_over(self) -> None:
        """A new process of our own name has every share, also that of a peer that is away."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        self.network.part("h", "b")
        self.network.advance(1)
        new = self.hub_again(expect_old=True)
        new.share("t", per_peer=True)
        new.startService()
        self.addCleanup(new.stopService)
        done = self.hub.stop_softly(self.network.client("h", "h"))
        self.network.advance(2)
        self.assertTrue(self.successResultOf(done))
        self.hub.stopService()
        self.network.services["h"] = new
        shares = {(entry.key, entry.peer): entry["gpc0"] for entry in new.table("t")}
        self.assertEqual(shares, {(1, "a"): 1, (1, "b"): 2})
        self.network.advance(6)
        self.a.table("t").set(1, gpc0=3)
        self.network.advance(1)
        shares = {(entry.key, entry.peer): entry["gpc0"] for entry in new.table("t")}
        self.assertEqual(shares, {(1, "a"): 3, (1, "b"): 2})

    def test_hand_over_of_shares_declared_alike(self) -> None:
        """Shares are told from each other in a hand-over, though they are declared alike."""
        with MemoryNetwork() as other:
            table = other.peer("x", {"t": LINE}).table("t")
            table.set(1, gpc0=1)
            (record,) = table.records()
        hubs = []
        for expect_old in (False, True):
            hub = self.hub_again("hub", "abc", expect_old)
            hub.share("t", per_peer=True)
            hubs.append(hub)
        old, new = hubs
        old.startService()
        for name in "ac":
            old.table("t").restore([attrs.evolve(record, peer=name, raw_key=name.encode() * 4)])
        before = [(entry.raw_key, entry.peer) for entry in old.table("t")]
        new.startService()
        self.addCleanup(new.stopService)
        done = old.stop_softly(self.network.client("hub", "hub"))
        self.network.advance(2)
        self.assertTrue(self.successResultOf(done))
        old.stopService()
        self.assertEqual([(entry.raw_key, entry.peer) for entry in new.table("t")], before)
        self.assertEqual(before, [(b"aaaa", "a"), (b"cccc", "c")])

    def test_late_peer(self) -> None:
        """A peer that comes when the node counts itself up to date without it is asked then."""
        self.a.table("t").set(1, gpc0=1)
        self.b.table("t").set(2, gpc0=2)
        self.network.advance(1)
        self.hub.stopService()
        self.network.settle()
        self.network.part("h", "b")
        new = self.network.services["h"] = self.hub_again()
        new.share("t", per_peer=True)
        new.startService()
        self.network.advance(12)
        self.assertTrue(new.status().up_to_date)
        self.assertEqual(len(new.table("t")), 1)
        self.network.heal("h", "b")
        self.network.advance(10)
        shares = {(entry.key, entry.peer): entry["gpc0"] for entry in new.table("t")}
        self.assertEqual(shares, {(1, "a"): 1, (2, "b"): 2})

    def test_forgotten_before_it_came(self) -> None:
        """A peer that was never there hears what was forgotten meanwhile; it has a share as soon
        as it is a peer."""
        self.network.part("h", "b")
        self.network.advance(1)
        late = self.network.peer("z", {"t": LINE}, calls=[])
        late.table("t").set(1, gpc0=9)
        self.assertEqual(sorted(self.table.contributions()), ["a", "b", "z"])
        self.table.forget(1)
        late.add_peer("h", self.network.client("h", "z"))
        self.network.start()
        self.network.advance(6)
        self.assertEqual((self.shares(), self.values(late)), ({}, {}))

    def test_no_share_of_strangers(self) -> None:
        """Nobody who is no peer has a share, whoever looks, and whatever is restored."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        (record,) = self.table.records()
        peer = self.hub.peers["a"]
        self.hub.remove_peer("a")
        peer.status()
        self.assertEqual(self.table.restore([record]), 0)
        self.assertEqual(list(self.table.contributions()), ["b"])

    def hand_over(self, new: StickTableService) -> None:
        new.startService()
        self.addCleanup(new.stopService)
        done = self.hub.stop_softly(self.network.client("h", "h"))
        self.network.advance(2)
        self.assertTrue(self.successResultOf(done))
        self.hub.stopService()
        self.network.services["h"] = new
        self.network.advance(10)

    def test_hand_over_to_other_rules(self) -> None:
        """A new process that shares a table otherwise learns it from the peers; nothing of the old
        one is taken for a table of its own."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        new = self.hub_again(expect_old=True)
        self.hand_over(new)
        self.assertEqual([table.name for table in new.tables], ["t"])
        self.assertEqual(self.values(new), {1: 1})

    def test_hand_over_to_shares(self) -> None:
        """The same where the old process shared it with all, and the new one per peer."""
        self.hub.share("t")
        self.network.advance(2)
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        new = self.hub_again(expect_old=True)
        new.share("t", per_peer=True)
        self.hand_over(new)
        shares = {(entry.key, entry.peer): entry["gpc0"] for entry in new.table("t")}
        self.assertEqual(shares, {(1, "a"): 1})

    def test_hand_over_of_tombstones(self) -> None:
        """What was forgotten stays forgotten, also for a peer that was away."""
        self.hub.share("t")
        self.network.advance(2)
        self.hub.table("t").set(1, gpc0=1)
        self.network.advance(1)
        self.network.part("h", "b")
        self.hub.table("t").forget(1)
        self.network.advance(1)
        new = self.hub_again(expect_old=True)
        self.hand_over(new)
        self.assertEqual(new.table("t").status().tombstones, 1)
        self.network.heal("h", "b")
        self.network.advance(6)
        self.assertEqual((self.values(new), self.values(self.b)), ({}, {}))

    def test_delivered(self) -> None:
        """What was set for one peer is delivered when that one has acked it."""
        self.table.set(1, gpc0=5, peer="a")
        delivered = self.hub.when_delivered()
        self.network.advance(1)
        self.successResultOf(delivered)

    def test_expires(self) -> None:
        """Entries of shares expire, and their memory is given back."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(70)
        self.assertEqual((len(self.table), self.shares()), (0, {}))


class OneWayTests(SharingTestCase):
    def test_not_learnt(self) -> None:
        """What peers send of a table that is not learnt is acked and dropped; they get ours."""
        here, there = self.peers("ab")
        here.share("t", learn=False)
        self.network.start()
        self.network.advance(6)
        here.table("t").set(1, gpc0=1)
        there.table("t").set(1, gpc0=2)
        there.table("t").set(2, gpc0=2)
        self.network.advance(1)
        self.assertEqual(self.values(here), {1: 1})
        here.table("t").set(1, gpc0=3)
        self.network.advance(1)
        self.assertEqual((self.values(here), self.values(there)), ({1: 3}, {1: 3, 2: 2}))
        for service in (here, there):
            self.assertEqual([one.out_of_step() for one in service.peers.values()], [[]])
        here.share("t")
        self.network.advance(2)
        self.assertEqual(self.values(here), {1: 3, 2: 2})

    def test_never_adopted(self) -> None:
        """A table that is not learnt is not adopted, whatever peers define."""
        here = self.network.peer("a", learn_tables=True)
        here.share("t", learn=False)
        there = self.network.peer("b", {"t": LINE})
        self.network.start()
        self.network.advance(6)
        there.table("t").set(1, gpc0=2)
        self.network.advance(1)
        self.assertEqual(here.tables, [])
        self.assertIn("not learnt", here.peers["b"].out_of_step()[0])

    def test_not_taught(self) -> None:
        """What is not taught is learnt, and neither sent nor taught."""
        here, there = self.peers("ab")
        here.share("t", teach=False)
        self.network.start()
        self.network.advance(6)
        here.table("t").set(1, gpc0=1)
        there.table("t").set(2, gpc0=2)
        self.network.advance(1)
        there.add_table(there.table("t").declaration.parse("more", "type ip size 1k"))
        self.network.advance(2)
        self.assertEqual((self.values(here), self.values(there)), ({1: 1, 2: 2}, {2: 2}))
        for service in (here, there):
            reasons = [one.out_of_step() for one in service.peers.values()]
            self.assertNotIn("yet to ack", str(reasons))
        self.successResultOf(here.when_delivered())

    def test_one_after_the_other(self) -> None:
        """A table goes to a peer only while nothing of the other one waits, also when that is
        more than fits in at once."""
        tables = {"first": LINE, "then": LINE}
        here = self.network.peer("a", tables)
        there = self.network.peer("b", tables)
        here.share("then", after="first")
        self.network.start()
        self.network.advance(6)
        seen: list[tuple[int, int]] = []
        (connection,) = self.network.between("a", "b")
        connection.stall("a")
        for number in range(1, 3001):
            here.table("first").set(number, gpc0=1)
            if number % 100 == 0:
                here.table("then").set(1, gpc0=number)
        connection.flow("a")
        self.network.pace = 500
        for _ in range(400):
            self.network.advance(0.001)
            then = there.table("then").get(1)
            seen.append((len(there.table("first")), 0 if then is None else then.number("gpc0")))
        self.network.pace = None
        self.network.advance(1)
        self.assertEqual(seen[-1], (3000, 3000))
        self.assertGreater(len(set(seen)), 20)
        for first, then_first in seen:
            self.assertLessEqual(then_first, first)

    def test_after_what_is_not_sent(self) -> None:
        """A table does not wait for one that is not sent at all."""
        here = self.network.peer("a", {"first": LINE, "then": LINE})
        there = self.network.peer("b", {"first": LINE, "then": LINE})
        here.share("first", teach=False)
        here.share("then", after="first")
        self.network.start()
        self.network.advance(6)
        here.table("first").set(1, gpc0=1)
        here.table("then").set(1, gpc0=1)
        self.network.advance(1)
        self.assertEqual([len(there.table(name)) for name in ("first", "then")], [0, 1])

    def test_circles(self) -> None:
        """Tables that would wait for each other are refused, and so is a table for itself."""
        (here,) = self.peers("a")
        here.share("b", after="c")
        here.share("c", after="d")
        for name in "cd":
            problem = self.assertRaises(LocalProtocolError, here.share, name, after="b")
            self.assertIn("no circle", str(problem))
        self.assertRaises(LocalProtocolError, here.share, "b", after="b")
        self.assertRaises(LocalProtocolError, here.share, "b", per_peer=True, relay=True)


class RelayTests(SharingTestCase):
    """A hub whose peers do not know each other."""

    def setUp(self) -> None:
        super().setUp()
        self.hub, self.a, self.b, self.c = self.peers("mabc")
        self.hub.share("t", relay=True)
        self.apart("a", "b", "c")
        self.network.start()
        self.network.advance(6)
        self.others = (self.a, self.b, self.c)

    def updates(self) -> list[tuple[int, int]]:
        """How many updates the hub has sent to each, and had from it."""
        counters = [self.hub.peers[name].counters for name in "abc"]
        return [(one.tx_updates, one.rx_updates) for one in counters]

    def in_step(self) -> bool:
        services = (self.hub, *self.others)
        return not any(peer.out_of_step() for one in services for peer in one.peers.values())

    def test_passed_on(self) -> None:
        """What one says comes to all others, and not to itself."""
        self.a.table("t").set(1, gpc0=1, server_key="s1")
        self.network.advance(0)
        for service in (self.hub, *self.others):
            entry = service.table("t")[1]
            self.assertEqual((entry["gpc0"], entry["server_key"]), (1, "s1"))
        self.assertEqual(self.updates(), [(0, 1), (1, 0), (1, 0)])
        self.network.advance(1)
        self.assertTrue(self.in_step())
        self.b.table("t").set(1, gpc0=2)
        self.network.advance(1)
        self.assertEqual([self.values(one) for one in self.others], [{1: 2}] * 3)
        self.assertEqual(self.updates(), [(1, 1), (1, 1), (2, 0)])

    def test_one_counts_on(self) -> None:
        """A peer that goes on changing what it said is believed each time."""
        for _ in range(19):
            self.a.table("t").count(1, gpc0=1)
            self.network.advance(0.01)
        self.network.advance(1)
        self.assertEqual([self.values(one) for one in (self.hub, *self.others)], [{1: 19}] * 4)
        self.assertEqual(self.updates()[0], (0, 19))
        self.assertTrue(self.in_step())

    def test_peer_was_away(self) -> None:
        """A peer that was away gets what others have said, and nothing of what it said."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        self.network.part("m", "a")
        self.b.table("t").set(1, gpt0=2)
        self.b.table("t").set(2, gpc0=5)
        self.network.advance(1)
        self.network.heal("m", "a")
        self.network.advance(5)
        self.assertEqual(self.values(self.a), {1: 1, 2: 5})
        self.assertEqual(self.a.table("t")[1]["gpt0"], 2)

    def test_nothing_new(self) -> None:
        """What changes nothing is not passed on; what makes a life longer is."""
        self.a.table("t").set(1, gpc0=1, http_req_rate=3)
        self.network.advance(0.5)
        before = self.updates()
        self.b.table("t").set(1, gpc0=1)
        self.network.advance(0.1)
        self.assertEqual(self.updates(), [before[0], (1, 1), before[2]])
        self.network.advance(3)
        self.b.table("t").set(1, gpc0=1)
        self.network.advance(0.5)
        self.assertEqual(self.a.table("t")[1].expires_in, 59_500)
        self.assertEqual(self.updates()[0][0], before[0][0] + 1)

    def test_lessons(self) -> None:
        """Of a lesson, only what was not known here is passed on."""
        self.hub.remove_peer("c")
        with MemoryNetwork() as other:
            # What is nobody's own change is told in lessons alone.
            table = other.peer("x", {"t": LINE}).table("t")
            table.set(1, gpc0=1)
            self.hub.table("t").restore(table.records())
            other.advance(1)
            for key in (1, 2):
                table.set(key, gpc0=7)
            self.c.table("t").restore(table.records())
        self.hub.expect_peer("c")
        self.network.advance(10)
        self.assertEqual(self.values(self.hub), {1: 7, 2: 7})
        self.assertEqual([self.values(one) for one in (self.a, self.b)], [{2: 7}] * 2)

    def test_forgotten(self) -> None:
        """That an entry is forgotten is passed on, though its life is over."""
        for service in self.others:
            service.table("t").set(1, gpc0=1)
            self.network.advance(1)
        self.a.table("t").forget(1)
        self.network.advance(1)
        self.assertEqual([self.values(one) for one in (self.hub, *self.others)], [{}] * 4)
        self.assertTrue(self.in_step())

    def test_forgotten_while_away(self) -> None:
        """A peer that was away hears of it as long as the entry would have lived; observers of the
        relay hear at once."""
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        self.network.part("m", "c")
        feed = self.hub.feed(["t"])
        self.a.table("t").forget(1)
        self.network.advance(1)
        self.assertEqual([one.cause.value for one in feed.take()], ["forgotten"])
        self.assertEqual(self.hub.table("t").status().tombstones, 1)
        self.network.advance(5)
        self.network.heal("m", "c")
        self.network.advance(5)
        self.assertEqual(self.values(self.c), {})

    def test_three_hubs(self) -> None:
        """What is forgotten, set or cleared goes round a ring of relays once."""
        with MemoryNetwork() as network:
            hubs = [network.peer(name, {"t": LINE}) for name in "mno"]
            leaf = network.peer("a", {"t": LINE}, calls="m")
            for hub in hubs:
                hub.share("t", relay=True)
                if hub is not hubs[0]:
                    hub.remove_peer("a")
                    leaf.remove_peer(hub.localpeer)
            network.start()
            network.advance(6)
            leaf.table("t").set(1, gpc0=1)
            network.advance(1)
            self.assertEqual([len(one.table("t")) for one in hubs], [1, 1, 1])
            leaf.table("t").forget(1)
            network.advance(1)
            self.assertEqual([len(one.table("t")) for one in hubs], [0, 0, 0])
            sent = sum(p.counters.tx_updates for one in hubs for p in one.peers.values())
            self.assertLess(sent, 30)

    def test_cleared_text(self) -> None:
        """A text that is cleared is cleared at the others."""
        self.a.table("t").set(1, server_key="s1")
        self.network.advance(1)
        self.a.table("t").set(1, gpc0=2, server_key=None)
        self.network.advance(1)
        entry = self.b.table("t")[1]
        self.assertEqual((entry["gpc0"], entry["server_key"]), (2, None))

    def test_ours_at_the_same_time(self) -> None:
        """A change of the relay's own is not lost in one that a peer has made before it read it."""
        raw = self.network.raw_peer("z", "m")
        self.network.advance(2)
        declaration = self.hub.table("t").declaration
        raw.define(declaration)
        self.network.advance(0)
        self.hub.table("t").set(1, gpc0=5)
        columns = {"gpc0": 1, "gpt0": 2, "server_key": None, "http_req_rate": (0, 0, 0)}
        raw.update(1, columns, 1)
        self.network.advance(1)
        entry = self.hub.table("t")[1]
        self.assertEqual((entry["gpc0"], entry["gpt0"]), (5, 2))
        self.assertIn(5, [update.values.get("gpc0") for update in raw.updates])
        self.assertEqual(self.values(self.a), {1: 5})
        self.assertEqual(self.a.table("t")[1]["gpt0"], 2)

    def test_whom(self) -> None:
        """A function tells to whom what one says goes."""
        self.hub.share("t", relay=lambda source, target: (source, target) != ("a", "b"))
        self.a.table("t").set(1, gpc0=1)
        self.network.advance(1)
        self.assertEqual([self.values(one) for one in self.others], [{1: 1}, {}, {1: 1}])
        self.c.table("t").set(1, gpt0=1)
        self.network.advance(1)
        self.assertEqual(self.b.table("t")[1]["gpt0"], 1)

    def test_ties(self) -> None:
        """Several that change the same at once: all have the same in the end, and it is quiet."""
        for number, service in enumerate(self.others, 1):
            service.table("t").set(1, gpc0=number)
        self.network.advance(2)
        self.assertEqual(len({self.values(one)[1] for one in (self.hub, *self.others)}), 1)
        before = self.updates()
        self.network.advance(10)
        self.assertEqual(self.updates(), before)
        self.assertTrue(self.in_step())

    def test_two_hubs(self) -> None:
        """Two hubs that know each other and have the same peers stay quiet."""
        self.network.stop()
        self.network = MemoryNetwork()
        hubs = "mn"
        services = {name: self.network.peer(name, {"t": LINE}) for name in "mnabc"}
        self.apart("a", "b", "c")

        def passes(source: str, target: str) -> bool:
            return not (source in hubs and target in hubs)

        for name in hubs:
            services[name].share("t", relay=passes)
        self.network.start()
        self.network.advance(6)
        for number in range(30):
            services["abc"[number % 3]].table("t").count(number % 4, gpc0=1)
            self.network.advance((0, 0.001, 0.3)[number % 3])
        self.network.advance(2)

        def sent() -> list[int]:
            return [
                peer.counters.tx_updates
                for service in services.values()
                for peer in service.peers.values()
            ]

        before = sent()
        self.network.advance(30)
        self.assertEqual(sent(), before)
        self.assertEqual(len({str(self.values(one)) for one in services.values()}), 1)
        for service in services.values():
            reasons = [one.out_of_step() for one in service.peers.values() if one.connected]
            self.assertFalse(any(reasons), reasons)

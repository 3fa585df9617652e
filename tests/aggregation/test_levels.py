"""Aggregates of aggregates: one for a site, by either of two nodes, one above, and down again."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration, StickTable, StickTableService
from peerproto.aggregation.lease import KEY
from peerproto.aggregation.lease import LINE as LEASE
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.runtime.protocol import runtime_commands
from peerproto.runtime.words import split_commands
from peerproto.testing import MemoryNetwork

LINE = "type integer size 1k expire 1m store gpc0,gpt(1)"
SITE = {"t.site": f"{LINE[:-6]}gpt(2)"}

CONNECTED = ({"a", "s1"}, {"a", "s2"}, {"s1", "u"}, {"s2", "u"}, {"b", "r"}, {"r", "u"})
"""Who knows whom: ``a`` is of a site with a pair, ``b`` of one with a node, ``u`` is above."""

UP = Rules(
    "t.site",
    "t.global",
    ("s1|s2", "r"),
    ("s1|s2", "r"),
    lease="t.global.lease",
    source_lease="t.site.lease",
)


def down(number: int) -> Rules:
    """What HAProxies get of what is above."""
    return Rules(
        "t.global",
        f"t.all{number}",
        ("u",),
        ("u",),
        lease=f"t.all{number}.lease",
        source_lease="t.global.lease",
    )


class LevelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.aggregations: dict[str, Aggregation] = {}
        self.a, self.b = self.source("a"), self.source("b")
        for number, name, source in ((1, "s1", "a"), (2, "s2", "a"), (1, "r", "b")):
            rules = Rules("t", "t.site", (source,), (source,), lease="t.site.lease")
            self.node(name, {"t": LINE}, rules, down(number))
        self.node("u", SITE, UP)
        for name, service in self.network.services.items():
            for stranger in [one for one in service.peers if {name, one} not in CONNECTED]:
                service.remove_peer(stranger)
        self.network.start()
        self.network.advance(12)

    def source(self, name: str) -> StickTableService:
        """A peer that stands for a HAProxy."""
        tables = {"t": LINE}
        for number in (1, 2):
            tables[f"t.all{number}"] = f"{LINE[:-6]}gpt(2)"
            tables[f"t.all{number}.lease"] = LEASE
        return self.network.peer(name, tables, learn_tables=False)

    def node(self, name: str, tables: dict[str, str], *rules: Rules) -> None:
        service = self.network.peer(name, tables, learn_tables=False)
        if name != "u":
            for table, line in (*SITE.items(), ("t.global", f"{LINE[:-6]}gpt(2)")):
                if table not in tables:
                    service.add_table(Declaration.parse(table, line))
        aggregation = self.aggregations[name] = Aggregation(service, rules, self.network.clock)
        aggregation.startService()
        self.addCleanup(aggregation.stopService)

    def values(self, service: StickTableService, table: str) -> dict[Any, tuple[Any, Any]]:
        """The counts and tags of a table, by key."""
        return {one.key: (one["gpc0"], one["gpt[0]"]) for one in service.table(table)}

    def left(self, service: StickTableService, table: str) -> int:
        """For how many ms the lease in a table holds; 0 if it is over."""
        return self.holds_for(service.table(table))

    def holds_for(self, table: StickTable) -> int:
        entry = table.get(KEY)
        if entry is None:
            return 0
        left = (entry.number("gpt[1]") - round(self.network.wall_clock() * 1000)) % 2**32
        return left if left <= 1500 else 0

    def ask(self, name: str, command: str) -> str:
        commands = runtime_commands(self.network.services[name])
        return "".join(commands.answer(split_commands(command)[0]))

    def test_up_and_down(self) -> None:
        """Each site counts for itself, and HAProxies get the sum of all by each node of theirs; a
        client is counted once, though two nodes of a site tell of it."""
        self.a.table("t").set(1, {"gpc0": 3, "gpt[0]": 7})
        self.network.advance(0.1)
        self.b.table("t").set(1, {"gpc0": 4})
        self.b.table("t").set(2, {"gpc0": 5, "gpt[0]": 8})
        self.network.advance(1)
        both = {1: (7, 0), 2: (5, 8)}
        self.assertEqual(self.values(self.network.services["u"], "t.global"), both)
        self.assertEqual(self.values(self.a, "t.all1"), both)
        self.assertEqual(self.values(self.a, "t.all2"), both)
        self.assertEqual(self.values(self.b, "t.all1"), both)
        lease = self.a.table("t.all1.lease")[KEY]
        self.assertEqual(lease["gpt[3]"], 2)
        numbers = {one["gpt[1]"] for one in self.a.table("t.all1")}
        self.assertEqual(numbers, {lease["gpt[2]"]})

    def test_no_longer_than_below(self) -> None:
        """What is above is vouched for no longer than what it is made of, and, whenever the nodes
        renew their leases, long enough for each on the way to be late by some 100 ms."""
        for name, late in (("u", 0.24), ("s1", 0.24)):
            self.aggregations[name].stopService()
            self.network.advance(late)
            self.aggregations[name].startService()
        self.network.advance(3)
        upper = self.network.services["u"]
        for _ in range(40):
            self.network.advance(0.05)
            leases = upper.table("t.site.lease").contributions()
            least = min(
                max(self.left_of(one) for one in pair)
                for pair in ((leases["s1"], leases["s2"]), (leases["r"],))
            )
            self.assertLessEqual(self.left(upper, "t.global.lease"), least + 1)
            self.assertGreater(self.left(self.a, "t.all1.lease"), 600)

    def test_not_without_one_below(self) -> None:
        """From the moment at which a lease below is over, what is above is vouched for with another
        one of that site, or not at all, whenever the nodes renew theirs."""
        upper = self.network.services["u"]
        leases = upper.table("t.site.lease").contributions()
        sources = self.aggregations["u"].aggregates["t.site"].sources
        for site in (("s1", "s2"), ("r",)):
            for late in (0.02, 0.05, 0.08):
                (silent,) = set(sources.names()) & set(site)
                # The node looks at all when a peer goes, and from then on again and again.
                upper.expect_peer("x")
                self.network.advance(late)
                upper.remove_peer("x")
                for connection in self.network.between(silent, "u"):
                    connection.stall(silent)
                self.network.advance(0.7)
                for _ in range(40):
                    self.network.advance(0.01)
                    most = max(self.holds_for(leases[one]) for one in site)
                    left = self.left(upper, "t.global.lease")
                    self.assertLessEqual(left, most, (silent, late))
                    if left:
                        self.assertEqual(upper.table("t.global.lease")[KEY]["gpt[3]"], 2)
                for connection in self.network.between(silent, "u"):
                    connection.flow(silent)
                self.network.advance(9)

    def left_of(self, share: Any) -> int:
        entry = share.get(KEY)
        assert entry is not None
        return int((entry["gpt[1]"] - round(self.network.wall_clock() * 1000)) % 2**32)

    def test_one_of_a_pair_goes(self) -> None:
        """The other one is added up: nothing is missing, and the lease holds."""
        self.a.table("t").set(1, {"gpc0": 3})
        self.network.advance(1)
        self.network.services["s1"].stopService()
        self.network.advance(0.5)
        self.a.table("t").set(1, {"gpc0": 9})
        self.b.table("t").set(1, {"gpc0": 1})
        self.network.advance(0.5)
        self.assertEqual(self.values(self.b, "t.all1"), {1: (10, 0)})
        self.assertGreater(self.left(self.b, "t.all1.lease"), 0)
        shown = self.ask("u", "show aggregate t.site")
        self.assertIn("s1: not connected, expected=yes", shown)
        self.assertIn("s2: in for", shown)
        self.network.services["s1"].startService()
        self.network.advance(12)
        self.assertIn("s1: in reserve", self.ask("u", "show aggregate t.site"))
        self.assertIn("s2: in for", self.ask("u", "show aggregate t.site"))
        self.assertEqual(self.values(self.b, "t.all1"), {1: (10, 0)})

    def test_chosen_one_is_removed(self) -> None:
        """Of a pair, the one that is added up may be no peer any more while the other one is
        gone: what that one has said counts, as of any source that is missing."""
        self.a.table("t").set(1, {"gpc0": 3})
        self.network.advance(1)
        self.network.services["s2"].stopService()
        self.network.advance(0.5)
        self.network.services["u"].remove_peer("s1")
        self.network.advance(15)
        self.assertEqual(self.values(self.b, "t.all1"), {1: (3, 0)})
        self.assertGreater(self.left(self.b, "t.all1.lease"), 0)

    def test_vouches_for_nothing(self) -> None:
        """A node that has lost its source vouches for nothing: it is as if it were gone."""
        self.network.part("b", "r")
        self.network.advance(2)
        self.assertIn("r: vouches for nothing", self.ask("u", "show aggregate t.site"))
        self.assertIn("authority: no (r missing)", self.ask("u", "show aggregate t.site"))
        self.assertEqual(self.left(self.a, "t.all1.lease"), 0)

"""An aggregate among peers in memory that do not know each other."""

from __future__ import annotations

import re

import attrs

from peerproto import Frequency
from peerproto.aggregation.authority import Authority
from peerproto.aggregation.sources import Sources
from tests.aggregation.fleet import RULES, AggregateTestCase


class SumTests(AggregateTestCase):
    def test_counts_of_two(self) -> None:
        """Both sources get the sum of what each counts, and each keeps its own counts."""
        self.begin()
        self.a.table("t").count(1, gpc0=3, http_req_rate=3)
        self.b.table("t").count(1, gpc0=4, http_req_rate=4)
        self.b.table("t").count(2, gpc0=5)
        self.network.advance(0.1)
        for one in (self.a, self.b):
            self.assertEqual(self.sums(one), {1: 7, 2: 5})
            self.assertEqual(self.sums(one, "http_req_rate"), {1: 7, 2: 0})
        self.assertEqual([entry["gpc0"] for entry in self.a.table("t")], [3])
        self.a.table("t").count(1, gpc0=1)
        self.network.advance(0.1)
        self.assertEqual(self.sums(self.b), {1: 8, 2: 5})

    def test_output_is_no_input(self) -> None:
        """What a peer says of the output is not taken."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.network.advance(0.1)
        self.b.table("t.sum").set(1, gpc0=99)
        self.network.advance(0.1)
        self.assertEqual(self.sums(self.hub), {1: 3})

    def test_rates_fall(self) -> None:
        """A rate is read as the sum of what its sources read, though none of them says more."""
        self.begin()
        self.a.table("t").count(1, http_req_rate=100)
        self.network.advance(4)
        self.b.table("t").count(1, http_req_rate=50)
        for _ in range(50):
            self.network.advance(0.5)
            alone = sum(one.table("t")[1].number("http_req_rate") for one in (self.a, self.b))
            together = self.b.table("t.sum")[1].number("http_req_rate")
            self.assertLessEqual(abs(alone - together), max(2, alone / 100))
        self.assertEqual(together, 0)
        before = self.aggregation.aggregates["t"].published.total
        self.network.advance(20)
        self.assertEqual(self.aggregation.aggregates["t"].published.total, before)

    def test_paced(self) -> None:
        """The first change of a key goes at once, the next ones within an interval together."""
        self.begin()
        aggregate = self.aggregation.aggregates["t"]
        self.a.table("t").count(1, gpc0=1)
        self.network.settle()
        self.assertEqual(self.sums(self.b), {1: 1})
        before = aggregate.published.total
        for _ in range(5):
            self.a.table("t").count(1, gpc0=1)
            self.network.settle()
        self.assertEqual((self.sums(self.b), aggregate.published.total), ({1: 1}, before))
        self.network.advance(0.025)
        self.assertEqual((self.sums(self.b), aggregate.published.total), ({1: 6}, before + 1))

    def test_expiry(self) -> None:
        """A share that has expired leaves the sum; the sum goes with the last."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.network.advance(40)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        self.assertEqual(self.sums(self.b), {1: 7})
        self.network.advance(25)
        self.assertEqual(self.sums(self.b), {1: 4})
        left = self.b.table("t.sum")[1].expires_in
        assert left is not None
        self.assertTrue(30_000 < left < 36_000, left)
        self.network.advance(36)
        self.assertEqual((self.sums(self.b), self.sums(self.hub)), ({}, {}))

    def test_removed_before_its_time(self) -> None:
        """What is forgotten of all sources is gone from the sum, too."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.network.advance(0.1)
        self.hub.table("t").forget(1)
        self.network.advance(0.1)
        self.assertEqual((self.sums(self.b), self.sums(self.hub)), ({}, {}))

    def test_current_connections(self) -> None:
        """The current connections of a peer that has departed count for the grace."""
        self.begin()
        self.a.table("t").set(1, conn_cur=3)
        self.b.table("t").set(1, conn_cur=4)
        self.network.advance(0.1)
        self.assertEqual(self.sums(self.b, "conn_cur"), {1: 7})
        self.a.stopService()
        self.network.advance(9)
        self.assertEqual(self.sums(self.b, "conn_cur"), {1: 7})
        self.network.advance(2)
        self.assertEqual(self.sums(self.b, "conn_cur"), {1: 4})
        self.assertEqual(self.sums(self.b), {1: 0})

    def test_many(self) -> None:
        """Many keys are published in slices, all of them."""
        self.begin()
        self.a.table("t").update({key: {"gpc0": 1} for key in range(1000)})
        self.b.table("t").update({key: {"gpc0": 2} for key in range(500, 1500)})
        self.network.advance(1)
        sums = self.sums(self.a)
        self.assertEqual(len(sums), 1500)
        self.assertEqual((sums[0], sums[700], sums[1400]), (1, 3, 2))
        aggregate = self.aggregation.aggregates["t"]
        self.assertEqual((aggregate.lag(), aggregate.waiting, aggregate.keys()), (0, 0, 1500))


class StartTests(AggregateTestCase):
    def test_waits_for_all(self) -> None:
        """Nothing is published before each expected peer has taught; then all is."""
        self.a.table("t").set(1, gpc0=3)
        self.b.table("t").set(1, gpc0=4)
        self.b.stopService()
        self.network.advance(0.5)
        self.hub.startService()
        self.a.startService()
        self.network.advance(3)
        self.assertEqual(self.sums(self.a), {})
        self.assertIn("authority: no (it waits for b)", self.ask("show aggregate t"))
        self.assertIn("it waits for b", " ".join(self.hub.not_ready()))
        (detail,) = self.hub.parts.details()["aggregation"]
        self.assertEqual((detail.reads, detail.not_ready), ("t", "it waits for b"))
        self.assertEqual(
            {one.name: (one.is_in, one.state) for one in detail.members},
            {"a": (False, "may have yet to get back what it had"), "b": (False, "not connected")},
        )
        self.b.startService()
        self.network.advance(6)
        self.assertEqual(self.sums(self.a), {1: 7})
        self.assertIn("authority: yes", self.ask("show aggregate"))
        (detail,) = self.hub.parts.details()["aggregation"]
        self.assertIsNone(detail.not_ready)
        self.assertEqual([one.is_in for one in detail.members], [True, True])

    def test_looks_again(self) -> None:
        """When it is looked again who has taught does not depend on how often that is asked, as it
        is after each change."""
        authority = Authority(self.hub, RULES, Sources(self.hub, RULES))
        authority.begin(self.hub.now())
        authority.look(self.hub.now())
        due = authority.next_due
        for _ in range(15):
            self.network.advance(0.01)
            self.assertEqual(authority.next_due, due)

    def test_waits_no_longer(self) -> None:
        """Who does not come within the time is waited for no more."""
        self.a.table("t").set(1, gpc0=3)
        self.hub.startService()
        self.a.startService()
        self.network.advance(9.5)
        self.assertEqual(self.sums(self.a), {})
        self.network.advance(1)
        self.assertEqual(self.sums(self.a), {1: 3})

    def test_missing(self) -> None:
        """Without an expected peer there is no authority for the grace; then there is, with what
        the peer had."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        self.a.stopService()
        self.network.advance(0.1)
        self.assertIn("authority: no (a missing)", self.ask("show aggregate t"))
        self.network.advance(11)
        answer = self.ask("show aggregate t")
        self.assertIn("authority: yes", answer)
        self.assertIn("  a: not connected, expected=yes, entries=1\n", answer)
        self.assertEqual(self.sums(self.b), {1: 7})

    def test_comes_back_from_zero(self) -> None:
        """A source that comes back empty is taught its own counts, and counts on from them."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        self.a.stopService()
        self.network.settle()
        del self.network.services["a"]
        self.a = self.source("a")
        self.a.startService()
        self.network.advance(6)
        self.a.table("t").count(1, gpc0=1)
        self.network.advance(1)
        self.assertEqual(self.sums(self.b), {1: 8})


class PatternTests(AggregateTestCase):
    rules = attrs.evolve(RULES, sources=("a*",), expect=())

    def test_sources(self) -> None:
        """Only peers that fit are added up."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        self.assertEqual(self.sums(self.b), {1: 3})


class ShowTests(AggregateTestCase):
    def test_one_key(self) -> None:
        """The share of each source is shown beside the sum."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        answer = self.ask("show aggregate t key 1")
        lines = [line for line in answer.split("\n") if line]
        self.assertEqual([line.rpartition(" ")[2] for line in lines], ["peer=a", "peer=b", "sum"])
        self.assertEqual([line.count("gpc0=7") for line in lines], [0, 0, 1])
        self.assertIn("no sum", self.ask("show aggregate t key 2"))

    def test_since_when(self) -> None:
        """It is shown since when each source is in the sum, which is later than its session began,
        and since when the sum has authority, or has none."""

        def shown() -> list[int]:
            answer = self.ask("show aggregate t")
            found = re.findall(r"authority: .*, for: (\d+) s|in for (\d+) s", answer)
            return [int(one or other) for one, other in found]

        self.a.table("t").set(1, gpc0=3)
        self.b.stopService()
        self.hub.startService()
        self.a.startService()
        self.network.advance(4.5)
        self.assertEqual(shown(), [4])
        # It comes in when it was waited for long enough that it gets back what it had, after 5 s.
        self.network.advance(4)
        self.assertEqual(shown(), [8, 3])
        self.b.startService()
        self.network.advance(8.5)
        yes_for, a_for, b_for = shown()
        self.assertEqual(a_for, 12)
        self.assertEqual(yes_for, b_for)
        session = self.hub.peers["b"].status().handshake_ago
        assert session is not None
        self.assertLess(b_for, session // 1000)
        self.a.stopService()
        self.network.advance(3)
        self.assertEqual(shown(), [3, b_for + 3])
        self.network.advance(9)
        self.assertEqual(shown(), [2, b_for + 12])

    def test_wrong(self) -> None:
        """What cannot be shown is refused with what was expected."""
        self.begin()
        for command, expected in (
            ("show aggregate x", "expected one of t"),
            ("show aggregate t kex 1", "expected key <key>"),
            ("show aggregate t key x", "a decimal number"),
        ):
            self.assertIn(expected, self.ask(command))

    def test_part(self) -> None:
        """It says how it stands as a part of the node."""
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.network.advance(1)
        status = self.hub.status().parts["aggregation"]
        self.assertEqual(status, {"t.to": "t.sum", "t.keys": 1, "t.authority": True})
        values = {one.name: one.value for one in self.hub.parts.metrics()}
        self.assertEqual(values["peerproto_aggregate_authority"], 1)
        self.assertEqual(values["peerproto_aggregate_sources_in"], 2)
        self.assertEqual(values["peerproto_aggregate_sources"], 2)
        self.assertEqual(values["peerproto_aggregate_published_total"], 1)


class ChangeTests(AggregateTestCase):
    def test_come_and_go(self) -> None:
        """Aggregates come, change and go; sessions stay."""
        self.begin()
        sessions = [peer.counters.new_conn for peer in self.hub.peers.values()]
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        self.aggregation.take([attrs.evolve(RULES, sources=("a",), expect=())])
        self.network.advance(1)
        self.assertEqual(self.sums(self.b), {1: 3})
        self.aggregation.take([])
        self.network.advance(1)
        self.assertEqual(self.ask("show aggregate").strip(), "")
        self.aggregation.take([RULES])
        self.a.table("t").count(1, gpc0=1)
        self.network.advance(15)
        self.assertEqual(self.sums(self.b), {1: 8})
        after = [peer.counters.new_conn for peer in self.hub.peers.values()]
        self.assertEqual(after, sessions)

    def test_table_that_comes_later(self) -> None:
        """A table that nobody has defined yet is summed as soon as a peer defines it."""
        self.hub.remove_table("t")
        self.assertIn("nobody has defined table t", self.ask("show aggregate t"))
        self.begin()
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)
        self.assertEqual(self.sums(self.b), {1: 7})

    def test_more_columns(self) -> None:
        """A source that is declared anew with more columns is summed with them."""
        self.begin()
        self.hub.declare_table(
            attrs.evolve(
                self.hub.table("t").declaration,
                expire=50_000,
            )
        )
        self.network.advance(1)
        self.a.table("t").count(1, gpc0=3)
        self.network.advance(1)
        self.assertEqual(self.sums(self.b), {1: 3})
        self.assertEqual(self.hub.table("t.sum").declaration.expire, 50_000)

    def test_sum_of_rates_is_one_counter(self) -> None:
        """The sum of rates is one frequency counter of both sources' events."""
        self.begin()
        self.a.table("t").count(1, http_req_rate=2)
        self.b.table("t").count(1, http_req_rate=5)
        self.network.advance(0.1)
        counter = self.b.table("t.sum")[1].counter("http_req_rate")
        self.assertEqual(counter._replace(age=0), Frequency(0, 7, 0))

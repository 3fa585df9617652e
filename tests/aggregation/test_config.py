"""``[aggregate <table>]`` and ``[relay]`` of a peers.ini."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerproto.aggregation.relay import Relay
from peerproto.aggregation.rules import Rules
from peerproto.daemon.config import Config, ConfigError

START = """\
[node]
localpeer = hub
[peers]
hub = 127.0.0.1:1
lb1 = 127.0.0.1:2
lb2 = 127.0.0.1:3
edge = 127.0.0.1:4
[tables]
rates = type ip size 1m expire 1m store http_req_rate(10s)
slow = type ip size 1m expire 1m store http_req_rate(60s)
names = type string len 8 size 1m expire 1m store gpc0
plain = type ip size 1m expire 1m store http_req_rate(10s)
tags = type ip size 1m expire 1m store gpt(2)
sums = type ip size 1m expire 1m store gpt(2)
few = type ipv6 size 16 expire 2s store gpt(3)
long = type ipv6 size 16 expire 3s store gpt(4)
blocks = type ip size 1m expire 1m brates-factor 1k store http_req_rate(10s)
"""
FIRST = START.count("\n") + 1
"""The line after these."""


class AggregateConfigTests(SynchronousTestCase):
    def read(self, more: str) -> Config:
        return Config.parse("peers.ini", START + more)

    def refused(self, more: str, line: int, read: str, expected: str) -> None:
        problem = self.assertRaises(ConfigError, self.read, more)
        self.assertEqual((problem.line, problem.read), (FIRST + line, read))
        self.assertIn(expected, str(problem))

    def test_whole(self) -> None:
        """Every setting is read."""
        (rules,) = self.read(
            "[aggregate  rates ]\nto = rates.agg\nfrom = lb* edge\nexpect = lb1 edge\n"
            "interval = 5ms\ngrace = 3s\nexpect-timeout = 1m\ngpt = or\nlease = fresh\n"
        ).aggregates
        self.assertEqual(
            rules,
            Rules(
                "rates",
                "rates.agg",
                ("lb*", "edge"),
                ("lb1", "edge"),
                5,
                3000,
                60_000,
                "or",
                "fresh",
            ),
        )
        self.assertEqual(rules.of(["lb1", "x", "edge", "lb2"]), ["lb1", "edge", "lb2"])

    def test_least(self) -> None:
        """All remote peers are sources unless something is said; those that are named are
        expected."""
        (rules,) = self.read("[aggregate rates]\nto = sum\n").aggregates
        self.assertEqual(rules, Rules("rates", "sum"))
        (rules,) = self.read("[aggregate rates]\nto = sum\nfrom = lb1 e*\n").aggregates
        self.assertEqual(rules.expect, ("lb1",))
        self.assertEqual((self.read("").aggregates, self.read("").relay), ((), Relay()))

    def test_levels(self) -> None:
        """Of several peers one is added up; each of them is expected as long as none is in."""
        (rules,) = self.read(
            "[aggregate rates]\nto = sum\nfrom = edge|lb2 lb*\nsource-lease = below\n"
        ).aggregates
        self.assertEqual((rules.source_lease, rules.expect), ("below", ("edge|lb2",)))
        peers = ["lb1", "lb2", "edge", "other"]
        self.assertEqual(rules.words(peers), ["edge|lb2", "lb1"])
        self.assertEqual(rules.names(peers), ["edge", "lb2", "lb1"])
        self.assertEqual([rules.expects(one) for one in peers], [False, True, True, False])

    def test_refused(self) -> None:
        """What is wrong is refused with its line, what was read and what was expected."""
        begin = "[aggregate rates]\nto = sum\n"
        for more, line, read, expected in (
            ("[aggregate rates]\n", 0, "[aggregate rates]", "to = <table> in it"),
            ("[aggregate]\nto = sum\n", 0, "[aggregate]", "[aggregate <name>]"),
            ("[aggregate a b]\nto = sum\n", 0, "[aggregate a b]", "[aggregate <name>]"),
            ("[aggregate rates]\nto = rates\n", 1, "to = rates", "another table than its source"),
            (begin + "form = lb1\n", 2, "form = lb1", "one of to, from"),
            (begin + "from = lb3\n", 2, "lb3", "one of lb1, lb2, edge"),
            (begin + "expect = hub\n", 2, "hub", "one of lb1, lb2, edge"),
            (begin + "from = lb*\nexpect = edge\n", 3, "edge", "a source: from = lb*"),
            (begin + "interval = soon\n", 2, "interval = soon", "a number and us, ms"),
            (begin + "gpt = sum\n", 2, "gpt = sum", "last or max or or"),
            (
                "[aggregate rates]\nto = names\n",
                1,
                "type of keys string",
                "ip, as table rates has it",
            ),
            ("[aggregate rates]\nto = blocks\n", 1, "brates-factor 1024", "1, as table rates"),
            ("[aggregate rates]\nto = slow\n", 1, "period of http_req_rate 60000", "10000 (ms)"),
            (begin + "[aggregate sum]\nto = rates\n", 3, "to = rates", "no circle"),
            (begin + "[aggregate slow]\nto = sum\n", 3, "to = sum", "a table of its own"),
            ("[aggregate rates]\nto = plain\nlease = x\n", 1, "store http_req_rate", "gpt(1) at"),
            ("[aggregate gone]\nto = plain\nlease = x\n", 1, "store http_req_rate", "gpt(1) at"),
            ("[aggregate tags]\nto = sums\nlease = x\n", 1, "store gpt(2)", "gpt(3) at least"),
            (begin + "from = lb1|lb9\n", 2, "lb9", "one of lb1, lb2, edge"),
            (begin + "from = lb1|lb*\n", 2, "lb1|lb*", "names alone"),
            (begin + "from = lb1|lb2\nexpect = lb1\n", 3, "lb1", "a source: from = lb1|lb2"),
            (begin + "source-lease = few\n", 2, "store gpt(3)", "gpt(4)"),
            (begin + "lease = x\nsource-lease = x\n", 2, "lease = x", "a table of its own"),
            (
                "[aggregate rates]\nto = plain\nlease = x\nsource-lease = y\n",
                1,
                "store http_req_rate",
                "gpt(1) at",
            ),
            (begin + "lease = names\n", 2, "type of keys string", "ipv6"),
            (begin + "lease = few\n", 2, "store gpt(3)", "gpt(4)"),
            (begin + "lease = long\n", 2, "expire 3000 ms", "2s at most"),
            (begin + "lease = sum\n", 2, "lease = sum", "a table of its own"),
            (begin + "lease = x\ninterval = 1s\n", 3, "interval = 1s", "100 ms at most"),
            (
                begin + "lease = other\n[aggregate other]\nto = x\n",
                2,
                "lease = other",
                "a table of its own",
            ),
            ("[relay]\nhubs = lb1\n", 0, "[relay]", "tables = <tables> in it"),
            ("[relay]\ntables = names\nhubs = lb9\n", 2, "lb9", "one of lb1, lb2, edge"),
            (begin + "[relay]\ntables = names sum\n", 3, "sum", "a table of no aggregate"),
        ):
            self.refused(more, line, read, expected)

    def test_relay(self) -> None:
        """A relay passes on all, but nothing from one hub to another one."""
        relay = self.read("[relay]\ntables = rates names\nhubs = edge lb1\n").relay
        self.assertEqual(relay, Relay(("rates", "names"), frozenset(("edge", "lb1"))))
        self.assertFalse(relay("edge", "lb1"))
        self.assertTrue(relay("lb2", "edge") and relay("edge", "lb2"))

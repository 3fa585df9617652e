"""A node that adds up what two others count, as the program shows it; what a shell is offered."""

from __future__ import annotations

import json
from typing import Any

from click.shell_completion import ShellComplete

from peerproto import StickTableService
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.terminal.node import Unreachable
from peerproto.terminal.program import program
from peerproto.terminal.top.looking import Question, look
from peerproto.testing import MemoryNetwork
from tests.terminal.case import TerminalTestCase

LINE = "type integer size 1k expire 1m store gpc0,http_req_rate(10s)"


class FleetTests(TerminalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.watching.stop()
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.service = self.network.peer("hub", {"t": LINE})
        self.aggregation = Aggregation(
            self.service, [Rules("t", "t.sum", expect=("a", "b"))], self.network.clock
        )
        self.aggregation.startService()
        self.addCleanup(self.aggregation.stopService)
        self.clock = self.network.clock
        self.a, self.b = self.source("a"), self.source("b")
        self.network.start()
        self.network.advance(6)
        self.begin()

    def source(self, name: str) -> StickTableService:
        """A peer that knows the hub alone."""
        source = self.network.peer(name, {"t": LINE}, calls=["hub"], learn_tables=False)
        for other, service in self.network.services.items():
            if other not in ("hub", name):
                source.remove_peer(other)
                service.remove_peer(name)
        return source

    def count(self) -> None:
        """Something happens at both."""
        self.a.table("t").count(1, gpc0=3)
        self.b.table("t").count(1, gpc0=4)
        self.network.advance(1)

    def test_aggregates(self) -> None:
        """An aggregate is a line with how each of its sources stands."""
        self.count()
        head, line = self.says("aggregates").splitlines()
        self.assertEqual(head.split()[:2], ["table", "sums"])
        self.assertEqual(line.split()[:4], ["t", "t.sum", "1", "yes"])
        self.assertTrue(line.endswith("a in, b in"), line)
        (one,) = json.loads(self.says("aggregates", "--json"))["aggregates"]
        self.assertEqual(one["sources"], {"a": "in", "b": "in"})
        self.a.stopService()
        self.network.advance(1)
        self.assertIn("a not connected, b in", self.says("aggregates"))

    def test_no_authority(self) -> None:
        """A sum that may not be relied on says why."""
        rules = [Rules("t", "t.sum", expect=("a", "b", "c"))]
        self.aggregation.take(rules)
        self.network.advance(1)
        said = self.says("aggregates")
        self.assertIn("no: ", said)
        self.assertIn("c no peer of this node", said)

    def test_peers(self) -> None:
        """Peers that are in step say since when; of one by its name all is told."""
        lines = self.says("peers").splitlines()[1:]
        self.assertEqual([one.split()[0] for one in lines], ["a", "b"])
        self.assertTrue(all("in step" in one for one in lines), lines)
        self.assertIn("table t: sent up to", self.says("peers", "a"))

    def test_shares(self) -> None:
        """Of a table that is shared per peer each share is shown, and one is meant."""
        self.count()
        rows = [one.split() for one in self.says("show", "t").splitlines()]
        self.assertEqual(rows[0][:2], ["key", "peer"])
        self.assertEqual({(row[1], row[3]) for row in rows[1:]}, {("a", "3"), ("b", "4")})
        self.assertEqual(len(self.says("show", "t", "--key", "1", "--json").splitlines()), 2)
        self.assertEqual(len(self.says("show", "t", "--peer", "b").splitlines()), 2)
        self.assertIn("peer", self.says("show", "t", "--key", "1", "--peer", "b"))
        self.assertIn("There are those of: a, b", self.fails("show", "t", "--peer", "c"))

    def test_look(self) -> None:
        """The screen gets all of it at once; what it cannot get is said."""
        self.count()
        node = self.ways["http"]
        picture = look(node, Question("t.sum"))
        self.assertEqual([one.values["gpc0"] for one in picture.entries], [7])
        self.assertEqual([one.name for one in picture.aggregates], ["t"])
        self.assertEqual((picture.by, picture.trouble), ("http_req_rate", None))
        self.assertEqual(look(node, Question()).table, picture.tables[0])
        gone = look(node, Question("gone"))
        self.assertEqual((gone.table, gone.entries, gone.tables), (None, (), picture.tables))
        self.assertIn("no table 'gone'", str(gone.trouble))

        class Away:
            def node(self) -> Any:
                raise Unreachable("nobody")

        away: Any = Away()
        self.assertEqual(look(away, Question()).trouble, "nobody")


class CompletionTests(TerminalTestCase):
    def offered(self, *words: str) -> list[str]:
        """What a shell is offered for the last word."""
        *before, incomplete = words
        shell = ShellComplete(program, {"obj": self.ways["runtime"]}, "peerproto", "_X")
        return [one.value for one in shell.get_completions(before, incomplete)]

    def test_offered(self) -> None:
        """Tables, columns, keys and peers come from the node; a key that a shell would take apart
        is not offered."""
        for key in ("/api/1", "/api/2", "/b", "/with blank", "/`x`"):
            self.service.table("paths").set(key)
        self.service.table("rates").set("192.0.2.7")
        self.service.add_peer("lb1", "tcp:192.0.2.1:10000")
        for words, expected in (
            (("show", "pa"), ["paths"]),
            (("show", "paths", "--by", "gpc0"), ["gpc0", "gpc0_rate"]),
            (("show", "paths", "--columns", "gpc0,gpt"), ["gpc0,gpt0", "gpc0,gpt1"]),
            (("show", "rates", "--filter", "h"), ["http_req_rate"]),
            (("set", "rates", "192"), ["192.0.2.7"]),
            (("set", "rates", "192.0.2.7", "g"), ["gpc0="]),
            (("peers", "l"), ["lb1"]),
            (("show", "rats", "--by", ""), []),
        ):
            self.assertEqual(self.offered(*words), expected, words)
        self.assertEqual(
            set(self.offered("show", "paths", "--key", "/")), {"/api/1", "/api/2", "/b"}
        )
        self.assertEqual(set(self.offered("forget", "paths", "/api")), {"/api/1", "/api/2"})

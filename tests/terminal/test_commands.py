"""The commands: what they print, by each way to a node."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerproto import Part
from peerproto.service.spelling import written
from peerproto.terminal.program import program
from peerproto.terminal.text import visible
from tests.terminal.case import TerminalTestCase

KEYS = st.binary(min_size=1, max_size=15).filter(lambda raw: b"\0" not in raw)
"""Keys of any bytes, but for NUL, at which HAProxy's end."""


class _Writes(Part):
    def writes(self) -> list[str]:
        return ["ids"]


class ShowTests(TerminalTestCase):
    def fill(self) -> None:
        """Some entries, of which one has more than the others."""
        for number in range(5):
            self.service.table("rates").set(f"192.0.2.{number}", gpc0=number)
        self.service.table("rates").count("192.0.2.3", http_req_rate=200)

    def test_tables(self) -> None:
        """Each table is a line with its type, its entries and what it stores."""
        self.fill()
        head, *lines = self.says("tables").splitlines()
        self.assertEqual(head.split(), ["table", "type", "entries", "size", "expire", "stores"])
        (rates,) = [one for one in lines if one.startswith("rates ")]
        self.assertEqual(
            rates.split(), ["rates", "ip", "5", "1,048,576", "10m", "gpc0,", "http_req_rate(10s)"]
        )
        found = json.loads(self.says("tables", "--json"))
        self.assertEqual([one["name"] for one in found["tables"]], [t.name for t in self.tables()])

    def tables(self) -> Any:
        return self.service.tables

    def test_entries(self) -> None:
        """Entries are lines, whose columns stand below each other."""
        self.fill()
        head, *lines = self.says("show", "rates").splitlines()
        self.assertEqual(head.split(), ["key", "expires", "gpc0", "http_req_rate"])
        self.assertEqual({len(one) for one in lines}, {len(head)})
        self.assertIn(["192.0.2.3", "10m", "3", "200"], [one.split() for one in lines])

    def test_chosen(self) -> None:
        """Filters, networks, prefixes, the highest values and columns choose."""
        self.fill()
        for key in ("/a/1", "/a/2", "/b"):
            self.service.table("paths").set(key)

        def keys(*words: str) -> list[str]:
            lines = self.says("show", "--json", *words).splitlines()
            return [json.loads(one)["key"] for one in lines]

        self.assertEqual(keys("rates", "--filter", "http_req_rate > 100"), ["192.0.2.3"])
        self.assertEqual(keys("rates", "--filter", "data.gpc0 eq 2"), ["192.0.2.2"])
        self.assertEqual(
            set(keys("rates", "--filter", "gpc0>=1", "--filter", "gpc0<3")),
            {"192.0.2.1", "192.0.2.2"},
        )
        self.assertEqual(
            set(keys("rates", "--network", "192.0.2.2/31")), {"192.0.2.2", "192.0.2.3"}
        )
        self.assertEqual(set(keys("paths", "--prefix", "/a/")), {"/a/1", "/a/2"})
        self.assertEqual(keys("rates", "--top", "1"), ["192.0.2.3"])
        self.assertEqual(keys("rates", "--by", "gpc0")[:2], ["192.0.2.4", "192.0.2.3"])
        self.assertEqual(keys("rates", "--by", "-gpc0", "--top", "1"), ["192.0.2.0"])
        self.assertEqual(keys("rates", "--key", "192.0.2.4"), ["192.0.2.4"])
        head, line = self.says("show", "rates", "--top", "1", "--columns", "gpc0").splitlines()
        self.assertEqual((head.split(), line.split()[2:]), (["key", "expires", "gpc0"], ["3"]))

    def test_many(self) -> None:
        """More entries than a page has come all, and each once; and so do the highest of them."""
        for number in range(2500):
            self.service.table("ids").set(number % 1024, gpc0=number)
        lines = self.says("show", "ids").splitlines()
        self.assertEqual(len({one.split()[0] for one in lines}), 1025)
        lines = self.says("show", "ids", "--top", "1010").splitlines()
        self.assertEqual([int(one.split()[2]) for one in lines[1:]], [*range(2499, 1489, -1)])

    @settings(suppress_health_check=[HealthCheck.differing_executors])
    @given(KEYS)
    def test_any_key(self, raw: bytes) -> None:
        """A key of any bytes is shown without a byte that a terminal obeys; what is shown is the
        same key when it is typed."""
        table = self.service.table("paths")
        table.clear()
        table.set_raw(raw.ljust(20, b"\0")[: len(raw)], {"gpc0": 1})
        shown = visible(written(raw.decode("utf-8", "surrogateescape")))
        self.assertTrue(shown.isprintable())
        for words in (["show", "paths"], ["show", "paths", "--key", shown]):
            said = self.says(*words)
            self.assertIn(shown, said)
            self.assertTrue(said.replace("\n", "").isprintable())
        for line in self.says("show", "paths", "--json").splitlines():
            self.assertTrue(line.isascii())
        for way in self.ways:
            done = self.run_program("set", "paths", "--", shown, "gpc1=7", way=way)
            self.assertEqual(done.exit_code, 0, done.output)
            self.assertEqual([one["gpc1"] for one in table], [7])
            self.assertEqual(self.run_program("forget", "paths", "--", shown, way=way).exit_code, 0)
            self.assertEqual(len(table), 0)
            table.set_raw(raw, {"gpc0": 1})

    def test_markup(self) -> None:
        """What looks like markup of a library is none."""
        self.service.table("paths").set("[red]x[/]:smile:", server_key="[bold]")
        said = self.says("show", "paths")
        self.assertIn("[red]x[/]:smile:", said)
        self.assertIn("[bold]", said)

    def test_empty(self) -> None:
        """Where there is nothing, it is said; programs get nothing."""
        for words, expected in (
            (["rates"], "table 'rates' has no entries\n"),
            (["rates", "--filter", "gpc0 > 1"], "table 'rates' has no such entries\n"),
        ):
            done = self.run_program("show", *words)
            self.assertEqual((done.exit_code, done.stdout, done.stderr), (0, "", expected))
            self.assertEqual(self.says("show", *words, "--json"), "")

    def test_wrong(self) -> None:
        """What is wrong is said with what there is, and what may have been meant."""
        for words, expected in (
            (["rats"], "no table 'rats': did you mean 'rates'? The node has: rates, paths,"),
            (["\x1b[2J"], r"no table '\x1B[2J'. The node has: rates"),
            (["rates", "--filter", "gpc > 1"], "no value 'gpc': did you mean 'gpc0'? Table"),
            (["rates", "--filter", "gpc0"], "read 'gpc0', expected a value, one of = == !="),
            (["rates", "--filter", "gpc0 xx 1"], "read 'gpc0 xx 1', expected a value"),
            (["paths", "--filter", "server_key > 1"], "no number 'server_key'"),
            (["rates", "--by", "gpc1"], "no value 'gpc1': did you mean 'gpc0'?"),
            (["rates", "--peer", "lb1"], "read 'lb1', expected none"),
            (["rates", "--key", "192.0.2.9"], "no entry '192.0.2.9' in table 'rates'"),
        ):
            self.assertIn(expected, self.fails("show", *words))
        for words in (
            ["rates", "--key", "x"],
            ["rates", "--prefix", "x"],
            ["paths", "--network", "1"],
        ):
            for way in self.ways:
                done = self.run_program("show", *words, way=way)
                self.assertEqual((done.exit_code, done.stdout), (1, ""))
                self.assertIn("expected", done.stderr)
        self.fails("show", "rates", "--key", "192.0.2.9", "--top", "3", status=2)


class NodeTests(TerminalTestCase):
    def test_node(self) -> None:
        """The node is told with why it may not be relied on."""
        said = self.says("node")
        self.assertIn("app", said.splitlines()[0])
        self.assertIn("0 of 0 connected", said)
        self.assertEqual(json.loads(self.says("node", "--json"))["localpeer"], "app")

    def test_nobody(self) -> None:
        """Without peers or aggregates it is said what to do; programs get an empty list."""
        for command, expected in (
            ("peers", "no peer yet."),
            ("aggregates", "nothing is added up."),
        ):
            done = self.run_program(command)
            self.assertEqual((done.exit_code, done.stdout), (0, ""))
            self.assertIn(expected, done.stderr)
            self.assertEqual(json.loads(self.says(command, "--json")), {command: []})

    def test_peers(self) -> None:
        """A peer is told with why it is not in step."""
        self.service.add_peer("lb1", "tcp:192.0.2.1:10000")
        _, line = self.says("peers").splitlines()
        self.assertEqual(line.split()[:3], ["lb1", "tcp:192.0.2.1:10000", "away"])
        self.assertIn("tx_updates: 0", self.says("peers", "lb1"))
        self.assertIn("did you mean 'lb1'?", self.fails("peers", "lb2"))


class ChangeTests(TerminalTestCase):
    def test_set(self) -> None:
        """An entry is created and changed; what was not named stays."""
        self.says("set", "rates", "192.0.2.7", "gpc0=3")
        self.says("set", "paths", "/a", "gpc[1]=2", "gpc_rate[1]=4", "server_key=s=1")
        self.says("set", "paths", "/a", "data.gpt0=7")
        entry = self.service.table("paths")["/a"]
        self.assertEqual(
            (entry["gpc1"], entry["gpc1_rate"], entry["gpt0"], entry["server_key"]),
            (2, 4, 7, "s=1"),
        )
        self.says("set", "paths", "/a", "server_key=-")
        self.assertIsNone(self.service.table("paths")["/a"]["server_key"])
        self.assertEqual(self.service.table("rates")["192.0.2.7"]["gpc0"], 3)

    def test_count(self) -> None:
        """Events are counted, once by each way."""
        self.run_program("count", "rates", "192.0.2.7", "http_req_rate=2", way="http")
        done = self.run_program("count", "rates", "192.0.2.7", "http_req_rate=2", "--json")
        self.assertEqual(json.loads(done.stdout)["values"]["http_req_rate"], 4)

    def test_forget(self) -> None:
        """One entry is forgotten without asking, many with `--yes`."""
        table = self.service.table("ids")
        for way in self.ways:
            for number in range(1200):
                table.set(number % 1024, gpc0=number % 1024)

            def forget(*words: str, by: str = way) -> str:
                done = self.run_program("forget", "ids", *words, way=by)
                self.assertEqual(done.exit_code, 0, done.output)
                return done.output

            self.assertEqual(forget("7"), "1 entry forgotten\n")
            self.assertIn("no entry '7' was here", forget("7"))
            self.assertEqual(forget("--filter", "gpc0 < 10", "--yes"), "9 entries forgotten\n")
            self.assertEqual(
                json.loads(forget("--all", "--yes", "--json")), {"table": "ids", "forgotten": 1014}
            )
            self.assertEqual(len(table), 0)

    def test_forget_asks(self) -> None:
        """Where nobody can be asked, many entries are not forgotten; and it is one thing or the
        other that is forgotten."""
        self.service.table("ids").set(1)
        self.assertIn("--yes does not ask", self.fails("forget", "ids", "--all"))
        for words in ([], ["1", "--all"], ["--all", "--filter", "gpc0 > 1"]):
            self.fails("forget", "ids", *words, status=2)
        self.assertEqual(len(self.service.table("ids")), 1)

    def test_wrong(self) -> None:
        """What cannot be changed is said, and nothing is changed."""
        self.service.add_part("sums", _Writes())
        for words, expected in (
            (["set", "rates", "192.0.2.7", "gpc1=1"], "no value 'gpc1': did you mean 'gpc0'?"),
            (["set", "rates", "192.0.2.7", "gpc0"], "read 'gpc0', expected a value and what"),
            (["set", "rates", "192.0.2.7", "gpc0=x"], "gpc0: read 'x', expected a whole number"),
            (["set", "rates", "192.0.2.7", "gpc0=1", "gpc0=2"], "gpc0 is named twice"),
            (["set", "ids", "1", "gpc0=1"], "'ids' is written by the node itself (sums)"),
            (["forget", "ids", "1"], "'ids' is written by the node itself (sums)"),
            (["count", "paths", "/a", "server_key=s1"], "server_key is a text"),
        ):
            self.assertIn(expected, self.fails(*words))
        for words in (["rates", "x", "gpc0=1"], ["rates", "192.0.2.7", "gpc0=-1"]):
            for way in self.ways:
                done = self.run_program("set", *words, way=way)
                self.assertEqual((done.exit_code, done.stdout), (1, ""))
                self.assertIn("expected", done.stderr)
        self.assertEqual(len(self.service.table("rates")), 0)

    def test_token(self) -> None:
        """Without the token it is said where to name one."""
        self.ways = {"http": self.by_http(None)}
        done = self.run_program("set", "rates", "192.0.2.7", "gpc0=1", way="http")
        self.assertEqual(done.exit_code, 1)
        self.assertIn("--token-file", done.stderr)


class ProgramTests(TerminalTestCase):
    def test_help(self) -> None:
        """Each command says what it is for, on a line that is not cut."""
        said = self.says("--help")
        for name, command in program.commands.items():
            self.assertIn(f"  {name} ", said)
            self.assertIn(command.get_short_help_str(100), said)
            self.assertIn("Usage:", self.says(name, "--help"))
        self.assertNotIn("...\n", said.split("Commands:")[1])

    def test_no_node(self) -> None:
        """Where no node answers, it is said what was tried, and what to try."""
        for place, expected in (
            ("/nowhere/x.sock", "/nowhere/x.sock: No such file or directory. Does the node run?"),
            ("unix:/nowhere/x.sock", "/nowhere/x.sock: No such file"),
            ("http://127.0.0.1:1", "Does the node run, and has its peers.ini an [http] section?"),
            ("http+unix:/nowhere/x.sock", "http+unix:/nowhere/x.sock: "),
            ("", "--node or PEERPROTO_NODE names one"),
        ):
            for words in (["--node", place, "tables"], ["tables", "--node", place]):
                done = CliRunner().invoke(program, words)
                self.assertEqual((done.exit_code, done.stdout), (3, ""), done.output)
                self.assertIn(expected, done.stderr)
        done = CliRunner().invoke(program, ["--node", "ftp://x", "tables"])
        self.assertEqual(done.exit_code, 1)
        self.assertIn("read 'ftp://x', expected the path", done.stderr)

    def test_which_node(self) -> None:
        """The environment names a node; an option before the command and behind it goes before."""
        environment = {"PEERPROTO_NODE": "/a.sock"}
        for words, expected in (
            (["tables"], "/a.sock"),
            (["--node", "/b.sock", "tables"], "/b.sock"),
            (["--node", "/b.sock", "tables", "--node", "/c.sock"], "/c.sock"),
        ):
            done = CliRunner().invoke(program, words, env=environment)
            self.assertIn(f"peerproto: {expected}: ", done.stderr)

    def test_completion(self) -> None:
        """There is a script for each shell."""
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("_PEERPROTO_COMPLETE", self.says("completion", shell))

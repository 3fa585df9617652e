from __future__ import annotations

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.config import DEFAULT_BIND, Config, ConfigError
from peerproto.peering.limits import Limits

WHOLE = """\
; a comment
[node]
localpeer = peerproto            ; default: the host name
bind = tcp:10000                 ; Twisted server endpoint, or host:port
runtime = unix:/run/peerproto.sock:mode=600
learn-tables = no
learn-columns = no

[peers]
lb1 = tcp:192.0.2.11:10000       ; Twisted client endpoint, or host:port
lb2 = 192.0.2.12:10000
lb3 = [2001:db8::1]:10000
lb4 = /run/lb4.sock
peerproto = 192.0.2.10:10000

# another comment
[tables]
rates = type ip size 1m expire 10m store gpc0,http_req_rate(10s)
"""


class ConfigTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Every setting, in each of its forms."""
        config = Config.parse("peers.ini", WHOLE)
        self.assertEqual(config.localpeer, "peerproto")
        self.assertEqual(config.bind, "tcp:10000")
        self.assertEqual(config.runtime, "unix:/run/peerproto.sock:mode=600")
        self.assertFalse(config.learn_tables)
        self.assertEqual(config.peers["peerproto"], "tcp:192.0.2.10:10000")
        self.assertFalse(config.learn_columns)
        self.assertEqual(
            config.peers_but("peerproto"),
            {
                "lb1": "tcp:192.0.2.11:10000",
                "lb2": "tcp:192.0.2.12:10000",
                "lb3": "tcp:2001\\:db8\\:\\:1:10000",
                "lb4": "unix:/run/lb4.sock",
            },
        )
        (rates,) = config.tables
        self.assertEqual((rates.name, rates.size, rates.expire), ("rates", 1 << 20, 600_000))

    def test_names(self) -> None:
        """Names that fit are taken: of peers as long as a line of a hello has room for, of
        tables as HAProxy has them."""
        name = "x" * 1002
        config = Config.parse("x", f"[node]\nlocalpeer = {name}\n[peers]\n{name} = h:1\n")
        self.assertEqual(config.localpeer, name)
        names = ("t", "/inpeers", "mypeers/t", "a.b:c_d-E9")
        text = "".join(f"{name} = type ip size 1\n" for name in names)
        tables = Config.parse("x", f"[tables]\n{text}").tables
        self.assertEqual(tuple(table.name for table in tables), names)

    def test_what_cannot_be_seen(self) -> None:
        """What was read is said without what a terminal would act on."""
        problem = self.assertRaises(
            ConfigError, Config.parse, "x", "[tables]\na\x1b\udcff\u202e = x"
        )
        self.assertIn("read 'a\\x1b\\udcff\\u202e = x'", str(problem))

    def test_byte_order_mark(self) -> None:
        """A byte order mark, which some editors write, is not read."""
        path = self.mktemp()
        Path(path).write_bytes(b"\xef\xbb\xbf[node]\nlocalpeer = us\n")
        self.assertEqual(Config.read(path).localpeer, "us")

    def test_defaults(self) -> None:
        """An empty file is a node of the host's name, on the loopback."""
        config = Config.parse("peers.ini", "")
        self.assertEqual(
            config,
            Config(socket.gethostname(), DEFAULT_BIND, None, True, True, {}, ()),
        )

    def test_limits(self) -> None:
        """Limits have the names of `Limits`, and powers of 1024."""
        config = Config.parse("x", "[limits]\nhandshakes = 7\nentries-per-table = 2m\n")
        self.assertEqual(config.limits, Limits(handshakes=7, entries_per_table=2 << 20))

    def test_binds(self) -> None:
        """Hosts and ports become endpoints, for all addresses where none is given."""
        for value, expected in (
            (":10000", "tcp:10000"),
            ("*:10000", "tcp:10000"),
            ("127.0.0.1:10000", "tcp:10000:interface=127.0.0.1"),
            ("[::1]:10000", "tcp6:10000:interface=\\:\\:1"),
            ("/run/peers.sock", "unix:/run/peers.sock"),
            ("tcp:10000:interface=127.0.0.1", "tcp:10000:interface=127.0.0.1"),
        ):
            config = Config.parse("peers.ini", f"[node]\nbind = {value}\n")
            self.assertEqual(config.bind, expected)

    def test_first_mistake(self) -> None:
        """Of several mistakes, the first one in the file is told."""
        text = "[tables]\nt = bad\n[node]\nlearn-tables = maybe\nlocalpeer = a\nlocalpeer = b\n"
        for line in (2, 4, 6):
            problem = self.assertRaises(ConfigError, Config.parse, "peers.ini", text)
            self.assertEqual(problem.line, line)
            lines = text.splitlines(keepends=True)
            lines[line - 1] = "\n"
            text = "".join(lines)

    def test_mistakes(self) -> None:
        """Each kind of mistake names file, line, what was read and what was expected."""
        for text, line, read, expected in (
            ("[nodes]", 1, "[nodes]", "one of [node], [peers], [tables], [limits]"),
            ("localpeer = x", 1, "localpeer = x", "a section first"),
            ("[node]\nlocalpeer", 2, "localpeer", "<key> = <value>"),
            ("[node]\nlocalpeer =", 2, "localpeer =", "<key> = <value>"),
            ("[node]\n= x", 2, "= x", "<key> = <value>"),
            ("[node]\nname = x", 2, "name = x", "one of localpeer, bind, runtime"),
            ("[node]\nlocalpeer = a b", 2, "localpeer = a b", "without white space"),
            ("[node]\n\nlearn-tables = maybe", 3, "learn-tables = maybe", "yes or no"),
            ("[node]\nbind = tcp:x", 2, "bind = tcp:x", "server endpoint"),
            ("[node]\nbind = nothing", 2, "bind = nothing", "server endpoint"),
            ("[node]\nbind = a:70000", 2, "bind = a:70000", "a port from 1 to 65535"),
            ("[node]\nbind = :1\nbind = :2", 3, "bind = :2", "it is in line 2 too"),
            ("[node]\nruntime = x", 2, "runtime = x", "server endpoint"),
            ("[peers]\nlb1 = tcp:x", 2, "lb1 = tcp:x", "client endpoint"),
            ("[peers]\nlb1 = :10", 2, "lb1 = :10", "a host"),
            ("[peers]\nl b = a:1", 2, "l b = a:1", "without white space"),
            ("[peers]\nlb1 = a:1\n[node]\n[peers]\nlb1 = a:2", 5, "lb1 = a:2", "line 2 too"),
            ("[limits]\nhandshake = 3", 2, "handshake = 3", "one of handshakes, connections-per"),
            ("[limits]\nhandshakes = x", 2, "handshakes = x", "a number up to"),
            ("[tables]\nt = type ip", 2, "no size", "size <number of entries> (table t)"),
            ("[tables]\nt = type ip size x", 2, "x", "a number up to 4294967295"),
            ("[tables]\nt = type ip size 1 fast", 2, "fast", "type, size"),
            ("[tables]\nt = type ip size 1 store gpc9", 2, "store gpc9", "one of server_id"),
            ("[tables]\nt = type ip size 1 peers 'm", 2, "peers 'm", "a second '"),
            ("[node]\nruntime = tcp:interface=::1:99999", 2, "99999", "a Twisted server"),
            ("[node]\nruntime = unix:/x:mode=1777", 2, "mode=1777", "a mode from 0 to 777"),
            ("[node]\nruntime = unix:/x:mode=9", 2, "mode=9", "a Twisted server endpoint"),
            (f"[node]\nruntime = /{'x' * 98}", 2, "/xxx", "a path of 98 bytes at most"),
            (f"[node]\nbind = unix:/{'é' * 49}", 2, "/éé", "a path of 98 bytes at most"),
            (f"[peers]\nlb1 = /{'x' * 107}", 2, "/xxx", "a path of 107 bytes at most"),
            ("[node]\nbind = /x\nruntime = unix:/x", 3, "runtime = ", "another address than"),
            (f"[node]\nlocalpeer = {'x' * 2000}", 2, "xxx", "a name of 1002 bytes at most"),
            (f"[peers]\n{'x' * 1003} = h:1", 2, "xxx", "a name of 1002 bytes at most"),
            ("[node]\nlocalpeer = us\n[limits]\nline-length = 23", 2, "us", "1 bytes at most"),
            ("[limits]\nline-length = 22", 2, "line-length = 22", "23 or more"),
            ("[limits]\nhandshakes = 0", 2, "handshakes = 0", "a number above 0"),
            ("[node]\nbind = 999.1.1.1:80", 2, "999.1.1.1", "an IP address or the name"),
            ("[node]\nbind = [1:2]:80", 2, "[1:2]:80", "an IP address or the name"),
            ("[node]\nbind = tcp:80:interface=1.2.3.4.5", 2, "1.2.3.4.5", "an IP address"),
            ("[peers]\nlb1 = 192.0.2.256:80", 2, "192.0.2.256", "an IP address or the name"),
            ("[peers]\nlb1 = tcp:192.0.2.256:80", 2, "192.0.2.256", "an IP address or the"),
            (
                "[peers]\nlb1 = tcp:port=80:host=1\\:\\:2\\:\\:3",
                2,
                "host=1",
                "an IP address or the",
            ),
            ("[node]\f\n# \u2028 \x1c\nx", 3, "x", "<key> = <value>"),
            ("[limits]\nmessage-length = 1", 2, "message-length = 1", "1024 or more"),
            ("[tables]\na b = type ip size 1", 2, "a b = ", "a table name of letters"),
            ("[tables]\na\x1b = type ip size 1", 2, "a\x1b = ", "a table name of letters"),
            (f"[tables]\n{'x' * 2049} = type ip size 1", 2, "xxx", "2048 bytes at most"),
        ):
            self.mistake(text, line, read, expected)

    def test_ports(self) -> None:
        """A port that cannot be is a mistake; 0 is one to listen at, and none to call."""
        for key, least, addresses in (
            ("[node]\nbind", 0, ("tcp:99999", "tcp:-1", "tcp:port=65536", "tcp6:70000")),
            (
                "[peers]\nlb1",
                1,
                ("tcp:h:99999", "tcp:h:0", "tcp:host=h:port=-1", "tcp:a\\:b:99999"),
            ),
        ):
            for address in addresses:
                self.mistake(f"{key} = {address}", 2, address, f"a port from {least} to 65535")

    def mistake(self, text: str, line: int, read: str, expected: str) -> None:
        """The error names the file, the line, what was read in it and what was expected."""
        with self.assertRaises(ConfigError) as caught:
            Config.parse("peers.ini", text)
        problem = caught.exception
        self.assertEqual((problem.file, problem.line), ("peers.ini", line), text)
        self.assertIn(read, problem.read)
        self.assertIn(expected, problem.expected)
        self.assertTrue(str(problem).startswith(f"peers.ini:{line}: read '"))
        self.assertNotIn("\n", str(problem))

    def test_warnings(self) -> None:
        """What a table's line warns of is told with the file and the line."""
        text = "[tables]\nt = type ip size 1 expire 1h30m\nu = type ip size 1 store gpc0,gpc0"
        self.assertEqual(
            Config.parse("peers.ini", text).warnings,
            (
                "peers.ini:2: expire of table t: read '1h30m' as '1h', as HAProxy does",
                "peers.ini:3: table u: store gpc0 is given again: the first one holds",
            ),
        )

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a configuration or a ConfigError with a line of it."""
        try:
            Config.parse("peers.ini", text)
        except ConfigError as problem:
            self.assertTrue(1 <= problem.line <= len(text.split("\n")))

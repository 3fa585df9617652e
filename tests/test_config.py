from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.config import DEFAULT_BIND, Config, ConfigError
from peerproto.limits import Limits
from peerproto.tables.declaration import Declaration
from peerproto.tables.units import entries, milliseconds
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType

WHOLE = """\
; a comment
[node]
localpeer = peerproto            ; default: the host name
bind = tcp:10000                 ; Twisted server endpoint, or host:port
runtime = unix:/run/peerproto.sock:mode=600
learn-tables = no

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
        self.assertEqual(
            config.peers,
            {
                "lb1": "tcp:192.0.2.11:10000",
                "lb2": "tcp:192.0.2.12:10000",
                "lb3": "tcp:2001\\:db8\\:\\:1:10000",
                "lb4": "unix:/run/lb4.sock",
            },
        )
        (rates,) = config.tables
        self.assertEqual((rates.name, rates.size, rates.expire), ("rates", 1 << 20, 600_000))

    def test_defaults(self) -> None:
        """An empty file is a node of the host's name, on the loopback."""
        config = Config.parse("peers.ini", "")
        self.assertEqual(
            config,
            Config(socket.gethostname(), DEFAULT_BIND, None, True, {}, ()),
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
            ("[limits]\nhandshakes = x", 2, "handshakes = x", "a number above 0"),
            ("[tables]\nt = type ip", 2, "no size", "size <number of entries>"),
            ("[tables]\nt = size 1k", 2, "no type", "type integer, ip"),
            ("[tables]\nt = type any size 1", 2, "type any", "one of integer, ip"),
            ("[tables]\nt = type ip size x", 2, "x", "a number above 0"),
            ("[tables]\nt = type ip size 0", 2, "0", "a number above 0"),
            ("[tables]\nt = type ip size 1 expire 1y", 2, "1y", "us, ms, s, m, h or d"),
            ("[tables]\nt = type ip size 1 expire 30d", 2, "30d", "at most 24 days"),
            ("[tables]\nt = type ip size", 2, "size at the end", "a value after size"),
            ("[tables]\nt = type ip size 1 len 4", 2, "len 4", "string or binary only"),
            ("[tables]\nt = type string len 0 size 1", 2, "len 0", "above 0"),
            ("[tables]\nt = type ip size 1 fast", 2, "fast", "type, len, size"),
            ("[tables]\nt = type ip size 1 store gpc9", 2, "store gpc9", "one of server_id"),
            ("[tables]\nt = type ip size 1 store gpc0_rate", 2, "gpc0_rate", "(<period>)"),
            ("[tables]\nt = type ip size 1 store gpc0(3)", 2, "store gpc0(3)", "gpc0"),
            ("[tables]\nt = type ip size 1 store gpt(101)", 2, "101", "1 to 100"),
            ("[tables]\nt = type ip size 1 store gpt(x)", 2, "gpt(x)", "a number of elements"),
            ("[tables]\nt = type ip size 1 store gpc_rate(2)", 2, "gpc_rate(2)", "<elements>"),
            ("[tables]\nt = type ip size 1 store conn_rate(0)", 2, "conn_rate(0)", "above 0"),
            ("[tables]\nt = type ip size 1 store gpc0,gpc0", 2, "gpc0 again", "once"),
        ):
            with self.assertRaises(ConfigError) as caught:
                Config.parse("peers.ini", text)
            problem = caught.exception
            self.assertEqual((problem.file, problem.line), ("peers.ini", line), text)
            self.assertIn(read, problem.read)
            self.assertIn(expected, problem.expected)
            self.assertTrue(str(problem).startswith(f"peers.ini:{line}: read '"))
            self.assertNotIn("\n", str(problem))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a configuration or a ConfigError with a line of it."""
        try:
            Config.parse("peers.ini", text)
        except ConfigError as problem:
            self.assertTrue(1 <= problem.line <= len(text.splitlines()))


class DeclarationTests(SynchronousTestCase):
    def test_pasted_lines(self) -> None:
        """Lines as they stand in haproxy.cfg are read whole."""
        one = Declaration.parse(
            "t",
            "type string len 64 size 100k nopurge recv-only expire 30s peers mypeers srvkey name"
            " store gpc0, conn_cur store server_key,gpc_rate(2,10s),gpt(3)",
        )
        self.assertEqual((one.layout.key_type, one.layout.key_length), (KeyType.STRING, 65))
        self.assertEqual((one.size, one.expire, one.nopurge, one.recv_only), (102400, 30000, 1, 1))
        self.assertEqual(
            [(column.name, column.elements, column.period) for column in one.layout.columns],
            [
                ("gpc0", None, None),
                ("conn_cur", None, None),
                ("server_key", None, None),
                ("gpt", 3, None),
                ("gpc_rate", 2, 10000),
            ],
        )

    def test_key_lengths(self) -> None:
        """Each type has the length that HAProxy announces for it."""
        for line, length in (
            ("integer", 4),
            ("ip", 4),
            ("ipv6", 16),
            ("string", 33),
            ("string len 10", 11),
            ("binary", 32),
            ("binary len 10", 10),
        ):
            layout = Declaration.parse("t", f"type {line} size 1").layout
            self.assertEqual(layout.key_length, length, line)

    def test_units(self) -> None:
        """Times and sizes with and without a unit."""
        for text, value in (("10", 10), ("1500us", 2), ("3ms", 3), ("2s", 2000), ("1d", 86400000)):
            self.assertEqual(milliseconds(text), value)
        for text, value in (("10", 10), ("1k", 1024), ("2m", 2 << 20), ("1G", 1 << 30)):
            self.assertEqual(entries(text), value)
        for text in ("", "x", "-1", "1.5s", "1 s", "10S", "٣"):
            self.assertRaises(LocalProtocolError, milliseconds, text)
            self.assertRaises(LocalProtocolError, entries, text)

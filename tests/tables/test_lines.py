from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.units import entries, milliseconds, number, size
from peerproto.tables.words import split_words
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Column


def parse(line: str) -> Declaration:
    return Declaration.parse("t", line)


def stored(line: str) -> list[str]:
    """The columns of ``type ip size 1 store <line>``, as they are written in a line."""
    return [written(column) for column in parse(f"type ip size 1 store {line}").layout.columns]


def written(column: Column) -> str:
    arguments = [str(one) for one in (column.elements, column.period) if one is not None]
    return f"{column.name}({','.join(arguments)})" if arguments else column.name


class LineTests(SynchronousTestCase):
    def test_pasted_lines(self) -> None:
        """Lines as they stand in haproxy.cfg are read whole."""
        one = parse(
            "type string len 64 size 100k nopurge recv-only expire 30s peers mypeers srvkey name"
            " store gpc0,conn_cur store server_key,gpc_rate(2,10s),gpt(3) write-to other"
            " brates-factor 16",
        )
        self.assertEqual((one.layout.key_type, one.layout.key_length), (KeyType.STRING, 65))
        self.assertEqual((one.size, one.expire, one.nopurge, one.recv_only), (102400, 30000, 1, 1))
        self.assertEqual(one.brates_factor, 16)
        self.assertEqual(
            [written(column) for column in one.layout.columns],
            ["gpc0", "conn_cur", "server_key", "gpt(3)", "gpc_rate(2,10000)"],
        )
        self.assertEqual(one.warnings, ())

    def test_key_types(self) -> None:
        """Each type has the length that HAProxy announces for it: a NUL comes with len alone."""
        for line, key_type, length in (
            ("integer", KeyType.INTEGER, 4),
            ("ip", KeyType.IPV4, 4),
            ("ipv4", KeyType.IPV4, 4),
            ("ipv6", KeyType.IPV6, 16),
            ("string", KeyType.STRING, 32),
            ("string len 1", KeyType.STRING, 2),
            ("string len 10", KeyType.STRING, 11),
            ("string len 32", KeyType.STRING, 33),
            ("binary", KeyType.BINARY, 32),
            ("binary len 10", KeyType.BINARY, 10),
            ("binary len 010", KeyType.BINARY, 10),
            ("binary len +10", KeyType.BINARY, 10),
        ):
            layout = parse(f"type {line} size 1").layout
            self.assertEqual((layout.key_type, layout.key_length), (key_type, length), line)

    def test_warnings(self) -> None:
        """What HAProxy reads in another way than it is written is read so, with a warning."""
        for line, warning in (
            ("type ip size 1 expire 1h30m", "expire of table t: read '1h30m' as '1h'"),
            ("type ip size 1 store gpc0_rate(1m30)", "period of gpc0_rate: read '1m30' as '1m'"),
            ("type ip size 1 store gpc0_rate(0)", "period of gpc0_rate is 0"),
            ("type ip size 1 store gpc(3x)", "elements of gpc: read '3x' as '3'"),
            ("type ip size 1 store gpc0,gpc1,gpc0", "store gpc0 is given again"),
            ("type ip size 1 store gpc0 store gpc0(5)", "store gpc0 is given again"),
            ("type ip size 1 store gpc0_rate(1s)x,gpc1", "as 'gpc0_rate(1s)'"),
            ("type string len 12abc size 1", "len of table t: read '12abc' as '12'"),
            ("type string len 16384 size 1", "a key of all of len 16384 fits into no message"),
            ("type binary len 99999999999 size 1", "len 99999999999 fits into no message"),
            ("type ip type string size 1", "type is given again: string holds"),
            ("type ip size 1 '' store gpc0", "['store', 'gpc0']"),
        ):
            declared = parse(line)
            self.assertEqual(len(declared.warnings), 1, line)
            self.assertIn(warning, declared.warnings[0])
            self.assertIn("table t", declared.warnings[0])
            self.assertEqual(declared, Declaration("t", declared.layout, declared.expire, 1))
        self.assertEqual(parse("type string len 16383 size 1").warnings, ())
        for text, factor in (("1", 1), ("2", 2), ("1k", 1024)):
            self.assertEqual(parse(f"type ip size 1 brates-factor {text}").brates_factor, factor)
        self.assertEqual(parse("type ip size 1 expire 1h30m").expire, 3600_000)
        self.assertEqual(parse("type string len 5 type binary size 1").layout.key_length, 32)

    def test_stored(self) -> None:
        """Data types with all that HAProxy takes behind them."""
        for line, expected in (
            ("", []),
            ("gpc0,", ["gpc0"]),
            ("gpc1,gpc0 store gpt0", ["gpt0", "gpc0", "gpc1"]),
            ("gpc0_rate(0)", ["gpc0_rate(0)"]),
            ("gpc0_rate(5us)", ["gpc0_rate(1)"]),
            ("gpc0_rate(10s,5s)", ["gpc0_rate(10000)"]),
            ("gpc0_rate(10s,junk)", ["gpc0_rate(10000)"]),
            ("gpc0_rate(junk)(5s)", ["gpc0_rate(5000)"]),
            ("gpc_rate(3,10s)", ["gpc_rate(3,10000)"]),
            ("gpc_rate(3,junk,10s)", ["gpc_rate(3,10000)"]),
            ("gpc_rate(2,10s)(3)", ["gpc_rate(3,10000)"]),
            ("gpc(100),gpt(1)", ["gpt(1)", "gpc(100)"]),
            ("gpc_rate(3,1s),gpc1,gpt0", ["gpt0", "gpc1", "gpc_rate(3,1000)"]),
            ("glitch_cnt,glitch_rate(1s)", ["glitch_cnt", "glitch_rate(1000)"]),
            ("gpc0,gpc0", ["gpc0"]),
            ('"gpc0,gpc1"', ["gpc0", "gpc1"]),
            ("server_name", ["server_key"]),
            ("server_name,server_key", ["server_key"]),
        ):
            self.assertEqual(stored(line), expected, line)

    def test_refused(self) -> None:
        """What no HAProxy takes is refused; the error names the table, or the value, and why."""
        for line, expected in (
            ("", "type and one of integer, ip, ipv6, string, binary, ipv4"),
            ("size 1", "type and one of"),
            ("type ip", "size <number of entries>"),
            ("type ip size 5 size 0", "size <number of entries>"),
            ("type IP size 1", "one of integer"),
            ("type ip type IP size 1", "one of integer"),
            ("type", "a value after type"),
            ("type ip len 4 size 1", "len right after type string or binary only"),
            ("type string size 1 len 5", "len right after type string or binary only"),
            ("type string len 5 len 6 size 1", "len right after type string or binary only"),
            ("type string len 0 size 1", "a number of bytes above 0"),
            ("type string len -5 size 1", "a number of bytes above 0"),
            ("type string len size 1", "a whole number"),
            ("type string len", "a value after len"),
            ("type ip size k", "a number up to 4294967295"),
            ("type ip size 1k5", "a number up to 4294967295"),
            ("type ip size 4g", "a number up to 4294967295"),
            ("type ip size 1 expire h", "a number and us, ms, s, m, h or d"),
            ("type ip size 1 expire 5u", "a number and us, ms, s, m, h or d"),
            ("type ip size 1 expire 5S", "a number and us, ms, s, m, h or d"),
            ("type ip size 1 expire 25d", "at most 24 days"),
            ("type ip size 1 expire ''", "a value after expire"),
            ("type ip size 1 srvkey foo", "name or addr"),
            ("type ip size 1 srvkey", "a value after srvkey"),
            ("type ip size 1 peers", "a value after peers"),
            ("type ip size 1 write-to", "a value after write-to"),
            ("type ip size 1 brates-factor", "a value after brates-factor"),
            ("type ip size 1 brates-factor 0", "a number from 1 to 1024"),
            ("type ip size 1 brates-factor 1025", "a number from 1 to 1024"),
            ("type ip size 1 shards 2", "one of type, size, expire"),
            ("type ip size 1 peers 'mesh", "a second '"),
            ('type ip size 1 expire "${LIFE}"', "no variable"),
        ):
            problem = self.assertRaises(LocalProtocolError, parse, line)
            self.assertIn(expected, problem.expected, line)

    def test_refused_columns(self) -> None:
        """The same of what is behind ``store``."""
        for line, expected in (
            ("gpc0, gpc1", "no blank behind a comma"),
            ("'gpc0, gpc1'", "with no blank around it"),
            (",gpc0", "one of server_id"),
            ("gpc0(5)", "gpc0"),
            ("gpc0()", "gpc0"),
            ("gpc0_rate", "gpc0_rate(<period>)"),
            ("gpc0_rate()", "a number and us, ms, s, m, h or d"),
            ("gpc0_rate(10s", "a closing parenthesis"),
            ("gpc0_rate((10s)", "a number and us, ms, s, m, h or d"),
            ("gpc", "gpc(<elements>)"),
            ("gpc(3,10s)", "gpc(<elements>)"),
            ("gpc_rate(3)", "gpc_rate(<elements>,<period>)"),
            ("gpc(0)", "1 to 100"),
            ("gpc(-3)", "1 to 100"),
            ("gpc(101)", "1 to 100"),
            ("gpt(3),gpt0", "one of them"),
            ("gpt0 store gpt(3)", "one of them"),
            ("gpc(3),gpc0", "one of them"),
            ("gpc1,gpc(3)", "one of them"),
            ("gpc_rate(3,1s),gpc0_rate(1s)", "one of them"),
            ("gpc_rate(3,1s),gpc1_rate(1s)", "one of them"),
        ):
            problem = self.assertRaises(LocalProtocolError, stored, line)
            self.assertIn(expected, problem.expected, line)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any line is a declaration or a LocalProtocolError."""
        for line in (text, f"type ip size 1 store {text}", f"type string len {text}"):
            try:
                parse(line)
            except LocalProtocolError:
                pass

    def test_units(self) -> None:
        """Times and sizes with and without a unit."""
        for text, value in (("10", 10), ("1500us", 2), ("3ms", 3), ("2s", 2000), ("1d", 86400000)):
            self.assertEqual(milliseconds(text), value)
        for text, value in (("10", 10), ("1k", 1024), ("2m", 2 << 20), ("1G", 1 << 30)):
            self.assertEqual(entries(text), value)
        for text in ("", "x", "-1", "1.5s", "1 s", "10S", "٣", "9" * 5000):
            self.assertRaises(LocalProtocolError, milliseconds, text)
            self.assertRaises(LocalProtocolError, entries, text)
        self.assertRaises(LocalProtocolError, entries, "0")
        self.assertEqual((size("0", "size"), size("0" * 5000 + "7k", "size")), (0, 7168))
        for text in ("", "x", "+", "٣", "9" * 5000):
            self.assertRaises(LocalProtocolError, number, text, "len")

    def test_words(self) -> None:
        """Quotes, backslashes and comments as in haproxy.cfg."""
        for line, words in (
            ("  a\tb ", ["a", "b"]),
            ("a#b", ["a"]),
            ("a # b", ["a"]),
            (r"a\#b \"c\' d\ e", ["a#b", "\"c'", "d e"]),
            (r"st\ore \\ \ ", ["st\\ore", "\\", " "]),
            ("'a b'c \"d'e\" ''", ["a bc", "d'e", ""]),
            (
                r"'\' "
                r'"\"" $x',
                ["\\", '"', "$x"],
            ),
            ("a\\", ["a\\"]),
        ):
            self.assertEqual(split_words(line, "line"), words, line)

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import islice, takewhile

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from peerproto.runtime.protocol import RuntimeProtocol, runtime_commands
from peerproto.runtime.words import split_commands
from peerproto.service.service import StickTableService
from peerproto.service.text import format_key
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork
from peerproto.wire.keys import KeyType

TABLES = {
    "rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)",
    "paths": "type string len 20 size 1k store gpt(2),gpc(2),gpc_rate(2,10s),server_key,server_id",
    "ids": "type integer size 1k store gpc0",
    "hashes": "type binary len 4 size 1k store gpc0",
    "sixes": "type ipv6 size 1k store bytes_out_cnt",
}

_TURNS = 1000
"""Turns of the reactor after which an answer does not come any more."""


class RuntimeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.service = StickTableService("app", tables=TABLES, reactor=self.clock)
        self.commands = runtime_commands(self.service)

    def connect(self) -> RuntimeProtocol:
        protocol = RuntimeProtocol(self.commands, self.clock, self.service.mesh.turns)
        self.transport = StringTransport()
        protocol.makeConnection(self.transport)
        return protocol

    def ask(self, line: str) -> str:
        """The answer to a line, as a script gets it: until the connection ends."""
        protocol = self.connect()
        protocol.dataReceived(line.encode() + b"\n")
        # An answer takes as many turns as the machine is slow.
        turns = 0
        while not self.transport.disconnecting and turns < _TURNS:
            self.clock.advance(0)
            turns += 1
        self.assertTrue(self.transport.disconnecting)
        answer: str = self.transport.value().decode()
        return answer


class TableCommandTests(RuntimeTestCase):
    def test_show_tables(self) -> None:
        """Without a name, one line a table, and an empty line."""
        self.service.table("ids").set(1)
        lines = self.ask("show table").split("\n")
        self.assertEqual(lines[0], "# table: rates, type: ip, size:1048576, used:0")
        self.assertIn("# table: ids, type: integer, size:1024, used:1", lines)
        self.assertEqual(lines[-2:], ["", ""])

    def test_show_entries(self) -> None:
        """An entry is a line as HAProxy prints it."""
        self.service.table("rates").set("192.0.2.7", gpc0=3, http_req_rate=12)
        self.clock.advance(1)
        head, entry, *rest = self.ask("show table rates").split("\n")
        self.assertEqual(head, "# table: rates, type: ip, size:1048576, used:1")
        self.assertRegex(
            entry,
            r"^0x[0-9a-f]{12}: key=192\.0\.2\.7 use=0 exp=599000 shard=0 gpc0=3"
            r" http_req_rate\(10000\)=12$",
        )
        self.assertEqual(rest, ["", ""])

    def test_every_type(self) -> None:
        """Keys and values of every kind are printed and read."""
        self.ask(
            "set table paths key /a\\ b=c data.gpt0 1 data.gpt[1] 2 data.gpc_rate[1] 5"
            " data.server_key s1 data.server_id -1"
        )
        self.ask("set table hashes key 0aff data.gpc0 1")
        self.ask("set table sixes key 2001:db8::1 data.bytes_out_cnt 18446744073709551615")
        self.ask("set table ids key 4294967295")
        self.assertIn(
            "key=/a\\ b\\=c use=0 exp=0 shard=0 server_id=-1 server_key=s1 gpt0=1 gpt1=2"
            " gpc0=0 gpc1=0 gpc0_rate(10000)=0 gpc1_rate(10000)=5\n",
            self.ask("show table paths"),
        )
        self.assertIn("key=0AFF0000 use=0", self.ask("show table hashes"))
        self.assertIn("bytes_out_cnt=18446744073709551615", self.ask("show table sixes"))
        self.assertIn("key=4294967295 ", self.ask("show table ids"))
        self.ask("set table paths key /a\\ b=c data.server_key -")
        self.assertIn("server_key=- ", self.ask("show table paths"))

    def keys(self, line: str) -> list[str]:
        return sorted(re.findall(r": key=(\S+)", self.ask(line)))

    def test_filters(self) -> None:
        """Each operator, several filters together, and a key."""
        for number in (1, 2, 3):
            self.service.table("ids").set(number, gpc0=number)
        for operator, expected in (
            ("eq", "2"),
            ("ne", "13"),
            ("le", "12"),
            ("ge", "23"),
            ("lt", "1"),
            ("gt", "3"),
        ):
            self.assertEqual(self.keys(f"show table ids data.gpc0 {operator} 2"), list(expected))
        self.assertEqual(self.keys("show table ids data.gpc0 gt 1 data.gpc0 lt 3"), ["2"])
        self.assertEqual(self.keys("show table ids key 3"), ["3"])
        self.assertEqual(self.keys("show table ids key 3 data.gpc0 lt 3"), [])
        self.assertEqual(self.ask("show table ids key 9"), "\n")

    def answer_in_turns(self, line: str, meanwhile: Callable[[], object]) -> list[str]:
        """The answer to a command for which something happens after some entries."""
        answer = self.commands.answer(line.split())
        pieces = list(islice(answer, 20))
        meanwhile()
        return [one for one in (*pieces, *answer) if one]

    def declare(self, line: str) -> Callable[[], object]:
        return partial(self.service.declare_table, Declaration.parse("ids", line))

    def test_columns_that_come_meanwhile(self) -> None:
        """A filter is about the value that it names, wherever that stands by now."""
        more = self.declare("type integer size 1k store gpt0,gpc0")
        for number in range(100):
            self.service.table("ids").set(number, gpc0=1)
        self.assertEqual(self.answer_in_turns("clear table ids data.gpc0 eq 0", more), [])
        self.assertEqual(len(self.service.table("ids")), 100)
        self.declare("type integer size 1k store gpc0")()
        _, *entries = self.answer_in_turns("show table ids data.gpc0 eq 1", more)
        self.assertEqual(len(entries), 100)

    def test_columns_that_go_meanwhile(self) -> None:
        """A filter whose value is stored no longer ends the command, which says so."""
        for command in ("show", "clear"):
            for number in range(100):
                self.service.table("ids").set(number, gpc0=1)
            less = self.declare("type integer size 1k store gpt0")
            *_, said = self.answer_in_turns(f"{command} table ids data.gpc0 eq 1", less)
            self.assertEqual(
                said, "filter: read 'data.gpc0', expected a data type that is stored\n"
            )
            self.assertEqual(len(self.service.table("ids")), 100)
            self.declare("type integer size 1k store gpc0")()

    def test_entries_that_change_meanwhile(self) -> None:
        """An entry that changed since it was looked at is removed only if it is still meant."""
        ids = self.service.table("ids")

        def set_all(value: int) -> None:
            for number in range(100):
                ids.set(number, gpc0=value)

        set_all(1)
        self.answer_in_turns("clear table ids data.gpc0 eq 1", partial(set_all, 2))
        self.assertEqual(len(ids), 100)
        self.answer_in_turns("clear table ids data.gpc0 eq 2", partial(ids.set, 1, gpc0=1))
        self.assertEqual([entry.key for entry in ids], [1])

    def test_tables_that_go_meanwhile(self) -> None:
        """A command about a table that is gone ends, and says so."""
        for command in ("show", "clear"):
            ids = self.service.table("ids")
            for number in range(100):
                ids.set(number, gpc0=1)
            strings = self.declare("type string size 1k store gpc0")
            *_, said = self.answer_in_turns(f"{command} table ids data.gpc0 eq 1", strings)
            self.assertEqual(
                said, "table ids: read 'one that is gone', expected one that the service has\n"
            )
            self.declare("type integer size 1k store gpc0")()

    def test_byte_rates(self) -> None:
        """With brates-factor, byte rates are printed and compared in bytes, and set in blocks."""
        line = "type integer size 1k store bytes_in_rate(10s) brates-factor 16"
        self.service.add_table(Declaration.parse("bytes", line))
        self.ask("set table bytes key 1 data.bytes_in_rate 3")
        self.assertIn("bytes_in_rate(10000)=48\n", self.ask("show table bytes"))
        self.assertEqual(self.keys("show table bytes data.bytes_in_rate gt 47"), ["1"])
        self.assertEqual(self.keys("show table bytes data.bytes_in_rate gt 48"), [])

    def test_array_elements_by_both_names(self) -> None:
        """data.gpc0_rate and data.gpc_rate[0] are the same."""
        self.ask("set table paths key a data.gpc0_rate 7 data.gpc[1] 3")
        for name in ("gpc0_rate", "gpc_rate[0]"):
            self.assertEqual(self.keys(f"show table paths data.{name} eq 7"), ["a"])
            self.assertEqual(self.keys(f"show table paths data.{name} eq 6"), [])
        self.assertEqual(self.keys("show table paths data.gpc1 eq 3"), ["a"])

    def test_set_is_a_local_change(self) -> None:
        """What is set goes to the peers."""
        network = MemoryNetwork()
        other = network.peer("other", TABLES)
        here = network.peer("here", TABLES)
        network.start()
        (words,) = split_commands("set table ids key 7 data.gpc0 4")
        answer = "".join(runtime_commands(here).answer(words))
        network.advance(0)
        self.assertEqual(answer, "")
        self.assertEqual(other.table("ids")[7]["gpc0"], 4)
        "".join(runtime_commands(here).answer(["clear", "table", "ids"]))
        network.advance(10)
        self.assertEqual((len(here.table("ids")), len(other.table("ids"))), (0, 1))
        network.stop()

    def test_clear(self) -> None:
        """By key, by filter, and all; help says that it is local."""
        for number in range(10):
            self.service.table("ids").set(number, gpc0=number)
        self.assertEqual(self.ask("clear table ids key 3"), "\n")
        self.assertEqual(len(self.service.table("ids")), 9)
        self.ask("clear table ids data.gpc0 ge 5")
        self.assertEqual(self.keys("show table ids"), ["0", "1", "2", "4"])
        self.ask("clear table ids")
        self.assertEqual(self.keys("show table ids"), [])
        self.assertRegex(self.ask("help clear"), r"clear table .*here only")

    def test_forget(self) -> None:
        """By key, by filter, and all; what is gone is not here, and is told to peers."""
        table = self.service.table("ids")
        for number in range(10):
            table.set(number, gpc0=number)
        self.assertEqual(self.ask("forget table ids key 3"), "\n")
        self.assertEqual((len(table), table.status().tombstones), (9, 1))
        self.ask("forget table ids data.gpc0 ge 5")
        self.assertEqual(self.keys("show table ids"), ["0", "1", "2", "4"])
        self.ask("forget table ids key 4 data.gpc0 eq 5")
        self.assertEqual((len(table), table.status().tombstones), (4, 6))
        self.ask("forget table ids")
        self.assertEqual((len(table), table.status().tombstones), (0, 10))
        self.assertRegex(self.ask("help forget"), r"forget table .*all peers")

    def test_clear_by_value_in_steps(self) -> None:
        """However many entries have a value: they are removed as they are found."""
        table = self.service.table("rates")
        for number in range(1000):
            table.set(f"192.0.{number // 250}.{number % 250}", gpc0=1)
        answer = self.commands.answer(["clear", "table", "rates", "data.gpc0", "eq", "1"])
        for _ in range(600):
            next(answer)
        self.assertEqual(len(table), 500)
        self.assertEqual("".join(answer), "")
        self.assertEqual(len(table), 0)

    def test_many_expired(self) -> None:
        """Entries that have expired are neither shown nor gone through in one step."""
        table = self.service.table("rates")
        for number in range(10):
            table.set(f"192.0.2.{number}", gpc0=1)
        self.clock.advance(601)
        self.assertEqual(([entry for _, entry in table.walk()], list(table)), ([None] * 10, []))
        head, *entries = self.commands.answer(["show", "table", "rates"])
        self.assertIn("used:10", head)
        self.assertEqual(entries, [""] * 10)

    def test_wrong_commands(self) -> None:
        """What is wrong is said, with how it is right; nothing changes."""
        for line, words in (
            ("show table none", "No such table: 'none'. There are: rates"),
            ("show table rates nonsense", "Neither a key nor a filter: 'nonsense'"),
            ("show table rates key", "A key is missing"),
            ("show table rates key 192.0.2", "Invalid key: read '192.0.2'"),
            ("show table rates data.gpt0 eq 1", "There are: data.gpc0, data.http_req_rate"),
            ("show table rates data.gpc0 is 1", "Require an operator among eq, ne"),
            ("show table rates data.gpc0 eq", "Require an operator"),
            ("show table rates data.gpc0 eq x", "expected a whole number"),
            ("show table paths data.server_key eq 1", "cannot be compared"),
            ("set table", "The name of a table is missing"),
            ("set table rates", "A key is missing"),
            ("set table rates key", "A key is missing"),
            ("set table rates key 192.0.2.1 gpc0 1", "Data type not stored"),
            ("set table rates key 192.0.2.1 data.gpc0", "A value is missing"),
            ("set table rates key 192.0.2.1 data.gpc0 x", "expected a whole number"),
            ("set table rates key 192.0.2.1 data.gpc0 4294967296", "0 to 2**32 - 1"),
            ("set table hashes key xyz", "hexadecimal"),
            ("set table ids key one", "decimal number"),
            ("set table sixes key fe80::1%lo", "expected an IPv6 address without a zone"),
            ("clear table", "The name of a table is missing"),
            ("show peers nobody", "No such peer: 'nobody'"),
        ):
            answer = self.ask(line)
            self.assertIn(words, answer, line)
            self.assertIn("\nUsage: ", answer, line)
        self.assertEqual([len(table) for table in self.service.tables], [0] * 5)
        for line in ("nonsense", "show", "show nothing", "help"):
            self.assertIn("The following commands are valid:\n", self.ask(line))


class OtherCommandTests(RuntimeTestCase):
    def test_show_info(self) -> None:
        """Name: value lines."""
        self.service.table("ids").set(1)
        self.service.startService()
        self.clock.advance(90061)
        answer = self.ask("show info")
        for line in ("Name: peerproto", "Localpeer: app", "Entries: 1", "Up_to_date: 1"):
            self.assertIn(line + "\n", answer)
        self.assertIn("Uptime: 1d 1h01m01s\n", answer)
        self.service.stopService()

    def test_show_peers(self) -> None:
        """Each peer with its counters, its tables, and in words what is wrong with it."""
        network = MemoryNetwork()
        here = network.peer("here", TABLES)
        network.peer("good", TABLES)
        network.peer("other", {"rates": "type string len 9 size 1k store gpc0"})
        here.expect_peer("absent")
        network.start()
        network.advance(6)
        network.services["other"].table("rates").set("x", gpc0=1)
        here.table("ids").set(1)
        network.advance(0)
        answer = "".join(runtime_commands(here).answer(["show", "peers"]))
        self.assertIn("id=here disabled=0 resync=up_to_date", answer)
        self.assertRegex(answer, r"id=good\(remote,active\) .* last_status=ESTA last_hdshk=6s\n")
        self.assertIn("in_step=yes\n", answer)
        self.assertIn(
            "in_step=no: table rates differs in key type: string there, ip here\n", answer
        )
        self.assertIn("in_step=no: not connected yet\n", answer)
        self.assertRegex(answer, r"last_pushed=1 last_get=0 teaching_origin=1 update=1\n")
        self.assertNotIn("expire differs", answer)
        one = "".join(runtime_commands(here).answer(["show", "peers", "absent"]))
        self.assertEqual(one.count("(remote,"), 1)
        network.stop()

    def test_show_peers_while_all_goes(self) -> None:
        """Peers and tables that go while the answer is read are in it as they were."""
        network = MemoryNetwork()
        here = network.peer("here", {"a": TABLES["ids"], "b": TABLES["ids"]})
        network.peer("there", {"a": TABLES["ids"], "b": TABLES["ids"]})
        here.expect_peer("absent")
        network.start()
        network.advance(6)
        answer = runtime_commands(here).answer(["show", "peers", "there", "absent"])
        before = list(takewhile(lambda piece: "shared tables:" not in piece, answer))
        self.assertIn("id=there(remote,active)", "".join(before))
        here.remove_table("b")
        here.remove_peer("absent")
        rest = "".join(answer)
        self.assertEqual(re.findall(r"table:\S+ id=(\w+)", rest), ["a", "b"])
        self.assertIn("id=absent(remote,inactive)", rest)
        network.stop()

    def test_show_peers_with_another_expire(self) -> None:
        """An expiry that differs is named; the peer is in step all the same."""
        network = MemoryNetwork()
        here = network.peer("here", {"a": "type ip size 1k expire 20s", "b": "type ip size 1k"})
        there = network.peer("there", {"a": "type ip size 1k expire 1h", "b": "type ip size 1k"})
        network.start()
        network.advance(6)
        there.table("a").set("192.0.2.1")
        there.table("b").set("192.0.2.1")
        network.advance(0)
        for service, words in (
            (here, "              expire differs: 3600000 ms there, 20000 ms here\n"),
            (there, "              expire differs: 20000 ms there, 3600000 ms here\n"),
        ):
            answer = "".join(runtime_commands(service).answer(["show", "peers"]))
            self.assertEqual(answer.count("expire differs"), 1)
            self.assertIn(words, answer)
            self.assertIn("in_step=yes\n", answer)
        network.stop()


class ConnectionTests(RuntimeTestCase):
    def test_several_commands(self) -> None:
        """Commands between semicolons are answered in order, each with an empty line."""
        answer = self.ask("show table ids; show table sixes;")
        self.assertEqual(
            answer,
            "# table: ids, type: integer, size:1024, used:0\n\n"
            "# table: sixes, type: ipv6, size:1024, used:0\n\n",
        )

    def test_one_line_only(self) -> None:
        """After one line the connection ends; a second one is not read."""
        protocol = self.connect()
        protocol.dataReceived(b"show table ids\nclear table ids\n")
        self.service.table("ids").set(1)
        self.clock.advance(0)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(len(self.service.table("ids")), 1)

    def test_prompt(self) -> None:
        """With prompt the connection stays, until quit."""
        protocol = self.connect()
        protocol.dataReceived(b"prompt\n")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"\n> ")
        for _ in range(2):
            self.transport.clear()
            protocol.dataReceived(b"show table ids\n")
            self.clock.advance(0)
            self.assertTrue(self.transport.value().endswith(b"used:0\n\n\n> "))
        protocol.dataReceived(b"quit\n")
        self.clock.advance(0)
        self.assertTrue(self.transport.disconnecting)

    def test_slow_reader(self) -> None:
        """A long answer waits for its reader, in slices, and shows what is there then."""
        for number in range(5000):
            self.service.table("ids").set(number % 1000 + number // 1000 * 1000)
        protocol = self.connect()
        protocol.dataReceived(b"show table ids\n")
        reader = self.transport.producer
        assert reader is not None
        reader.pauseProducing()
        self.clock.advance(1)
        written = self.transport.value().count(b"key=")
        self.assertLess(written, 600)
        reader.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.transport.value().count(b"key="), len(self.service.table("ids")))

    def test_goes_away(self) -> None:
        """A reader that goes away in the middle of an answer leaves nothing behind."""
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        protocol = self.connect()
        protocol.dataReceived(b"show table\n")
        protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.clock.calls, [])

    def test_overlong_line(self) -> None:
        """A line without end is answered, not kept."""
        protocol = self.connect()
        protocol.dataReceived(b"x" * 20000)
        self.assertIn(b"16384", self.transport.value())
        self.assertTrue(self.transport.disconnecting)

    def test_failure_is_logged(self) -> None:
        """A command that fails is logged, and its reader is told so."""
        del self.service.node.tables["ids"].declaration
        self.assertIn("Internal error", self.ask("show table ids"))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    @given(st.text())
    def test_any_line(self, line: str) -> None:
        """Any line is answered, and no exception escapes."""
        self.setUp()
        protocol = self.connect()
        protocol.dataReceived(line.encode("utf-8", "surrogatepass") + b"\n")
        self.clock.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_split(self) -> None:
        """Backslashes take away the meaning of blanks, semicolons and themselves."""
        self.assertEqual(
            split_commands(r"set table t key a\ b\;c\\d ; show  info;;x\\"),
            [["set", "table", "t", "key", "a b;c\\d"], ["show", "info"], ["x\\"]],
        )

    def test_key_escapes(self) -> None:
        """Strings are escaped as HAProxy's dump does."""
        self.assertEqual(
            format_key(b"a=b\\c d\te\nf\rg\x1bh\x00i\xff", KeyType.STRING),
            r"a\=b\\c\ d\te\nf\rg\eh\x00i\xFF",
        )

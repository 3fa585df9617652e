"""Queries: walks, pages, the highest values, and what entries can be chosen by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.filters import OPERATORS, Condition, Filter, Network, Prefix
from peerproto.service.query import Cursor, Rank, StaleCursor
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.wire.errors import LocalProtocolError

EXPIRE = 20
"""Seconds."""


def line(columns: str, key: str = "integer") -> str:
    return f"type {key} size 1k expire {EXPIRE}s store {columns}"


class Walks(RuleBasedStateMachine):
    """A table that changes in any way, while it is walked through in pieces of any length."""

    numbers = st.lists(st.integers(0, 3000), min_size=1, max_size=40)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.service = StickTableService("us", tables={"t": line("gpc0")}, reactor=self.clock)
        self.table = self.service.table("t")
        self.ends: dict[int, float] = {}
        """When each entry expires."""
        self.begin()

    def begin(self) -> None:
        self.cursor: Optional[Cursor] = None
        self.stayed = set(self.ends)
        self.came: list[int] = []

    @rule(numbers=numbers)
    def set(self, numbers: list[int]) -> None:
        for number in numbers:
            self.table.set(number, gpc0=number)
            self.ends[number] = self.clock.seconds() + EXPIRE

    @rule(numbers=numbers)
    def remove(self, numbers: list[int]) -> None:
        for number in numbers:
            self.table.remove(number)
            self.ends.pop(number, None)
            self.stayed.discard(number)

    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.ends.clear()
        self.stayed.clear()

    @rule(columns=st.sampled_from(("gpc0", "gpc0,gpc1", "gpt0,gpc0")))
    def declare_anew(self, columns: str) -> None:
        self.service.declare_table(Declaration.parse("t", line(columns)))

    @rule(seconds=st.integers(1, 9))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        now = self.clock.seconds()
        self.ends = {number: end for number, end in self.ends.items() if end > now}
        self.stayed &= set(self.ends)

    @rule(steps=st.integers(1, 60))
    def walk_on(self, steps: int) -> None:
        for cursor, entry in self.table.walk(self.cursor):
            self.take(entry)
            self.cursor = Cursor.parse(str(cursor))
            assert self.cursor == cursor
            steps -= 1
            if not steps:
                return
        self.end()

    @rule(limit=st.integers(1, 60))
    def page_on(self, limit: int) -> None:
        page = self.table.page(limit, self.cursor)
        assert len(page.entries) <= limit
        for entry in page.entries:
            self.take(entry)
        self.cursor = page.after
        if page.after is None:
            self.end()

    def take(self, entry: Optional[Entry]) -> None:
        if entry is not None:
            assert isinstance(entry.key, int)
            assert entry["gpc0"] == entry.key
            self.came.append(entry.key)

    def end(self) -> None:
        assert len(self.came) == len(set(self.came))
        assert self.stayed <= set(self.came)
        self.begin()

    def teardown(self) -> None:
        for cursor, entry in self.table.walk(self.cursor):
            assert cursor is not None
            self.take(entry)
        self.end()


class QueryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        tables = {
            "t": line("gpc0,server_key"),
            "names": line("gpc0", "string len 32"),
            "ip": line("gpc0", "ip"),
            "ipv6": line("gpc0", "ipv6"),
        }
        self.service = StickTableService("us", tables=tables, reactor=self.clock)
        self.table = self.service.table("t")

    def fill(self, count: int) -> None:
        for one in range(count):
            self.table.set(one, gpc0=one % 10)

    def chosen(self, table: StickTable, *conditions: Condition) -> list[Any]:
        return sorted(str(entry.key) for entry in table.page(1000, None, *conditions).entries)

    def test_walk(self) -> None:
        """An entry that stays comes exactly once, however the table changes, and wherever the walk
        is left and begun again."""
        run_state_machine_as_test(Walks)

    def test_walk_with_conditions(self) -> None:
        """A walk gives ``None`` for what is not meant."""
        self.fill(100)
        steps = [entry for _, entry in self.table.walk(None, Filter("gpc0", "lt", 3))]
        self.assertEqual((len(steps), steps.count(None)), (100, 70))

    def test_pages(self) -> None:
        """Pages have as many entries as asked for, and the last one has no cursor."""
        self.fill(25)
        sizes, cursor = [], None
        while True:
            page = self.table.page(10, cursor)
            sizes.append(len(page.entries))
            cursor = page.after
            if cursor is None:
                break
        self.assertEqual(sizes, [10, 10, 5])
        self.assertEqual(len(self.table.page(10, None, Filter("gpc0", "eq", 3)).entries), 3)
        self.assertEqual(self.table.page(10, None, Filter("gpc0", "eq", 99)).entries, [])

    def test_other_tables(self) -> None:
        """A cursor is refused by another table, by one of its name that begins anew, and by
        another process."""
        self.fill(5)
        cursor = self.table.page(1).after
        names = self.service.table("names")
        self.assertRaises(StaleCursor, list, names.walk(cursor))
        self.service.declare_table(Declaration.parse("t", line("gpc0", "string")))
        self.assertRaises(LocalProtocolError, self.table.page, 1, cursor)
        anew = self.service.table("t")
        problem = self.assertRaises(StaleCursor, anew.page, 1, cursor)
        self.assertIn("expected one of this table, and of this process", str(problem))
        again = StickTableService("us", tables={"t": line("gpc0")}, reactor=self.clock)
        self.assertRaises(StaleCursor, again.table("t").page, 1, cursor)

    def test_text_of_cursors(self) -> None:
        """A cursor as text is read back, for keys of all types; other text is refused."""
        for table, key in (
            ("t", 1),
            ("names", ""),
            ("names", "a key / with + all"),
            ("ip", "192.0.2.1"),
            ("ipv6", "2001:db8::1"),
        ):
            self.service.table(table).set(key)
            for cursor, _ in self.service.table(table).walk():
                self.assertEqual(Cursor.parse(str(cursor)), cursor)
                self.assertRegex(str(cursor), r"^[\w-]+$")
        for wrong in ("", "x", "AAAAAAAA", "AAAAAAAAAAA=", "käse" * 4, "AAAAAAAAAA\n", "!" * 12):
            problem = self.assertRaises(LocalProtocolError, Cursor.parse, wrong)
            self.assertIn("expected the text of a cursor", str(problem))

    def test_table_goes(self) -> None:
        """A walk through a table that goes meanwhile says so, also at its end."""
        self.fill(3)
        walk, ending = self.table.walk(), self.table.walk()
        next(walk)
        for _ in range(3):
            next(ending)
        self.service.remove_table("t")
        for one in (walk, ending):
            self.assertIn("one that is gone", str(self.assertRaises(LocalProtocolError, next, one)))

    def test_top(self) -> None:
        """The highest values come first, or the lowest; fewer of them are the first of more."""
        for one in range(50):
            self.table.set(one, gpc0=one * 7 % 50)

        def values(entries: Iterable[Entry]) -> list[object]:
            return [entry["gpc0"] for entry in entries]

        self.assertEqual(values(self.table.top(3, "gpc0")), [49, 48, 47])
        self.assertEqual(values(self.table.top(3, "gpc0", lowest=True)), [0, 1, 2])
        few = Filter("gpc0", "lt", 5)
        self.assertEqual(values(self.table.top(9, "gpc0", few)), [4, 3, 2, 1, 0])
        self.assertEqual(self.table.top(0, "gpc0"), [])
        for one in range(50):
            self.table.set(one, gpc0=1)
        first = [entry.key for entry in self.table.top(5, "gpc0")]
        self.assertEqual(first, [entry.key for entry in self.table.top(50, "gpc0")][:5])

    def test_wrong_names(self) -> None:
        """A value that the table does not store, or that is no number, is refused at once."""
        for name in ("gpc1", "server_key"):
            for asking in (
                lambda name=name: self.table.top(1, name),
                lambda name=name: self.table.page(1, None, Filter(name, "eq", 1)),
                lambda name=name: self.table.walk(None, Filter(name, "eq", 1)),
            ):
                self.assertIn(f"data.{name}", str(self.assertRaises(LocalProtocolError, asking)))

    def test_prefix(self) -> None:
        """A prefix chooses among strings, and no others."""
        names = self.service.table("names")
        for name in ("abc", "abd", "b", "ab\udcff", ""):
            names.set(name)
        self.assertEqual(self.chosen(names, Prefix("ab")), ["abc", "abd", "ab\udcff"])
        self.assertEqual(self.chosen(names, Prefix("ab\udcff")), ["ab\udcff"])
        self.assertRaises(LocalProtocolError, self.table.page, 1, None, Prefix("ab"))

    def test_network(self) -> None:
        """A network chooses among addresses; one of IPv4 also where they stand in IPv6."""
        ip, ipv6 = self.service.table("ip"), self.service.table("ipv6")
        for address in ("192.0.2.1", "192.0.3.1", "10.0.0.1"):
            ip.set(address)
            ipv6.set(f"::ffff:{address}")
        for address in ("2001:db8::1", "2001:db9::1", "::192.0.2.1"):
            ipv6.set(address)
        self.assertEqual(self.chosen(ip, Network("192.0.2.0/23")), ["192.0.2.1", "192.0.3.1"])
        self.assertEqual(self.chosen(ip, Network("10.0.0.1")), ["10.0.0.1"])
        self.assertEqual(len(self.chosen(ip, Network("0.0.0.0/0"))), 3)
        self.assertEqual(len(self.chosen(ipv6, Network("192.0.2.0/24"))), 1)
        self.assertEqual(len(self.chosen(ipv6, Network("0.0.0.0/0"))), 3)
        self.assertEqual(self.chosen(ipv6, Network("2001:db8::/32")), ["2001:db8::1"])
        self.assertEqual(len(self.chosen(ipv6, Network("::/0"))), 6)
        self.assertRaises(LocalProtocolError, ip.page, 1, None, Network("::/0"))
        self.assertRaises(LocalProtocolError, self.table.page, 1, None, Network("10.0.0.0/8"))
        problem = self.assertRaises(LocalProtocolError, Network, "10.0.0.1/8")
        self.assertIn("read '10.0.0.1/8', expected a network", str(problem))

    def test_in_turns(self) -> None:
        """What takes long is done in turns with others, and gives the same."""
        self.fill(1000)
        page = self.table.page_in_turns(5, None, Filter("gpc0", "eq", 3))
        top = self.table.top_in_turns(5, "gpc0", lowest=True)
        none = self.table.page_in_turns(5, None, Filter("gpc0", "eq", 99))
        self.assertNoResult(none)
        self.clock.pump([0.01] * 50)
        wanted = self.table.page(5, None, Filter("gpc0", "eq", 3))
        lowest = self.table.top(5, "gpc0", lowest=True)
        for done, now in (
            (self.successResultOf(page).entries, wanted.entries),
            (self.successResultOf(top), lowest),
        ):
            self.assertEqual([entry.key for entry in done], [entry.key for entry in now])
        self.assertEqual(self.successResultOf(none).entries, [])

    def test_looks(self) -> None:
        """A page ends early, with a cursor, once so many keys were looked at."""
        self.fill(1000)
        nothing = Filter("gpc0", "eq", 99)
        found = self.table.page_in_turns(5, None, nothing, looks=100)
        self.clock.pump([0] * 5)
        page = self.successResultOf(found)
        self.assertEqual(page.entries, [])
        pages = 1
        while page.after is not None:
            found = self.table.page_in_turns(5, page.after, nothing, looks=100)
            self.clock.pump([0] * 5)
            page = self.successResultOf(found)
            pages += 1
        self.assertLess(pages, 12)
        self.assertGreater(pages, 3)

    def ranked(self, table: StickTable, by: str, *conditions: Condition, **more: Any) -> list[Any]:
        """All entries in the order of a value, some at a time."""
        entries: list[Any] = []
        after = None
        while True:
            waiting = table.ranked_in_turns(7, by, *conditions, after=after, **more)
            self.clock.pump([0] * 600)
            some = self.successResultOf(waiting)
            entries += [entry for _, entry in some]
            if len(some) < 7:
                return entries
            after = Rank.parse(str(some[-1][0]))
            self.assertEqual(after, some[-1][0])

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_ranked(self, data: st.DataObject) -> None:
        """All entries come in the order of any value, each once, also if rows are of earlier
        declarations; among filters that are about any value, too."""
        numbers = st.integers(0, 5) | st.integers(0, 0xFFFFFFFF)
        columns = "server_id,gpc0,bytes_in_rate(10s),gpt(2),http_req_rate(10s),server_key"
        early = f"{columns},bytes_in_cnt"
        self.service.declare_table(Declaration.parse("t", "type string len 9 size 1k store gpt0"))
        brates = " brates-factor 3"
        self.service.declare_table(Declaration.parse("t", line(early) + brates))
        table = self.service.table("t")
        names = [cell.name for cell in table.layout.printed if not cell.is_text]
        small = {"server_id": st.integers(-3, 3), "bytes_in_cnt": st.integers(0, 1 << 63)}
        rows = st.fixed_dictionaries({name: small.get(name, numbers) for name in names})
        for key in range(data.draw(st.integers(0, 30))):
            table.set(key, {**data.draw(rows), "server_key": f"s{key}"})
            self.clock.advance(data.draw(st.sampled_from((0, 0, 0.5))))
        if data.draw(st.booleans()):
            self.service.declare_table(Declaration.parse("t", line(f"gpc1,{columns}") + brates))
            for key in range(5):
                table.set(key, gpc0=key)
        names = [cell.name for cell in table.layout.printed if not cell.is_text]
        by, about = (data.draw(st.sampled_from(names)) for _ in range(2))
        lowest = data.draw(st.booleans())
        one = Filter(about, data.draw(st.sampled_from(list(OPERATORS))), data.draw(numbers))
        conditions = data.draw(st.sampled_from(((), (one,))))
        wanted = [entry for entry in table if all(means(entry) for means in conditions)]
        found = self.ranked(table, by, *conditions, lowest=lowest)
        values = [entry.number(by) for entry in found]
        self.assertEqual(values, sorted(values, reverse=not lowest))
        keys = [entry.key for entry in found]
        self.assertEqual(sorted(keys, key=str), sorted((one.key for one in wanted), key=str))
        page = table.page(100, None, *conditions).entries
        self.assertEqual({one.key for one in page}, set(keys))

    def test_text_of_ranks(self) -> None:
        """A rank as text is read back; other text is refused, and so is the rank of a table that
        is gone."""
        rank = Rank(-(1 << 64) + 1, "00112233aabb", 255, b"key")
        self.assertEqual(Rank.parse(str(rank)), rank)
        for wrong in ("", "x", "A" * 21, str(rank) + "=", "käse" * 9, str(rank)[:-1] + "!"):
            self.assertRaises(LocalProtocolError, Rank.parse, wrong)
        waiting = self.table.ranked_in_turns(1, "gpc0", after=rank)
        self.clock.advance(0)
        self.failureResultOf(waiting, StaleCursor)

    def test_walk_in_turns(self) -> None:
        """``async for`` goes through the table in turns with others."""
        self.fill(300)
        came: list[object] = []

        async def walk() -> None:
            async for _, entry in self.table.walk_in_turns():
                assert entry is not None
                came.append(entry.key)

        done = Deferred.fromCoroutine(walk())
        self.assertEqual(len(came), 64)
        self.clock.pump([0] * 5)
        self.successResultOf(done)
        self.assertEqual(sorted(came, key=str), sorted(range(300), key=str))

    def test_given_up(self) -> None:
        """What is cancelled goes no step further; when the service stops, all is."""
        self.fill(1000)
        self.service.startService()
        never = Filter("gpc0", "eq", 99)
        cancelled, stopped = (self.table.page_in_turns(5, None, never) for _ in range(2))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.service.stopService()
        self.assertEqual(str(self.failureResultOf(stopped, CancelledError).value), "the node stops")
        self.clock.pump([0.01] * 5)

    def test_fails_meanwhile(self) -> None:
        """What goes wrong in a later turn fails the Deferred, and no other's work."""
        self.fill(1000)
        never = Filter("gpc0", "eq", 99)
        failing, other = self.table.page_in_turns(5, None, never), self.service.table("ip")
        self.service.remove_table("t")
        other.set("192.0.2.1")
        found = other.page_in_turns(5)
        self.clock.pump([0.01] * 50)
        self.failureResultOf(failing, LocalProtocolError)
        self.assertEqual(len(self.successResultOf(found).entries), 1)

"""The screen, by textual's own pilot: it shows what a real node says, and asks it for no more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Optional

import attrs
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from peerproto.terminal.node import NodeError, Selection, Unreachable
from peerproto.terminal.top.app import Top
from peerproto.terminal.top.finding import selection_of
from peerproto.terminal.top.looking import ROWS
from peerproto.terminal.top.panels import (
    AggregatesPanel,
    EntriesPanel,
    Panel,
    PeersPanel,
    TablesPanel,
)
from peerproto.terminal.top.trend import LENGTH, Trends, sparkline
from peerproto.terminal.values import EntryInfo, TableInfo
from tests.terminal.case import TerminalTestCase

INTERVAL = 0.1

PATIENCE = 60.0
"""Seconds after which something counts as not coming."""


@attrs.define
class Slowly:
    """A node that can be away, and counts what it is asked for."""

    inner: Any
    away: bool = False
    refuses: bool = False
    """Whether it says no, whatever it is asked."""
    asked: list[Selection] = attrs.Factory(list)
    answers: threading.Event = attrs.Factory(threading.Event)
    """Whether it answers at all."""
    gone: Optional[str] = None
    """A table that it has not at present."""

    def __attrs_post_init__(self) -> None:
        self.answers.set()

    def tables(self) -> list[TableInfo]:
        """See `Node`."""
        return [one for one in self.inner.tables() if one.name != self.gone]

    def __getattr__(self, name: str) -> Any:
        self.answers.wait(PATIENCE)
        if self.refuses:
            raise NodeError("not now")
        if self.away:
            raise Unreachable("nobody is there")
        return getattr(self.inner, name)

    def entries(self, table: TableInfo, selection: Selection) -> Any:
        """See `Node`."""
        self.asked.append(selection)
        return self.inner.entries(table, selection)


class TopTestCase(TerminalTestCase):
    def setUp(self) -> None:
        super().setUp()
        for number in range(150):
            self.service.table("rates").set(f"192.0.2.{number}", gpc0=number, http_req_rate=150)
        self.service.table("paths").set("[red]/a\x1b[31m", gpc0=1)
        self.node = Slowly(self.ways["runtime"])

    def screen(
        self,
        steps: Callable[[Pilot[None]], Awaitable[None]],
        size: tuple[int, int] = (80, 24),
        table: Optional[str] = None,
    ) -> None:
        """Run the screen, and do something with it."""

        async def run() -> None:
            self.app = Top(self.node, table, INTERVAL)
            async with self.app.run_test(size=size, notifications=True) as pilot:
                await self.until(pilot, lambda: self.app.query_one(TablesPanel).rows.row_count > 0)
                await steps(pilot)

        asyncio.run(run())

    async def until(self, pilot: Pilot[None], holds: Callable[[], Any]) -> None:
        """Let the screen go on until something holds."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if holds():
                return
            await pilot.pause(0.01)
        self.fail("it never came")

    def cells(self, kind: type[Panel] = EntriesPanel) -> list[list[str]]:
        """What stands in the rows of a panel."""
        rows = self.app.query_one(kind).rows
        return [
            [cell.plain for cell in rows.get_row_at(number)] for number in range(rows.row_count)
        ]

    def keys(self) -> list[str]:
        return [row[0] for row in self.cells()]

    def notes(self) -> str:
        """What is said in the corner."""
        return " ".join(str(one.render()) for one in self.app.screen.query("Toast"))

    def said(self, what: str = "#head") -> str:
        return str(self.app.query_one(what, Static).render())


class ScreenTests(TopTestCase):
    def test_panels(self) -> None:
        """A narrow terminal shows one panel at a time, a wide one all of them."""

        async def narrow(pilot: Pilot[None]) -> None:
            for key, kind in (("1", TablesPanel), ("3", PeersPanel), ("2", EntriesPanel)):
                await pilot.press(key)
                await pilot.pause()
                shown = [one for one in self.app.query(Panel) if one.region.width > 0]
                self.assertEqual([type(one) for one in shown], [kind])
                self.assertEqual(shown[0].size.width, 80)

        async def wide(pilot: Pilot[None]) -> None:
            await pilot.pause()
            shown = [one for one in self.app.query(Panel) if one.region.width > 0]
            self.assertEqual(len(shown), 4)

        self.screen(narrow)
        self.screen(wide, (200, 60))

    def test_top_alone(self) -> None:
        """The highest entries alone are asked for, and sorted by any value, both ways."""

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("less_than_sign")
            await self.until(pilot, lambda: self.keys()[:2] == ["192.0.2.149", "192.0.2.148"])
            self.assertEqual(len(self.keys()), ROWS)
            await pilot.press("r")
            await self.until(pilot, lambda: self.keys()[:2] == ["192.0.2.0", "192.0.2.1"])

        self.screen(steps)
        self.assertEqual({one.top for one in self.node.asked}, {ROWS})

    def test_first_and_last(self) -> None:
        """Home goes to the first row, and End to the last, as the help says."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: len(self.keys()) == ROWS)
            panel = self.app.query_one(EntriesPanel)
            for key, row in (("end", ROWS - 1), ("home", 0)):
                await pilot.press(key)
                await self.until(pilot, partial(self.has_chosen, panel, row))

        self.screen(steps, table="rates")

    def has_chosen(self, panel: Panel, row: int) -> bool:
        return panel.chosen == row

    def test_choose_a_table(self) -> None:
        """Enter shows the entries of the table that the cursor is on, and nothing in them is
        obeyed."""

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("1", "down", "enter")
            await self.until(pilot, lambda: self.keys() == [r"[red]/a\x1B[31m"])
            self.assertIn("table paths", self.said())

        self.screen(steps)

    def test_filter(self) -> None:
        """What is typed filters at once; what cannot be read yet says so, and Esc shows all."""

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("slash", *"gpc0")
            await self.until(pilot, lambda: "not a filter yet" in self.said("#found"))
            await pilot.press(*"<3")
            await self.until(pilot, lambda: len(self.keys()) == 3)
            await pilot.press("enter")
            await self.until(pilot, lambda: not isinstance(self.app.focused, Input))
            await pilot.press("escape")
            await self.until(pilot, lambda: len(self.keys()) == ROWS)

        self.screen(steps, table="rates")

    def test_block_and_undo(self) -> None:
        """An entry is blocked after a question, and the value set back; of another table the
        question is not asked."""
        table = self.service.table("rates")

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("less_than_sign")
            await self.until(pilot, lambda: self.keys()[0] == "192.0.2.149")
            await pilot.press("down", "b", "escape")
            await pilot.pause(0.1)
            self.assertEqual(table["192.0.2.148"]["gpc0"], 148)
            await pilot.press("b", "end", "backspace", "x", "enter")
            await self.until(pilot, lambda: "Expected gpc0=1" in self.wrong())
            await pilot.press("backspace", "7", "enter")
            await self.until(pilot, lambda: "192.0.2.148: gpc0=7 on all" in self.notes())
            self.assertEqual(table["192.0.2.148"]["gpc0"], 7)
            await pilot.press("u")
            await self.until(pilot, lambda: table["192.0.2.148"]["gpc0"] == 148)
            await pilot.press("u", "question_mark", "escape")

        self.screen(steps)

    def wrong(self) -> str:
        return str(self.app.screen.query_one("#wrong", Static).render())

    def test_undo_of_another(self) -> None:
        """What somebody else has set since is not undone."""
        table = self.service.table("rates")

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("b", "enter")
            await self.until(pilot, lambda: "u undoes it" in self.notes())
            key = next(one.key for one in table if one["gpc0"] == 1)
            table.set(key, gpc0=9)
            await pilot.press("u")
            await self.until(pilot, lambda: "stays so" in self.notes())
            self.assertEqual(table[key]["gpc0"], 9)

        table.set("192.0.2.1", gpc0=0)
        self.screen(steps)

    def test_peers(self) -> None:
        """Of the peer that the cursor is on, it is said why it is not in step; where there is
        nothing, what to do."""
        self.service.add_peer("lb1", "tcp:192.0.2.1:10000")

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: self.cells(PeersPanel))
            self.assertEqual(self.cells(PeersPanel)[0][:2], ["lb1", "away"])
            panels = self.app.query_one(PeersPanel), self.app.query_one(AggregatesPanel)
            said = [str(one.words.render()) for one in panels]
            self.assertTrue(said[0].startswith("lb1: "), said)
            self.assertTrue(said[1].startswith("Nothing is added up."), said)

        self.screen(steps, (200, 60))

    def test_nothing_to_block(self) -> None:
        """Where nothing can be blocked, it is said why."""

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("b")
            await self.until(pilot, lambda: "stores no gpc and no gpt" in self.notes())
            self.service.table("sixes").clear()
            await self.until(pilot, lambda: not self.cells())
            said = str(self.app.query_one(EntriesPanel).words.render())
            self.assertEqual(said, "This table has no entries.")
            await pilot.press("b")
            await self.until(pilot, lambda: "There is no entry to block" in self.notes())
            await pilot.press("u")
            await self.until(pilot, lambda: "Nothing to undo" in self.notes())

        self.service.table("sixes").set("2001:db8::1")
        self.screen(steps, table="sixes")

    def test_head_of_a_column(self) -> None:
        """Who chooses the head of a column sorts by it; once more, the other way."""
        for number in range(150):
            self.service.table("rates").set(f"192.0.2.{number}", http_req_rate=1000 - number)

        async def choose(pilot: Pilot[None], head: str) -> None:
            rows = self.app.query_one(EntriesPanel).rows
            columns = rows.ordered_columns
            heads = [str(one.label).partition(" ")[0] for one in columns]
            at = heads.index(head)
            rows.post_message(
                DataTable.HeaderSelected(rows, columns[at].key, at, columns[at].label)
            )

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: self.keys()[:1] == ["192.0.2.0"])
            await choose(pilot, "gpc0")
            await self.until(pilot, lambda: self.keys()[:1] == ["192.0.2.149"])
            await choose(pilot, "gpc0")
            await self.until(pilot, lambda: self.keys()[:1] == ["192.0.2.0"])

        self.screen(steps, table="rates")

    def test_away(self) -> None:
        """When the node is away, the screen stays, says so, and goes on when it is there again."""

        async def steps(pilot: Pilot[None]) -> None:
            before = self.keys()
            self.node.away = True
            await self.until(pilot, lambda: "nobody is there" in self.said())
            self.assertEqual(self.keys(), before)
            self.assertIn("as it was", self.said())
            self.node.away = False
            await self.until(pilot, lambda: "nobody is there" not in self.said())

        self.screen(steps)


ODD = {
    "'single": "'single",
    '"double"': '"double"',
    "`tick`": "`tick`",
    "back\\slash": r"back\\slash",
    r"\x41": r"\\x41",
    " blank before": " blank before",
    "blank behind ": "blank behind ",
    "/a?b=c&d=1": "/a?b=c&d=1",
    "id=12": "id=12",
    "k = 12": "k = 12",
    "a<b>c": "a<b>c",
    "not !eq": "not !eq",
    "x eq 1": "x eq 1",
    "p and q, r": "p and q, r",
    "[red]markup[/red]": "[red]markup[/red]",
    "[/]": "[/]",
    "[@click=app.bell]": "[@click=app.bell]",
    "a\nb\tc": r"a\x0Ab\x09c",
    "\x1b]0;title\x07": r"\x1B]0;title\x07",
    "\x7f": r"\x7F",
    "\udcff\udcfeno": r"\xFF\xFEno",
    "\u202eright": r"\xE2\x80\xAEright",
    "日本": "日本",
    "%s {0} $x": "%s {0} $x",
}
"""Keys, and what is to be seen and typed of each."""


class TroubleTests(TopTestCase):
    def test_no_answer(self) -> None:
        """That no answer comes is said while it is waited for; the program ends without it."""

        async def steps(pilot: Pilot[None]) -> None:
            before = self.keys()
            self.node.answers.clear()
            await self.until(pilot, lambda: "No answer for" in self.said())
            self.assertIn("as it was", self.said())
            self.assertEqual(self.keys(), before)
            self.node.answers.set()
            await self.until(pilot, lambda: "No answer" not in self.said())
            self.node.answers.clear()
            await pilot.pause(2 * INTERVAL)

        self.addCleanup(self.node.answers.set)
        began = time.monotonic()
        self.screen(steps)
        self.assertLess(time.monotonic() - began, PATIENCE)

    def test_refused(self) -> None:
        """Where the node says no, what it said before stays, and not that there is no table."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: len(self.keys()) == ROWS)
            self.node.refuses = True
            await self.until(pilot, lambda: "not now" in self.said())
            self.assertIn("as it was", self.said())
            self.assertEqual(len(self.keys()), ROWS)
            self.assertTrue(self.cells(TablesPanel))
            self.node.refuses = False
            await self.until(pilot, lambda: "not now" not in self.said())

        self.screen(steps)

    def test_not_understood(self) -> None:
        """An answer that the program does not understand ends it: nothing stale is left on the
        screen as if it were new."""

        class Other:
            def node(self) -> Any:
                raise KeyError("uptime")

        async def steps(pilot: Pilot[None]) -> None:
            self.node.inner = Other()
            await self.until(pilot, lambda: not self.app.is_running)

        self.assertRaises(KeyError, self.screen, steps)

    def test_table_that_is_gone(self) -> None:
        """No other table is shown in place of one that is gone, and what was typed meanwhile counts
        when it is there again."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: len(self.keys()) == ROWS)
            self.node.gone = "rates"
            await self.until(pilot, lambda: "no table 'rates' at present" in self.said())
            self.assertEqual(self.keys(), [])
            said = str(self.app.query_one(EntriesPanel).words.render())
            self.assertIn("not there at present", said)
            await pilot.press("b")
            await self.until(pilot, lambda: "There is no entry to block" in self.notes())
            await pilot.press("slash", *"gpc0<3")
            self.node.gone = None
            await self.until(pilot, lambda: len(self.keys()) == 3)

        self.screen(steps)

    def test_undo_later(self) -> None:
        """An undo that does not reach the node can be done again; that of an entry which is gone
        does not make it anew."""
        table = self.service.table("rates")

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("less_than_sign")
            await self.until(pilot, lambda: self.keys()[:1] == ["192.0.2.149"])
            await pilot.press("b", "enter")
            await self.until(pilot, lambda: table["192.0.2.149"]["gpc0"] == 1)
            self.node.away = True
            await pilot.press("u")
            await self.until(pilot, lambda: "gpc0: nobody is there" in self.notes())
            self.node.away = False
            await pilot.press("u")
            await self.until(pilot, lambda: table["192.0.2.149"]["gpc0"] == 149)
            await self.until(pilot, lambda: self.keys()[:1] == ["192.0.2.149"])
            await pilot.press("home", "b", "enter")
            await self.until(pilot, lambda: table["192.0.2.149"]["gpc0"] == 1)
            table.forget("192.0.2.149")
            await pilot.press("u")
            await self.until(pilot, lambda: "the entry is gone" in self.notes())
            self.assertNotIn("192.0.2.149", [str(one.key) for one in table])

        self.screen(steps, table="rates")

    def test_small(self) -> None:
        """On 20 columns and 5 lines an entry is seen, what is wrong is, and one can block."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: len(self.keys()) == ROWS)
            await pilot.pause()
            rows = self.app.query_one(EntriesPanel).rows
            self.assertGreaterEqual(rows.region.height, 3, rows.region)
            for key, kind in (("3", PeersPanel), ("4", AggregatesPanel), ("1", TablesPanel)):
                await pilot.press(key)
                await pilot.pause()
                self.assertGreater(self.app.query_one(kind).rows.region.height, 1)
            await pilot.press("2", "question_mark")
            await pilot.pause()
            self.assertLessEqual(self.app.screen.query_one("#help").region.width, 20)
            await pilot.press("escape", "b")
            await self.until(pilot, lambda: isinstance(self.app.focused, Input))
            await pilot.pause(0.1)
            field = self.app.focused
            assert field is not None
            self.assertTrue(self.app.screen.region.contains_region(field.region), field.region)
            await pilot.press("escape")
            self.node.away = True
            await self.until(pilot, lambda: self.said().startswith("nobody is there"))

        self.screen(steps, (20, 5), "rates")


class OddKeysTests(TopTestCase):
    def setUp(self) -> None:
        super().setUp()
        table = self.service.table("paths")
        table.clear()
        for key in ODD:
            table.set(key, gpc0=1)

    def shows(self, keys: set[str]) -> bool:
        return set(self.keys()) == keys

    def filter(self, *texts: tuple[str, set[str]]) -> None:
        """Type each text: these are shown then."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: set(self.keys()) == set(ODD.values()))
            await pilot.press("slash")
            for text, expected in texts:
                field = self.app.query_one("#filter", Input)
                field.value = text[:-1]
                await pilot.press("end", text[-1])
                self.assertEqual(field.value, text)
                await self.until(pilot, partial(self.shows, expected))
                self.assertFalse(self.app.query_one("#found").has_class("-said"), text)
                self.assertNotIn("expected", self.said())
            await pilot.press("enter", "escape")
            await self.until(pilot, lambda: len(self.keys()) == len(ODD))

        self.screen(steps, table="paths")

    def test_whole(self) -> None:
        """Who types what is seen of a key finds it, whatever is in it."""
        self.filter(*((shown, {shown}) for shown in ODD.values()))

    def test_whole_by_http(self) -> None:
        """The same over HTTP."""
        self.node.inner = self.ways["http"]
        self.test_whole()

    def test_beginnings(self) -> None:
        """So does who types how it begins."""
        self.filter(
            ("[", {one for one in ODD.values() if one.startswith("[")}),
            ("/a?b=", {"/a?b=c&d=1"}),
            ("id=", {"id=12"}),
            ("k =", {"k = 12"}),
            (" ", set(ODD.values())),
            (" b", {" blank before"}),
            (r"\xFF", {r"\xFF\xFEno"}),
            (r"\xE6", {"日本"}),
            (r"\x61\x0a", {r"a\x0Ab\x09c"}),
        )

    def test_values(self) -> None:
        """What begins with the name of a value is a filter by it, also if it is spelt wrong."""
        table = next(one for one in self.ways["runtime"].tables() if one.name == "paths")
        found = selection_of(table, "gpc0 > 1 and gpc0_rate lt 7")
        self.assertEqual(len(found.comparisons), 2)
        for text in ("gpc0 >", "gpc0=", "gpc9 > 1", "gpc0_rat > 1", "gpc0 = x"):
            self.assertRaises(NodeError, selection_of, table, text)

    def test_half_an_escape(self) -> None:
        """Half of an escaped byte is no filter yet, and no trouble with the node."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: len(self.keys()) == len(ODD))
            await pilot.press("slash")
            for text in ("\\", "x", "7"):
                await pilot.press(text)
                await self.until(pilot, lambda: "not a filter yet" in self.said("#found"))
                await pilot.pause(2 * INTERVAL)
                self.assertEqual(len(self.keys()), len(ODD))
            await pilot.press("F")
            await self.until(pilot, lambda: self.keys() == [r"\x7F"])

        self.screen(steps, table="paths")


class FilterTests(TerminalTestCase):
    def test_read(self) -> None:
        """What is typed is read with the type of the table."""
        tables = {one.name: one for one in self.ways["runtime"].tables()}
        for name, text, expected in (
            ("rates", "", Selection()),
            ("rates", "192.", Selection(network="192.0.0.0/8")),
            ("rates", "192.0", Selection(network="192.0.0.0/8")),
            ("rates", "192.0.2.", Selection(network="192.0.2.0/24")),
            ("rates", "192.0.2.7", Selection(network="192.0.2.7/32")),
            ("rates", "192.0.2.7/24", Selection(network="192.0.2.0/24")),
            ("sixes", "2001:db8::/32", Selection(network="2001:db8::/32")),
            ("paths", "/api", Selection(prefix="/api")),
            ("ids", "-7", Selection(key="-7")),
            ("hashes", "0AFF", Selection(key="0AFF")),
        ):
            self.assertEqual(selection_of(tables[name], text), expected)
        found = selection_of(tables["rates"], "gpc0 > 1 and http_req_rate<=7")
        self.assertEqual(
            [str(one) for one in found.comparisons], ["data.gpc0 gt 1", "data.http_req_rate le 7"]
        )
        for name, text in (("rates", "19"), ("rates", "x"), ("ids", "x"), ("rates", "gpc1 > 1")):
            self.assertRaises(NodeError, selection_of, tables[name], text)


class TrendTests(TerminalTestCase):
    def test_sparkline(self) -> None:
        """Bars go from nothing up to the highest value."""
        self.assertEqual(sparkline([0, 5, 10]), "▁▅█")
        self.assertEqual(sparkline([0, 0]), "▁▁")
        self.assertEqual(sparkline([]), "")

    def test_latest(self) -> None:
        """The latest values are kept, of the entries that are shown alone; another order begins
        anew."""

        def entry(key: str, value: int) -> EntryInfo:
            return EntryInfo({}, key, None, {"gpc0": value}, None)

        trends = Trends()
        for value in range(LENGTH + 5):
            trends.add("t", "gpc0", [entry("a", value)])
        self.assertEqual(len(trends.of(entry("a", 0))), LENGTH)
        trends.add("t", "gpc0", [entry("b", 1)])
        self.assertEqual(trends.of(entry("a", 0)), "")
        trends.add("t", "other", [entry("b", 1)])
        self.assertEqual(len(trends.of(entry("b", 0))), 1)

"""Names of tables, peers and keys with anything in them: the screen and a shell's completion show
them, mean the same ones, and obey nothing in them."""

from __future__ import annotations

from typing import Final

from click.shell_completion import ShellComplete
from textual.pilot import Pilot

from peerproto.terminal.program import program
from peerproto.terminal.text import visible
from peerproto.terminal.top.panels import EntriesPanel, PeersPanel, TablesPanel
from peerproto.wire.keys import Key
from tests.http import client
from tests.terminal.case import TerminalTestCase
from tests.terminal.test_top import TopTestCase

TABLE: Final = "t 'é\" %s/%2e [b]x[/b]"
"""A name of a table."""

PEER: Final = "[red]lb'\"%s;é"
"""A name of a peer."""

KEYS: Final = {
    "plain": "plain",
    "with blank": "with blank",
    "'\"`$(x)": "'\"`$(x)",
    "100%s%2f": "100%s%2f",
    "日本é": "日本é",
    "[b]x[/b]": "[b]x[/b]",
    "a\nb\tc\rd": r"a\x0Ab\x09c\x0Dd",
    "\x1b[31mred": r"\x1B[31mred",
    "\u202eright": r"\xE2\x80\xAEright",
    "?a=b&c#d": "?a=b&c#d",
    "../..": "../..",
    "-x": "-x",
}
"""Keys, each with what is to be seen of it."""

_LINE: Final = "type string len 64 size 1k store gpc0"


class ScreenTests(TopTestCase):
    def setUp(self) -> None:
        self.patch(client, "TABLES", {**client.TABLES, TABLE: _LINE})
        super().setUp()
        self.table = self.service.table(TABLE)
        for key in KEYS:
            self.table.set(key)

    def test_shown(self) -> None:
        """Each is seen in one line, as it can be typed; a command in it is not obeyed."""
        self.service.add_peer(PEER, "tcp:192.0.2.1:10000")

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: set(self.keys()) == set(KEYS.values()))
            await self.until(pilot, lambda: self.cells(PeersPanel))
            self.assertEqual(self.cells(PeersPanel)[0][0], visible(PEER))
            tables = [row[0].strip("▸ ") for row in self.cells(TablesPanel)]
            self.assertIn(visible(TABLE), tables)

        self.screen(steps, (200, 60), TABLE)

    def test_blocked(self) -> None:
        """Each can be blocked, and that undone."""

        async def steps(pilot: Pilot[None]) -> None:
            await self.until(pilot, lambda: len(self.keys()) == len(KEYS))
            await pilot.press("2")
            left = dict(KEYS)
            for _ in range(2 * len(KEYS)):
                # The rows may be sorted anew before the key is pressed: any that is left will do.
                seen = next(iter(left.values()))
                self.app.query_one(EntriesPanel).rows.move_cursor(row=self.keys().index(seen))
                await pilot.press("b", "enter")
                await self.until(pilot, self.blocked)
                (key,) = self.blocked()
                left.pop(str(key), None)
                await pilot.press("u")
                await self.until(pilot, lambda: not self.blocked())
                if not left:
                    break
            self.assertEqual(left, {})

        self.node.inner = self.ways["http"]
        self.screen(steps, table=TABLE)

    def blocked(self) -> set[Key]:
        """The keys of entries that are blocked."""
        return {one.key for one in self.table if one["gpc0"]}


class CompletionTests(TerminalTestCase):
    def setUp(self) -> None:
        self.patch(client, "TABLES", {**client.TABLES, TABLE: _LINE, "größe": _LINE})
        super().setUp()
        for key in KEYS:
            self.service.table(TABLE).set(key)
        self.service.add_peer(PEER, "tcp:192.0.2.1:10000")
        self.service.add_peer("zürich", "tcp:192.0.2.2:10000")

    def offered(self, *words: str) -> set[str]:
        """What a shell is offered for the last word."""
        *before, incomplete = words
        shell = ShellComplete(program, {"obj": self.ways["runtime"]}, "peerproto", "_X")
        return {one.value for one in shell.get_completions(before, incomplete)}

    def test_offered(self) -> None:
        """What a shell would take apart, run or take for an option is not offered; the other keys
        of a table with an odd name are."""
        self.assertEqual(self.offered("show", ""), {*client.TABLES} - {TABLE})
        self.assertEqual(self.offered("peers", ""), {"zürich"})
        plain = {"plain", "100%s%2f", "日本é", "../.."}
        self.assertEqual(self.offered("show", TABLE, "--key", ""), plain)
        self.assertEqual(self.offered("forget", TABLE, ""), plain)
        self.assertEqual(self.offered("forget", TABLE, "日"), {"日本é"})

    def test_odd_beginnings(self) -> None:
        """What was typed may be anything: nothing is offered then, and nothing is said."""
        for typed in ("'", '"', "with ", "$(x", "\x1b[", "\udcff", "\\", "%", "*", "["):
            for words in (("show", typed), ("forget", TABLE, typed), ("peers", typed)):
                self.assertEqual(self.offered(*words), set(), words)

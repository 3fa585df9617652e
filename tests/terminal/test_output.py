"""What is printed: progress of what takes long, and tables that are too wide."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from itertools import chain
from typing import Any

from click.testing import CliRunner
from rich.progress import Progress

from peerproto.terminal import output
from peerproto.terminal.program import program
from peerproto.terminal.runtime import RuntimeNode
from tests.terminal.case import TerminalTestCase


class Tty(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class ProgressTests(TerminalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(output, "SOON", 0.0)
        self.terminal = Tty()
        self.patch(sys, "stderr", self.terminal)
        self.begun = threading.Event()
        show = Progress.start

        def start(bar: Progress) -> None:
            show(bar)
            self.begun.set()

        self.patch(Progress, "start", start)

    def slow(self) -> Iterator[int]:
        """Nothing, but only once it is shown that something is waited for."""
        self.assertTrue(self.begun.wait(60))
        self.begun.clear()
        yield from ()

    def test_counted(self) -> None:
        """What comes is handed on, and how much has come is shown where that is wanted."""
        self.assertEqual(list(output.counted(range(300), "rates", 300, False)), [*range(300)])
        self.assertEqual(self.terminal.getvalue(), "")
        found = chain(self.slow(), range(300))
        self.assertEqual(list(output.counted(found, "rates", 300, True)), [*range(300)])
        self.assertIn("rates", self.terminal.getvalue())
        self.assertIn("/300", self.terminal.getvalue())

    def test_nothing_comes(self) -> None:
        """That something is looked for is shown also where nothing is found."""
        for look in (
            lambda found: output.counted(found, "rates", None, True),
            lambda found: output.awaited(found, "rates", 500),
        ):
            with self.subTest(look=look):
                self.assertEqual(list(look(self.slow())), [])
                self.assertIn("rates", self.terminal.getvalue())
                self.assertIn("\x1b[?25h", self.terminal.getvalue())
                self.terminal.truncate(0)

    def test_awaited(self) -> None:
        """What comes is handed on, and nothing is shown any more once the first ones are there."""
        found = output.awaited(chain(self.slow(), range(3)), "rates", 2)
        self.assertEqual(next(found), 0)
        shown = self.terminal.getvalue()
        self.assertIn("rates", shown)
        self.assertEqual(list(found), [1, 2])
        self.assertEqual(self.terminal.getvalue(), shown)

    def test_show(self) -> None:
        """A search that finds nothing shows that it goes on, wherever its output goes, and leaves
        nothing of that behind."""
        look = RuntimeNode.entries

        def entries(node: RuntimeNode, *asked: Any) -> Iterator[Any]:
            yield from self.slow()
            yield from look(node, *asked)

        self.patch(RuntimeNode, "entries", entries)
        for stdout in (Tty(), io.StringIO()):
            for more in ((), ("--json",)):
                with self.subTest(stdout=stdout, more=more):
                    self.patch(sys, "stdout", stdout)
                    self.terminal = Tty()
                    self.patch(sys, "stderr", self.terminal)
                    words = ("show", "rates", "--filter", "gpc0 > 9000", *more)
                    with self.assertRaises(SystemExit) as ended:
                        program.main(words, obj=self.ways["runtime"])
                    self.assertEqual(ended.exception.code, 0)
                    self.assertEqual(stdout.getvalue(), "")
                    shown, _, left = self.terminal.getvalue().rpartition("\x1b[2K")
                    self.assertIn("rates", shown)
                    note = "" if more else "table 'rates' has no such entries\n"
                    self.assertEqual(left, note)

    def test_waiting(self) -> None:
        """That something goes on is shown until it is done; without a terminal it is not."""
        with output.waiting("looking"):
            list(self.slow())
        self.assertIn("\x1b[?25h", self.terminal.getvalue())
        file = io.StringIO()
        self.patch(sys, "stderr", file)
        with output.waiting("looking"):
            pass
        self.assertEqual(file.getvalue(), "")

    def test_quick(self) -> None:
        """What is done within a second shows nothing."""
        self.patch(output, "SOON", 3600.0)
        with output.waiting("looking"):
            list(output.counted(range(300), "rates", 300, True))
            list(output.awaited(range(300), "rates", 100))
        self.assertEqual(self.terminal.getvalue(), "")


class WidthTests(TerminalTestCase):
    def test_narrow(self) -> None:
        """On a terminal that is too narrow, entries have their values with their names."""
        self.service.table("paths").set("/a", gpc1=7, gpt0=2)
        environment = {"FORCE_COLOR": "1", "COLUMNS": "60", "TERM": "xterm"}
        runner = CliRunner(env=environment)
        done = runner.invoke(program, ["show", "paths"], obj=self.ways["runtime"])
        head, line = done.stdout.splitlines()
        self.assertEqual(head.split("  ")[-1], "values that are not 0")
        self.assertEqual(line.split(), ["/a", "-", "gpt0=2", "gpc1=7"])

    def test_wide_letters(self) -> None:
        """Letters that take two columns count as two."""
        self.service.table("paths").set("日本")
        self.service.table("paths").set("/a")
        lines = self.says("show", "paths", "--columns", "gpc0").splitlines()
        self.assertEqual({len(one.encode("gb18030")) for one in lines}, {len(lines[0])})

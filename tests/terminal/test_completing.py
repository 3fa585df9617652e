"""What bash is to put in place of the word that it takes for the one at the cursor."""

from __future__ import annotations

import os

from peerproto.terminal.completing import Bash
from peerproto.terminal.program import program
from tests.terminal.case import TerminalTestCase


class BashTests(TerminalTestCase):
    def setUp(self) -> None:
        super().setUp()
        for key in ("2001:db8::1", "2001:db8::2:7"):
            self.service.table("sixes").set(key)
        for key in ("ada@example.net", "/a,b", "/with blank"):
            self.service.table("paths").set(key)

    def told(self, line: str, word: str) -> list[str]:
        """What is told for a line up to the cursor, of which bash takes this for the word."""
        self.patch(os, "environ", {**os.environ, "COMP_LINE": line, "COMP_WORD": word})
        shell = Bash(program, {"obj": self.ways["runtime"]}, "peerproto", "_X")
        return sorted(shell.complete().split("\n"))

    def test_parts_of_words(self) -> None:
        """What bash leaves where it is, is not told again."""
        for line, word, expected in (
            ("peerproto show si", "si", ["sixes"]),
            ("peerproto show sixes --key 2", "2", ["2001:db8::1", "2001:db8::2:7"]),
            ("peerproto show sixes --key 2001:", "", ["db8::1", "db8::2:7"]),
            ("peerproto show sixes --key 2001:d", "d", ["db8::1", "db8::2:7"]),
            ("peerproto show sixes --key 2001:db8::1", "1", ["1"]),
            ("peerproto show sixes --key '2001:db8::2", "2001:db8::2", ["2001:db8::2:7"]),
            ("peerproto show sixes --key 2001\\:db8::2", "2001\\:db8::2", ["2001:db8::2:7"]),
            ("peerproto show sixes --key=2001:db8::2", "2", ["2:7"]),
            (
                "peerproto show sixes --key=2001:db8::2",
                "--key=2001:db8::2",
                ["--key=2001:db8::2:7"],
            ),
            ("peerproto show paths --key ada@", "@", ["@example.net"]),
            ("peerproto show paths --key /", "/", ["/a,b"]),
            ("peerproto set rates 192.0.2.1 gpc0=3 http", "http", ["http_req_rate="]),
        ):
            self.assertEqual(self.told(line, word), [f"plain,{one}" for one in expected], line)

    def test_nothing(self) -> None:
        """There is nothing to go on with behind an equals sign, nor without a table."""
        for line, word in (
            ("peerproto set rates 192.0.2.1 gpc0=", ""),
            ("peerproto show nowhere --key 2001:", ""),
            ("peerproto show 'un ended", "un ended"),
        ):
            self.assertEqual(self.told(line, word), [""], line)

    def test_files(self) -> None:
        """Where a file is meant, bash is told so."""
        for line in ("check ", "decode ", "import ", "copy rates --to-file ", "tables --node "):
            self.assertEqual(self.told(f"peerproto {line}x", "x"), ["file,x"], line)

"""Keys and names as text: nothing is lost, and nothing has two texts."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto import LocalProtocolError
from peerproto.http.answers import as_json
from peerproto.http.text import quoted, read, shown, unquoted, written

NAMES = st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
"""Names and keys of any bytes."""


class TextTests(SynchronousTestCase):
    @given(NAMES)
    def test_there_and_back(self, name: str) -> None:
        """A name is read back from its text, which is one that every JSON reader takes."""
        text = written(name)
        self.assertEqual(read(text), name)
        text.encode("utf-8")
        self.assertEqual(json.loads(as_json(text)), text)

    @given(NAMES)
    def test_paths(self, name: str) -> None:
        """A name is read back from a segment of a path."""
        segment = quoted(written(name))
        self.assertNotIn("/", segment)
        self.assertEqual(read(unquoted(segment)), name)

    @given(st.text(st.characters(exclude_categories=()), max_size=20))
    def test_any_text(self, text: str) -> None:
        """Any text is that of a name, or none; of two texts of one name, one is written."""
        try:
            name = read(text)
        except LocalProtocolError:
            return
        self.assertEqual(read(written(name)), name)
        shown(text).encode("utf-8")

    def test_escapes(self) -> None:
        """A backslash stands before another one, or before the digits of a byte."""
        self.assertEqual(read(r"a\\b\x2Fc\xe4"), "a\\b/c\udce4")
        self.assertEqual(written("a\\b\udce4é"), r"a\\b\xE4é")
        for wrong in ("\\", "a\\b", "\\x", "\\x1", "\\xg0", "\\\\\\", "\ud800"):
            self.assertRaises(LocalProtocolError, read, wrong)

    def test_markup(self) -> None:
        """Nothing in JSON begins an element, a character reference, or a command of a terminal."""
        data = as_json({"<script>": '</script>&"\x00\n\x1b[2J\u2028é'})
        for one in b"<>&\x00\n\x1b":
            self.assertNotIn(bytes((one,)), data)
        self.assertTrue(data.isascii())
        self.assertEqual(json.loads(data), {"<script>": '</script>&"\x00\n\x1b[2J\u2028é'})

"""Entries as people read them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.store import TableStore
from peerproto.wire.datatypes import Frequency

KEY = b"\0\0\0\1"


def entry_of(columns: str, **values: object) -> Entry:
    store = f" store {columns}" if columns else ""
    table = TableStore(Declaration.parse("t", f"type integer size 1k expire 10s{store}"))
    table.set(KEY, values, 0)
    entry = table.get(KEY, 0)
    assert entry is not None
    return entry


class EntryTests(SynchronousTestCase):
    def test_mapping(self) -> None:
        """An entry is a mapping of the names that are printed, in their order, to values."""
        entry = entry_of("gpc0,server_key,conn_rate(5s),gpt(2)", gpc0=3, conn_rate=4)
        self.assertEqual(
            dict(entry),
            {"gpt0": 0, "gpt1": 0, "gpc0": 3, "conn_rate": 4, "server_key": None},
        )
        self.assertEqual(list(entry), list(entry.keys()))
        self.assertEqual(len(entry), 5)
        self.assertIn("gpc0", entry)
        self.assertNotIn("gpc7", entry)
        self.assertEqual((entry.get("gpc7"), entry["gpt[1]"], entry.key), (None, 0, 1))
        self.assertRaises(KeyError, lambda: entry["gpc7"])

    def test_without_values(self) -> None:
        """An entry of a table that stores no values is there all the same."""
        entry = entry_of("")
        self.assertTrue(entry)
        self.assertEqual(dict(entry), {})

    def test_types(self) -> None:
        """Numbers and texts can be asked for as such; the other one is refused."""
        entry = entry_of("gpc0,server_key,conn_rate(5s)", gpc0=3, server_key="s1", conn_rate=4)
        self.assertEqual((entry.number("gpc0"), entry.number("conn_rate")), (3, 4))
        self.assertEqual(entry.text("server_key"), "s1")
        self.assertIsNone(entry_of("server_key").text("server_key"))
        self.assertEqual(entry.counter("conn_rate"), Frequency(0, 4, 0))
        self.assertRaises(TypeError, entry.number, "server_key")
        self.assertRaises(TypeError, entry_of("server_key").number, "server_key")
        self.assertRaises(TypeError, entry.text, "gpc0")
        self.assertRaises(TypeError, entry.counter, "gpc0")
        for ask in (entry.number, entry.text, entry.counter):
            self.assertRaises(KeyError, ask, "gpc7")

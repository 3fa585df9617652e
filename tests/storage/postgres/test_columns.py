"""Entries as rows of PostgreSQL, and back, without a server."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Frequency
from peerproto.storage.columns import Shape, kept_of
from peerproto.storage.postgres.columns import Columns, escaped, unescaped
from tests.storage.test_columns import records
from tests.strategies import layouts


class ColumnTests(SynchronousTestCase):
    @given(st.none() | st.binary(max_size=20) | st.sampled_from([b"\\x00", b"\\\\x", b"\\", b"\0"]))
    def test_texts(self, raw: bytes | None) -> None:
        """A text may have any bytes; what a server gets is UTF-8 without NUL."""
        text = None if raw is None else raw.decode("utf-8", "surrogateescape")
        sent = escaped(text)
        self.assertEqual(unescaped(sent), text)
        if sent is not None:
            self.assertNotIn(b"\0", sent.encode())

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_round_trip(self, data: st.DataObject) -> None:
        """Whatever an entry has comes back from a row, and the columns say the same, with types
        that PostgreSQL has for them."""
        record = data.draw(records(data.draw(layouts())))
        columns = Columns(Shape(record.declaration))
        row = columns.row(kept_of(record), record.peer, 0, 1)
        named = dict(zip(columns.names, row, strict=True))
        for value, sql_type in zip(row, columns.types, strict=True):
            if value is None:
                continue
            if sql_type == "int8":
                assert isinstance(value, int)
                self.assertEqual(value, value & ~0 if abs(value) < 1 << 63 else None)
            else:
                kind = {"numeric": int, "text": str, "bytea": bytes}[sql_type]
                self.assertIsInstance(value, kind)
        again = columns.record([named[name] for name in columns.shape.read_names])
        assert again is not None
        at = record.arrived
        self.assertEqual(again.entry(at).decoded, record.entry(at).decoded)
        self.assertEqual(
            (again.raw_key, again.arrived, again.expires, again.peer),
            (record.raw_key, record.arrived, record.expires, record.peer),
        )
        for cell in columns.shape.cells:
            value = record.entry(at).decoded[cell.place]
            value = value if cell.index is None else value[cell.index]
            if isinstance(value, Frequency):
                self.assertEqual(named[f"{cell.name}_current"], value.current)
            else:
                self.assertEqual(named[cell.name], escaped(value) if cell.is_text else value)

    @given(st.data())
    @settings(max_examples=50, deadline=None)
    def test_checksum(self, data: st.DataObject) -> None:
        """A row that somebody has changed in what is loaded is not taken."""
        record = data.draw(records(data.draw(layouts())))
        columns = Columns(Shape(record.declaration))
        row = columns.row(kept_of(record), record.peer, 0, 1)
        named = dict(zip(columns.names, row))
        changed = data.draw(st.sampled_from(["key", "peer", "stored"]))
        value = named[changed]
        named[changed] = value + {int: 1, str: "x", bytes: b"x"}[type(value)]
        self.assertIsNone(columns.record([named[name] for name in columns.shape.read_names]))

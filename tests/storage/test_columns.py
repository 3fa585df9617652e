"""Entries as rows of SQL, and back."""

from __future__ import annotations

import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration, Frequency, Record
from peerproto.storage.columns import (
    Shape,
    from_sql,
    kept_of,
    key_text,
    number_to_sql,
    reshaped,
    to_sql,
)
from peerproto.storage.database import Database, transaction
from peerproto.storage.transaction import Declared, Moment, Transaction
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Layout
from tests.strategies import layouts, raw_keys, values

times = st.integers(10**12, 2 * 10**12)
texts = st.text(st.characters(codec="utf-8", min_codepoint=1), min_size=1, max_size=60)


@st.composite
def records(draw: st.DrawFn, layout: Layout) -> Record:
    arrived = draw(times)
    expire = draw(st.just(0) | st.integers(1, 10**9))
    expires = arrived + draw(st.integers(0, expire)) if expire else None
    peer = draw(st.none() | texts)
    declaration = Declaration("t", layout, expire)
    return Record.made(
        declaration, draw(raw_keys(layout)), arrived, expires, draw(values(layout)), peer
    )


class ColumnTests(SynchronousTestCase):
    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_round_trip(self, data: st.DataObject) -> None:
        """Whatever an entry has comes back from a file, and its columns say the same."""
        layout = data.draw(layouts())
        record = data.draw(records(layout))
        shape = Shape(record.declaration)
        connection = sqlite3.connect(":memory:")
        connection.execute(f"CREATE TABLE t ({shape.definition}) WITHOUT ROWID")
        row = shape.row(kept_of(record), to_sql(record.peer) or "", 0, 1)
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO t VALUES ({marks})", row)
        columns = "key, peer, stored"
        if shape.text_name is not None:
            columns += f', "{shape.text_name}"'
        (found,) = connection.execute(f"SELECT {columns} FROM t").fetchall()
        again = shape.record(found)
        assert again is not None
        at = record.arrived
        self.assertEqual(again.entry(at).decoded, record.entry(at).decoded)
        self.assertEqual(
            (again.raw_key, again.arrived, again.expires, again.peer),
            (record.raw_key, record.arrived, record.expires, record.peer),
        )
        typed = connection.execute("SELECT * FROM t").fetchone()[7:]
        connection.close()
        said: list[object] = []
        for cell in shape.cells:
            value = record.entry(at).decoded[cell.place]
            value = value if cell.index is None else value[cell.index]
            if isinstance(value, Frequency):
                said += [at - value.age, value.current, value.previous]
            else:
                said.append(to_sql(value) if cell.is_text else number_to_sql(value))
        self.assertEqual(list(typed), said)

    @given(st.lists(st.integers(0, 2**64 - 1)))
    def test_order(self, numbers: list[int]) -> None:
        """Numbers of 64 bits are sorted by their value, though SQLite's have a sign."""
        numbers += [0, 2**63 - 1, 2**63, 2**64 - 1]
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE t (n INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?)", [(number_to_sql(n),) for n in numbers])
        found = [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]
        connection.close()
        self.assertEqual(found, [number_to_sql(n) for n in sorted(numbers)])

    @given(st.none() | st.binary(min_size=1, max_size=20))
    def test_texts(self, raw: bytes | None) -> None:
        """A text may have any bytes."""
        text = None if raw is None else raw.decode("utf-8", "surrogateescape")
        connection = sqlite3.connect(":memory:")
        (found,) = connection.execute("SELECT ?", (to_sql(text),)).fetchone()
        connection.close()
        self.assertEqual(from_sql(found), text)

    def test_keys(self) -> None:
        """Keys can be read."""
        for raw, key_type, text in (
            (b"a b\xc3\xa9", KeyType.STRING, "a bé"),
            (b"a\xff=", KeyType.STRING, "a\\xFF\\="),
            (b"a\n", KeyType.STRING, "a\\n"),
            (b"\xc0\0\2\7", KeyType.IPV4, "192.0.2.7"),
            (b"\xff\xff\xff\xff", KeyType.INTEGER, "4294967295"),
            (b"\1\xab", KeyType.BINARY, "01AB"),
            (bytes(10) + b"\xff\xff\xc0\0\2\7", KeyType.IPV6, "::ffff:192.0.2.7"),
        ):
            self.assertIn(key_text(raw, key_type), (text, "::ffff:c000:207"))

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_checksum(self, data: st.DataObject) -> None:
        """A row that has changed anywhere in what is loaded is not taken."""
        record = data.draw(records(data.draw(layouts())))
        shape = Shape(record.declaration)
        row = shape.row(kept_of(record), to_sql(record.peer) or "", 0, 1)
        read: list[Any] = row[:3]
        if shape.text_name is not None:
            read.append(row[7 + shape.names.index(shape.text_name)])
        self.assertIsNotNone(shape.record(read))
        place = data.draw(st.integers(0, 2))
        value = read[place]
        if isinstance(value, int):
            read[place] = value ^ (1 << data.draw(st.integers(0, 30)))
        elif isinstance(value, bytes) and value:
            at = data.draw(st.integers(0, len(value) - 1))
            flipped = bytes((value[at] ^ data.draw(st.integers(1, 255)),))
            read[place] = value[:at] + flipped + value[at + 1 :]
        else:
            read[place] = data.draw(st.sampled_from([7, "x", b"x", 0.5, None]))
        # The name of a peer may be a text or the bytes of one: both are read as the same name.
        before, after = (
            one.encode() if isinstance(one, str) else one for one in (value, read[place])
        )
        if before != after:
            self.assertIsNone(shape.record(read))

    def test_reshaped(self) -> None:
        """Under another declaration, values stay that both have."""
        old = Declaration.parse(
            "t", "type string size 1k store gpc(3),http_req_rate(1m),server_key,bytes_in_cnt"
        )
        values = (2**64 - 1, Frequency(5, 6, 7), "s" * 90, (1, 2, 3))
        places = [one.name for one in old.layout.columns]
        decoded = tuple(
            dict(zip(("bytes_in_cnt", "http_req_rate", "server_key", "gpc"), values))[name]
            for name in places
        )
        record = Record.made(old, b"a", 1000, None, decoded, "p")
        new = Declaration.parse("t", "type string size 1k store gpc(2),gpt0,server_key")
        after = reshaped(record, new)
        assert after is not None
        entry = after.entry(1000)
        self.assertEqual(
            (entry["gpc0"], entry["gpc1"], entry["gpt0"], entry["server_key"], after.peer),
            (1, 2, 0, "s" * 90, "p"),
        )
        back = reshaped(after, old)
        assert back is not None
        entry = back.entry(1000)
        self.assertEqual((entry["gpc2"], entry["bytes_in_cnt"], entry["gpc1"]), (0, 0, 2))


class MigrationTests(SynchronousTestCase):
    def test_columns_come_and_go(self) -> None:
        """A table that is declared anew keeps its rows, whatever the file is asked in between."""
        database = Database(self.mktemp())
        self.addCleanup(database.close)
        database.open(1000)
        old = Declaration.parse("t", "type integer size 1k store gpc0,server_key,conn_cnt")
        moment = Moment(2000, 2000)
        database.write(Transaction(moment, declared=(Declared(old, False, False),)))
        records = [
            Record.made(old, n.to_bytes(4, "big"), 1000, None, (n, n, f"server {n}" * 9))
            for n in range(2500)
        ]
        with transaction(database.connection):
            database.insert("t", database.tables["t"].shape, records)
        new = Declaration.parse("t", "type integer size 1k store server_key,conn_cnt,gpt0")
        database.write(Transaction(moment, declared=(Declared(new, False, False),)))
        part = database.read("t", None, 5000, 2000, 0)
        self.assertEqual((len(list(part)), part.bad), (2500, 0))
        entry = list(part)[7].entry(2000)
        self.assertEqual(
            (entry["conn_cnt"], entry["gpt0"], entry["server_key"]), (7, 0, "server 7" * 9)
        )
        other = Declaration.parse("t", "type ip size 1k store gpt0")
        database.write(Transaction(moment, declared=(Declared(other, False, False),)))
        self.assertEqual(database.count(), {"t": 0})

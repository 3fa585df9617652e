"""Rows that are brought back at once: whatever is there, it is as if they were records."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Optional

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.expiry import NEVER
from peerproto.tables.store import TableStore
from peerproto.tables.storedrows import StoredRows
from peerproto.updates.restoring import check_rows, restore, restore_rows
from peerproto.wire.errors import LocalProtocolError

NOW = 10_000_000
AHEAD = 1_000_000
COLUMNS = " store gpc0,conn_cnt,http_req_rate(1m)"
INTEGERS = Declaration.parse("t", f"type integer size 1k expire 10m{COLUMNS}")
STRINGS = Declaration.parse("t", f"type string len 8 size 1k expire 10m{COLUMNS}")
UNENDING = 0xFFFFFFFF


def key_of(number: int) -> bytes:
    """A key that both tables take."""
    return f"{number:04}".encode()


def rows_of(
    declaration: Declaration, came: Mapping[int, tuple[int, Optional[int]]], ahead: int = AHEAD
) -> StoredRows:
    """Rows of entries by number: how many ms ago each came, and its life, if that is its own."""
    layout, keys, rows, until = declaration.layout, [], [], NEVER
    for number, (age, life) in came.items():
        key = key_of(number)
        arrived = NOW - age
        if declaration.expire:
            end = arrived + min(life or NEVER, declaration.expire)
            until = min(until, end + ahead)
        head = struct.pack(">QxI", arrived, UNENDING if life is None else life)
        # Integers below 240 take a byte each.
        values = bytes((number % 200, 1, 2, 3, 4))
        keys.append(key)
        rows.append(head + (key if layout.fixed_key_length else b"") + values)
    return StoredRows(declaration, None, keys, rows, ahead, until)


def entries(table: TableStore, now: int = NOW) -> dict[bytes, Entry]:
    """All that lives in a table."""
    return {key: entry for key, _ in table.scan() if (entry := table.get(key, now)) is not None}


came = st.dictionaries(
    st.integers(1, 40),
    st.tuples(st.integers(0, 700_000), st.none() | st.integers(1, 500_000)),
    max_size=30,
)


class StoredRowsTests(SynchronousTestCase):
    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_as_records(self, data: st.DataObject) -> None:
        """Nothing newer is replaced, nothing forgotten comes back, nothing makes room, and all ends
        when it is to end: also where the table is full, or declared otherwise by now."""
        declaration = data.draw(st.sampled_from([INTEGERS, STRINGS]))
        rows = rows_of(declaration, data.draw(came), data.draw(st.sampled_from([AHEAD, AHEAD + 9])))
        other = Declaration.parse(
            "t",
            ("type string len 8" if declaration is STRINGS else "type integer")
            + " size 1k expire 10m store conn_cnt,gpc1",
        )
        now = attrs.evolve(
            data.draw(st.sampled_from([declaration, declaration, other])),
            expire=data.draw(st.sampled_from([0, 60_000, 600_000, 600_000])),
            size=data.draw(st.sampled_from([10, 1000, 1000])),
        )
        first = data.draw(st.sampled_from([now, declaration, other]))
        there = data.draw(came)
        forgotten = data.draw(st.sets(st.integers(1, 40), max_size=3))
        tables = []
        for _ in range(2):
            table = TableStore(first)
            for number, (age, _) in there.items():
                key = key_of(number)
                table.change({key: {"conn_cnt": 77}}, NOW - age // 10)
            for number in forgotten:
                table.forget(key_of(number), NOW - 1)
            table.redeclare(now)
            tables.append(table)
        one, two = tables
        stored = restore_rows(one, rows, NOW, AHEAD)
        expected = restore(two, rows.records(), NOW, AHEAD)
        for later in (0, 30_000, 400_000):
            self.assertEqual(entries(one, NOW + later), entries(two, NOW + later))
        self.assertEqual(one.used, two.used)
        self.assertEqual(
            sorted(key for batch in stored for key in batch.raw_keys),
            sorted(key for batch in expected for key in batch.raw_keys),
        )
        self.assertEqual({batch.cause for batch in stored} - {Cause.RESTORED}, set())
        if now.expire:
            while one.converting:
                one.convert()
            while (due := one.next_due()) is not None and due <= NOW + now.expire + 1000:
                one.expire(NOW + now.expire + 1000)
            self.assertEqual(one.used, 0)

    def test_at_once(self) -> None:
        """Where nothing is there, the rows themselves are stored."""
        rows = rows_of(INTEGERS, {number: (number, None) for number in range(100)})
        table = TableStore(INTEGERS)
        (batch,) = restore_rows(table, rows, NOW, AHEAD)
        self.assertEqual((list(batch.raw_keys), batch.all_new), (rows.raw_keys, True))
        self.assertTrue(all(table.stored(key) is row for key, row in zip(rows.raw_keys, rows.rows)))

    def test_twice(self) -> None:
        """A key that is there twice all the same counts once."""
        rows = rows_of(INTEGERS, {7: (5, None)})
        twice = attrs.evolve(rows, raw_keys=rows.raw_keys * 2, rows=[*rows.rows, bytes(22)])
        table = TableStore(INTEGERS)
        restore_rows(table, twice, NOW, AHEAD)
        self.assertEqual((table.used, len(table.partitions)), (1, 1))

    def test_other_keys(self) -> None:
        """Rows with other keys are refused."""
        problem = self.assertRaises(
            LocalProtocolError, check_rows, TableStore(STRINGS), rows_of(INTEGERS, {1: (0, None)})
        )
        self.assertIn("differs in key type", str(problem))

    def test_some(self) -> None:
        """Rows of some keys, and of others."""
        rows = rows_of(INTEGERS, {number: (number, None) for number in range(5)})
        first = rows.raw_keys[:2]
        for some, keys, own in (
            (rows.only(first), first, rows.rows[:2]),
            (rows.without(first), rows.raw_keys[2:], rows.rows[2:]),
        ):
            self.assertEqual(some, attrs.evolve(rows, raw_keys=keys, rows=own))
        self.assertEqual([one.raw_key for one in rows.only(first).records()], first)

"""Rows of a file that are read at once, and what of them has to be looked at one by one."""

from __future__ import annotations

import sqlite3
from typing import Any, Optional

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration, KeyType, Record
from peerproto.storage.columns import to_sql
from peerproto.storage.database import Database, read_rows, transaction
from peerproto.storage.joined import joins
from peerproto.storage.names import quoted
from peerproto.storage.store import Slice
from peerproto.storage.transaction import Declared, Moment, Transaction
from peerproto.wire.keys import FIXED_LENGTH
from tests.storage.stored import LINE, StorageTestCase, said
from tests.storage.test_columns import records
from tests.strategies import layouts

NOW = 2 * 10**12
NAMES = ["a", "ab", "p\udcffq", "é"]
PLAIN = Declaration.parse("t", "type ip size 1m expire 1h store gpc0,http_req_rate(1m)")


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = Database(self.mktemp())
        self.database.open(NOW)
        self.addCleanup(self.database.close)

    def fill(self, declaration: Declaration, per_peer: bool, some: list[Record]) -> None:
        """Have a table with some records in it."""
        moment = Moment(NOW, NOW)
        self.database.write(Transaction(moment, declared=(Declared(declaration, per_peer, True),)))
        table = self.database.tables[declaration.name]
        with transaction(self.database.connection):
            self.database.insert(table.sql_name, table.shape, some)

    def read(self, name: str, limit: int, now: int) -> tuple[list[Slice], dict[Any, Any]]:
        """All slices of a table, and what there is in them by key and peer."""
        slices: list[Slice] = []
        after: Optional[tuple[Any, Any]] = None
        while not slices or after is not None:
            slices.append(self.database.read(name, after, limit, now, 5, 100))
            after = slices[-1].after
        found = [one for part in slices for one in part]
        by_key = {(one.raw_key, one.peer): one for one in found}
        self.assertEqual(len(by_key), len(found))
        return slices, by_key

    def one_by_one(self, name: str, now: int) -> Slice:
        """What there is in the same table, read row by row."""
        table = self.database.tables[name]
        rows = read_rows(self.database.connection, table, None, 10_000)
        return Slice.of(rows, -1, lambda row: table.shape.record(row, 5), now + 5)


class JoinedTests(_Case):
    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, data: st.DataObject) -> None:
        """What was written comes back the same, in slices of any size, whatever keys, data types,
        texts and peers there are, and whatever has expired."""
        layout = data.draw(layouts())
        declaration = Declaration("t", layout, data.draw(st.sampled_from([0, 1000, 10**9])))
        per_peer = data.draw(st.booleans())
        latest: dict[Any, Record] = {}
        for one in data.draw(st.lists(records(layout), max_size=25)):
            arrived = NOW - data.draw(st.integers(0, 1200))
            life = min(declaration.expire, data.draw(st.integers(1, 2000)))
            made = Record.made(
                declaration,
                one.raw_key,
                arrived,
                arrived + life if declaration.expire else None,
                one.entry(one.arrived).decoded,
                data.draw(st.sampled_from(NAMES)) if per_peer else None,
            )
            latest[made.raw_key, made.peer] = made
        self.fill(declaration, per_peer, list(latest.values()))
        limit = data.draw(st.integers(1, 30))
        slices, found = self.read("t", limit, NOW)
        expected = self.one_by_one("t", NOW)
        self.assertEqual(sum(part.bad for part in slices), 0)
        self.assertEqual(sum(part.expired for part in slices), expected.expired)
        for one in expected:
            again = found.pop((one.raw_key, one.peer))
            self.assertEqual((again.arrived, again.expires), (one.arrived, one.expires))
            at = one.arrived
            self.assertEqual(again.entry(at).decoded, one.entry(at).decoded)
        self.assertEqual(found, {})

    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_damage(self, data: st.DataObject) -> None:
        """A byte that has changed anywhere in what is loaded is found, and costs that row alone."""
        key_type = data.draw(st.sampled_from(KeyType))
        length = FIXED_LENGTH.get(key_type, 8)
        word = {KeyType.STRING: f"string len {length + 1}", KeyType.BINARY: f"binary len {length}"}
        line = f"type {word.get(key_type, key_type.word)} size 1k expire 1h store gpc0,server_id"
        declaration = Declaration.parse("t", line)
        per_peer = data.draw(st.booleans())
        some = [
            Record.made(
                declaration,
                bytes((n,)) * length,
                NOW - 60,
                NOW + 100 + n,
                (n, 3),
                NAMES[n % 4] if per_peer else None,
            )
            for n in range(1, 21)
        ]
        self.fill(declaration, per_peer, some)
        hit = data.draw(st.sampled_from(some))
        column = data.draw(st.sampled_from(["key", "stored"]))
        where, about = "key = ? AND peer = ?", (hit.raw_key, to_sql(hit.peer) or "")
        connection = self.database.connection
        ((value,),) = connection.execute(f"SELECT {column} FROM t WHERE {where}", about)
        at = data.draw(st.integers(0, len(value) - 1))
        other = bytes((value[at] ^ data.draw(st.integers(1, 255)),))
        changed = value[:at] + other + value[at + 1 :]
        connection.execute(f"UPDATE OR REPLACE t SET {column} = ? WHERE {where}", (changed, *about))
        slices, found = self.read("t", data.draw(st.integers(1, 30)), NOW)
        self.assertEqual(sum(part.bad for part in slices), 1)
        left = {(one.raw_key, one.peer) for one in some} - {(hit.raw_key, hit.peer)}
        # A damaged key may have taken the place of another row.
        self.assertLessEqual(set(found), left)
        self.assertGreaterEqual(len(found), len(left) - (column == "key"))

    def plain(self, count: int = 50) -> list[Record]:
        """Records without anything that has to be looked at."""
        blank = PLAIN.layout.codec.blank()
        return [
            Record.made(PLAIN, n.to_bytes(4, "big"), NOW - n, NOW + 1000 + n, blank)
            for n in range(count)
        ]

    def test_at_once(self) -> None:
        """Rows without texts, whose time has not come, are not looked at one by one; those among
        them that have a text, or have expired, are."""
        self.fill(PLAIN, False, self.plain())
        (part,), _ = self.read("t", 100, NOW)
        (rows,) = part.rows[0].open(100)
        self.assertEqual((len(rows), part.records), (50, []))
        self.assertEqual((rows.ahead, rows.until), (100, NOW + 1005))
        (part,), found = self.read("t", 100, NOW + 1010)
        self.assertEqual((len(part.rows[0]), part.expired, len(found)), (39, 11, 39))
        texts = Declaration.parse("u", "type ip size 1m store server_key")
        made = [
            Record.made(texts, bytes((0, 0, 0, n)), NOW, None, (None if n % 5 else "x" * 90,))
            for n in range(20)
        ]
        self.fill(texts, False, made)
        (part,), found = self.read("u", 100, NOW)
        self.assertEqual((len(part.rows[0]), len(part.records), len(found)), (16, 4, 20))

    def test_another_expire(self) -> None:
        """Rows that were written when their table had a longer expire are looked at when they end
        by the present one."""
        self.fill(PLAIN, False, self.plain())
        self.database.connection.execute("UPDATE t SET expires = expires + 1000000000")
        (part,), _ = self.read("t", 100, NOW)
        (rows,) = part.rows[0].open(100)
        self.assertEqual(rows.until, NOW - 49 + PLAIN.expire + 5)

    def test_columns_that_lie(self) -> None:
        """What a row says of itself decides, and not the columns for people: one that has not
        expired is loaded, one that has is left out or does not live."""
        self.fill(PLAIN, False, self.plain())
        self.database.connection.execute("UPDATE t SET expires = 5 WHERE key < x'00000005'")
        self.database.connection.execute("UPDATE t SET expires = 'x' WHERE key = x'00000007'")
        slices, found = self.read("t", 100, NOW)
        self.assertEqual((len(found), slices[0].expired, slices[0].bad), (50, 0, 0))

    def test_stray_peer(self) -> None:
        """A row of a peer in a table that is not shared per peer is none that was written so."""
        self.fill(PLAIN, False, self.plain())
        self.database.connection.execute("UPDATE t SET peer = 'p' WHERE key = x'00000000'")
        slices, found = self.read("t", 100, NOW)
        self.assertEqual((len(found), slices[0].bad), (49, 1))

    def test_another_way_to_write(self) -> None:
        """Where SQLite does not join blobs byte by byte, rows are read one by one."""
        self.assertTrue(joins(self.database.connection))
        connection = sqlite3.connect(":memory:")
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("CREATE TABLE x (y)")
        self.assertFalse(joins(connection))
        connection.close()
        path = self.mktemp()
        connection = sqlite3.connect(path)
        for statement in ("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE x (y)", "DROP TABLE x"):
            connection.execute(statement)
        connection.close()
        self.database.close()
        self.database = Database(path)
        self.addCleanup(self.database.close)
        self.database.open(NOW)
        self.fill(PLAIN, False, self.plain())
        (part, *_), found = self.read("t", 100, NOW)
        self.assertEqual((part.rows, len(part.records), len(found)), ((), 50, 50))

    def test_names(self) -> None:
        """A table may have any name."""
        declaration = Declaration.parse('x"y%s :now', "type ip size 1k store gpc0")
        self.fill(declaration, False, [Record.made(declaration, b"abcd", NOW, None, (3,))])
        _, found = self.read(declaration.name, 10, NOW)
        self.assertEqual(len(found), 1, quoted(declaration.name))


class LoadingTests(StorageTestCase):
    def test_same(self) -> None:
        """A node has the same entries after a restart, each with its life."""
        here = self.node({"t": LINE})
        table = here.table("t")
        for number in range(300):
            text = "s" * (number % 90)
            table.set(f"k{number}", gpc0=number, http_req_rate=number, server_key=text or None)
        table.set("brief", gpc0=1, expires_in=5000)
        self.network.advance(2)
        records = {one.key: one for one in table.records()}
        self.stop(here)
        again = self.node({"t": LINE})
        at = again.time.now()
        self.assertEqual(
            said(again.table("t")),
            {
                (key, None): ((one := record.entry(at)).decoded, one.expires_in)
                for key, record in records.items()
            },
        )
        self.network.advance(5)
        self.assertNotIn("brief", again.table("t"))

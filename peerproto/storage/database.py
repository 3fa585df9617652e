"""The SQLite file that keeps tables. All of it runs in one thread, which may be any.

It has an SQL table for each stick table (`peerproto.storage.columns`), and two of its own:
``peerproto_file`` says what the file is and when it was written last, ``peerproto_tables`` how each
stick table is declared. Other tables whose names begin with ``peerproto_`` are left to later
versions.

Times are *node time*: the wall clock when the file was made, and from then on what has passed by
the monotonic clock of each process. Each transaction notes the node time with the wall clock, so
that the next process reckons how long nobody ran.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Optional
from urllib.parse import quote

from peerproto import Declaration, LocalProtocolError, Record, Snapshot
from peerproto.storage.columns import FIXED, Shape, kept_of, reshaped, to_sql
from peerproto.storage.errors import StorageError
from peerproto.storage.joined import Joined, joins
from peerproto.storage.names import OWN, quoted, sql_name
from peerproto.storage.store import Slice, StoredTable, Written
from peerproto.storage.transaction import Declared, Moment, Transaction

SCHEMA: Final = 1
"""The version of the schema that this code writes."""

APPLICATION: Final = 0x70656572
"""SQLite's ``application_id`` of these files."""

BUSY_TIMEOUT: Final = 2.0
"""Seconds for which a lock of another program is waited for."""

_AT_ONCE: Final = 100
"""Rows of a statement. While it runs, the reactor's thread has the interpreter: of short ones, this
thread would wait for it again after each row; of long ones, the reactor for this."""

_VARIABLES: Final = 30_000
"""Values that a statement may have, and some more."""

_SLICE: Final = 1000
"""Rows that are read at once where nobody waits for them."""

_NEW: Final = OWN + "new"
"""The name of a table until it takes the place of another one."""


class BrokenFile(Exception):
    """The file is damaged, or is none of SQLite's; the text says how."""


class Database:
    """One file, open or not."""

    def __init__(self, path: str) -> None:
        """``path`` is that of the file; nothing is opened yet."""
        self.path = path
        self.tables: dict[str, StoredTable] = {}
        """What there is in the file, by the names of stick tables."""
        self.last: Optional[Moment] = None
        """When it was written last; ``None`` for a new file."""
        self.number = 0
        """The number of the last transaction."""
        self._connection: Optional[sqlite3.Connection] = None
        self._joins = False
        """Whether rows can be read joined."""
        self._read_only = False
        self._place: Optional[tuple[int, int]] = None
        """The device and the inode that the path led to when it was opened."""

    # -- opening and closing -----------------------------------------------

    def open(self, wall: int) -> Moment:
        """Open the file, or make it: the time of the file now.

        :param wall: the wall clock, in ms since the epoch.
        :raises StorageError: another program or a newer version has made it.
        :raises BrokenFile: it is damaged.
        :raises sqlite3.OperationalError: it cannot be opened now, perhaps later.
        """
        self.close()
        connection = connect(self.path)
        try:
            self._connection = connection
            with broken_files():
                self._begin(connection, wall)
        except BaseException:
            self.close()
            raise
        self._place = self._find()
        self._read_only = not os.access(self.path, os.W_OK)
        assert self.last is not None
        # Time that passed by the wall clock while nobody ran; none if it was set back.
        return Moment(self.last.node + max(0, wall - self.last.wall), wall)

    def _begin(self, connection: sqlite3.Connection, wall: int) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if application != APPLICATION and (application or schema or names):
            if "peerproto_file" in names:
                raise BrokenFile(f"its application id is {application:#x}")
            raise StorageError(self.path, "a file of another program", "one of peerproto")
        if schema > SCHEMA:
            self._check_schema(connection, schema)
            raise StorageError(
                self.path,
                f"schema version {schema}",
                f"{SCHEMA} at most: a newer peerproto has made it; nothing is changed",
            )
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError("a write-ahead log cannot be kept there")
        for setting in (
            "synchronous = FULL",
            "cache_size = -32768",
            "wal_autocheckpoint = 4000",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {setting}")
        if not names:
            self._make(connection, wall)
        self._read_catalogue(connection)
        self._joins = joins(connection)

    def check(self) -> None:
        """See `Store`: what was read before need not show all damage."""
        with broken_files():
            (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise BrokenFile(verdict)

    def _check_schema(self, connection: sqlite3.Connection, schema: int) -> None:
        """:raises BrokenFile: the file says something else of its schema elsewhere."""
        found = connection.execute("SELECT value FROM peerproto_file WHERE name = 'schema'")
        if found.fetchone() != (schema,):
            raise BrokenFile(f"its schema version is {schema} in one place alone")

    def _make(self, connection: sqlite3.Connection, wall: int) -> None:
        with transaction(connection):
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute(
                "CREATE TABLE peerproto_file (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
            )
            connection.execute(
                "CREATE TABLE peerproto_tables (sql_name TEXT PRIMARY KEY COLLATE NOCASE,"
                " name NOT NULL UNIQUE, per_peer INTEGER NOT NULL, declaration TEXT NOT NULL)"
            )
            values = {
                "schema": SCHEMA,
                "made": wall,
                "node_time": wall,
                "wall_clock": wall,
                "transactions": 0,
            }
            connection.executemany("INSERT INTO peerproto_file VALUES (?, ?)", values.items())

    def _read_catalogue(self, connection: sqlite3.Connection) -> None:
        values = dict(connection.execute("SELECT name, value FROM peerproto_file"))
        try:
            self.last = Moment(int(values["node_time"]), int(values["wall_clock"]))
            self.number = int(values["transactions"])
            self.tables = read_tables(connection)
        except (KeyError, ValueError, TypeError, LocalProtocolError) as problem:
            raise BrokenFile(f"what it says of itself cannot be read: {problem!r}") from problem

    def close(self) -> None:
        """Close the file, if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection with the file.

        :raises BrokenFile: it is not open: it was damaged, and there could be no other one.
        """
        if self._connection is None:
            raise BrokenFile("it is not open")
        return self._connection

    def _find(self) -> Optional[tuple[int, int]]:
        """Where the path leads now."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @property
    def _can_be_written_again(self) -> bool:
        """Whether the file was opened to be read alone, and need not be any more: a connection
        of SQLite stays as it was opened."""
        return self._read_only and os.access(self.path, os.W_OK)

    def _is_elsewhere(self, wall: int) -> bool:
        """Whether the path leads to a file of another number, which is open now, and has the last
        transaction: some file systems give other numbers.

        :raises BrokenFile: it leads to none, or to one that has not. SQLite would go on to write
            what nobody finds again.
        """
        place = self._find()
        if self._connection is None or (place == self._place and not self._can_be_written_again):
            return False
        if place is not None:
            number, before = self.number, self._place
            try:
                self.open(wall)
                self.check()
            except StorageError as problem:
                raise BrokenFile(str(problem)) from problem
            if self.number == number:
                return place != before
        raise BrokenFile("somebody has removed it, or put another file there")

    def size(self) -> int:
        """Bytes of the file, and of its write-ahead log."""
        return sum(
            os.stat(name).st_size
            for name in (self.path, f"{self.path}-wal")
            if os.path.exists(name)
        )

    # -- reading -----------------------------------------------------------

    def read(
        self,
        name: str,
        after: Optional[tuple[Any, Any]],
        limit: int,
        now: int,
        shift: int,
        ahead: int = 0,
    ) -> Slice:
        """See `Store`."""
        table = self.tables[name]
        with broken_files():
            if self._joins:
                joined = Joined(self.connection, table, now, shift, ahead)
                return joined.read(None if after is None else after[0], limit)
            rows = read_rows(self.connection, table, after, limit)
        return Slice.of(rows, limit, lambda row: table.shape.record(row, shift), now + shift)

    def count(self) -> dict[str, int]:
        """By the names of stick tables, how many rows there are."""
        counts = {}
        with broken_files():
            for name, table in self.tables.items():
                statement = f"SELECT count(*) FROM {quoted(table.sql_name)}"
                (counts[name],) = self.connection.execute(statement).fetchone()
        return counts

    # -- writing -----------------------------------------------------------

    def write(self, what: Transaction) -> Written:
        """Write a transaction, all or nothing of it.

        :raises sqlite3.OperationalError: it cannot be written now, perhaps later.
        :raises BrokenFile: the file is damaged.
        """
        elsewhere = self._is_elsewhere(what.moment.wall)
        before = dict(self.tables), self.number, self.last
        try:
            with broken_files(), transaction(self.connection) as connection:
                self.number += 1
                self.last = what.moment
                for name in what.dropped:
                    self._drop(name)
                for one in what.declared:
                    self._declare(one)
                by_table: dict[str, list[Snapshot]] = {}
                for name, snapshot in what.snapshots:
                    by_table.setdefault(name, []).append(snapshot)
                for name, snapshots in by_table.items():
                    self._write_snapshots(name, snapshots, what.ahead)
                connection.executemany(
                    "UPDATE peerproto_file SET value = ? WHERE name = ?",
                    [
                        (what.moment.node, "node_time"),
                        (what.moment.wall, "wall_clock"),
                        (self.number, "transactions"),
                    ],
                )
        except BaseException:
            self.tables, self.number, self.last = before
            raise
        return Written(self.number, self.size(), lost=elsewhere)

    def prune(
        self,
        name: str,
        after: Optional[tuple[Any, Any]],
        limit: int,
        *,
        expired: Optional[int] = None,
        older: Optional[int] = None,
    ) -> Optional[tuple[Any, Any]]:
        """See `Store`."""
        table = self.tables.get(name)
        if table is None:
            return None
        with broken_files(), transaction(self.connection) as connection:
            where = "" if after is None else "WHERE (key, peer) > (?, ?) "
            rows = connection.execute(
                f"SELECT key, peer, stored, written FROM {quoted(table.sql_name)}"
                f" {where}ORDER BY key, peer LIMIT ?",
                (*(after or ()), limit),
            ).fetchall()
            gone = [
                (key, peer)
                for key, peer, stored, written in rows
                if (expired is not None and table.shape.is_over(stored, expired))
                or (older is not None and written < older)
            ]
            self._remove(table, gone)
        return rows[-1][:2] if len(rows) == limit else None

    def _drop(self, name: str) -> None:
        table = self.tables.pop(name, None)
        if table is not None:
            self.connection.execute(f"DROP TABLE {quoted(table.sql_name)}")
            self.connection.execute(
                "DELETE FROM peerproto_tables WHERE sql_name = ?", (table.sql_name,)
            )

    def _declare(self, declared: Declared) -> None:
        """Have a table as it is declared."""
        declaration = declared.declaration
        before = self.tables.get(declaration.name)
        if before is not None and (
            declared.anew
            or before.per_peer != declared.per_peer
            or not _same_keys(before.shape.declaration, declaration)
        ):
            self._drop(declaration.name)
            before = None
        shape = Shape(declaration)
        if before is None:
            taken = {one.sql_name.lower() for one in self.tables.values()}
            name = sql_name(declaration.name, taken)
            self._create(name, shape)
        else:
            name = before.sql_name
            layout = before.shape.declaration.layout
            if before.shape.names != shape.names or not layout.stores_like(declaration.layout):
                self._migrate(before, shape)
        self.tables[declaration.name] = StoredTable(shape, declared.per_peer, name)
        self.connection.execute(
            "INSERT OR REPLACE INTO peerproto_tables (sql_name, name, per_peer, declaration)"
            " VALUES (?, ?, ?, ?)",
            (
                name,
                to_sql(declaration.name),
                declared.per_peer,
                json.dumps(declaration.plain()),
            ),
        )

    def _create(self, name: str, shape: Shape) -> None:
        self.connection.execute(f"CREATE TABLE {quoted(name)} ({shape.definition}) WITHOUT ROWID")

    def _migrate(self, before: StoredTable, shape: Shape) -> None:
        """Copy the rows of a table into one with other columns, which takes its place."""
        self.connection.execute(f"DROP TABLE IF EXISTS {quoted(_NEW)}")
        self._create(_NEW, shape)
        after: Optional[tuple[Any, Any]] = None
        while True:
            rows = read_rows(self.connection, before, after, _SLICE)
            records = (before.shape.record(row) for row in rows)
            copies = (reshaped(one, shape.declaration) for one in records if one is not None)
            self.insert(_NEW, shape, (one for one in copies if one is not None))
            if len(rows) < _SLICE:
                break
            after = rows[-1][:2]
        self.connection.execute(f"DROP TABLE {quoted(before.sql_name)}")
        self.connection.execute(f"ALTER TABLE {quoted(_NEW)} RENAME TO {quoted(before.sql_name)}")

    def insert(self, name: str, shape: Shape, records: Iterable[Record]) -> int:
        """Put records into an SQL table, within a transaction: how many."""
        rows = (shape.row(kept_of(one), to_sql(one.peer) or "", 0, self.number) for one in records)
        return self._insert(name, shape, rows)

    def _write_snapshots(self, name: str, snapshots: list[Snapshot], ahead: int) -> None:
        """Write what snapshots of a table say; of a key, the last one counts."""
        table = self.tables[name]
        shape, number = table.shape, self.number
        latest: dict[Any, dict[bytes, Optional[list[Any]]]] = {}
        for snapshot in snapshots:
            assert snapshot.declaration.layout == shape.declaration.layout, name
            peer = to_sql(snapshot.peer) or ""
            of_peer = latest.setdefault(peer, {})
            of_peer.update(dict.fromkeys(snapshot.raw_keys))
            for kept in snapshot:
                of_peer[kept[0]] = shape.row(kept, peer, ahead, number)
        gone: list[tuple[Any, Any]] = []
        rows: list[list[Any]] = []
        for peer, of_peer in latest.items():
            there = [row for row in of_peer.values() if row is not None]
            if len(there) < len(of_peer):
                gone += [(raw_key, peer) for raw_key, row in of_peer.items() if row is None]
            rows += there
        self._remove(table, gone)
        # In the order of keys, a page of the file is come to once.
        rows.sort(key=itemgetter(0))
        self._insert(table.sql_name, shape, iter(rows))

    def _insert(self, name: str, shape: Shape, rows: Iterator[list[Any]]) -> int:
        """Put rows into an SQL table."""
        columns = ", ".join((*FIXED, *map(quoted, shape.names)))
        head = f"INSERT OR REPLACE INTO {quoted(name)} ({columns}) VALUES "
        each = f"({', '.join('?' * shape.width)})"
        at_once = max(1, min(_AT_ONCE, _VARIABLES // shape.width))
        whole = head + ", ".join([each] * at_once)
        total = 0
        while values := [value for row in islice(rows, at_once) for value in row]:
            count = len(values) // shape.width
            total += count
            statement = whole if count == at_once else head + ", ".join([each] * count)
            self.connection.execute(statement, values)
        return total

    def _remove(self, table: StoredTable, gone: list[tuple[Any, Any]]) -> None:
        for begin in range(0, len(gone), _AT_ONCE):
            some = gone[begin : begin + _AT_ONCE]
            marks = ", ".join(["(?, ?)"] * len(some))
            self.connection.execute(
                f"DELETE FROM {quoted(table.sql_name)} WHERE (key, peer) IN (VALUES {marks})",
                [value for one in some for value in one],
            )


def connect(path: str, query: str = "") -> sqlite3.Connection:
    """A connection with a file.

    :param query: with it, the path is opened as a URI with this behind it.
    """
    if query:
        path = f"file:{quote(os.path.abspath(path))}?{query}"
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=bool(query)
    )
    connection.text_factory = _text
    return connection


def _text(raw: bytes) -> Any:
    """A text that SQLite has; what is none, as in a damaged file, stays bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def read_tables(connection: sqlite3.Connection) -> dict[str, StoredTable]:
    """The stick tables that a file says it has, by their names.

    :raises LocalProtocolError: a declaration is none.
    :raises ValueError: it cannot be read.
    """
    tables = {}
    for name, per_peer, plain in connection.execute(
        "SELECT sql_name, per_peer, declaration FROM peerproto_tables"
    ):
        declaration = Declaration.of_plain(json.loads(plain))
        tables[declaration.name] = StoredTable(Shape(declaration), bool(per_peer), name)
    return tables


def read_rows(
    connection: sqlite3.Connection,
    table: StoredTable,
    after: Optional[tuple[Any, Any]],
    limit: int,
) -> list[tuple[Any, ...]]:
    """What `Shape.record` reads, of some rows in the order of keys."""
    columns = ", ".join(map(quoted, table.shape.read_names))
    where = "" if after is None else "WHERE (key, peer) > (?, ?) "
    return connection.execute(
        f"SELECT {columns} FROM {quoted(table.sql_name)} {where}ORDER BY key, peer LIMIT ?",
        (*(after or ()), limit),
    ).fetchall()


def _same_keys(one: Declaration, other: Declaration) -> bool:
    first, second = one.layout, other.layout
    return (first.key_type, first.key_length) == (second.key_type, second.key_length)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction of a connection: rolled back if something is raised."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled back on its own, as when the disk is full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


_DAMAGE: Final = (
    "no such ",
    "malformed",
    "unsupported file format",
    "has no column",
    "syntax error",
)
"""Words of errors that only a file can cause that is not as it was written."""


@contextmanager
def broken_files() -> Iterator[None]:
    """What SQLite raises for a damaged file, as `BrokenFile`; what may pass stays as it is."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        if any(words in str(problem) for words in _DAMAGE):
            raise BrokenFile(str(problem)) from problem
        raise
    except sqlite3.DatabaseError as problem:
        raise BrokenFile(str(problem)) from problem

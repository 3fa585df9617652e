"""A damaged file: it is set aside, and what can be read of it is saved into a new one."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator, Iterator
from typing import Any, Final, Optional

import attrs

from peerproto import LocalProtocolError, Record
from peerproto.storage.database import (
    Database,
    connect,
    read_tables,
    transaction,
)
from peerproto.storage.names import quoted
from peerproto.storage.store import StoredTable
from peerproto.storage.transaction import Declared, Moment, Transaction

_AT_ONCE: Final = 500
"""Rows that are read at once."""

_ENDS: Final = ("", "-wal")
"""What the files of SQLite have behind the name; a third one is made from them."""

_ERRORS: Final = (sqlite3.Error, LocalProtocolError, ValueError, TypeError)


@attrs.frozen
class Saved:
    """What was saved of a damaged file."""

    aside: Optional[str]
    """Its new name; ``None`` if there was no file any more."""
    rows: int
    """Rows that were saved."""
    bad: int
    """Rows whose checksum was wrong."""
    unread: int
    """Ranges of keys of which some could not be read."""


def set_aside(path: str) -> str:
    """Give a file another name, which nothing has: that one."""
    stem = f"{path}.broken-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    aside, number = stem, 1
    while any(os.path.lexists(aside + end) for end in _ENDS):
        number += 1
        aside = f"{stem}-{number}"
    for end in _ENDS:
        if os.path.lexists(path + end):
            os.rename(path + end, aside + end)
    if os.path.lexists(f"{path}-shm"):
        os.unlink(f"{path}-shm")
    return aside


def _put_back(aside: str, path: str) -> None:
    """Give a file its name again, where there can be no new one."""
    for name in (path, f"{path}-wal", f"{path}-shm", f"{aside}-shm"):
        if os.path.lexists(name):
            os.unlink(name)
    for end in _ENDS:
        if os.path.lexists(aside + end):
            os.rename(aside + end, path + end)


def begin_anew(database: Database, wall: int) -> tuple[Moment, Saved]:
    """Set the damaged file of a database aside, and open a new one with what can be saved: the
    time of the new file now.

    :param wall: the wall clock, in ms since the epoch.
    :raises sqlite3.OperationalError: there can be no new file now. Then the damaged one is where
        it was: it is as if this had not been tried.
    """
    database.close()
    aside = set_aside(database.path)
    try:
        return _saved(database, aside, wall)
    except BaseException:
        database.close()
        _put_back(aside, database.path)
        raise


def _saved(database: Database, aside: str, wall: int) -> tuple[Moment, Saved]:
    """Open a new file with what can be saved of one that is set aside."""
    last, tables, connection = _open(aside)
    rows = bad = unread = 0
    try:
        moment = database.open(wall)
        if last is not None:
            moment = Moment(last.node + max(0, wall - last.wall), wall)
        declared = tuple(
            Declared(one.shape.declaration, one.per_peer, False) for one in tables.values()
        )
        database.write(Transaction(moment, declared=declared))
        for name, table in tables.items():
            kept = database.tables[name]
            assert connection is not None
            reader = _Reader(connection, table)
            with transaction(database.connection):
                rows += database.insert(kept.sql_name, kept.shape, reader.records())
            bad += reader.bad
            unread += reader.unread
    finally:
        if connection is not None:
            connection.close()
    return moment, Saved(aside if os.path.lexists(aside) else None, rows, bad, unread)


def _open(
    aside: str,
) -> tuple[Optional[Moment], dict[str, StoredTable], Optional[sqlite3.Connection]]:
    """What a damaged file says of itself, and a connection with it that reads alone.

    If it cannot be read with its write-ahead log, it is read without.
    """
    for query in ("mode=ro", "immutable=1"):
        connection: Optional[sqlite3.Connection] = None
        try:
            connection = connect(aside, query)
            tables = read_tables(connection)
        except _ERRORS:
            if connection is not None:
                connection.close()
            continue
        try:
            values = dict(connection.execute("SELECT name, value FROM peerproto_file"))
            last = Moment(int(values["node_time"]), int(values["wall_clock"]))
        except (*_ERRORS, KeyError):
            last = None
        return last, tables, connection
    return None, {}, None


class _Reader:
    """Reads what can be read of one table, from both ends of each range of keys."""

    def __init__(self, connection: sqlite3.Connection, table: StoredTable) -> None:
        self._connection = connection
        self._table = table
        self.bad = self.unread = 0

    def records(self) -> Iterator[Record]:
        """The records with the right checksum."""
        for first in range(256):
            low = bytes((first,)) if first else b""
            high = bytes((first + 1,)) if first < 255 else None
            complete = yield from self._go(low, high, "ASC")
            if not complete:
                self.unread += 1
                yield from self._go(low, high, "DESC")

    def _go(self, low: bytes, high: Optional[bytes], order: str) -> Generator[Record, None, bool]:
        """Read a range from one end on; returns whether the other end was reached."""
        table = self._table
        after: Optional[tuple[Any, Any]] = None
        columns = ", ".join(map(quoted, table.shape.read_names))
        limit = _AT_ONCE
        while True:
            where = "key >= ?"
            values: list[Any] = [low]
            if high is not None:
                where, values = f"{where} AND key < ?", [*values, high]
            if after is not None:
                sign = ">" if order == "ASC" else "<"
                where, values = f"{where} AND (key, peer) {sign} (?, ?)", [*values, *after]
            try:
                rows = self._connection.execute(
                    f"SELECT {columns} FROM {quoted(table.sql_name)} WHERE {where}"
                    f" ORDER BY key {order}, peer {order} LIMIT {limit}",
                    values,
                ).fetchall()
            except sqlite3.Error:
                if limit == 1:
                    return False
                limit = max(1, limit // 8)
                continue
            for row in rows:
                record = table.shape.record(row)
                if record is None:
                    self.bad += 1
                else:
                    yield record
            if len(rows) < limit:
                return True
            after = rows[-1][:2]

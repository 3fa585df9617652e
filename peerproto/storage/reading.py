"""What a file keeps, for programs that only look: nothing is written, and no node is in the way."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Optional

from peerproto import LocalProtocolError, Portable, PortableTable
from peerproto.service.nodetime import A_STEP
from peerproto.storage.database import (
    APPLICATION,
    SCHEMA,
    BrokenFile,
    broken_files,
    connect,
    read_rows,
    read_tables,
)
from peerproto.storage.errors import StorageError
from peerproto.storage.names import quoted
from peerproto.storage.store import StoredTable

_AT_ONCE: Final = 1000
"""Rows that are read at once."""


class StoredFile:
    """A file that keeps tables, as it is when it is opened, whatever a node writes meanwhile.

    All is read in one transaction. As long as that goes on, the file's write-ahead log grows.
    """

    def __init__(self, path: str, wall: Optional[int] = None) -> None:
        """Open the file.

        :param wall: the wall clock, in ms since the epoch; what it is now, if nothing is said.
        :raises StorageError: it cannot be read, or is no such file.
        """
        self._wall = round(time.time() * 1000) if wall is None else wall
        self.path = path
        self.bad = 0
        """Rows so far that are not as they were written."""
        try:
            self._connection = _connected(path)
        except (OSError, sqlite3.Error, BrokenFile) as problem:
            raise _unreadable(path, problem) from problem
        try:
            self._open()
        except (sqlite3.Error, BrokenFile, KeyError, ValueError, TypeError) as problem:
            self.close()
            raise _unreadable(path, problem) from problem
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        connection = self._connection
        with broken_files():
            connection.execute("BEGIN")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION:
                raise StorageError(self.path, "a file of another program", "one of peerproto")
            if schema > SCHEMA:
                expected = f"{SCHEMA} at most: a newer peerproto has made it"
                raise StorageError(self.path, f"schema version {schema}", expected)
            said = dict(connection.execute("SELECT name, value FROM peerproto_file"))
            self._stored: Mapping[str, StoredTable] = read_tables(connection)
        node, wall = int(said["node_time"]), int(said["wall_clock"])
        self.now = node + max(0, self._wall - wall)
        """The time of the file, in ms."""
        # The same rule as `NodeTime.steps`.
        self.step = wall - node if abs(wall - node) >= A_STEP else 0
        """How far the wall clock is ahead of that."""

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def tables(self) -> dict[str, PortableTable]:
        """The tables, by name."""
        return {
            name: PortableTable(one.shape.declaration, one.per_peer)
            for name, one in self._stored.items()
        }

    def count(self, name: str) -> int:
        """Rows of a table, those included whose time has come.

        :raises StorageError: the file is damaged.
        """
        with _readable(self.path):
            statement = f"SELECT count(*) FROM {quoted(self._stored[name].sql_name)}"
            (count,) = self._connection.execute(statement).fetchone()
        return int(count)

    def entries(self, name: str) -> Iterator[Portable]:
        """The entries of a table that live, in the order of their keys.

        :raises StorageError: the file is damaged.
        """
        table = self._stored[name]
        after: Optional[tuple[Any, Any]] = None
        while True:
            with _readable(self.path):
                rows = read_rows(self._connection, table, after, _AT_ONCE)
            for row in rows:
                record = table.shape.record(row)
                if record is None:
                    self.bad += 1
                elif record.expires is None or record.expires > self.now:
                    yield Portable.of(record, self.now, self.step)
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1][:2]


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """What SQLite raises while a file is read, as `StorageError`."""
    try:
        yield
    except sqlite3.Error as problem:
        raise _unreadable(path, problem) from problem


def _connected(path: str) -> sqlite3.Connection:
    """A connection that reads alone.

    A file that nobody writes, in a folder where nothing can be made, is read without a lock.
    """
    os.stat(path)
    connection = connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if os.path.exists(f"{path}-wal"):
            raise
        connection = connect(path, "immutable=1")
    return connection


def _unreadable(path: str, problem: BaseException) -> StorageError:
    if isinstance(problem, OSError) and problem.strerror:
        return StorageError("file", path, f"one that can be read: {problem.strerror}")
    if isinstance(problem, LocalProtocolError):
        return StorageError("file", path, f"one that keeps tables: {problem}")
    return StorageError("file", path, f"one that keeps tables, and is whole: {problem}")

"""Entries into a file that no node has: to have it loaded later, or to be looked at."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from typing import Optional

from peerproto import Portable, PortableTable, Record
from peerproto.service.nodetime import A_STEP
from peerproto.storage.database import BrokenFile, Database, transaction
from peerproto.storage.errors import StorageError
from peerproto.storage.lock import FileLock
from peerproto.storage.transaction import Declared, Transaction


class FileWriter:
    """One table of a file; the file is made if there is none."""

    def __init__(self, path: str, table: PortableTable, wall: Optional[int] = None) -> None:
        """Open the file, and have the table in it: as it is declared there, if it is there.

        :param wall: the wall clock, in ms since the epoch; what it is now, if nothing is said.
        :raises StorageError: a node has the file, it cannot be written, or the table there has
            other keys, or is shared otherwise.
        """
        wall = round(time.time() * 1000) if wall is None else wall
        self.path = path
        self._lock = FileLock(path)
        self._database = Database(path)
        if not self._lock.take():
            raise StorageError("file", path, "one that no node has open")
        try:
            self._moment = self._database.open(wall)
            self._database.check()
            self._table = self._declared(table)
        except (sqlite3.Error, BrokenFile) as problem:
            self.close()
            raise StorageError("file", path, f"one that can be written: {problem}") from problem
        except BaseException:
            self.close()
            raise

    def _declared(self, table: PortableTable) -> PortableTable:
        database, name = self._database, table.declaration.name
        # Of a file that was written before the clock was set, times go on as they were.
        step = self._moment.wall - self._moment.node
        self._step = step if abs(step) >= A_STEP else 0
        stored = database.tables.get(name)
        if stored is None:
            declared = (Declared(table.declaration, table.per_peer, False),)
            database.write(Transaction(self._moment, declared=declared))
            return table
        there = PortableTable(stored.shape.declaration, stored.per_peer)
        if there.per_peer != table.per_peer:
            expected = "one of the same name that is shared per peer, or not, as the other is"
            raise StorageError("table", name, expected)
        return there

    @property
    def table(self) -> PortableTable:
        """How the table is declared in the file."""
        return self._table

    def put(self, entries: Iterable[Portable]) -> list[bool]:
        """Put entries into the file, as whole entries, all or none of them: of each, whether its
        time is yet to come, without which it is left out. Values that are not named are 0.

        :raises StorageError: the file cannot be written.
        """
        database, name = self._database, self._table.declaration.name
        now = self._moment.node + self._step
        records = [self._record(one, now) for one in entries]
        stored = database.tables[name]
        try:
            with transaction(database.connection):
                some = (one for one in records if one is not None)
                database.insert(stored.sql_name, stored.shape, some)
        except sqlite3.Error as problem:
            expected = f"one that can be written: {problem}"
            raise StorageError("file", self.path, expected) from problem
        return [one is not None for one in records]

    def _record(self, entry: Portable, now: int) -> Optional[Record]:
        declaration = self._table.declaration
        layout = declaration.layout
        life = entry.life(now, declaration.expire)
        if life == 0:
            return None
        values = list(layout.codec.blank())
        for name, value in entry.changes(layout, now).items():
            cell = layout.cells[name]
            if cell.index is None:
                values[cell.place] = value
            else:
                elements = values[cell.place]
                values[cell.place] = (
                    *elements[: cell.index],
                    value,
                    *elements[cell.index + 1 :],
                )
        if not declaration.expire:
            expires = None
        else:
            expires = self._moment.node + (declaration.expire if life is None else life)
        return Record.made(
            declaration, entry.raw_key, self._moment.node, expires, tuple(values), entry.peer
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()
        self._lock.release()

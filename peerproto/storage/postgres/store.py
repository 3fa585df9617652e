"""A schema of a PostgreSQL server that keeps tables of several nodes.

It has an SQL table for each stick table (`peerproto.storage.postgres.columns`), and some of its own
whose names begin with ``peerproto_``.

Times are by the clock of the server. A node reckons what it is from its own monotonic clock, and
compares both in each transaction: so the clocks of nodes need not agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Optional

import attrs
import psycopg
from twisted.logger import Logger

from peerproto import Declaration, Kept, Record, Snapshot
from peerproto.storage.columns import Shape, kept_of, reshaped
from peerproto.storage.config import StorageSettings
from peerproto.storage.errors import StorageError, Unavailable
from peerproto.storage.names import OWN, quoted
from peerproto.storage.postgres.catalogue import Catalogue, SharedTable
from peerproto.storage.postgres.columns import escaped
from peerproto.storage.postgres.connection import (
    ANSWER_TIMEOUT,
    Connection,
    GivenUp,
    Undefined,
    run,
)
from peerproto.storage.postgres.statements import TableStatements, qualified
from peerproto.storage.store import Slice, StoredTable, Written
from peerproto.storage.transaction import Declared, Moment, Transaction

_SLICE: Final = 2000
"""Rows that are read at once where nobody waits for them."""

_TRIES: Final = 5
"""How often a transaction is tried that the server gives up for that of another node."""

_DRIFT: Final = 100
"""Ms by which the clock of the server may be another than was reckoned."""

_REMEMBERED: Final = 3_600_000
"""Time in ms for which it is noted that somebody removed an entry."""

LONGEST_KEY: Final = 2000
"""Bytes of a key and the name of its peer up to which a row is kept: PostgreSQL has no longer ones
in an index."""

_EXACT: Final = 50_000
"""Rows up to which they are counted; what there are more is what the server reckons."""

_SIZED: Final = 60.0
"""Seconds for which the size is taken to stay."""


_OLD: Final = OWN + "old"
"""The name of a table while its rows are copied into another one."""

_Key = tuple[Optional[str], bytes]
_Entry = Optional[tuple[Declaration, Kept]]


class PostgresStore:
    """One schema, in which one node keeps its tables. See `Store`."""

    _log = Logger()

    def __init__(
        self,
        settings: StorageSettings,
        node: str,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = ANSWER_TIMEOUT,
    ) -> None:
        """Nothing is opened yet.

        :param node: the name of the node.
        :param monotonic: a clock that is never set, in seconds.
        :param patience: seconds after which a server that does not answer is given up.
        """
        self._url = settings.url
        self._place = f"{settings.place}, schema {settings.schema}"
        self._node = node
        self._monotonic = monotonic
        self._patience = patience
        self._catalogue = Catalogue(settings.schema, node, self._place)
        self._connection: Optional[Connection] = None
        self._locked = False
        self._incoming: dict[int, TableStatements] = {}
        """The temporary tables that this connection has, and for what."""
        self.tables: dict[str, StoredTable] = {}
        self.number = 0
        self._opened = False
        self._lost = False
        """Whether it lacks what was written before, and that is not told yet."""
        self._shares: dict[str, bool] = {}
        """By the name of each table that we have seen there, whether it is shared per peer."""
        self._base = 0.0
        """What the clock of the server had more than our monotonic one when it was opened, in
        ms."""
        self._shift = 0
        """What it has more by now than it had then, in ms."""
        self._size = 0
        self._sized = 0.0

    # -- opening and closing -----------------------------------------------

    def open(self, wall: int) -> Moment:
        """See `Store`."""
        self._opened = False
        self._lost = False
        self._shift = 0
        self.number = 0
        self.tables = {}
        self._shares = {}
        return Moment(self._connect(wall), wall)

    def check(self) -> None:
        """See `Store`: a server looks after its files itself."""

    def _connect(self, wall: int) -> int:
        """Connect, unless we are; take the lock of the node, and know the catalogue: the clock of
        the server."""
        connection = self._connection
        if connection is None or not connection.is_open:
            self.close()
            connection = self._connection = Connection(self._url, self._node, self._patience)
        try:
            if connection.encoding != "UTF8":
                raise StorageError(
                    self._place, f"a database in {connection.encoding}", "one in UTF8"
                )
            if not self._locked:
                connection.take_lock(self._catalogue.schema, self._node)
                self._locked = True
            with connection.transaction() as cursor:
                self._catalogue.begin(cursor)
                clock = self._refresh(cursor)
                known = self._catalogue.register(cursor, clock, wall)
        except BaseException:
            if not connection.is_open or self._locked:
                self.close()
            raise
        # It may be another server by now, or an older database.
        self._lost = self._lost or known < self.number
        self.number = max(known, self.number)
        return clock

    def _refresh(self, cursor: psycopg.Cursor[Any]) -> int:
        """Know what others have changed in the catalogue, and what the clock of the server is."""
        began = self._monotonic() * 1000
        clock = self._catalogue.refresh(cursor)
        least, most = clock - self._monotonic() * 1000, clock - began
        if not self._opened:
            self._opened = True
            self._base = (least + most) / 2
        now = self._base + self._shift
        if not least - _DRIFT <= now <= most + _DRIFT:
            self._shift = round((least + most) / 2 - self._base)
        self.tables = {name: one.stored for name, one in self._catalogue.mine().items()}
        self._shares.update((name, one.per_peer) for name, one in self.tables.items())
        return clock

    def close(self) -> None:
        """See `Store`."""
        connection, self._connection = self._connection, None
        self._locked = False
        self._incoming = {}
        self._catalogue.forget()
        if connection is not None:
            connection.close()

    @contextmanager
    def _transaction(
        self, exclusive: bool = False, wall: Optional[int] = None
    ) -> Iterator[psycopg.Cursor[Any]]:
        """A transaction in which the catalogue is as we know it; we connect if we are not.

        :param exclusive: whether the catalogue is to be changed.
        :param wall: the wall clock, in ms since the epoch.
        """
        if self._connection is None or not self._connection.is_open:
            self._connect(round(time.time() * 1000) if wall is None else wall)
        connection = self._connection
        assert connection is not None
        try:
            with connection.transaction() as cursor:
                self._catalogue.lock(cursor, exclusive)
                self._refresh(cursor)
                yield cursor
        except Undefined:
            # Somebody has dropped something: it is made anew.
            self.close()
            raise
        except BaseException:
            # What was changed in it is not.
            self._catalogue.forget()
            self._incoming = {}
            if not connection.is_open:
                self.close()
            raise

    def _find(self, name: str) -> Optional[SharedTable]:
        return self._catalogue.mine().get(name)

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
        """See `Store`. All rows are looked at one by one."""
        with self._transaction() as cursor:
            table = self._find(name)
            if table is None:
                return Slice([], None, 0, 0)
            rows = _read(cursor, table, after, limit)
        columns, by_now = table.statements.columns, now + shift
        shift -= self._shift
        return Slice.of(rows, limit, lambda row: columns.record(row, shift), by_now)

    def count(self) -> dict[str, int]:
        """See `Store`. A large table has about so many rows as the server reckons."""
        counts = {}
        with self._transaction() as cursor:
            for name, table in self._catalogue.mine().items():
                run(
                    cursor,
                    "SELECT n_live_tup FROM pg_stat_user_tables"
                    " WHERE relid = to_regclass(%(table)s)",
                    {"table": table.statements.table.replace("%%", "%")},
                )
                (about,) = cursor.fetchone() or (0,)
                if about <= _EXACT:
                    run(cursor, f"SELECT count(*) FROM {table.statements.table}")
                    (about,) = cursor.fetchone() or (0,)
                counts[name] = int(about)
        return counts

    # -- writing -----------------------------------------------------------

    def write(self, what: Transaction) -> Written:
        """See `Store`."""
        for _ in range(_TRIES):
            try:
                return self._write(what)
            except GivenUp as problem:
                # It and a transaction of another node waited for each other.
                given_up = problem
        raise given_up

    def _write(self, what: Transaction) -> Written:
        changes = bool(what.dropped or what.declared or self._missing(what))
        with self._transaction(changes, what.moment.wall) as cursor:
            missing = self._missing(what)
            for one in missing:
                # Somebody has dropped it, or brought an older database back.
                self._declare(cursor, one)
            for name in what.dropped:
                if (table := self._find(name)) is not None:
                    self._catalogue.leave(cursor, table)
                    self._catalogue.changed(cursor)
            for declared in what.declared:
                self._declare(cursor, declared)
            now = what.moment.node + self._shift
            for name, rows in self._rows_of(what).items():
                table = self._find(name)
                if table is None:
                    raise Unavailable(f"there is no table {name}")
                self._put(cursor, table, rows, what, now)
            self._forget_removed(cursor, now)
            self._catalogue.note(cursor, self.number + 1, now, what.moment.wall)
            size = self._measure(cursor)
        self.number += 1
        self._size = size
        self.tables = {name: one.stored for name, one in self._catalogue.mine().items()}
        self._shares.update((name, one.per_peer) for name, one in self.tables.items())
        lost, self._lost = self._lost or bool(missing), False
        return Written(self.number, size, lost)

    def _missing(self, what: Transaction) -> list[Declared]:
        """Tables that are to be written, and are not there any more."""
        declared = {one.declaration.name for one in what.declared}
        wanted = {name: one.declaration for name, one in what.snapshots if name not in declared}
        there = self._catalogue.mine()
        return [
            Declared(declaration, self._shares[name], False)
            for name, declaration in wanted.items()
            if name in self._shares and name not in there
        ]

    def _rows_of(self, what: Transaction) -> dict[str, dict[_Key, _Entry]]:
        """By table, what there is of each key; of a key that is there twice, the latter."""
        found: dict[str, dict[_Key, _Entry]] = {}
        for name, snapshot in what.snapshots:
            rows = found.setdefault(name, {})
            rows.update(_entries(snapshot))
        return dict(sorted(found.items()))

    def _put(
        self,
        cursor: psycopg.Cursor[Any],
        table: SharedTable,
        rows: dict[_Key, _Entry],
        what: Transaction,
        now: int,
    ) -> None:
        statements, columns = table.statements, table.statements.columns
        gone: dict[Optional[str], list[bytes]] = {}
        ahead, number = what.ahead + self._shift, self.number + 1
        declaration = table.stored.shape.declaration
        fitting = declaration.layout
        self._prepare(cursor, table)
        sent = False
        with cursor.copy(statements.send.encode()) as copy:
            copy.set_types(columns.types)
            for (peer, raw_key), entry in rows.items():
                if entry is None:
                    gone.setdefault(peer, []).append(raw_key)
                    continue
                if len(raw_key) + len(peer or "") > LONGEST_KEY:
                    continue
                declared, kept = entry
                if declared.layout != fitting:
                    # Another node has declared it otherwise.
                    record = Record(declared, *kept[:5], peer)
                    brought = reshaped(record, declaration)
                    if brought is None:
                        continue
                    kept = kept_of(brought)
                copy.write_row(columns.row(kept, peer, ahead, number))
                sent = True
        name = table.stored.name
        for peer, raw_keys in gone.items():
            cleared = what.cleared.get((name, peer), {})
            self._remove(cursor, table, peer, raw_keys, cleared, ahead, now)
        if sent:
            run(cursor, statements.merge, {"writer": self._catalogue.node, "table": table.number})

    def _remove(
        self,
        cursor: psycopg.Cursor[Any],
        table: SharedTable,
        peer: Optional[str],
        raw_keys: list[bytes],
        cleared: Mapping[bytes, int],
        ahead: int,
        now: int,
    ) -> None:
        about: dict[str, Any] = {"peer": escaped(peer) or "", "writer": self._catalogue.node}
        left = [raw_key for raw_key in raw_keys if raw_key not in cleared]
        if left:
            run(cursor, table.statements.expire, {**about, "keys": left, "now": now})
        keys = sorted(raw_key for raw_key in raw_keys if raw_key in cleared)
        if keys:
            about = {
                **about,
                "keys": keys,
                "times": [cleared[raw_key] + ahead for raw_key in keys],
                "table": table.number,
            }
            run(cursor, table.statements.clear, about)
            run(cursor, table.statements.note_cleared, about)

    def _forget_removed(self, cursor: psycopg.Cursor[Any], now: int) -> None:
        removed = qualified(self._catalogue.schema, "peerproto_removed")
        run(cursor, f"DELETE FROM {removed} WHERE removed < %(at)s", {"at": now - _REMEMBERED})

    def _prepare(self, cursor: psycopg.Cursor[Any], table: SharedTable) -> None:
        """Have a temporary table that rows can be sent into."""
        statements = table.statements
        if self._incoming.get(table.number) == statements:
            return
        run(cursor, f"DROP TABLE IF EXISTS {statements.incoming}")
        run(cursor, statements.create_incoming)
        self._incoming[table.number] = statements

    def _measure(self, cursor: psycopg.Cursor[Any]) -> int:
        if self._size and self._monotonic() - self._sized < _SIZED:
            return self._size
        self._sized = self._monotonic()
        run(
            cursor,
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class WHERE"
            " relkind = 'r' AND relnamespace = %(schema)s::regnamespace",
            {"schema": f'"{self._catalogue.schema}"'},
        )
        (size,) = cursor.fetchone() or (0,)
        return int(size)

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
        with self._transaction() as cursor:
            table = self._find(name)
            if table is None:
                return None
            key, peer = after or (None, None)
            about = {
                "key": key,
                "peer": peer,
                "limit": limit,
                "expired": None if expired is None else expired + self._shift,
                "older": older,
                "writer": self._catalogue.node,
            }
            run(cursor, table.statements.prune(after is None), about)
            found = cursor.fetchone()
        return None if found is None or found[2] < limit else (found[0], found[1])

    # -- declaring ---------------------------------------------------------

    def _declare(self, cursor: psycopg.Cursor[Any], declared: Declared) -> None:
        """Have a table as it is declared."""
        catalogue, declaration = self._catalogue, declared.declaration
        if declaration.layout.key_length > LONGEST_KEY:
            self._log.warn(
                "storage: keys of table {name} may have {most} bytes: those of more than {kept} are"
                " not kept",
                name=declaration.name,
                most=declaration.layout.key_length,
                kept=LONGEST_KEY,
            )
        table = catalogue.find(declaration, declared.per_peer)
        mine = self._find(declaration.name)
        if mine is not None and (table is None or mine.number != table.number):
            catalogue.leave(cursor, mine)
        if table is not None and declared.anew and table.nodes == {catalogue.node}:
            catalogue.leave(cursor, table)
            table = None
        if table is None:
            table = catalogue.create(cursor, declaration, declared.per_peer)
        elif table.stored.shape.declaration != declaration:
            layout = table.stored.shape.declaration.layout
            if table.stored.shape.names != Shape(declaration).names or not layout.stores_like(
                declaration.layout
            ):
                self._migrate(cursor, table, declaration)
            catalogue.redeclare(cursor, table, declaration)
        catalogue.use(cursor, table)
        catalogue.changed(cursor)

    def _migrate(
        self, cursor: psycopg.Cursor[Any], before: SharedTable, declaration: Declaration
    ) -> None:
        """Copy the rows of a table into one with other columns, which takes its place."""
        renamed = attrs.evolve(before.statements, sql_name=_OLD)
        after = self._catalogue.shaped(before, declaration)
        run(cursor, f"DROP TABLE IF EXISTS {renamed.table}")
        run(cursor, f"ALTER TABLE {before.statements.table} RENAME TO {quoted(_OLD)}")
        run(cursor, after.statements.create)
        self._prepare(cursor, after)
        columns = after.statements.columns
        behind: Optional[tuple[bytes, str]] = None
        while True:
            key, peer = behind or (None, None)
            about = {"key": key, "peer": peer, "limit": _SLICE}
            rows = run(cursor, renamed.read_all(behind is None), about).fetchall()
            with cursor.copy(after.statements.send.encode()) as copy:
                copy.set_types(columns.types)
                for *row, written in rows:
                    record = renamed.columns.record(row)
                    brought = None if record is None else reshaped(record, declaration)
                    if brought is not None:
                        kept = kept_of(brought)
                        copy.write_row(columns.row(kept, brought.peer, 0, written))
            run(cursor, after.statements.take_over(renamed))
            run(cursor, f"TRUNCATE {after.statements.incoming}")
            if len(rows) < _SLICE:
                break
            behind = rows[-1][:2]
        run(cursor, f"DROP TABLE {renamed.table}")


def _entries(snapshot: Snapshot) -> Iterator[tuple[_Key, _Entry]]:
    """What there is of each key of a snapshot: an entry, or none."""
    peer, declaration = snapshot.peer, snapshot.declaration
    for raw_key in snapshot.missing():
        yield (peer, raw_key), None
    for kept in snapshot:
        yield (peer, kept.raw_key), (declaration, kept)


def _read(
    cursor: psycopg.Cursor[Any],
    table: SharedTable,
    after: Optional[tuple[Any, Any]],
    limit: int,
) -> list[Any]:
    key, peer = after or (None, None)
    statement = table.statements.read(after is None)
    rows: list[Any] = run(cursor, statement, {"key": key, "peer": peer, "limit": limit}).fetchall()
    return rows

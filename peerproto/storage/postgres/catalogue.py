"""What a schema says of itself: which stick tables there are, and which nodes keep them."""

from __future__ import annotations

import json
from typing import Any, Final, Optional

import attrs
from psycopg import Cursor

from peerproto import Declaration, LocalProtocolError
from peerproto.storage.columns import Shape
from peerproto.storage.errors import StorageError
from peerproto.storage.names import quoted, sql_name
from peerproto.storage.postgres.columns import Columns, escaped
from peerproto.storage.postgres.connection import lock_key, run
from peerproto.storage.postgres.statements import CLOCK, MAKE, TableStatements, qualified
from peerproto.storage.store import StoredTable

SCHEMA: Final = 1
"""The version of the schema that this code writes."""

_LONGEST: Final = 63
"""Bytes of a name: PostgreSQL cuts what is longer."""


@attrs.frozen
class SharedTable:
    """A stick table that nodes keep there."""

    stored: StoredTable
    statements: TableStatements
    nodes: frozenset[str]
    """The names of the nodes that keep it."""

    @property
    def number(self) -> int:
        """Its number in the catalogue."""
        return self.statements.number

    def is_for(self, declaration: Declaration, per_peer: bool) -> bool:
        """Whether it has the name, the keys and the shares of a declaration.

        Tables of one name with other keys stand beside each other.
        """
        mine, other = self.stored.shape.declaration, declaration
        return (mine.name, mine.layout.key_type, mine.layout.key_length, self.stored.per_peer) == (
            other.name,
            other.layout.key_type,
            other.layout.key_length,
            per_peer,
        )


class Catalogue:
    """What one node knows of a schema. Everything is done with a cursor in a transaction."""

    def __init__(self, schema: str, node: str, place: str) -> None:
        """
        :param node: the name of the node.
        :param place: the schema, for messages.
        """
        self.schema = schema
        self.node = escaped(node) or ""
        self._place = place
        self._generation: Optional[int] = None
        self.tables: dict[int, SharedTable] = {}
        """By number."""

    def _own(self, name: str) -> str:
        return qualified(self.schema, name)

    def begin(self, cursor: Cursor[Any]) -> None:
        """Make what is missing in the schema, and see that we can work with it.

        :raises StorageError: we cannot.
        """
        self.lock(cursor, exclusive=True)
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.schema,))
        if cursor.fetchone() is None:
            run(cursor, f"CREATE SCHEMA {quoted(self.schema)}")
        if not self._has(cursor, "peerproto_store"):
            for statement in MAKE:
                run(
                    cursor,
                    statement.format(schema=quoted(self.schema), version=SCHEMA, clock=CLOCK),
                )
        run(cursor, f"SELECT value FROM {self._own('peerproto_store')} WHERE name = 'schema'")
        found = cursor.fetchone()
        if found is None or found[0] > SCHEMA:
            raise StorageError(
                self._place,
                "no schema version" if found is None else f"schema version {found[0]}",
                f"{SCHEMA} at most: a newer peerproto has made it; nothing is changed",
            )
        self._generation = None

    def _has(self, cursor: Cursor[Any], name: str) -> bool:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{quoted(self.schema)}.{name}",))
        found = cursor.fetchone()
        return found is not None and bool(found[0])

    def lock(self, cursor: Cursor[Any], exclusive: bool) -> None:
        """Keep others from changing the catalogue until the transaction ends.

        :param exclusive: whether it is to be changed.
        """
        shared = "" if exclusive else "_shared"
        key = lock_key(self.schema, "\0catalogue")
        run(cursor, f"SELECT pg_advisory_xact_lock{shared}(%(key)s::int8)", {"key": key})

    def refresh(self, cursor: Cursor[Any]) -> int:
        """Know what others have changed: the clock of the server."""
        run(
            cursor,
            f"SELECT value, {CLOCK} FROM {self._own('peerproto_store')} WHERE name = 'catalogue'",
        )
        found = cursor.fetchone()
        assert found is not None, "a schema says how often it has changed"
        generation, clock = found
        if generation != self._generation:
            self._read(cursor)
            self._generation = generation
        return int(clock)

    def forget(self) -> None:
        """Read all of it anew the next time."""
        self._generation = None

    def _read(self, cursor: Cursor[Any]) -> None:
        run(
            cursor,
            "SELECT id, sql_name, per_peer, declaration, to_regclass(%(schema)s || '.' ||"
            " quote_ident(sql_name)) IS NOT NULL,"
            f" array(SELECT node FROM {self._own('peerproto_uses')} WHERE table_id = id)"
            f" FROM {self._own('peerproto_tables')} ORDER BY declared, id",
            {"schema": quoted(self.schema)},
        )
        tables = {}
        for number, name, per_peer, plain, there, nodes in cursor.fetchall():
            try:
                declaration = Declaration.of_plain(json.loads(plain))
            except (LocalProtocolError, ValueError, TypeError, KeyError) as problem:
                raise StorageError(
                    f"{self._place}, peerproto_tables",
                    f"a declaration of {name} that cannot be read: {problem}",
                    "what peerproto has written there",
                ) from problem
            if there:
                stored = StoredTable(Shape(declaration), per_peer, name)
                tables[number] = self._table(stored, number, frozenset(nodes))
        self.tables = tables

    def _table(self, stored: StoredTable, number: int, nodes: frozenset[str]) -> SharedTable:
        columns = Columns(stored.shape)
        statements = TableStatements(self.schema, stored.sql_name, number, columns)
        return SharedTable(stored, statements, nodes)

    def shaped(self, table: SharedTable, declaration: Declaration) -> SharedTable:
        """A table as it is for another declaration."""
        stored = attrs.evolve(table.stored, shape=Shape(declaration))
        return self._table(stored, table.number, table.nodes)

    def mine(self) -> dict[str, SharedTable]:
        """By names of stick tables: those that this node keeps, and those that others alone keep;
        of several of these, the one that was declared last."""
        found: dict[str, SharedTable] = {}
        for one in self.tables.values():
            found[one.stored.name] = one
        for one in self.tables.values():
            if self.node in one.nodes:
                found[one.stored.name] = one
        return found

    # -- changing ----------------------------------------------------------

    def changed(self, cursor: Cursor[Any]) -> None:
        """Have all nodes read it anew, and do so."""
        run(
            cursor,
            f"UPDATE {self._own('peerproto_store')} SET value = value + 1 WHERE name = 'catalogue'",
        )
        self.forget()
        self.refresh(cursor)

    def find(self, declaration: Declaration, per_peer: bool) -> Optional[SharedTable]:
        """The table for a declaration, if there is one."""
        for one in self.tables.values():
            if one.is_for(declaration, per_peer):
                return one
        return None

    def create(self, cursor: Cursor[Any], declaration: Declaration, per_peer: bool) -> SharedTable:
        """Make a table for a declaration."""
        run(
            cursor,
            "SELECT lower(relname) FROM pg_class WHERE relnamespace ="
            " (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)",
            {"schema": self.schema},
        )
        taken = {name for (name,) in cursor.fetchall()}
        name = _free_name(declaration.name, taken)
        # A table that somebody has dropped may be in the catalogue still.
        run(
            cursor,
            f"DELETE FROM {self._own('peerproto_tables')} WHERE sql_name = %(sql_name)s",
            {"sql_name": name},
        )
        run(
            cursor,
            f"INSERT INTO {self._own('peerproto_tables')}"
            " (sql_name, name, per_peer, declaration, declared)"
            f" VALUES (%(sql_name)s, %(name)s, %(per_peer)s, %(declaration)s, {CLOCK})"
            " RETURNING id",
            {
                "sql_name": name,
                "name": escaped(declaration.name),
                "per_peer": per_peer,
                "declaration": json.dumps(declaration.plain()),
            },
        )
        (number,) = cursor.fetchone() or (0,)
        stored = StoredTable(Shape(declaration), per_peer, name)
        table = self._table(stored, number, frozenset())
        run(cursor, table.statements.create)
        return table

    def redeclare(self, cursor: Cursor[Any], table: SharedTable, declaration: Declaration) -> None:
        """Note that a table is declared otherwise by now."""
        run(
            cursor,
            f"UPDATE {self._own('peerproto_tables')} SET declaration = %(declaration)s,"
            f" declared = {CLOCK} WHERE id = %(table)s",
            {"declaration": json.dumps(declaration.plain()), "table": table.number},
        )

    def use(self, cursor: Cursor[Any], table: SharedTable) -> None:
        """Note that this node keeps a table."""
        run(
            cursor,
            f"INSERT INTO {self._own('peerproto_uses')} VALUES (%(node)s, %(table)s)"
            " ON CONFLICT DO NOTHING",
            {"node": self.node, "table": table.number},
        )

    def leave(self, cursor: Cursor[Any], table: SharedTable) -> None:
        """Note that this node does not keep a table any more; if none does, the table goes."""
        if self.node not in table.nodes:
            return
        if table.nodes == {self.node}:
            run(cursor, f"DROP TABLE {table.statements.table}")
            statement = f"DELETE FROM {self._own('peerproto_tables')} WHERE id = %(table)s"
        else:
            statement = (
                f"DELETE FROM {self._own('peerproto_uses')}"
                " WHERE table_id = %(table)s AND node = %(node)s"
            )
        run(cursor, statement, {"table": table.number, "node": self.node})

    # -- this node ---------------------------------------------------------

    def register(self, cursor: Cursor[Any], clock: int, wall: int) -> int:
        """Have this node known: the number of its last transaction."""
        run(
            cursor,
            f"INSERT INTO {self._own('peerproto_nodes')} AS known"
            " VALUES (%(node)s, 0, %(clock)s, %(wall)s)"
            " ON CONFLICT (name) DO UPDATE SET name = known.name RETURNING transactions",
            {"node": self.node, "clock": clock, "wall": wall},
        )
        (number,) = cursor.fetchone() or (0,)
        return int(number)

    def note(self, cursor: Cursor[Any], number: int, node: int, wall: int) -> None:
        """Note a transaction of this node, with its time by the time of the store and by its wall
        clock."""
        run(
            cursor,
            f"INSERT INTO {self._own('peerproto_nodes')}"
            " VALUES (%(name)s, %(number)s, %(node)s, %(wall)s) ON CONFLICT (name) DO UPDATE SET"
            " transactions = excluded.transactions, node_time = excluded.node_time,"
            " wall_clock = excluded.wall_clock",
            {"name": self.node, "number": number, "node": node, "wall": wall},
        )


def _free_name(name: str, taken: set[str]) -> str:
    """The name of the SQL table for a stick table, short enough for PostgreSQL."""
    wanted = sql_name(name, taken)
    number = 0
    while len(wanted) > _LONGEST or wanted.lower() in taken:
        number += 1
        end = f"%{number}"
        wanted = sql_name(name, ())[: _LONGEST - len(end)] + end
    return wanted

"""The SQL that is said to a PostgreSQL server.

A row has the node that wrote it last in ``writer``. A node changes its own rows as it likes, and
those of others where its change is newer: so a clock that steps back keeps no node from writing.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import attrs

from peerproto.storage.names import quoted
from peerproto.storage.postgres.columns import Columns

CLOCK: Final = "floor(extract(epoch FROM clock_timestamp()) * 1000)::int8"
"""The clock of the server, in ms since the epoch."""

MAKE: Final = (
    "CREATE TABLE {schema}.peerproto_store (name text PRIMARY KEY, value int8 NOT NULL)",
    "CREATE TABLE {schema}.peerproto_tables (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " sql_name text NOT NULL UNIQUE, name text NOT NULL, per_peer bool NOT NULL,"
    " declaration text NOT NULL, declared int8 NOT NULL)",
    "CREATE TABLE {schema}.peerproto_nodes (name text PRIMARY KEY, transactions int8 NOT NULL,"
    " node_time int8 NOT NULL, wall_clock int8 NOT NULL)",
    "CREATE TABLE {schema}.peerproto_uses ("
    "node text REFERENCES {schema}.peerproto_nodes ON DELETE CASCADE,"
    " table_id int8 REFERENCES {schema}.peerproto_tables ON DELETE CASCADE,"
    " PRIMARY KEY (node, table_id))",
    "CREATE TABLE {schema}.peerproto_removed ("
    "table_id int8 REFERENCES {schema}.peerproto_tables ON DELETE CASCADE, key bytea,"
    ' peer text COLLATE "C", removed int8 NOT NULL, PRIMARY KEY (table_id, key, peer))',
    "CREATE INDEX ON {schema}.peerproto_removed (removed)",
    "INSERT INTO {schema}.peerproto_store VALUES ('schema', {version}), ('made', {clock}),"
    " ('catalogue', 0)",
)
"""What makes the tables that are no stick tables."""


_COLLATED: Final = ' COLLATE "C"'
"""Compares texts by their bytes, whatever the server's locale is."""


@attrs.frozen(slots=False)
class TableStatements:
    """What is said of one table; names are quoted for statements with parameters."""

    schema: str
    sql_name: str
    number: int
    """Its number in the catalogue."""
    columns: Columns

    @cached_property
    def table(self) -> str:
        """The name of the table."""
        return qualified(self.schema, self.sql_name)

    @cached_property
    def incoming(self) -> str:
        """The name of the temporary table that rows are sent into."""
        return f"pg_temp.peerproto_in_{self.number}"

    @cached_property
    def _names(self) -> str:
        return ", ".join(map(quoted, self.columns.names))

    @cached_property
    def create(self) -> str:
        """Makes the table; values change more often than keys, so pages have room for that."""
        return f"CREATE TABLE {self.table} ({self.columns.definition}) WITH (fillfactor = 85)"

    @cached_property
    def create_incoming(self) -> str:
        """Makes the temporary table."""
        typed = ", ".join(
            f"{quoted(name)} {sql_type}{_COLLATED if sql_type == 'text' else ''}"
            for name, sql_type in zip(self.columns.names, self.columns.types)
        )
        return f"CREATE TEMPORARY TABLE {self.incoming[8:]} ({typed}) ON COMMIT DELETE ROWS"

    @cached_property
    def send(self) -> str:
        """Sends rows into the temporary table."""
        return f"COPY {self.incoming} FROM STDIN (FORMAT BINARY)"

    @cached_property
    def merge(self) -> str:
        """Takes what was sent. Of two changes the newer stays; of two of the same ms, that of the
        node whose name comes last, whoever writes first. Parameters: ``writer``, ``table``."""
        values = ", ".join(f"excluded.{quoted(name)}" for name in self.columns.names)
        removed = qualified(self.schema, "peerproto_removed")
        return (
            f"INSERT INTO {self.table} AS kept ({self._names}, writer)"
            f" SELECT {self._names}, %(writer)s FROM {self.incoming} AS sent WHERE NOT EXISTS ("
            f"SELECT FROM {removed} AS gone WHERE gone.table_id = %(table)s AND gone.key = sent.key"
            " AND gone.peer = sent.peer AND gone.removed >= sent.arrived)"
            # Two nodes that take the same keys in one order wait for each other less often.
            " ORDER BY key, peer"
            f" ON CONFLICT (key, peer) DO UPDATE SET ({self._names}, writer) ="
            f" ROW({values}, excluded.writer)"
            " WHERE kept.writer = excluded.writer"
            " OR (kept.arrived, kept.writer) < (excluded.arrived, excluded.writer)"
        )

    @cached_property
    def expire(self) -> str:
        """Removes rows that have expired, or that this node wrote. Parameters: ``keys``, ``peer``,
        ``writer``, ``now``."""
        return (
            f"DELETE FROM {self.table} WHERE key = ANY(%(keys)s::bytea[]) AND peer = %(peer)s"
            " AND (writer = %(writer)s OR expires <= %(now)s)"
        )

    @cached_property
    def clear(self) -> str:
        """Removes rows that somebody removed, unless they changed later. Parameters: ``keys``,
        ``times``, ``peer``, ``writer``."""
        return (
            f"DELETE FROM {self.table} AS kept"
            " USING unnest(%(keys)s::bytea[], %(times)s::int8[]) AS gone (key, at)"
            " WHERE kept.key = gone.key AND kept.peer = %(peer)s"
            " AND (kept.writer = %(writer)s OR kept.arrived <= gone.at)"
        )

    @cached_property
    def note_cleared(self) -> str:
        """Notes the same, so that an older change that is written later does not stay. Parameters:
        ``keys``, ``times``, ``peer``, ``table``."""
        return (
            f"INSERT INTO {qualified(self.schema, 'peerproto_removed')} AS noted"
            " SELECT %(table)s, key, %(peer)s, at"
            " FROM unnest(%(keys)s::bytea[], %(times)s::int8[]) AS gone (key, at) ORDER BY key"
            " ON CONFLICT (table_id, key, peer)"
            " DO UPDATE SET removed = greatest(noted.removed, excluded.removed)"
        )

    def take_over(self, before: TableStatements) -> str:
        """Takes what was sent of rows that another table has, as written by who wrote them."""
        return (
            f"INSERT INTO {self.table} ({self._names}, writer) SELECT"
            f" {', '.join(f'sent.{quoted(name)}' for name in self.columns.names)}, kept.writer"
            f" FROM {self.incoming} AS sent JOIN {before.table} AS kept USING (key, peer)"
        )

    def read(self, first: bool) -> str:
        """Reads rows in the order of keys. Parameters: ``key`` and ``peer`` that they are behind,
        unless they are the first ones, and ``limit``."""
        names = ", ".join(map(quoted, self.columns.shape.read_names))
        return f"SELECT {names} FROM {self.table} {_behind(first)} LIMIT %(limit)s"

    def read_all(self, first: bool) -> str:
        """Reads what `read` does, and in which transaction it was written, with the same
        parameters."""
        return self.read(first).replace(" FROM ", ", written FROM ", 1)

    def prune(self, first: bool) -> str:
        """Looks at rows in the order of keys, and removes those that have expired by ``expired``
        and those that ``writer`` wrote before ``older``: the last key and peer, and how many were
        looked at. Parameters: those, and as with `read`."""
        return (
            f"WITH seen AS (SELECT key, peer FROM {self.table} {_behind(first)} LIMIT %(limit)s),"
            f" gone AS (DELETE FROM {self.table} AS kept USING seen WHERE kept.key = seen.key"
            " AND kept.peer = seen.peer AND (kept.expires <= %(expired)s"
            " OR (kept.writer = %(writer)s AND kept.written < %(older)s)))"
            " SELECT key, peer, count(*) OVER () FROM seen ORDER BY key DESC, peer DESC LIMIT 1"
        )


def _behind(first: bool) -> str:
    where = "" if first else "WHERE (key, peer) > (%(key)s, %(peer)s) "
    return f"{where}ORDER BY key, peer"


def qualified(schema: str, name: str) -> str:
    """A name in a schema, for statements with parameters."""
    return f"{quoted(schema)}.{quoted(name)}".replace("%", "%%")

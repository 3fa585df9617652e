"""Many rows of a SQLite file read at once: SQLite joins them, and one checksum is of all.

To get them one by one takes longer than to check them and to take them apart, and the reactor's
thread would be asked for the interpreter after each.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from typing import Any, Final, Optional

import attrs

from peerproto import Record
from peerproto.storage.columns import END_OF_STRING, MARK_AT, RESIDUE, checksum, from_sql, raw
from peerproto.storage.names import quoted
from peerproto.storage.store import Parcel, Slice, StoredTable

_JOINED: Final = "CAST(group_concat({what}, :separator){only} AS BLOB)"

_SEPARATOR: Final = 8
"""Random bytes of a separator, behind which there is their checksum: so it changes nothing of that
of all. Should it stand in a row, that slice is read row by row."""

_NEVER: Final = (1 << 63) - 1


def joins(connection: sqlite3.Connection) -> bool:
    """Whether SQLite joins blobs byte by byte, as it always has: nothing that it says of itself
    promises that."""
    found: Any = connection.execute(
        f"SELECT {_JOINED.format(what='a || b', only='')}"
        " FROM (SELECT x'4100ff' AS a, x'00fe42' AS b UNION ALL SELECT x'', x'00')",
        {"separator": b"\0\xff1"},
    ).fetchone()
    return bool(found == (b"A\0\xff\0\xfeB\0\xff1\0",))


class _Otherwise(Exception):
    """Some rows are not as they were written."""


@attrs.frozen
class Joined:
    """Reads one table."""

    _connection: sqlite3.Connection
    _table: StoredTable
    _now: int
    """The time of the file, in ms: what has expired by then is left out."""
    _shift: int
    """What to add to the times of records, in ms."""
    _ahead: int
    """What times of records then have more than those of rows, in ms."""

    def read(self, after: Optional[bytes], limit: int) -> Slice:
        """Rows in the order of keys: ``limit``, and others of the last key.

        :param after: behind which key; ``None`` for the beginning.
        """
        about = {"after": after, "skipped": limit - 1, **self._about()}
        about["separator"] = _separator()
        where = "1" if after is None else "key > :after"
        last = self._ask(
            f"SELECT key FROM {self._name} WHERE {where} ORDER BY key LIMIT 1 OFFSET :skipped",
            about,
        )
        if last:
            about["last"] = last[0][0]
            where = f"{where} AND key <= :last"
        rows: list[Parcel] = []
        try:
            rows, count = self._plain(where, about)
            plain = sum(map(len, rows))
            others = [] if plain == count else self._others(where, about)
            if plain + len(others) != count:
                raise _Otherwise
        except _Otherwise:
            rows, others = [], self._each(where, about)
        one_by_one = Slice.of(others, -1, self._record, self._now + self._shift)
        return attrs.evolve(one_by_one, rows=rows, after=(last[0][0], None) if last else None)

    @property
    def _name(self) -> str:
        return quoted(self._table.sql_name)

    def _about(self) -> dict[str, Any]:
        shape = self._table.shape
        return {"now": self._now, "expire": shape.declaration.expire, "never": _NEVER}

    def _ask(self, statement: str, about: dict[str, Any]) -> list[Any]:
        return self._connection.execute(statement, about).fetchall()

    @property
    def _is_plain(self) -> str:
        """Which rows need not be looked at one by one: those that are not marked and whose time has
        not come, as far as SQL can tell."""
        shape = self._table.shape
        conditions = [] if self._table.per_peer else ["peer = ''"]
        if shape.text_name is not None or not shape.fixed:
            conditions.append(f"substr(stored, {MARK_AT + 1}, 1) = x'00'")
        if shape.declaration.expire:
            # An entry may have been written when its table had another expire.
            conditions.append("coalesce(expires, :never) > :now AND arrived + :expire > :now")
        return " AND ".join(conditions) or "1"

    def _others(self, where: str, about: dict[str, Any]) -> list[Any]:
        return self._each(f"{where} AND NOT coalesce({self._is_plain}, 0)", about)

    def _each(self, where: str, about: dict[str, Any]) -> list[Any]:
        columns = ", ".join(map(quoted, self._table.shape.read_names))
        return self._ask(f"SELECT {columns} FROM {self._name} WHERE {where}", about)

    def _record(self, row: Any) -> Optional[Record]:
        return self._table.shape.record(row, self._shift)

    def _plain(self, where: str, about: dict[str, Any]) -> tuple[list[Parcel], int]:
        """The rows that are plain, by peer, and how many there are in all.

        :raises _Otherwise: some are not as they were written.
        """
        table, only = self._table, f" FILTER (WHERE {self._is_plain})"
        peer, more = ("min(peer)", " GROUP BY peer") if table.per_peer else ("''", "")
        parts = (["peer"] if table.per_peer else []) + ["key"]
        if not table.shape.fixed:
            parts.append(f"x'{END_OF_STRING.hex()}'")
        what = " || ".join((*parts, "stored"))
        found = self._ask(
            f"SELECT count(*), {peer}, count(*) {only},"
            f" {_JOINED.format(what=what, only=only)},"
            f" min(min(coalesce(expires, :never), arrived + :expire)) {only}"
            f" FROM {self._name} WHERE {where}{more}",
            about,
        )
        rows = [self._rows(about["separator"], *one[1:]) for one in found if one[2]]
        return rows, sum(one[0] for one in found)

    def _rows(self, separator: bytes, peer: Any, count: int, joined: Any, expires: Any) -> Parcel:
        """The rows of one peer."""
        declaration = self._table.shape.declaration
        if (
            not isinstance(peer, (str, bytes))
            or not isinstance(joined, bytes)
            or (declaration.expire and not isinstance(expires, int))
            or zlib.crc32(joined, RESIDUE) != RESIDUE
            or joined.count(separator) != count - 1
            or separator + separator in joined  # as of nothing the checksum is right, too
            or joined.startswith(separator)
            or joined.endswith(separator)
            or not joined
        ):
            raise _Otherwise
        shift = self._shift - self._ahead
        return Parcel(
            declaration,
            from_sql(peer) if peer else None,
            joined,
            count,
            separator,
            len(raw(peer)),
            shift,
            self._now + shift,
            self._ahead,
            expires + self._shift if declaration.expire else None,
        )


def _separator() -> bytes:
    some = os.urandom(_SEPARATOR)
    return some + checksum(some)

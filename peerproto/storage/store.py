"""What keeps tables: a SQLite file, or a schema of a PostgreSQL server.

A `Store` is used in one thread, which may be any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional, Protocol

import attrs

from peerproto import Declaration, Record, StoredRows
from peerproto.storage.columns import Shape
from peerproto.storage.splitting import split
from peerproto.storage.transaction import Moment, Transaction


@attrs.frozen
class StoredTable:
    """A stick table in the store."""

    shape: Shape
    per_peer: bool
    sql_name: str

    @property
    def name(self) -> str:
        """The name of the stick table."""
        return self.shape.declaration.name


@attrs.frozen
class Parcel:
    """Rows of one peer, checked and not yet taken apart.

    Whoever stores them takes them apart, and not the thread that reads: so the next ones are read
    meanwhile, for which nobody needs the interpreter.
    """

    declaration: Declaration
    peer: Optional[str]
    joined: bytes = attrs.field(repr=False)
    """All rows."""
    count: int
    """How many they are."""
    separator: bytes
    """Stands between two of them."""
    before: int
    """See `peerproto.storage.splitting`, also for what follows."""
    shift: int
    most: int
    ahead: int
    """As `StoredRows` has it."""
    until: Optional[int]
    """The same; ``None`` if none of them ends."""

    def __len__(self) -> int:
        return self.count

    def open(self, size: int) -> Iterator[StoredRows]:
        """Take them apart, so many at a time."""
        fixed = self.declaration.layout.fixed_key_length
        parts = self.joined.split(self.separator)
        for begin in range(0, len(parts), size):
            some = parts[begin : begin + size]
            keys, rows = split(some, self.before, fixed, self.shift, self.most)
            opened = StoredRows(self.declaration, self.peer, keys, rows, self.ahead)
            yield opened if self.until is None else attrs.evolve(opened, until=self.until)


@attrs.frozen
class Slice:
    """Some rows of a table: those whose checksum is right and whose time has not come."""

    records: list[Record]
    """Those that were looked at one by one."""
    after: Optional[tuple[Any, Any]]
    """Behind what to go on; ``None`` at the end."""
    expired: int
    """Rows whose time has come."""
    bad: int
    """Rows whose checksum is wrong."""
    rows: Sequence[Parcel] = ()
    """Those that were not, by peer."""

    def __iter__(self) -> Iterator[Record]:
        """All of them."""
        for some in self.rows:
            for rows in some.open(len(some)):
                yield from rows.records()
        yield from self.records

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[Any]],
        limit: int,
        record: Callable[[Sequence[Any]], Optional[Record]],
        now: int,
    ) -> Slice:
        """What there is in rows of which ``limit`` were asked for.

        :param record: gives the record of a row, as `Shape.record`.
        :param now: the time by the clock of the records, in ms.
        """
        records, expired, bad = [], 0, 0
        for row in rows:
            found = record(row)
            if found is None:
                bad += 1
            elif found.expires is not None and found.expires <= now:
                expired += 1
            else:
                records.append(found)
        last = rows[-1] if len(rows) == limit else None
        return cls(records, None if last is None else (last[0], last[1]), expired, bad)


@attrs.frozen
class Written:
    """What there is after a transaction."""

    number: int
    """That of the transaction."""
    size: int
    """Bytes of the store."""
    lost: bool = False
    """Whether the store lacks something that was written before: all tables are to be written
    whole."""


class Store(Protocol):
    """What keeps tables, open or not.

    Its methods raise `peerproto.storage.errors.Unavailable`, ``sqlite3.Error`` or ``OSError`` for
    what may pass, and `peerproto.storage.database.BrokenFile` for damage.
    """

    tables: dict[str, StoredTable]
    """What there is, by the names of stick tables."""
    number: int
    """The number of this node's last transaction."""

    def open(self, wall: int) -> Moment:
        """Open it, or make it: the time of the store now.

        :param wall: the wall clock, in ms since the epoch.
        :raises StorageError: it is not to be used.
        """

    def close(self) -> None:
        """Close it, if it is open."""

    def check(self) -> None:
        """Look whether it is whole, once before it is written: that takes a while.

        :raises BrokenFile: it is not.
        """

    def read(
        self,
        name: str,
        after: Optional[tuple[Any, Any]],
        limit: int,
        now: int,
        shift: int,
        ahead: int = 0,
    ) -> Slice:
        """Rows of a table in the order of keys, about ``limit``.

        :param after: behind what; ``None`` for the beginning.
        :param now: the time of the store, in ms: what has expired by then is left out.
        :param shift: what to add to the times of records, in ms.
        :param ahead: what times of records then have more than those of `StoredRows`, in ms.
        """

    def count(self) -> dict[str, int]:
        """By the names of stick tables, how many rows there are."""

    def write(self, what: Transaction) -> Written:
        """Write a transaction, all or nothing of it."""

    def prune(
        self,
        name: str,
        after: Optional[tuple[Any, Any]],
        limit: int,
        *,
        expired: Optional[int] = None,
        older: Optional[int] = None,
    ) -> Optional[tuple[Any, Any]]:
        """Look at some rows, and remove those that are not to be there: behind what to go on, or
        ``None`` at the end.

        :param expired: the time of the store in ms: those that have expired by then go.
        :param older: the number of a transaction: those that this node wrote before it go.
        """

"""Records back into their table: not as changes, and none in place of what is newer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from peerproto.tables.changes import Cause, Changes
from peerproto.tables.expiry import NEVER
from peerproto.tables.record import Record
from peerproto.tables.row import GENERATION, UNENDING, stamp
from peerproto.tables.store import TableStore
from peerproto.tables.storedrows import StoredRows
from peerproto.updates.reception import Reception, disagreement
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Layout


def check(table: TableStore, records: Iterable[Record]) -> None:
    """See whether records can be stored in a table.

    :raises LocalProtocolError: a record has keys of another type or length.
    """
    for record in records:
        problem = disagreement(table, record.declaration.layout)
        if problem is not None:
            what = f"record of {record.key!r} for table {table.name}"
            raise LocalProtocolError(what, record.declaration.name, problem)


def check_rows(table: TableStore, rows: StoredRows) -> None:
    """The same for rows."""
    problem = disagreement(table, rows.declaration.layout)
    if problem is not None:
        raise LocalProtocolError(f"rows for table {table.name}", rows.declaration.name, problem)


def restore_rows(table: TableStore, rows: StoredRows, now: int, ahead: int) -> list[Changes]:
    """Store rows: see `restore`, which does the same for records, and takes longer.

    :param rows: such as `check_rows` finds nothing wrong with.
    """
    left = rows.until - ahead - now
    if left <= 0 or rows.ahead != ahead or not _all_fit_in(table, rows, now):
        return restore(table, rows.records(), now, ahead)
    reading = _Reading(table, rows.declaration.layout)
    reading.add_all(rows, min(left, UNENDING))
    changes, there = table.add(*reading.take(now), now, Cause.RESTORED)
    table.log.overwrite(changes.raw_keys)
    batches = [changes] if len(changes) else []
    if there:
        batches += restore(table, rows.only(set(there)).records(), now, ahead)
    return batches


def _all_fit_in(table: TableStore, rows: StoredRows, now: int) -> bool:
    """Whether nothing has to be weighed row by row, but for what is there."""
    return (
        table.declaration.expire == rows.declaration.expire
        and len(rows) <= table.room
        and not table.tombstones.standing(rows.raw_keys, now)
    )


def restore(table: TableStore, records: Iterable[Record], now: int, ahead: int) -> list[Changes]:
    """Store records, each with its own arrival and the end of its life: what happened.

    Left out are records that have expired by ``now`` (ms), those of entries that came later than
    the record, those of entries that were forgotten, and those that find no room. Columns that the
    table has not are dropped.

    :param records: such as `check` finds nothing wrong with.
    :param ahead: what the records' time since the epoch has more than ``now`` has.
    """
    latest: dict[bytes, Record] = {}
    for record in records:
        other = latest.get(record.raw_key)
        if other is None or other.arrived <= record.arrived:
            latest[record.raw_key] = record
    rows = list(_rows(table, latest, now, ahead))
    room, new = table.room, sum(not one.replaces for one in rows)
    if new > room:
        # What is there is not to make room for what was: those that live longest find room.
        rows.sort(key=lambda one: one.left, reverse=True)
    receptions: dict[Layout, _Reading] = {}
    for row in rows:
        if not row.replaces:
            if room <= 0:
                continue
            room -= 1
        reading = receptions.get(row.layout)
        if reading is None:
            reading = receptions[row.layout] = _Reading(table, row.layout)
        reading.add(row)
    batches = [batch for one in receptions.values() for batch in one.store(now)]
    for batch in batches:
        if batch.cause is Cause.RESTORED:
            table.log.overwrite(batch.raw_keys)
    return batches


class _Row(NamedTuple):
    """A record that is to be stored."""

    raw_key: bytes
    layout: Layout
    came: int
    life: int
    """From then on, in ms."""
    left: int
    """From now on, in ms."""
    values: bytes
    replaces: bool
    """Whether there is an entry of its key."""


def _rows(
    table: TableStore, latest: Mapping[bytes, Record], now: int, ahead: int
) -> Iterator[_Row]:
    """Those of some records that are to be stored, if there is room."""
    expire = table.declaration.expire
    some_forgotten = len(table.tombstones) > 0
    there = table.partitions.of_each(list(latest))
    for (key, record), before in zip(latest.items(), there):
        came = max(0, min(record.arrived - ahead, now))
        usual = came + expire if expire else NEVER
        end = NEVER if record.expires is None else record.expires - ahead
        end = min(end, usual)
        if end <= now or (some_forgotten and table.forgotten(key, now)):
            continue
        if before is not None:
            other_came, other_end = table.lifetime(before)
            if other_came >= came and other_end > now:
                continue
        values = record.kept_values()
        if values is None:
            continue
        life = UNENDING if end == usual else min(end - came, UNENDING - 1)
        left = UNENDING if end == NEVER else min(end - now, UNENDING - 1)
        layout = record.declaration.layout
        yield _Row(key, layout, came, life, left, values, before is not None)


class _Reading:
    """Records of one layout on their way into a table."""

    def __init__(self, table: TableStore, layout: Layout) -> None:
        self._table = table
        self._reception = Reception(table, layout, None)
        self._origin = int.from_bytes(self._reception.stamp(0), "big")
        """What the times of rows have more than those in ms."""
        self._shortest = UNENDING
        """The shortest of the lives from now on."""

    def add(self, row: _Row) -> None:
        self._reception.reader.add(
            row.raw_key, stamp(self._origin + row.came), row.life, row.values, True
        )
        self._shortest = min(self._shortest, row.left)

    def add_all(self, rows: StoredRows, left: int) -> None:
        """Add rows, of which the first ends in so many ms."""
        reader, generation = self._reception.reader, self._origin // GENERATION
        reader.keys, reader.values = rows.raw_keys, rows.rows
        if generation:
            first = bytes((generation,))
            reader.values = [first + row[1:] for row in rows.rows]
        self._shortest = left

    def store(self, now: int) -> list[Changes]:
        """Store them: what happened."""
        keys, values, shortest = self.take(now)
        return self._table.put(keys, values, shortest, now, Cause.RESTORED) if keys else []

    def take(self, now: int) -> tuple[list[bytes], list[bytes], int]:
        """Keys, what is to be stored for them, and the shortest of the lives in ms."""
        # Lives go by when the values came, which may be long ago.
        self._reception.reader.shortest = self._shortest
        return self._reception.take(now)

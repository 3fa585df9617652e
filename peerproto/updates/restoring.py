"""Records back into their table: not as changes, and none in place of what is newer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from peerproto.tables.changes import Cause, Changes
from peerproto.tables.expiry import NEVER
from peerproto.tables.record import Record
from peerproto.tables.row import UNENDING
from peerproto.tables.store import TableStore
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
    receptions: dict[Layout, tuple[Reception, int]] = {}
    rows = [(record, row) for record in latest.values() if (row := _row(table, record, now, ahead))]
    # What is there is not to make room for what was: those that live longest find room.
    rows.sort(key=lambda one: one[1][2], reverse=True)
    room = table.room
    for record, (came, life, left, values) in rows:
        if table.unconverted(record.raw_key) is None:
            if room <= 0:
                continue
            room -= 1
        layout = record.declaration.layout
        reception, shortest = receptions.get(layout, (None, left))
        if reception is None:
            reception = Reception(table, layout, None)
        reception.add((record.raw_key, life, values, True), came)
        receptions[layout] = reception, min(shortest, left)
    batches: list[Changes] = []
    for reception, shortest in receptions.values():
        # Lives go by when the values came, which may be long ago.
        reception.reader.shortest = shortest
        batches += reception.store(now, cause=Cause.RESTORED)
    for batch in batches:
        if batch.cause is Cause.RESTORED:
            table.log.overwrite(batch.raw_keys)
    return batches


def _row(
    table: TableStore, record: Record, now: int, ahead: int
) -> Optional[tuple[int, int, int, bytes]]:
    """When a record came, its life from then on and from now on (all in ms), and its values."""
    key, expire = record.raw_key, table.declaration.expire
    came = max(0, min(record.arrived - ahead, now))
    end = NEVER if record.expires is None else record.expires - ahead
    end = min(end, came + expire if expire else NEVER)
    if end <= now or table.forgotten(key, now):
        return None
    before = table.unconverted(key)
    if before is not None:
        other_came, other_end = table.lifetime(before)
        if other_came >= came and other_end > now:
            return None
    values = record.kept_values()
    if values is None:
        return None
    own = end != NEVER and end != came + expire
    life = min(end - came, UNENDING - 1) if own else UNENDING
    left = UNENDING if end == NEVER else min(end - now, UNENDING - 1)
    return came, life, left, values

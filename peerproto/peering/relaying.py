"""Relaying: what one peer says is passed on to others, as changes of ours.

What changes nothing is not passed on: a peer sends an entry again with each touch, and between
two relays the same comes by more than one way. Of a lesson only entries are passed on that were
not known here, since it has values of any age. An update whose life is over has told its
receiver that the entry is forgotten: that goes on as a tombstone of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Optional

from peerproto.peering.sharing import Relayed
from peerproto.tables.row import unpack
from peerproto.tables.store import LAST_MOMENT, TableStore
from peerproto.updates.reception import Reception
from peerproto.wire.datatypes import Frequency

TOLERANCE: Final = 1000
"""Ms by which the end of a life, or the beginning of a period, may differ: what comes by two ways
takes different times."""

Rows = Mapping[bytes, Optional[bytes]]
"""By key, what was stored before something came."""


def rows_of(table: TableStore, keys: Collection[bytes]) -> Rows:
    """What is stored of keys now."""
    return {key: table.stored(key) for key in keys}


def pass_on(
    reception: Reception,
    before: Rows,
    keys: Collection[bytes],
    ours: Mapping[bytes, int],
    whom: Relayed,
    in_lesson: bool,
    now: int,
) -> list[bytes]:
    """Note what came of a peer as changes for others, but for columns of ``ours``, which hold:
    which keys were forgotten by it. ``now`` is in ms."""
    table = reception.table
    table.log.mark(now)
    sent = reception.layout.bits & table.layout.bits
    forgotten: list[bytes] = []
    for key in dict.fromkeys(keys):
        was, row = before[key], table.stored(key)
        if row is None:
            continue
        end = None if was is None else table.lifetime(was)[1]
        if end is not None and end <= now:
            was = end = None
        if is_forgotten(reception, row):
            if not in_lesson:
                expire = table.declaration.expire
                until = end or (now + expire if expire else None)
                table.forget(key, now, whom, until)
                forgotten.append(key)
        elif was is None or (not in_lesson and _differ(table, was, row, now)):
            columns = _columns(reception, key, was, row, sent, now) & ~ours.get(key, 0)
            if columns or not sent:
                table.log.record(key, columns, whom)
    return forgotten


def is_forgotten(reception: Reception, row: bytes) -> bool:
    """Whether what came tells its receiver to forget the entry: zeros, and a life that is over."""
    table = reception.table
    if reception.expire == 0 or not table.declaration.expire:
        return False
    life: int = unpack(row)[1]
    return life <= LAST_MOMENT and not row[table.record_at :].strip(b"\x00")


def _columns(
    reception: Reception, key: bytes, was: Optional[bytes], row: bytes, sent: int, now: int
) -> int:
    """The columns that a peer has said, as bits: a text also if it has cleared it."""
    table = reception.table
    if not (reception.layout.codec.has_texts and table.layout.codec.has_texts):
        return sent
    if was is not None and _text(table, was) != _text(table, row):
        return sent
    return reception.columns_of(key, now) & table.layout.bits


def _text(table: TableStore, row: bytes) -> bytes:
    start, end = table.layout.codec.text(row, table.record_at)
    return row[start:end]


def _differ(table: TableStore, was: bytes, row: bytes, now: int) -> bool:
    """Whether two rows say something different at this moment."""
    (came, end), (came_then, end_then) = table.lifetime(row), table.lifetime(was)
    if abs(end - end_then) > TOLERANCE:
        return True
    decode, at = table.layout.codec.decode, table.record_at
    values, values_then = decode(row, at, now - came), decode(was, at, now - came_then)
    return any(map(_other, _flat(values), _flat(values_then)))


def _flat(values: tuple[Any, ...]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        is_array = isinstance(value, tuple) and not isinstance(value, Frequency)
        flat += value if is_array else [value]
    return flat


def _other(one: Any, other: Any) -> bool:
    if isinstance(one, Frequency) and isinstance(other, Frequency):
        same = (one.current, one.previous) == (other.current, other.previous)
        return not same or (
            abs(one.age - other.age) > TOLERANCE and (one.current or one.previous) > 0
        )
    return bool(one != other)

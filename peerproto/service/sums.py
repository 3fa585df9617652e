"""Sums: what the shares of a table have of a key, added up into another table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple, Optional

from peerproto.service.sticktable import StickTable
from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import NEVER
from peerproto.updates import adding
from peerproto.updates.adding import Adder
from peerproto.wire.datatypes import DataType, Kind
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Column, Layout

TAG_RULES: Final = {"last": adding.LAST, "max": adding.LARGEST, "or": adding.BITS}
"""How the tags of several peers become one: that of the latest change, the largest, or all their
bits."""

_ON_TIME: Final = 1000
"""Time in ms by which a life may be longer in the sum: what goes out in that time tells no life."""

_TAGS: Final = ("gpt0", "gpt", "server_id")
"""Data types that say something, and count nothing."""


class Total(NamedTuple):
    """The sum of one key, as the output stores it."""

    raw_key: bytes
    record: bytes
    life: Optional[int]
    """How long it lives from now, in ms: as long as what lives longest of it; ``None`` for as long
    as its table says."""
    again: Optional[int]
    """In how many ms it is to be added up again; ``None`` if that is not needed before something
    changes."""


class Sums:
    """Adds up the shares of one table, key by key, to entries of another one."""

    def __init__(self, source: StickTable, output: StickTable, tags: str = "last") -> None:
        """
        :param source: a table that is shared per peer.
        :param tags: one of `TAG_RULES`.
        :raises LocalProtocolError: one cannot be summed to the other.
        """
        check(source.declaration, output.declaration)
        self._source = source
        expire = output.declaration.expire
        self._whole = expire - min(_ON_TIME, expire // 100) if expire else 0
        """The life in ms from which on a sum has that of its table."""
        steps, self.has_conn_cur = _steps(source.layout, output.layout, TAG_RULES[tags])
        self._adder = Adder(_texts(source.layout), steps)

    def of(
        self,
        raw_keys: Iterable[bytes],
        peers: Collection[str],
        connected: Callable[[str], bool],
    ) -> tuple[list[Total], list[bytes]]:
        """The sums of some keys as they are now, and the keys of which nobody has anything.

        :param peers: the names of those whose shares are added up.
        :param connected: tells whether the current connections of a peer count.
        """
        now, totals, nothing = self._source.now(), [], []
        shares = [
            (store, store.record_at, connected(peer))
            for peer, store in self._source.stores().items()
            if peer is not None and peer in peers
        ]
        adder, whole = self._adder, now + self._whole
        for raw_key in raw_keys:
            records, elapsed, arrived, counts = [], [], [], []
            longest = 0
            for store, record_at, does_count in shares:
                row = store.stored(raw_key)
                if row is None:
                    continue
                came, deadline = store.lifetime(row)
                if deadline > now:
                    records.append(row[record_at:])
                    elapsed.append(now - came)
                    arrived.append(came)
                    counts.append(does_count)
                    longest = max(longest, deadline)
            if not records:
                nothing.append(raw_key)
                continue
            record = adder.add(records, elapsed, arrived, counts)
            life = None if longest >= NEVER or longest >= whole else longest - now
            again = None if adder.again < 0 else adder.again
            totals.append(Total(raw_key, record, life, again))
        return totals, nothing


def check(source: Declaration, output: Declaration) -> None:
    """See whether entries of one table can be summed to entries of another one.

    :raises LocalProtocolError: keys differ, or the period of a rate, or ``brates-factor``.
    """
    theirs, mine = source.layout, output.layout
    if theirs.key_type is not mine.key_type:
        raise LocalProtocolError("type of keys", mine.key_type.word, theirs.key_type.word)
    if theirs.key_length != mine.key_length:
        raise LocalProtocolError("length of keys", mine.key_length, str(theirs.key_length))
    if source.brates_factor != output.brates_factor:
        expected = str(source.brates_factor)
        raise LocalProtocolError("brates-factor", output.brates_factor, expected)
    for column in mine.columns:
        there = theirs.place_of(column.data_type.bit)
        period = column.period if there is None else theirs.columns[there].period
        if period != column.period:
            raise LocalProtocolError(f"period of {column.name}", column.period, f"{period} (ms)")


def _texts(layout: Layout) -> list[bool]:
    """For each field of a record, whether it is a text."""
    return [
        one.data_type.kind is Kind.DICTIONARY for one in layout.columns for _ in range(_width(one))
    ]


def _width(column: Column) -> int:
    """How many fields a column has in a record."""
    each = 3 if column.data_type.kind is Kind.FREQUENCY else 1
    return each * (column.elements or 1)


def _steps(source: Layout, output: Layout, tags: int) -> tuple[list[tuple[int, int, int]], bool]:
    """What becomes of each value of the output, as `Adder` has it; and whether current connections
    are among them."""
    places: dict[int, tuple[int, Column]] = {}
    place = 0
    for column in source.columns:
        places[column.data_type.bit] = place, column
        place += _width(column)
    steps = []
    for column in output.columns:
        data_type, period = column.data_type, column.period or 0
        first, theirs = places.get(data_type.bit, (0, None))
        there = 0 if theirs is None else theirs.elements or 1
        each = 3 if data_type.kind is Kind.FREQUENCY else 1
        for element in range(column.elements or 1):
            if element < there:
                steps.append((_how(data_type, tags), first + each * element, period))
            else:
                steps.append((adding.NOTHING, 0, period))
    return steps, any(how == adding.CONNECTIONS for how, _, _ in steps)


def _how(data_type: DataType, tags: int) -> int:
    if data_type.name == "conn_cur":
        return adding.CONNECTIONS
    if data_type.name in _TAGS:
        return tags
    return {
        Kind.FREQUENCY: adding.RATE,
        Kind.DICTIONARY: adding.TEXT,
        Kind.UNSIGNED64: adding.LARGE_COUNTER,
    }.get(data_type.kind, adding.COUNTER)

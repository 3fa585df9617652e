"""Sums: what the shares of a table have of a key, added up into another table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Optional

import attrs

from peerproto.service.lastsaid import LastSaid
from peerproto.service.sticktable import StickTable
from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import NEVER
from peerproto.updates import adding
from peerproto.updates.adding import Adder
from peerproto.wire.datatypes import BY_NAME, DataType, Kind
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Column, Layout, column, in_bit_order

TAG_RULES: Final = {"last": adding.LAST, "max": adding.LARGEST, "or": adding.BITS}
"""How the tags of several peers become one: the one that was changed last, the largest, or all
their bits."""

_ON_TIME: Final = 1000
"""Time in ms by which a life may be longer in the sum: what goes out in that time tells no life."""

_GPT: Final = BY_NAME["gpt"].bit
_GPT0: Final = BY_NAME["gpt0"].bit

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

    def __init__(
        self,
        source: StickTable,
        output: StickTable,
        tags: str = "last",
        stamped: bool = False,
        numbered: bool = False,
        last_said: Optional[LastSaid] = None,
    ) -> None:
        """
        :param source: a table that is shared per peer.
        :param tags: one of `TAG_RULES`.
        :param stamped: whether the last element of the output's ``gpt`` stands for the number of
            a session: see `peerproto.UNSTAMPED`.
        :param numbered: whether the last element of the source's ``gpt`` is such a number, and is
            not summed.
        :param last_said: what is known of earlier sums of these tables, if anything.
        :raises LocalProtocolError: one cannot be summed to the other.
        """
        check(source.declaration, output.declaration)
        if stamped:
            check_number(output.layout, source.layout, numbered)
        self._source = source
        self._output = output
        expire = output.declaration.expire
        self._whole = expire - min(_ON_TIME, expire // 100) if expire else 0
        """The life in ms from which on a sum has that of its table."""
        steps = _steps(source.layout, output.layout, TAG_RULES[tags], stamped, numbered)
        self.has_conn_cur = any(how == adding.CONNECTIONS for how, _, _ in steps)
        texts = [is_text for column in source.layout.columns for is_text in column.fields]
        self._adder = Adder(texts, steps)
        texts = [is_text for column in output.layout.columns for is_text in column.fields]
        self._reader = Adder(texts, _in_output(steps))
        """Reads what is published."""
        self._chooses = any(how in (adding.LAST, adding.TEXT) for how, _, _ in steps)
        """Whether anything of the sum is what one peer said last."""
        self.last_said = LastSaid(source.now()) if last_said is None else last_said

    def of(
        self,
        raw_keys: Sequence[bytes],
        peers: Mapping[str, str],
        connected: Callable[[str], bool],
    ) -> tuple[list[Total], list[bytes]]:
        """The sums of some keys as they are now, and the keys of which nobody has anything.

        :param peers: by the names of those whose shares are added up, the words that they stand
            for: several that say the same, one after the other, stand for one.
        :param connected: tells whether the current connections of a peer count.
        """
        now, totals, nothing = self._source.now(), [], []
        last_said = self.last_said if self._chooses else None
        shares = [
            (peer, store, store.record_at, connected(peer))
            for peer, store in self._source.stores().items()
            if peer is not None and peer in peers
        ]
        adder, whole = self._adder, now + self._whole
        # Shares have the same keys, if not each of them has each.
        places = shares[0][1].partitions.places(raw_keys) if shares else None
        rows_of = [iter(store.stored_each(raw_keys, places)) for _, store, _, _ in shares]
        for raw_key in raw_keys:
            said_by, records, elapsed, arrived, counts = [], [], [], [], []
            longest = 0
            for (peer, store, record_at, does_count), rows in zip(shares, rows_of):
                row = next(rows)
                if row is None:
                    continue
                came, deadline = store.lifetime(row)
                if deadline > now:
                    said_by.append(peers[peer])
                    records.append(row[record_at:])
                    elapsed.append(now - came)
                    arrived.append(came)
                    counts.append(does_count)
                    longest = max(longest, deadline)
            if last_said is not None:
                if len(records) > 1:
                    said = [adder.said(record) for record in records]
                    arrived = last_said.order(raw_key, said_by, said, arrived, self._said_by_all)
                else:
                    last_said.forget(raw_key)
            if not records:
                nothing.append(raw_key)
                continue
            record = adder.add(records, elapsed, arrived, counts)
            life = None if longest >= NEVER or longest >= whole else longest - now
            again = None if adder.again < 0 else adder.again
            totals.append(Total(raw_key, record, life, again))
        return totals, nothing

    def _said_by_all(self, raw_key: bytes) -> Optional[bytes]:
        """What the sum of a key has that a peer said last, as it was published since the order is
        known: with no order of the key, all have said that."""
        for store in self._output.stores().values():
            row = store.stored(raw_key)
            if row is not None and store.lifetime(row)[0] >= self.last_said.since:
                return self._reader.said(row[store.record_at :])
        return None


def _in_output(steps: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The same steps, with the places of the values in the output."""
    place, there = 0, []
    for how, _, period in steps:
        there.append((how, place, period))
        place += 3 if period else 1
    return there


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
    for one in mine.columns:
        there = theirs.place_of(one.data_type.bit)
        period = one.period if there is None else theirs.columns[there].period
        if period != one.period:
            raise LocalProtocolError(f"period of {one.name}", one.period, f"{period} (ms)")


def check_number(output: Layout, source: Optional[Layout] = None, numbered: bool = False) -> None:
    """See whether an output has an element of ``gpt`` for the number of a session, behind those
    that are summed.

    :param source: that of the source, if it is known; ``numbered`` is whether it has such an
        element, too.
    :raises LocalProtocolError: it has none.
    """
    least = _tags_of(source, numbered) + 1
    if output.elements.get(_GPT, 0) < least:
        had = ",".join(_word(one) for one in output.columns) or "nothing"
        raise LocalProtocolError("store", had, f"gpt({least}) at least, the last for the lease")


def summed(source: Declaration, stamped: bool, numbered: bool) -> Declaration:
    """What a table is declared as that has the sums of another one: see `Sums`."""
    if not stamped and not numbered:
        return source
    layout = source.layout
    # HAProxy takes no gpt0 beside gpt: it is the first element of that.
    columns = [one for one in layout.columns if one.name not in ("gpt0", "gpt")]
    elements = _tags_of(layout, numbered) + stamped
    if elements:
        columns.append(column("gpt", elements=elements))
    return attrs.evolve(source, layout=attrs.evolve(layout, columns=in_bit_order(columns)))


def _tags_of(source: Optional[Layout], numbered: bool) -> int:
    """How many elements of ``gpt`` are summed of a source."""
    elements = {} if source is None else source.elements
    if _GPT in elements:
        return elements[_GPT] - numbered
    return 1 if _GPT0 in elements else 0


def _word(column: Column) -> str:
    return column.name if column.elements is None else f"{column.name}({column.elements})"


def _steps(
    source: Layout, output: Layout, tags: int, stamped: bool, numbered: bool
) -> list[tuple[int, int, int]]:
    """What becomes of each value of the output, as `Adder` has it."""
    places: dict[int, tuple[int, int]] = {}
    place = 0
    for theirs in source.columns:
        last = numbered and theirs.data_type.bit == _GPT
        places[theirs.data_type.bit] = place, (theirs.elements or 1) - last
        place += len(theirs.fields)
    steps = []
    for mine in output.columns:
        data_type, period = mine.data_type, mine.period or 0
        bit = data_type.bit
        if bit == _GPT and _GPT not in places:
            bit = _GPT0
        first, there = places.get(bit, (0, 0))
        each = 3 if data_type.kind is Kind.FREQUENCY else 1
        for element in range(mine.elements or 1):
            if stamped and data_type.bit == _GPT and element + 1 == mine.elements:
                steps.append((adding.STAMP, 0, 0))
            elif element < there:
                steps.append((_how(data_type, tags), first + each * element, period))
            else:
                steps.append((adding.NOTHING, 0, period))
    return steps


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

"""Entries outside of any node, as files and other nodes take them: nothing is lost, and all times
are absolute.

In JSON an entry is ``{"key": …, "peer": …, "expires": …, "values": {…}}``. ``expires`` is in ms
since the epoch, or null; ``peer`` is there where a table is shared per peer. A rate is an array of
three numbers: when its current period began (ms since the epoch), events in it, and events in the
period before. Keys and texts are written as in `peerproto.service.spelling`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Optional, Union

import attrs

from peerproto.service import spelling
from peerproto.service.showing import declaration_shown
from peerproto.service.sticktable import StickTable
from peerproto.service.text import parse_key
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.rates import rate
from peerproto.tables.record import Record
from peerproto.wire.codec import MAX_AGE
from peerproto.wire.datatypes import BY_NAME, Frequency, Kind
from peerproto.wire.dictionary import LONGEST_TEXT
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Cell, Column, Layout

Counter = tuple[int, int, int]
"""A rate: when its current period began (ms since the epoch), its events, those before."""

PortableValue = Union[int, str, None, Counter]

LONG_AGO: Final = 0
"""Stands for a period that began longer ago than a node can tell, which is 24 days."""

LATEST: Final = (1 << 63) - 1
"""The latest time that is read, in ms."""

_RANGES: Final = {
    Kind.SIGNED: (-(1 << 31), (1 << 31) - 1),
    Kind.UNSIGNED32: (0, (1 << 32) - 1),
    Kind.UNSIGNED64: (0, (1 << 64) - 1),
    Kind.FREQUENCY: (0, (1 << 32) - 1),
}
_FIELDS: Final = ("key", "peer", "expires", "values")


@attrs.frozen
class PortableTable:
    """How a table is declared, as files say it."""

    declaration: Declaration
    per_peer: bool = False
    """Whether its entries are those of shares."""

    @property
    def json(self) -> dict[str, Any]:
        """The same in JSON."""
        return {**declaration_shown(self.declaration), "per_peer": self.per_peer}

    def named(self, name: str) -> PortableTable:
        """The same for a table of another name, as nodes spell it.

        :raises LocalProtocolError: it is no name.
        """
        declaration = attrs.evolve(self.declaration, name=spelling.read(name))
        return attrs.evolve(self, declaration=declaration)

    @classmethod
    def read(cls, given: Any) -> PortableTable:
        """What JSON says of a table; what else it says is left aside.

        :raises LocalProtocolError: it is no declaration.
        """
        try:
            key_type = next(one for one in KeyType if one.word == given["type"])
            columns: dict[str, Column] = {}
            for one in given["columns"]:
                data_type = BY_NAME[one["data_type"]]
                before = columns.get(data_type.name)
                elements = None
                if data_type.array:
                    elements = 1 if before is None else (before.elements or 0) + 1
                columns[data_type.name] = Column(data_type, elements, one["period"])
            in_order = sorted(columns.values(), key=lambda one: one.data_type.bit)
            length = given["key_length"] + (key_type is KeyType.STRING)
            declaration = Declaration(
                spelling.read(given["name"]),
                Layout(key_type, length, tuple(in_order)),
                given["expire"] or 0,
                given["size"],
                given["nopurge"],
                brates_factor=given["brates_factor"],
            )
            if [one["name"] for one in given["columns"]] != [
                cell.name for cell in declaration.layout.printed
            ]:
                raise ValueError
            return cls(declaration, bool(given.get("per_peer", given.get("shares") is not None)))
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as problem:
            expected = "how a table is declared, as an export has it"
            raise LocalProtocolError("table", given, expected) from problem


@attrs.frozen
class Portable:
    """An entry outside of any node; see the module."""

    raw_key: bytes
    values: Mapping[str, PortableValue]
    """By their names as ``show table`` prints them; not all of them need be there."""
    expires: Optional[int] = None
    """When it ends, in ms since the epoch; ``None`` if nothing is said of that."""
    peer: Optional[str] = None
    """Whose share it is in, where the table is shared per peer."""

    @classmethod
    def of(cls, record: Record, at: int, step: int = 0) -> Portable:
        """The same entry as a record.

        :param at: the time of the node, in ms since the epoch (`NodeTime.now`).
        :param step: how far the wall clock is ahead of it (`NodeTime.steps`).
        """
        entry = record.entry(at)
        now = at + step
        values = {cell.name: _value(entry, cell, now) for cell in entry.layout.printed}
        expires = None if record.expires is None else record.expires + step
        return cls(record.raw_key, values, expires, record.peer)

    def json(self, key_type: KeyType) -> dict[str, Any]:
        """The same in JSON."""
        value: dict[str, Any] = {"key": spelling.key_text(self.raw_key, key_type)}
        if self.peer is not None:
            value["peer"] = spelling.written(self.peer)
        value["expires"] = self.expires
        value["values"] = {
            name: spelling.written(one) if isinstance(one, str) else one
            for name, one in self.values.items()
        }
        return value

    @classmethod
    def read(cls, given: Any, layout: Layout) -> Portable:
        """What JSON says of an entry of a table with this layout. A rate may be a number, too:
        so many events happened just now.

        :raises LocalProtocolError: something in it is none of such a table; it says what.
        """
        if not isinstance(given, Mapping):
            raise _wrong("entry", given, "an object")
        for name in given:
            if name not in _FIELDS:
                raise _wrong("field", name, f"one of {', '.join(_FIELDS)}")
        key, peer = given.get("key"), given.get("peer")
        expires, values = given.get("expires"), given.get("values", {})
        if expires is not None and not (type(expires) is int and 0 <= expires <= LATEST):
            raise _wrong("expires", expires, f"ms since the epoch, 0 to {LATEST}, or nothing")
        if not isinstance(values, Mapping):
            raise _wrong("values", values, "an object")
        if not (peer is None or isinstance(peer, str)):
            raise _wrong("peer", peer, "the name of a peer")
        return cls(
            _key(key, layout),
            {name: _read_value(name, one, layout) for name, one in values.items()},
            expires,
            None if peer is None else spelling.read(peer),
        )

    def counter(self, cell: Cell, now: int) -> Frequency:
        """The frequency counter of a rate, with its age ``now`` (ms since the epoch)."""
        value = self.values[cell.name]
        assert not isinstance(value, str) and value is not None
        if isinstance(value, int):
            return Frequency(0, value, 0)
        began, current, previous = value
        return Frequency(min(max(now - began, 0), MAX_AGE), current, previous)

    def reading(self, cell: Cell, now: int) -> Union[int, str, None]:
        """A value as ``show table`` prints it ``now`` (ms since the epoch), in blocks where byte
        rates count those."""
        value = self.values[cell.name]
        if cell.column.data_type.kind is Kind.FREQUENCY:
            return rate(self.counter(cell, now), cell.column.period or 0)
        assert not isinstance(value, tuple)
        return value

    def changes(self, layout: Layout, now: int) -> dict[str, Any]:
        """The values as a table takes them ``now`` (ms since the epoch).

        :raises LocalProtocolError: the table has no such value.
        """
        return {
            name: self.counter(layout.cells[name], now)
            if layout.cells[name].column.data_type.kind is Kind.FREQUENCY
            else value
            for name, value in self.values.items()
        }

    def life(self, now: int, expire: int) -> Optional[int]:
        """The life that is left ``now`` (ms since the epoch): ``None`` for what a table with
        this ``expire`` gives, 0 if it is over."""
        if self.expires is None:
            return None
        left = max(0, self.expires - now)
        return None if left and left >= expire else left


def portables(table: StickTable, entries: Iterable[Entry]) -> Iterator[Portable]:
    """What is stored now for entries of a table, but for those that have gone since."""
    time = table.time
    for entry in entries:
        share = table if entry.peer == table.peer else table.share(entry.peer)
        for record in share.records([entry.raw_key]):
            yield Portable.of(record, time.now(), time.steps())


def bring(table: StickTable, portable: Portable) -> bool:
    """Set an entry of a table as it came from elsewhere: a local change, which all peers get.

    Values that are not named stay as they are. Its life is what is left of it, but not more than
    the table gives. Returns whether its time is yet to come: if not, nothing is changed.

    :raises LocalProtocolError: the table cannot store it, or has no such share.
    :raises TableFull: see `StickTable.set`.
    """
    share = table.share(portable.peer) if table.per_peer else table
    if portable.peer != share.peer:
        raise _wrong("peer", portable.peer, "none: the table is not shared per peer")
    # Ages and life are reckoned from one moment, or a value would come back a ms off.
    now = table.now()
    wall = now + table.time.ahead + table.time.steps()
    life = portable.life(wall, table.declaration.expire)
    if life == 0:
        return False
    share.set_at(now, portable.raw_key, portable.changes(table.layout, wall), life)
    return True


def _wrong(what: str, read: Any, expected: str) -> LocalProtocolError:
    read = read if isinstance(read, str) else json.dumps(read, default=str)
    return LocalProtocolError(what, read, expected)


def _value(entry: Entry, cell: Cell, now: int) -> PortableValue:
    if cell.column.data_type.kind is not Kind.FREQUENCY:
        return entry.value(cell)
    age, current, previous = entry.counter(cell.name)
    return (LONG_AGO if age >= MAX_AGE else now - age, current, previous)


def _key(text: Any, layout: Layout) -> bytes:
    if not isinstance(text, str):
        raise _wrong("key", text, "a text")
    if layout.key_type is KeyType.STRING:
        text = "" if text == spelling.EMPTY else spelling.read(text)
        longest = layout.key_length - 1
        if len(text.encode("utf-8", "surrogateescape")) > longest:
            raise _wrong("key", spelling.written(text), f"a text of {longest} bytes at most")
    elif layout.key_type is KeyType.BINARY and len(text) != 2 * layout.key_length:
        raise _wrong("key", text, f"{2 * layout.key_length} hexadecimal digits")
    return parse_key(text, layout)


def _read_value(name: Any, value: Any, layout: Layout) -> PortableValue:
    cell = layout.cells.get(name)
    if cell is None:
        names = ", ".join(one.name for one in layout.printed) or "none"
        raise _wrong("value", name, f"one of {names}")
    kind = cell.column.data_type.kind
    if kind is Kind.DICTIONARY:
        if value is None:
            return None
        if not isinstance(value, str):
            raise _wrong(name, value, "a text or null")
        text = spelling.read(value)
        raw = text.encode("utf-8", "surrogateescape")
        if len(raw) > LONGEST_TEXT or b"\0" in raw:
            raise _wrong(name, value, f"a text of at most {LONGEST_TEXT} bytes, no NUL")
        return text
    least, most = _RANGES[kind]
    if kind is Kind.FREQUENCY and isinstance(value, (list, tuple)):
        if len(value) == 3 and all(type(one) is int for one in value):
            began, current, previous = value
            if 0 <= began <= LATEST and 0 <= current <= most and 0 <= previous <= most:
                return began, current, previous
    elif type(value) is int and least <= value <= most:
        return value
    expected = f"a whole number from {least} to {most}"
    if kind is Kind.FREQUENCY:
        expected = (
            f"when the period began (ms since the epoch), events in it and before, each {expected};"
            " or one such number"
        )
    raise _wrong(name, value, expected)

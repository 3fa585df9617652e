"""The columns of an SQL table that keeps a stick table, and what stands in them.

What memory stores for a key is kept in one column, ``stored``, with a checksum behind it: that is
what is loaded. The other columns say the same for people, and for what SQL is asked.

The checksum is the CRC-32 of peer, key and what is stored, begun with its own `RESIDUE`, and little
endian: whatever a CRC-32 begins with, it is the residue once it has gone over data and then over
their CRC-32. So many rows behind each other are as they were written if the CRC-32 of all of them,
begun with the residue, is the residue. A NUL stands behind a key that is a string.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from socket import inet_ntoa
from types import NoneType
from typing import Any, Final, Optional, Union

import attrs

from peerproto import Cell, Declaration, Kept, KeyType, Kind, Record
from peerproto.service.text import format_key
from peerproto.storage.names import quoted

Stored = Union[int, str, bytes, None]
"""What SQLite stores."""

LARGEST: Final = (1 << 63) - 1
"""The largest integer of SQLite."""

FIXED: Final = ("key", "peer", "stored", "key_text", "arrived", "expires", "written")
"""The columns that all tables have; ``peer`` is empty unless a table is shared per peer."""

_READ: Final = ("key", "peer", "stored")
"""The columns that are loaded, but for a text."""

_TYPES: Final[tuple[Any, ...]] = (bytes, (str, bytes), bytes, (str, bytes, NoneType))
"""What stands in them, and in a text."""

RESIDUE: Final = 0x2144DF1C
"""The CRC-32 of anything with its CRC-32 behind it."""

SUM: Final = 4
"""Bytes of a checksum."""

END_OF_STRING: Final = b"\0"
"""What stands behind a key that is a string."""

HEAD: Final = 13
"""Bytes before the key, or the values, of what is stored: see `StoredRows`."""

MARK_AT: Final = 8
"""The place of the byte that is not 0 if a row is to be read alone."""

_HAS_TEXT: Final = 1
"""A text belongs into the values: it is a long one, and stands in its column alone."""

_HAS_NUL: Final = 2
"""The key is a string with a NUL in it."""

_HEAD: Final = struct.Struct(">QBI")

_UNENDING: Final = 0xFFFFFFFF
"""The life of what lives as long as its table says."""

_PARTS: Final = ("start", "current", "previous")
"""What stands behind the name of a rate."""


def to_sql(text: Optional[str]) -> Union[str, bytes, None]:
    """A text as SQLite stores it: as bytes, if it is no UTF-8, or has a NUL in it."""
    if text is None:
        return None
    encoded = text.encode("utf-8", "surrogateescape")
    try:
        return encoded if b"\0" in encoded else encoded.decode()
    except UnicodeDecodeError:
        return encoded


def from_sql(stored: Any) -> Optional[str]:
    """The text that `to_sql` was given."""
    return stored.decode("utf-8", "surrogateescape") if isinstance(stored, bytes) else stored


def number_to_sql(number: int) -> Stored:
    """A number as SQLite stores it: one that is too large for it as 8 bytes, which SQLite sorts
    behind all integers, and by their value."""
    return number if number <= LARGEST else number.to_bytes(8, "big")


def key_text(raw_key: bytes, key_type: KeyType) -> str:
    """A key for people to read: strings as they are where they are UTF-8 without control
    characters, and as ``show table`` prints them where not."""
    if key_type is KeyType.STRING:
        try:
            text = raw_key.decode()
        except UnicodeDecodeError:
            return format_key(raw_key, key_type)
        return text if text.isprintable() else format_key(raw_key, key_type)
    if key_type is KeyType.IPV4:
        return inet_ntoa(raw_key)
    return format_key(raw_key, key_type)


def raw(text: Union[str, bytes]) -> bytes:
    """The bytes of what `to_sql` has made of a text."""
    return text if isinstance(text, bytes) else text.encode()


def checksum(*parts: bytes) -> bytes:
    """What stands behind some bytes, for the CRC-32 of all to be the residue again."""
    total = RESIDUE
    for part in parts:
        total = zlib.crc32(part, total)
    return total.to_bytes(SUM, "little")


@attrs.frozen(slots=False)
class Shape:
    """The SQL table for one declaration."""

    declaration: Declaration

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The values of an entry, as ``show table`` prints them."""
        return self.declaration.layout.printed

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns for values."""
        return tuple(name for name, _ in self._typed())

    def _typed(self) -> Iterator[tuple[str, str]]:
        for cell in self.cells:
            if cell.column.data_type.kind is Kind.FREQUENCY:
                yield from ((f"{cell.name}_{part}", "INTEGER") for part in _PARTS)
            else:
                yield cell.name, "TEXT" if cell.is_text else "INTEGER"

    @cached_property
    def definition(self) -> str:
        """What stands in parentheses in ``CREATE TABLE``."""
        columns = [
            "key BLOB NOT NULL",
            "peer NOT NULL",
            "stored BLOB NOT NULL",
            "key_text TEXT NOT NULL",
            "arrived INTEGER NOT NULL",
            "expires INTEGER",
            "written INTEGER NOT NULL",
            *(f"{quoted(name)} {sql_type}" for name, sql_type in self._typed()),
            "PRIMARY KEY (key, peer)",
        ]
        return ", ".join(columns)

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(FIXED) + len(self.names)

    @cached_property
    def text_name(self) -> Optional[str]:
        """The name of the column that is a text; ``None`` if there is none."""
        return next((cell.name for cell in self.cells if cell.is_text), None)

    @cached_property
    def read_names(self) -> tuple[str, ...]:
        """The columns that `record` reads."""
        text = self.text_name
        return _READ if text is None else (*_READ, text)

    @cached_property
    def fixed(self) -> int:
        """The length of all keys, which then stand in what is stored; 0 for strings."""
        return self.declaration.layout.fixed_key_length

    def row(self, kept: Kept, peer: Union[str, bytes], ahead: int, written: int) -> list[Stored]:
        """What stands in the columns for an entry.

        :param peer: as `to_sql` has it.
        :param ahead: what the time of the file has more than that of the entry, in ms.
        :param written: the number of the transaction.
        """
        raw_key, arrived, expires, values, text, decoded = kept
        arrived += ahead
        life = _UNENDING
        if expires is not None:
            expires += ahead
            if expires - arrived < self.declaration.expire:
                life = max(0, min(expires - arrived, _UNENDING - 1))
        key_type = self.declaration.layout.key_type
        mark = 0 if text is None else _HAS_TEXT
        if not self.fixed and END_OF_STRING in raw_key:
            mark |= _HAS_NUL
        stored = _HEAD.pack(max(0, arrived), mark, life)
        stored += raw_key + values if self.fixed else values
        row: list[Stored] = [
            raw_key,
            peer,
            stored + self._checksum(raw_key, peer, stored, text),
            key_text(raw_key, key_type),
            arrived,
            expires,
            written,
        ]
        row += self._spread(decoded, arrived)
        return row

    @cached_property
    def _spread(self) -> Spread:
        return _spreading(self.cells)

    def record(self, row: Sequence[Any], shift: int = 0) -> Optional[Record]:
        """The record that was kept; ``None`` if the checksum is another one.

        :param row: the columns of `read_names`.
        :param shift: what to add to the times, in ms.
        """
        # A damaged file may have others than the types that were stored.
        if not all(map(isinstance, row, _TYPES)):
            return None
        raw_key, peer, stored = row[:3]
        at = HEAD + self.fixed
        if len(stored) < at + SUM:
            return None
        arrived, mark, _ = _HEAD.unpack_from(stored)
        text = None
        if mark & _HAS_TEXT:
            if len(row) < 4 or row[3] is None:
                return None
            text = raw(row[3])
        if self._checksum(raw_key, peer, stored[:-SUM], text) != stored[-SUM:]:
            return None
        expires = self.end(stored)
        return Record(
            self.declaration,
            raw_key,
            arrived + shift,
            None if expires is None else expires + shift,
            stored[at:-SUM],
            text,
            from_sql(peer) if peer else None,
        )

    def _checksum(
        self, raw_key: bytes, peer: Union[str, bytes], stored: bytes, text: Optional[bytes]
    ) -> bytes:
        end = b"" if self.fixed else END_OF_STRING
        return checksum(raw(peer), raw_key, end, stored, text or b"")

    def end(self, stored: bytes) -> Optional[int]:
        """When an entry ends by what is stored for it, in ms; ``None`` if it does not."""
        expire = self.declaration.expire
        if not expire:
            return None
        arrived, _, life = _HEAD.unpack_from(stored)
        return int(arrived + min(life, expire))

    def is_over(self, stored: Any, now: int) -> bool:
        """Whether the time of a row has come, of which nobody has looked at the checksum."""
        if not isinstance(stored, bytes) or len(stored) < HEAD:
            return False
        end = self.end(stored)
        return end is not None and end <= now


Spread = Callable[[Sequence[Any], int], tuple[Stored, ...]]
"""``spread(decoded, arrived)``: what stands in the columns for the values of an entry."""


def _spreading(cells: Sequence[Cell]) -> Spread:
    """What spreads the values of these cells, as one expression that is generated, as the codec of
    records is: a loop would take longer than the work itself."""
    items: list[str] = []
    for cell in cells:
        value = f"decoded[{cell.place}]" + ("" if cell.index is None else f"[{cell.index}]")
        kind = cell.column.data_type.kind
        if kind is Kind.FREQUENCY:
            items += (f"arrived - {value}[0]", f"{value}[1]", f"{value}[2]")
        elif kind is Kind.UNSIGNED64:
            items.append(f"number_to_sql({value})")
        elif kind is Kind.DICTIONARY:
            items.append(f"to_sql({value})")
        else:
            items.append(value)
    source = f"lambda decoded, arrived: ({''.join(item + ', ' for item in items)})"
    spread: Spread = eval(source, {"number_to_sql": number_to_sql, "to_sql": to_sql})
    return spread


def reshaped(record: Record, declaration: Declaration) -> Optional[Record]:
    """A record under another declaration with the same keys: values that both have stay, others
    are 0. ``None`` if it cannot be."""
    before, after = record.declaration.layout, declaration.layout
    if before == after:
        return attrs.evolve(record, declaration=declaration)
    old = record.entry(record.arrived).decoded
    places = {one.name: place for place, one in enumerate(before.columns)}
    values = list(after.codec.blank())
    for place, column in enumerate(after.columns):
        if column.name not in places:
            continue
        value = old[places[column.name]]
        if column.elements is not None:
            value = (*value[: column.elements], *values[place][len(value) :])
        values[place] = value
    return Record.made(
        declaration, record.raw_key, record.arrived, record.expires, tuple(values), record.peer
    )


def kept_of(record: Record) -> Kept:
    """A record as snapshots have it."""
    return Kept(
        record.raw_key,
        record.arrived,
        record.expires,
        record.values,
        record.text,
        record.entry(record.arrived).decoded,
    )

"""What an entry of a table is made of: its key and its columns, in wire order.

Two definitions with equal layouts have byte for byte the same entries, so a
record can be passed on without being decoded.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, Optional

import attrs

from peerproto.wire.codec import EntryCodec, entry_codec
from peerproto.wire.datatypes import (
    BY_NAME,
    DATA_TYPES,
    MAX_ELEMENTS,
    DataType,
    Kind,
    array_element_name,
)
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import FIXED_LENGTH, KeyType


def _elements_fit(column: Column, _: object, elements: Optional[int]) -> None:
    if column.data_type.array != (elements is not None):
        expected = "a number of elements" if column.data_type.array else "no elements"
        raise LocalProtocolError(column.data_type.name, elements, expected)
    if elements is not None and not 1 <= elements <= MAX_ELEMENTS:
        raise LocalProtocolError(
            f"elements of {column.data_type.name}", elements, f"1 to {MAX_ELEMENTS}"
        )


@attrs.frozen(cache_hash=True)
class Column:
    """A data type as one table stores it.

    ``elements`` is the size of an array, ``period`` that of a frequency counter
    in ms: ``None`` for other types, and where an old peer did not announce it.
    """

    data_type: DataType
    elements: Optional[int] = attrs.field(default=None, validator=_elements_fit)
    period: Optional[int] = None

    @property
    def name(self) -> str:
        """The name of the data type."""
        return self.data_type.name

    @property
    def fields(self) -> list[bool]:
        """For each field that it has in a record, whether that is a text."""
        if self.data_type.kind is Kind.DICTIONARY:
            return [True]
        each = 3 if self.data_type.kind is Kind.FREQUENCY else 1
        return [False] * (each * (self.elements or 1))

    def shortened(self, elements: int) -> Column:
        """The same with no more than so many elements, if it is an array."""
        if self.elements is None or self.elements <= elements:
            return self
        return attrs.evolve(self, elements=elements)


@attrs.frozen
class Cell:
    """One printed value of an entry: a column, or an element of an array."""

    name: str
    """As ``show table`` prints it: ``gpc0_rate`` for ``gpc_rate[0]`` too."""
    column: Column
    place: int
    """Index of the column's value in a decoded entry."""
    index: Optional[int] = None
    """Index of the element, for arrays."""

    @property
    def is_text(self) -> bool:
        """Whether the value is a text, and not a number."""
        return self.column.data_type.kind is Kind.DICTIONARY


MAX_KEY_LENGTH: Final = 1 << 63
"""Longest announced key. HAProxy declares tables whose keys fit into no message, too."""


def _key_length_fits(layout: Layout, _: object, length: int) -> None:
    fixed = FIXED_LENGTH.get(layout.key_type)
    if fixed is not None and length != fixed:
        raise LocalProtocolError(f"key length of type {layout.key_type.word}", length, str(fixed))
    least = 2 if layout.key_type is KeyType.STRING else 1
    if not least <= length <= MAX_KEY_LENGTH:
        raise LocalProtocolError(
            f"key length of type {layout.key_type.word}", length, f"{least} to {MAX_KEY_LENGTH}"
        )


@attrs.frozen(slots=False, cache_hash=True)
class Layout:
    """The key type, its announced length in bytes, and the columns by bit.

    For strings the length is one more than the longest key (doc/protocol.md,
    "Key types").
    """

    key_type: KeyType
    key_length: int = attrs.field(validator=_key_length_fits)
    columns: tuple[Column, ...] = ()

    @cached_property
    def codec(self) -> EntryCodec:
        """Encodes and decodes the values of an entry."""
        return entry_codec(
            tuple((column.data_type.kind, column.elements) for column in self.columns)
        )

    def stores_like(self, other: Layout) -> bool:
        """Whether the records of both are the same: periods may differ."""
        return self.cells_of_bits == other.cells_of_bits

    def within(self, other: Layout) -> bool:
        """Whether the other one has all values that this one has."""
        wider = other.elements
        return all(wider.get(bit, 0) >= elements for bit, elements in self.cells_of_bits)

    def narrowed(self, other: Layout) -> Layout:
        """This layout, with no values but those that the other one has too."""
        wanted = other.elements
        columns = tuple(
            one.shortened(wanted[one.data_type.bit])
            for one in self.columns
            if one.data_type.bit in wanted
        )
        return Layout(self.key_type, self.key_length, columns)

    @cached_property
    def cells_of_bits(self) -> tuple[tuple[int, int], ...]:
        """The bit of each column and its number of elements: what records depend on."""
        return tuple((column.data_type.bit, column.elements or 1) for column in self.columns)

    @cached_property
    def elements(self) -> dict[int, int]:
        """The same to look up: by bit, the number of elements."""
        return dict(self.cells_of_bits)

    @property
    def fixed_key_length(self) -> int:
        """Bytes of every key; 0 for strings, which differ."""
        return 0 if self.key_type is KeyType.STRING else self.key_length

    @cached_property
    def bits(self) -> int:
        """The bit field of the data types, as definitions announce it."""
        return sum(1 << column.data_type.bit for column in self.columns)

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every value by every name that it goes by, in the order of printing.

        An element goes by ``gpc[0]`` and, as HAProxy prints it, by ``gpc0``, unless
        that is the name of another column: then it is printed as ``gpc[0]`` too.
        """
        cells = {}
        stored = {column.data_type for column in self.columns}
        for place, column in enumerate(self.columns):
            data_type = column.data_type
            if column.elements is None:
                cells[data_type.name] = Cell(data_type.name, column, place)
                continue
            for index in range(column.elements):
                name = array_element_name(data_type, index)
                indexed = f"{data_type.name}[{index}]"
                if BY_NAME.get(name) in stored:
                    name = indexed
                cells[name] = cells[indexed] = Cell(name, column, place, index)
        return cells

    @cached_property
    def printed(self) -> tuple[Cell, ...]:
        """Every value once, in the order in which HAProxy prints them."""
        return tuple(dict.fromkeys(self.cells.values()))

    def place_of(self, bit: int) -> Optional[int]:
        """Index of the column with this bit, or ``None``."""
        return self._places.get(bit)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {column.data_type.bit: place for place, column in enumerate(self.columns)}


def column(name: str, *, elements: Optional[int] = None, period: Optional[int] = None) -> Column:
    """The column of the data type ``name``.

    :raises LocalProtocolError: no data type has this name, or it takes a number
        of elements or a period (in ms) that was not given, or none that was.
    """
    data_type = BY_NAME.get(name)
    if data_type is None:
        raise LocalProtocolError("data type", name, f"one of {', '.join(BY_NAME)}")
    if (period is not None) != (data_type.kind is Kind.FREQUENCY):
        expected = "a period" if period is None else "no period"
        raise LocalProtocolError(f"period of {name}", period, expected)
    return Column(data_type, elements, period)


def in_bit_order(columns: list[Column]) -> tuple[Column, ...]:
    """The columns as they follow each other on the wire."""
    return tuple(sorted(columns, key=lambda one: one.data_type.bit))


KNOWN_BITS = (1 << len(DATA_TYPES)) - 1
"""The bits of all data types that this version knows."""

"""A change that was made here: values by their names into those of an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peerproto.tables.declaration import Declaration
from peerproto.wire.codec import Values
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.dictionary import LONGEST_TEXT
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Cell


def changed(
    declaration: Declaration, before: Values, values: Mapping[str, Any]
) -> tuple[Values, int]:
    """``before``, with what ``values`` names in its stead; and of which columns, as bits.

    An array counts as a whole: HAProxy takes all of its elements or none.

    :raises LocalProtocolError: a name or value that the table cannot store.
    """
    after = list(before)
    columns = 0
    for name, value in values.items():
        cell = _cell(declaration, name)
        fitting = _fitting(cell, value)
        columns |= 1 << cell.column.data_type.bit
        if cell.index is None:
            after[cell.place] = fitting
        else:
            elements = list(after[cell.place])
            elements[cell.index] = fitting
            after[cell.place] = tuple(elements)
    return tuple(after), columns


def _cell(declaration: Declaration, name: str) -> Cell:
    layout = declaration.layout
    cell = layout.cells.get(name)
    if cell is None:
        raise LocalProtocolError(
            f"data type of table {declaration.name}",
            name,
            f"one of {', '.join(cell.name for cell in layout.printed) or 'none'}",
        )
    return cell


def _fitting(cell: Cell, value: Any) -> Any:
    """The value in the form that the codec encodes."""
    kind = cell.column.data_type.kind
    if kind is Kind.DICTIONARY:
        if value is None:
            return value
        if isinstance(value, str):
            raw = value.encode("utf-8", "surrogateescape")
            if len(raw) <= LONGEST_TEXT and b"\x00" not in raw:
                return value
            raise LocalProtocolError(
                f"value of {cell.name}", value, f"a text of at most {LONGEST_TEXT} bytes, no NUL"
            )
    elif kind is Kind.FREQUENCY:
        if isinstance(value, Frequency):
            return value
        if type(value) is int:
            return Frequency(0, value, 0)
    elif type(value) is int:
        return value
    raise LocalProtocolError(f"value of {cell.name}", value, f"a value of kind {kind.value}")

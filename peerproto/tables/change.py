"""A change that was made here: values, or events, by their names into those of an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from peerproto.tables import rates
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
        columns |= 1 << cell.column.data_type.bit
        _put(after, cell, _fitting(cell, value))
    return tuple(after), columns


_LARGEST: Final = {Kind.UNSIGNED32: 0xFFFFFFFF, Kind.UNSIGNED64: 0xFFFFFFFFFFFFFFFF}


def counted(
    declaration: Declaration, before: Values, events: Mapping[str, Any]
) -> tuple[Values, int]:
    """``before``, in which so many ``events`` happened now; and in which columns, as bits.

    A counter that is at its largest value stays there.

    :raises LocalProtocolError: a name that the table does not store or that counts nothing, or
        a number of events that is none.
    """
    after = list(before)
    columns = 0
    for name, number in events.items():
        cell = _cell(declaration, name)
        data_type = cell.column.data_type
        if type(number) is not int or not 0 <= number <= _LARGEST[Kind.UNSIGNED32]:
            raise LocalProtocolError(f"events of {name}", number, "an int from 0 to 2**32 - 1")
        value = after[cell.place]
        if cell.index is not None:
            value = value[cell.index]
        if data_type.kind is Kind.FREQUENCY:
            value = rates.count(value, cell.column.period or 0, number)
        elif data_type.kind in _LARGEST:
            value = min(value + number, _LARGEST[data_type.kind])
        else:
            raise LocalProtocolError(
                f"events of table {declaration.name}", name, "a counter or a rate"
            )
        columns |= 1 << data_type.bit
        _put(after, cell, value)
    return tuple(after), columns


def _put(values: list[Any], cell: Cell, value: Any) -> None:
    if cell.index is None:
        values[cell.place] = value
    else:
        elements = list(values[cell.place])
        elements[cell.index] = value
        values[cell.place] = tuple(elements)


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

"""An entry as people read it, decoded at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional, Union

import attrs

from peerproto.tables.rates import rate
from peerproto.wire import keys
from peerproto.wire.codec import Values
from peerproto.wire.datatypes import Frequency
from peerproto.wire.layout import Cell, Layout

Value = Union[int, str, None]
"""What a value is in Python; rates are the number of events over the period."""


@attrs.frozen
class Entry:
    """One entry of a stick table, as it was when it was read.

    ``entry["gpc0"]`` is a value by the name that ``show table`` prints;
    elements of arrays go by ``gpc[0]`` too.
    """

    layout: Layout
    raw_key: bytes
    values: Values = attrs.field(repr=False)
    """Decoded values in the order of the layout's columns, ages as of the read."""
    expires_in: Optional[int]
    """Life left in ms; ``None`` where entries do not expire."""
    brates_factor: int = 1
    """Bytes of a block that byte rates count."""

    @property
    def key(self) -> keys.Key:
        """The key: ``int``, ``str``, ``bytes``, or an ``ipaddress`` object."""
        return keys.to_python(self.raw_key, self.layout.key_type)

    def __getitem__(self, name: str) -> Value:
        return self.value(self.layout.cells[name])

    def __iter__(self) -> Iterator[str]:
        """The names of all values, as ``show table`` prints them, in its order."""
        return (cell.name for cell in self.layout.printed)

    def value(self, cell: Cell) -> Value:
        """The value of a cell of this layout."""
        value = self._stored(cell)
        if isinstance(value, Frequency):
            events = rate(value, cell.column.period or 0)
            if self.brates_factor != 1 and cell.column.data_type.in_blocks:
                events *= self.brates_factor
            return events
        stored: Value = value
        return stored

    def counter(self, name: str) -> Frequency:
        """The frequency counter behind a rate.

        :raises KeyError: no value has this name.
        :raises TypeError: it is not a rate.
        """
        value = self._stored(self.layout.cells[name])
        if not isinstance(value, Frequency):
            raise TypeError(f"{name} is not a rate")
        return value

    def as_dict(self) -> dict[str, Value]:
        """All values by their names."""
        return {cell.name: self.value(cell) for cell in self.layout.printed}

    def _stored(self, cell: Cell) -> Any:
        value = self.values[cell.place]
        return value if cell.index is None else value[cell.index]

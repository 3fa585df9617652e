"""An entry as people read it, decoded at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
class Entry(Mapping[str, Value]):
    """One entry of a stick table, as it was when it was read: a mapping of names to values.

    ``entry["gpc0"]`` is a value by the name that ``show table`` prints; elements of arrays go by
    ``gpc[0]`` too, but come once. A rate is the number of events over its period.
    """

    layout: Layout
    raw_key: bytes
    decoded: Values = attrs.field(repr=False)
    """Decoded values in the order of the layout's columns, ages as of the read."""
    expires_in: Optional[int]
    """Life left in ms; ``None`` where entries do not expire."""
    brates_factor: int = 1
    """Bytes of a block that byte rates count."""
    peer: Optional[str] = None
    """The peer whose share it is in, where the table is shared per peer."""

    @property
    def key(self) -> keys.Key:
        """The key: ``int``, ``str``, ``bytes``, or an ``ipaddress`` object."""
        return keys.to_python(self.raw_key, self.layout.key_type)

    def __getitem__(self, name: str) -> Value:
        """:raises KeyError: no value has this name."""
        return self.value(self.layout.cells[name])

    def __bool__(self) -> bool:
        """True: an entry that is there is one, also of a table that stores no values."""
        return True

    def __len__(self) -> int:
        return len(self.layout.printed)

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

    def number(self, name: str) -> int:
        """A value that is a number.

        :raises KeyError: no value has this name.
        :raises TypeError: it is a text.
        """
        value = self[name]
        if not isinstance(value, int):
            raise TypeError(f"{name} is not a number")
        return value

    def text(self, name: str) -> Optional[str]:
        """A value that is a text; ``None`` if there is none.

        :raises KeyError: no value has this name.
        :raises TypeError: it is a number.
        """
        value = self[name]
        if isinstance(value, int):
            raise TypeError(f"{name} is not a text")
        return value

    def counter(self, name: str) -> Frequency:
        """The frequency counter behind a rate.

        :raises KeyError: no value has this name.
        :raises TypeError: it is not a rate.
        """
        value = self._stored(self.layout.cells[name])
        if not isinstance(value, Frequency):
            raise TypeError(f"{name} is not a rate")
        return value

    def _stored(self, cell: Cell) -> Any:
        value = self.decoded[cell.place]
        return value if cell.index is None else value[cell.index]

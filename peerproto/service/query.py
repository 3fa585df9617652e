"""Queries: which entries of a table are meant, by what they store."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final

import attrs

from peerproto.tables.entry import Entry
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Cell

OPERATORS: Final[dict[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "le": operator.le,
    "ge": operator.ge,
    "lt": operator.lt,
    "gt": operator.gt,
}
"""HAProxy's words for comparisons."""


@attrs.frozen
class Filter:
    """``data.<type> <operator> <value>``: holds for entries whose value compares so."""

    name: str
    """Of the value that is compared: one of `StickTable.cells`."""
    word: str = attrs.field(validator=attrs.validators.in_(OPERATORS))
    """One of `OPERATORS`."""
    value: int

    def __call__(self, entry: Entry) -> bool:
        """Whether it holds for an entry; it does not where the value is no number.

        :raises LocalProtocolError: the table stores no such value, or no longer.
        """
        cell = entry.layout.cells.get(self.name)
        if cell is None:
            raise LocalProtocolError("filter", f"data.{self.name}", "a data type that is stored")
        value = entry.value(cell)
        return isinstance(value, int) and OPERATORS[self.word](value, self.value)


__all__ = ["OPERATORS", "Cell", "Filter"]

"""The columns of a PostgreSQL table that keeps a stick table, and what stands in them.

They are those of SQLite (`peerproto.storage.columns`), but that a text has what is no UTF-8
escaped, that an unsigned number of 64 bits is ``numeric``, and that each row says which node wrote
it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, Optional

import attrs

from peerproto import Cell, Kept, Kind, Record
from peerproto.storage.columns import Shape, to_sql

FIXED: Final = (
    ("key", "bytea", " NOT NULL"),
    ("peer", "text", ' COLLATE "C" NOT NULL'),
    ("stored", "bytea", " NOT NULL"),
    ("key_text", "text", " NOT NULL"),
    ("arrived", "int8", " NOT NULL"),
    ("expires", "int8", ""),
    ("written", "int8", " NOT NULL"),
)
"""The columns that all tables have, but for ``writer``: name, type and what else is said of it."""

_ESCAPED: Final = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def escaped(text: Optional[str]) -> Optional[str]:
    r"""A text as PostgreSQL takes it: with ``\x00`` for NUL, the like for bytes that are no UTF-8,
    and ``\\`` for a backslash."""
    if text is None:
        return None
    raw = text.encode("utf-8", "surrogateescape").replace(b"\\", b"\\\\")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def unescaped(text: Optional[str]) -> Optional[str]:
    """The text that `escaped` was given."""
    if text is None or "\\" not in text:
        return text
    raw = _ESCAPED.sub(
        lambda found: bytes((int(found[1], 16),)) if found[1] else b"\\", text.encode()
    )
    return raw.decode("utf-8", "surrogateescape")


def _escaped_stored(stored: Any) -> Optional[str]:
    """The same for what `peerproto.storage.columns` has made of a text."""
    if isinstance(stored, bytes):
        stored = stored.decode("utf-8", "surrogateescape")
    return escaped(stored)


@attrs.frozen(slots=False)
class Columns:
    """The columns for one shape."""

    shape: Shape

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all columns but ``writer``."""
        return (*(name for name, _, _ in FIXED), *self.shape.names)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types of these."""
        return (*(sql_type for _, sql_type, _ in FIXED), *self._value_types)

    @cached_property
    def _value_types(self) -> tuple[str, ...]:
        types: list[str] = []
        for cell in self.shape.cells:
            types += _types_of(cell)
        return tuple(types)

    @cached_property
    def definition(self) -> str:
        """What stands in parentheses in ``CREATE TABLE``."""
        columns = [f"{name} {sql_type}{more}" for name, sql_type, more in FIXED]
        columns += [
            f'"{name}" {sql_type}' for name, sql_type in zip(self.shape.names, self._value_types)
        ]
        return ", ".join((*columns, 'writer text COLLATE "C" NOT NULL', "PRIMARY KEY (key, peer)"))

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        """The places of unsigned numbers of 64 bits."""
        return tuple(place for place, name in enumerate(self.types) if name == "numeric")

    @cached_property
    def _texts(self) -> tuple[int, ...]:
        """The places of texts that may have any bytes."""
        first = len(FIXED)
        values = enumerate(self._value_types, first)
        return (1, *(place for place, name in values if name == "text"))

    def row(self, kept: Kept, peer: Optional[str], ahead: int, written: int) -> list[Any]:
        """What stands in the columns but ``writer``: see `Shape.row`."""
        row: list[Any] = self.shape.row(kept, to_sql(peer) or "", ahead, written)
        for place in self._numbers:
            if isinstance(row[place], bytes):
                row[place] = int.from_bytes(row[place], "big")
        for place in self._texts:
            if row[place]:
                row[place] = _escaped_stored(row[place])
        return row

    def record(self, row: Sequence[Any], shift: int = 0) -> Optional[Record]:
        """The record that was kept; ``None`` if the checksum is another one.

        :param shift: what to add to the times, in ms.
        """
        raw_key, peer, stored, *texts = row
        texts = [to_sql(unescaped(text)) for text in texts]
        return self.shape.record((raw_key, to_sql(unescaped(peer)), stored, *texts), shift)


def _types_of(cell: Cell) -> tuple[str, ...]:
    kind = cell.column.data_type.kind
    if kind is Kind.FREQUENCY:
        return ("int8", "int8", "int8")
    if cell.is_text:
        return ("text",)
    return ("numeric",) if kind is Kind.UNSIGNED64 else ("int8",)

"""``csv``: as RFC 4180 has it, with a first line that says how the table is declared.

That line begins with ``# ``. The next one names the columns: ``key``, ``peer`` where the table is
shared per peer, ``expires``, and those of the values; a rate has three, whose names end in
``_start``, ``_current`` and ``_previous``. An empty field is no value; a text that is empty is
written as one backslash.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, Optional

from peerproto import PortableTable
from peerproto.terminal.node import NodeError
from peerproto.terminal.text import visible
from peerproto.terminal.transfer.lines import LONGEST, Line, header_of, said, table_of_header
from peerproto.terminal.values import Json
from peerproto.wire.layout import Cell, Layout

EMPTY: Final = "\\"
"""Stands for a text that is empty."""

PARTS: Final = ("start", "current", "previous")
"""What stands behind the name of a rate."""

_FIXED: Final = ("key", "peer", "expires")
_NUMBER: Final = re.compile(r"-?\d{1,25}", re.ASCII)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def column_names(cells: Iterable[Cell]) -> list[str]:
    """The names of the columns for values."""
    names: list[str] = []
    for cell in cells:
        is_rate = cell.column.period is not None
        names += [f"{cell.name}_{part}" for part in PARTS] if is_rate else [cell.name]
    return names


class CsvFormat:
    """See the module."""

    name = "csv"

    def write(self, table: PortableTable, entries: Iterable[Json], out: BinaryIO) -> int:
        """See `Format`."""
        text = io.TextIOWrapper(out, "utf-8", newline="", write_through=False)
        try:
            text.write(f"# {header_of(table)}\r\n")
            writer = csv.writer(text)
            cells = table.declaration.layout.printed
            peer = ["peer"] if table.per_peer else []
            writer.writerow(["key", *peer, "expires", *column_names(cells)])
            count = 0
            for entry in entries:
                writer.writerow(_row(entry, table.per_peer, cells))
                count += 1
            return count
        finally:
            text.flush()
            text.detach()

    def read(self, stream: BinaryIO) -> CsvReading:
        """See `Format`."""
        return CsvReading(stream)


def _row(entry: Json, per_peer: bool, cells: Iterable[Cell]) -> list[Any]:
    row = [entry["key"], *([entry.get("peer", "")] if per_peer else []), entry["expires"]]
    values = entry["values"]
    for cell in cells:
        value = values[cell.name]
        if cell.column.period is not None:
            row += value
        else:
            row.append(EMPTY if value == "" else value)
    return row


class _Counted:
    """Lines of a text, and how many have been read; one that is too long is an error."""

    def __init__(self, stream: BinaryIO) -> None:
        self._text = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST):
            self.count += line.endswith(("\n", "\r"))
            yield line

    def first(self) -> str:
        """The first line."""
        line = self._text.readline(LONGEST)
        self.count += bool(line)
        return line


class CsvReading:
    """See `peerproto.terminal.transfer.lines.Reading`. The line with the declaration may be
    missing, and any columns but the key."""

    unit = "line"

    def __init__(self, stream: BinaryIO) -> None:
        csv.field_size_limit(LONGEST)
        lines = _Counted(stream)
        self._lines = lines
        self.table: Optional[PortableTable] = None
        self.name: Optional[str] = None
        first = lines.first()
        if first.startswith("#"):
            try:
                given = json.loads(first[1:])
            except ValueError:
                given = None
            if isinstance(given, dict) and "peerproto" in given:
                self.table = table_of_header(given)
                self.name = self.table.json["name"]
            first = lines.first()
        names = next(csv.reader([first.removeprefix("\ufeff")]), [])
        if "key" not in names:
            raise NodeError(
                f"line {max(lines.count, 1)}: read '{said(first.rstrip())}', expected the names of"
                " columns, one of them 'key'"
            )
        for name in names:
            if names.count(name) > 1:
                raise NodeError(f"line {lines.count}: column '{visible(name)}' is there twice")
        self._names = names

    def _places(self, layout: Layout) -> dict[str, tuple[str, Optional[int]]]:
        """By the names of columns, the value that each has, or the part of a rate."""
        places: dict[str, tuple[str, Optional[int]]] = {}
        layouts = [layout] if self.table is None else [self.table.declaration.layout, layout]
        for one in layouts:
            for cell in one.printed:
                places[cell.name] = cell.name, None
                if cell.column.period is not None:
                    for index, part in enumerate(PARTS):
                        places[f"{cell.name}_{part}"] = cell.name, index
        for name in self._names:
            if name not in places and name not in _FIXED:
                there = ", ".join((*_FIXED, *column_names(layout.printed)))
                raise NodeError(
                    f"line {self._lines.count}: read column '{visible(name)}', expected some of:"
                    f" {there}"
                )
        return places

    def lines(self, layout: Layout) -> Iterator[Line]:
        """See `Reading`.

        :raises NodeError: a column is none of the table.
        """
        places = self._places(layout)
        texts = {one.name for one in layout.printed if one.is_text}
        if self.table is not None:
            texts |= {one.name for one in self.table.declaration.layout.printed if one.is_text}
        rows = csv.reader(self._lines, strict=True)
        while True:
            number = self._lines.count + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as problem:
                yield Line(number, problem=f"read what is no CSV, expected fields ({problem})")
                continue
            if not row:
                continue
            try:
                yield Line(number, self._entry(row, places, texts))
            except ValueError as problem:
                yield Line(number, problem=said(problem))

    def _entry(
        self, row: list[str], places: dict[str, tuple[str, Optional[int]]], texts: set[str]
    ) -> Json:
        if len(row) != len(self._names):
            raise ValueError(f"read {len(row)} fields, expected {len(self._names)}")
        entry: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name, text in zip(self._names, row):
            if _SURROGATE.search(text):
                raise ValueError(rf"{name}: read a byte that is no UTF-8, expected \xHH for it")
            if name == "key":
                entry["key"] = text
            elif name in texts:
                values[name] = "" if text == EMPTY else text or None
            elif not text:
                continue
            elif name == "peer":
                entry["peer"] = text
            elif name == "expires":
                entry["expires"] = _number(name, text)
            else:
                place, part = places[name]
                if part is None:
                    values[place] = _number(name, text)
                else:
                    values.setdefault(place, [None, None, None])[part] = _number(name, text)
        entry["values"] = values
        return entry


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name}: read '{text}', expected a whole number")
    return int(text)

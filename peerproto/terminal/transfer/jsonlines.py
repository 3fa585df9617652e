"""``json``: a line that says how the table is declared, then a line for each entry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, Optional

from peerproto import PortableTable
from peerproto.terminal.transfer.lines import (
    TOO_LONG,
    Line,
    compact,
    header_of,
    numbered,
    said,
    table_of_header,
)
from peerproto.terminal.values import Json
from peerproto.wire.layout import Layout


class JsonFormat:
    """See the module."""

    name = "json"

    def write(self, table: PortableTable, entries: Iterable[Json], out: BinaryIO) -> int:
        """See `Format`."""
        out.write(header_of(table).encode("ascii") + b"\n")
        count = 0
        for entry in entries:
            out.write(compact(entry).encode("ascii") + b"\n")
            count += 1
        return count

    def read(self, stream: BinaryIO) -> JsonReading:
        """See `Format`."""
        return JsonReading(stream)


class JsonReading:
    """See `peerproto.terminal.transfer.lines.Reading`. The first line may be an entry."""

    unit = "line"

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = numbered(stream)
        self.table: Optional[PortableTable] = None
        self.name: Optional[str] = None
        first = next(self._lines, None)
        if first is None:
            return
        value, _ = _value(first[1])
        if isinstance(value, dict) and "peerproto" in value:
            self.table = table_of_header(value)
            self.name = self.table.json["name"]
        else:
            self._lines = chain([first], self._lines)

    def lines(self, layout: Layout) -> Iterator[Line]:
        """See `Reading`."""
        for number, line in self._lines:
            if line is not None and not line.strip():
                continue
            value, problem = _value(line)
            if problem is None and not isinstance(value, dict):
                problem = f"read '{said(compact(value))}', expected an object"
            if problem is not None:
                yield Line(number, problem=problem)
            else:
                yield Line(number, value)


def _value(line: Optional[bytes]) -> tuple[Any, Optional[str]]:
    """What a line says, or what is wrong with it."""
    if line is None:
        return None, TOO_LONG
    try:
        return json.loads(line.decode("utf-8")), None
    except (ValueError, RecursionError) as problem:
        text = line[:100].decode("utf-8", "backslashreplace").rstrip("\r\n")
        return None, f"read '{said(text)}', expected an object in JSON ({said(problem)})"

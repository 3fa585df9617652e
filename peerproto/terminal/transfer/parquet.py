"""``parquet``: typed columns, for programs that analyse; the declaration is in the metadata.

Columns are those of ``csv``. Times are timestamps in ms, in UTC; keys and texts are strings,
written as in JSON; numbers have the width of HAProxy's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Final, Optional, cast

from peerproto import Kind, PortableTable
from peerproto.terminal.node import NodeError
from peerproto.terminal.text import visible
from peerproto.terminal.transfer.csvlines import PARTS, column_names
from peerproto.terminal.transfer.lines import Line, header_of, said, table_of_header
from peerproto.terminal.values import Json
from peerproto.wire.layout import Cell, Layout

ROWS: Final = 5000
"""Rows of a group."""

BATCH: Final = 1000
"""Rows that are read at once."""

_METADATA: Final = b"peerproto"
_COPIED: Final = 1 << 20

_INTEGERS: Final = {
    Kind.SIGNED: "int32",
    Kind.UNSIGNED32: "uint32",
    Kind.UNSIGNED64: "uint64",
    Kind.FREQUENCY: "uint32",
}


def _arrow() -> tuple[Any, Any]:
    """The packages that read and write it.

    :raises NodeError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NodeError("parquet needs pyarrow: pip install 'peerproto[parquet]'") from None
    return pyarrow, pyarrow.parquet


class ParquetFormat:
    """See the module."""

    name = "parquet"

    def write(self, table: PortableTable, entries: Iterable[Json], out: BinaryIO) -> int:
        """See `Format`."""
        arrow, parquet = _arrow()
        cells = table.declaration.layout.printed
        schema = _schema(arrow, table).with_metadata({_METADATA: header_of(table).encode("ascii")})
        count = 0
        rest = iter(entries)
        with parquet.ParquetWriter(out, schema) as writer:
            while some := list(islice(rest, ROWS)):
                columns: list[list[Any]] = [[one["key"] for one in some]]
                if table.per_peer:
                    columns.append([one["peer"] for one in some])
                columns.append([one["expires"] for one in some])
                for cell in cells:
                    values = [one["values"][cell.name] for one in some]
                    if cell.column.period is None:
                        columns.append(values)
                    else:
                        columns += [[one[index] for one in values] for index in range(3)]
                arrays = [arrow.array(one, of.type) for one, of in zip(columns, schema)]
                writer.write_batch(arrow.record_batch(arrays, schema=schema))
                count += len(some)
        return count

    def read(self, stream: BinaryIO) -> ParquetReading:
        """See `Format`."""
        return ParquetReading(stream)


def _schema(arrow: Any, table: PortableTable) -> Any:
    """The columns of a table, and their types."""
    time, text = arrow.timestamp("ms", "UTC"), arrow.string()
    fields = [arrow.field("key", text, nullable=False)]
    if table.per_peer:
        fields.append(arrow.field("peer", text, nullable=False))
    fields.append(arrow.field("expires", time))
    for cell in table.declaration.layout.printed:
        if cell.is_text:
            fields.append(arrow.field(cell.name, text))
            continue
        number = getattr(arrow, _INTEGERS[cell.column.data_type.kind])()
        types = [number] if cell.column.period is None else [time, number, number]
        fields += [
            arrow.field(name, of, nullable=False) for name, of in zip(column_names([cell]), types)
        ]
    return arrow.schema(fields)


class ParquetReading:
    """See `peerproto.terminal.transfer.lines.Reading`. The metadata may be missing, and any columns
    but the key."""

    unit = "row"

    def __init__(self, stream: BinaryIO) -> None:
        self._arrow, parquet = _arrow()
        try:
            self._file = parquet.ParquetFile(_seekable(stream))
        except (self._arrow.ArrowException, OSError) as problem:
            raise NodeError(f"read what is no Parquet: {said(problem)}") from None
        self.table: Optional[PortableTable] = None
        self.name: Optional[str] = None
        schema = self._file.schema_arrow
        self._names: list[str] = schema.names
        try:
            given = json.loads((schema.metadata or {}).get(_METADATA, b"null"))
        except ValueError:
            given = None
        if isinstance(given, dict):
            self.table = table_of_header(given)
            self.name = self.table.json["name"]
        if "key" not in self._names:
            raise NodeError(
                f"read columns {said(', '.join(self._names))}, expected 'key' among them"
            )

    def lines(self, layout: Layout) -> Iterator[Line]:
        """See `Reading`.

        :raises NodeError: a column is none of the table; or the file is damaged, or cut short.
        """
        cells: dict[str, Cell] = {}
        if self.table is not None:
            cells = {one.name: one for one in self.table.declaration.layout.printed}
        cells |= {one.name: one for one in layout.printed}
        places: dict[str, tuple[str, Optional[int]]] = {}
        for cell in cells.values():
            places[cell.name] = cell.name, None
            if cell.column.period is not None:
                for index, part in enumerate(PARTS):
                    places[f"{cell.name}_{part}"] = cell.name, index
        for name in self._names:
            if name not in places and name not in ("key", "peer", "expires"):
                there = ", ".join(("key", "peer", "expires", *column_names(layout.printed)))
                raise NodeError(f"read column '{visible(name)}', expected some of: {there}")
        number = 0
        try:
            for batch in self._file.iter_batches(BATCH):
                columns = [self._values(one) for one in batch.columns]
                for row in zip(*columns):
                    number += 1
                    yield Line(number, self._entry(row, places))
        except (self._arrow.ArrowException, OSError) as problem:
            raise NodeError(f"behind row {number}: {said(problem)}") from None

    def _values(self, column: Any) -> list[Any]:
        """The values of a column: times as ms since the epoch."""
        arrow = self._arrow
        if arrow.types.is_timestamp(column.type):
            zone = column.type.tz
            column = column.cast(arrow.timestamp("ms", zone), safe=False).cast(arrow.int64())
        values: list[Any] = column.to_pylist()
        return values

    def _entry(self, row: tuple[Any, ...], places: dict[str, tuple[str, Optional[int]]]) -> Json:
        entry: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name, value in zip(self._names, row):
            if name in ("key", "peer", "expires"):
                entry[name] = value
                continue
            place, part = places[name]
            if part is None:
                values[place] = value
            elif value is not None:
                values.setdefault(place, [None, None, None])[part] = value
        entry["values"] = values
        return entry


def _seekable(stream: BinaryIO) -> BinaryIO:
    """The same bytes in a file: what they say stands at their end."""
    if stream.seekable():
        return stream
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115, it goes with its last reader
    while some := stream.read(_COPIED):
        file.write(some)
    file.seek(0)
    return file

"""What formats have in common: entries that are written, and lines that are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, Optional, Protocol

import attrs

from peerproto import LocalProtocolError, PortableTable
from peerproto.terminal.node import NodeError
from peerproto.terminal.text import visible
from peerproto.terminal.values import Json
from peerproto.wire.layout import Layout

VERSION: Final = 1
"""The version of the formats that is written, and the newest that is read."""

LONGEST: Final = 1 << 20
"""Bytes of a line at most."""

_SHOWN: Final = 300
"""Characters of what is wrong with a line."""


@attrs.frozen
class Line:
    """A line of what is read: an entry, or what is wrong with it."""

    number: int
    """The first line is 1."""
    entry: Optional[Json] = None
    """As `peerproto.Portable` reads it."""
    problem: Optional[str] = None


class Reading(Protocol):
    """What is read in one of the formats, whose beginning is read already."""

    unit: str
    """What is numbered: ``line``."""
    table: Optional[PortableTable]
    """How the table is declared of which the entries are; ``None`` if nothing is said."""
    name: Optional[str]
    """The name of that table as nodes spell it; ``None`` if nothing is said."""

    def lines(self, layout: Layout) -> Iterator[Line]:
        """The lines, for a table with this layout."""


class Format(Protocol):
    """A format."""

    name: str

    def write(self, table: PortableTable, entries: Iterable[Json], out: BinaryIO) -> int:
        """Write entries as they come: how many."""

    def read(self, stream: BinaryIO) -> Reading:
        """Begin to read.

        :raises NodeError: it is of another format, or of a newer version of this one.
        """


def compact(value: Any) -> str:
    """An object in JSON on one line, of ASCII alone."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def header_of(table: PortableTable) -> str:
    """The line that says how a table is declared."""
    return compact({"peerproto": VERSION, "table": table.json})


def table_of_header(given: Any) -> PortableTable:
    """How a table is declared, as `header_of` has said.

    :raises NodeError: it is no such line, or of a newer version.
    """
    version = given.get("peerproto")
    if type(version) is not int or version > VERSION:
        raise NodeError(
            f"line 1: read version '{visible(str(version))}' of the format, expected {VERSION}:"
            " a newer peerproto may have written it"
        )
    try:
        return PortableTable.read(given.get("table"))
    except LocalProtocolError as problem:
        raise NodeError(f"line 1: {said(problem)}") from None


def said(problem: object) -> str:
    """What is wrong, on a line."""
    text = visible(str(problem))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def numbered(stream: BinaryIO) -> Iterator[tuple[int, Optional[bytes]]]:
    """Lines with their numbers; ``None`` for one that is too long."""
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        if len(line) <= LONGEST:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST)
        yield number, None


TOO_LONG: Final = f"read a line of more than {LONGEST} bytes, expected {LONGEST} at most"

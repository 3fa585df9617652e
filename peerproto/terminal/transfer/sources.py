"""Where entries come from: a node, or the file of ``[storage]``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Optional, Protocol

from peerproto import LocalProtocolError, Portable, PortableTable
from peerproto.storage.reading import StoredFile
from peerproto.terminal.node import Node, NodeError, Selection
from peerproto.terminal.text import typed, visible
from peerproto.terminal.transfer.lines import compact
from peerproto.terminal.values import Json, TableInfo
from peerproto.terminal.wanted import share_of, unknown


class Source(Protocol):
    """A table somewhere."""

    table: PortableTable
    total: int
    """How many entries it has, about."""

    def entries(self) -> Iterator[Json]:
        """Its entries."""

    def remarks(self) -> list[str]:
        """What there is to say of them at the end, in words: something is wrong then."""


class NodeSource:
    """A table of a node, in an order of its own; with ``in_order``, in that of keys."""

    def __init__(self, node: Node, info: TableInfo, selection: Selection, in_order: bool) -> None:
        self._node = node
        self._info = info
        self._selection = selection
        self._in_order = in_order
        self.table = portable_table(info)
        self.total = info.used

    def entries(self) -> Iterator[Json]:
        """See `Source`."""
        found = self._node.raw_entries(self._info, self._selection)
        return _sorted(found, self.table) if self._in_order else found

    def remarks(self) -> list[str]:
        """See `Source`."""
        return []


def portable_table(info: TableInfo) -> PortableTable:
    """How a table of a node is declared.

    :raises NodeError: the node says of it what this version does not know.
    """
    try:
        return PortableTable.read(info.json)
    except LocalProtocolError as problem:
        raise NodeError(visible(str(problem))) from None


def _sorted(found: Iterator[Json], table: PortableTable) -> Iterator[Json]:
    """Entries in the order of their keys, as in a file: by a file that is gone afterwards."""
    layout = table.declaration.layout
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE entries (key, peer, entry, PRIMARY KEY (key, peer))")
        connection.execute("BEGIN")
        for entry in found:
            raw_key = Portable.read({"key": entry["key"]}, layout).raw_key
            connection.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
                (raw_key, entry.get("peer", ""), compact(entry)),
            )
        rows = connection.execute("SELECT entry FROM entries ORDER BY key, peer")
        for (text,) in rows:
            yield json.loads(text)


class FileSource:
    """A table of a file, in the order of keys."""

    def __init__(self, file: StoredFile, name: str, peer: Optional[str]) -> None:
        """
        :raises NodeError: there is no such table, or share.
        """
        self._file = file
        tables = {table.json["name"]: one for one, table in file.tables.items()}
        name = typed(name)
        if name not in tables:
            raise unknown("table", name, tables, "The file has")
        self._name = tables[name]
        self.table = file.tables[self._name]
        self.total = file.count(self._name)
        if peer is not None and not self.table.per_peer:
            raise NodeError(
                f"--peer: read '{visible(peer)}', expected none: table '{visible(name)}' is not"
                " shared per peer"
            )
        self._peer = None if peer is None else typed(peer)

    def entries(self) -> Iterator[Json]:
        """See `Source`."""
        key_type = self.table.declaration.layout.key_type
        found = (one.json(key_type) for one in self._file.entries(self._name))
        if self._peer is None:
            return found
        return (one for one in found if one["peer"] == self._peer)

    def remarks(self) -> list[str]:
        """See `Source`."""
        bad = self._file.bad
        rows = "1 row is" if bad == 1 else f"{bad:,} rows are"
        return [f"{rows} not as written: left out"] if bad else []


def node_source(node: Node, info: TableInfo, selection: Selection, in_order: bool) -> NodeSource:
    """A table of a node, or the share of a peer."""
    share_of(info, selection.peer)
    return NodeSource(node, info, selection, in_order)


@contextmanager
def file_source(path: str, name: str, peer: Optional[str]) -> Iterator[FileSource]:
    """A table of a file.

    :raises NodeError: the file cannot be read, or has no such table.
    """
    try:
        with closing(StoredFile(path)) as file:
            yield FileSource(file, name, peer)
    except LocalProtocolError as problem:
        raise NodeError(visible(str(problem))) from None

"""Where entries go: a node, or a file that no node has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final, Optional, Protocol

import attrs

from peerproto import LocalProtocolError, Portable, PortableTable
from peerproto.storage.writing import FileWriter
from peerproto.terminal.node import Brought, Node, NodeError
from peerproto.terminal.text import visible
from peerproto.terminal.transfer.lines import Line, Reading, said
from peerproto.terminal.transfer.sources import portable_table
from peerproto.terminal.values import Json, TableInfo

AT_ONCE: Final = 1000
"""Entries that go there at once."""


class Target(Protocol):
    """A table to which entries go."""

    table: PortableTable

    def take(self, entries: Sequence[Json]) -> Iterator[Brought]:
        """Take entries: what became of each, in the same order."""


class NodeTarget:
    """A table of a node: what it takes is a local change, which all HAProxies get."""

    def __init__(self, node: Node, info: TableInfo) -> None:
        self._node = node
        self._info = info
        self.table = portable_table(info)

    def take(self, entries: Sequence[Json]) -> Iterator[Brought]:
        """See `Target`."""
        return self._node.bring(self._info, entries)


class Nowhere:
    """Stands for a table that is not to be changed."""

    def __init__(self, table: PortableTable, clock: Callable[[], float] = time.time) -> None:
        self.table = table
        self._clock = clock

    def take(self, entries: Sequence[Json]) -> Iterator[Brought]:
        """See `Target`."""
        now, declaration = round(self._clock() * 1000), self.table.declaration
        for one in entries:
            life = Portable.read(one, declaration.layout).life(now, declaration.expire)
            yield Brought(life != 0, life == 0)


class FileTarget:
    """A table of a file."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self.table = writer.table

    def take(self, entries: Sequence[Json]) -> Iterator[Brought]:
        """See `Target`."""
        layout = self.table.declaration.layout
        for taken in self._writer.put([Portable.read(one, layout) for one in entries]):
            yield Brought(taken, not taken)


@contextmanager
def file_target(path: str, table: PortableTable) -> Iterator[FileTarget]:
    """A table of a file.

    :raises NodeError: the file cannot be written, or its table does not fit.
    """
    try:
        with closing(FileWriter(path, table)) as writer:
            yield FileTarget(writer)
    except LocalProtocolError as problem:
        raise NodeError(visible(str(problem))) from None


@attrs.frozen
class Fit:
    """How entries of one table fit into another one."""

    left_out: frozenset[str]
    """The names of values that are not stored there."""
    remarks: tuple[str, ...]
    """What there is to say of that, in words."""


def fit(source: PortableTable, target: PortableTable) -> Fit:
    """How entries of one table fit into another one.

    :raises NodeError: not at all.
    """
    name = visible(target.json["name"])
    here, there = target.declaration, source.declaration
    if here.layout.key_type is not there.layout.key_type:
        raise NodeError(
            f"table '{name}': read keys of type {there.layout.key_type.word}, expected"
            f" {here.layout.key_type.word}"
        )
    if target.per_peer != source.per_peer:
        shared = {True: "shares of peers", False: "a table that is not shared per peer"}
        raise NodeError(
            f"table '{name}': read {shared[source.per_peer]}, expected {shared[target.per_peer]}"
        )
    left_out, remarks = set(), []
    cells = {one.name: one for one in here.layout.printed}
    for cell in there.layout.printed:
        mine = cells.pop(cell.name, None)
        if mine is None:
            why = "the table does not store it"
        elif mine.column.period != cell.column.period:
            why = f"its period is {cell.column.period} ms, and {mine.column.period} ms there"
        elif (
            mine.column.data_type.in_blocks
            and mine.column.period is not None
            and here.brates_factor != there.brates_factor
        ):
            why = f"brates-factor is {there.brates_factor}, and {here.brates_factor} there"
        else:
            continue
        left_out.add(cell.name)
        remarks.append(f"{cell.name} is left out: {why}")
    if cells:
        remarks.append(f"not in what is read, so left as it is: {', '.join(cells)}")
    return Fit(frozenset(left_out), tuple(remarks))


@attrs.define
class Tally:
    """What became of entries."""

    taken: int = 0
    expired: int = 0
    failed: int = 0

    @property
    def words(self) -> str:
        """The same for people."""
        text = f"{_many(self.taken, 'entry', 'entries')} taken"
        if self.expired:
            text += f", {self.expired:,} left out whose time is over"
        if self.failed:
            text += f", {self.failed:,} not taken: see above"
        return text


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def bring_all(
    reading: Reading,
    target: Target,
    tell: Callable[[str], None],
    watched: Callable[[Iterator[Line]], Iterator[Line]] = iter,
) -> Tally:
    """Bring all that is read into a table: what became of it.

    :param watched: passes lines on, and shows how many there have been.
    :param tell: is called with each line that could not be taken, and with remarks.
    :raises NodeError: nothing of it fits.
    """
    layout = target.table.declaration.layout
    fits = Fit(frozenset(), ())
    if reading.table is not None:
        fits = fit(reading.table, target.table)
        for one in fits.remarks:
            tell(one)
    tally = Tally()
    waiting: list[tuple[int, Json]] = []

    def failed(number: int, problem: str) -> None:
        tally.failed += 1
        tell(f"{reading.unit} {number}: {problem}")

    def take() -> None:
        entries = [entry for _, entry in waiting]
        for (number, _), one in zip(waiting, target.take(entries), strict=True):
            tally.taken += one.taken
            tally.expired += one.expired
            if one.problem is not None:
                failed(number, said(one.problem))
        waiting.clear()

    for line in watched(reading.lines(layout)):
        entry, problem = line.entry, line.problem
        if entry is not None:
            entry = _narrowed(entry, fits.left_out)
            problem = _problem(entry, target.table)
        if problem is not None:
            failed(line.number, problem)
        elif entry is not None:
            waiting.append((line.number, entry))
        if len(waiting) >= AT_ONCE:
            take()
    take()
    return tally


def _narrowed(entry: Json, left_out: frozenset[str]) -> Json:
    """An entry without some of its values."""
    values = entry.get("values")
    if not left_out or not isinstance(values, dict):
        return entry
    return {**entry, "values": {k: v for k, v in values.items() if k not in left_out}}


def _problem(entry: Json, table: PortableTable) -> Optional[str]:
    """What is wrong with an entry for a table, if anything."""
    try:
        peer = Portable.read(entry, table.declaration.layout).peer
    except LocalProtocolError as problem:
        return said(problem)
    if (peer is not None) != table.per_peer:
        read = "none" if peer is None else f"'{visible(peer)}'"
        expected = "a peer whose share it is in" if table.per_peer else "none"
        return f"peer: read {read}, expected {expected}"
    return None

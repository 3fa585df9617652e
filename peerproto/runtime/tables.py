"""``show table``, ``set table`` and ``clear table``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Optional

import attrs

from peerproto import Entry, LocalProtocolError
from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.filters import OPERATORS, Cell, Filter
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.service.text import format_entry, parse_key, parse_value

_CLEARED_AT_ONCE: Final = 250
"""Entries of some values that are removed, and told to observers, at once."""

_FILTERS = "[key <key> | data.<type> <operator> <value>]..."


def table_commands(service: StickTableService) -> list[Command]:
    """The commands about tables."""
    commands = _TableCommands(service)
    return [
        Command(
            ("show", "table"),
            f"[<table> {_FILTERS}]",
            "report the tables, or the entries of one",
            commands.show,
        ),
        Command(
            ("set", "table"),
            "<table> key <key> [data.<type> <value>]...",
            "create or change an entry, here and on all peers",
            commands.set,
            changes=True,
        ),
        Command(
            ("clear", "table"),
            f"<table> {_FILTERS}",
            "remove entries, here only: peers keep theirs, and may teach them again",
            commands.clear,
            changes=True,
        ),
        Command(
            ("forget", "table"),
            f"<table> {_FILTERS}",
            "remove entries here, and zero them on all peers, also on those that come later",
            commands.forget,
            changes=True,
        ),
    ]


@attrs.frozen
class _Selection:
    """Which entries of a table a command is about."""

    table: StickTable
    raw_key: Optional[bytes]
    filters: list[Filter]

    @property
    def everything(self) -> bool:
        return self.raw_key is None and not self.filters

    def __iter__(self) -> Iterator[Optional[Entry]]:
        """The entries; ``None`` for each that was looked at and is not meant."""
        if self.raw_key is not None:
            for found in self.table.entries_of(self.raw_key):
                yield found if self._means(found) else None
        else:
            for _, entry in self.table.walk(None, *self.filters):
                yield entry

    def _means(self, entry: Entry) -> bool:
        return all(one(entry) for one in self.filters)

    def do_away(self, entries: list[Entry], how: Callable[[StickTable, list[bytes]], int]) -> None:
        """Do away with entries that are still meant: they may have changed meanwhile. ``how`` does
        so with raw keys of a table, or of a share."""
        by_peer: dict[Optional[str], list[bytes]] = {}
        for entry in entries:
            for now in self.table.entries_of(entry.raw_key):
                if now.peer == entry.peer and self._means(now):
                    by_peer.setdefault(now.peer, []).append(now.raw_key)
        for peer, raw_keys in by_peer.items():
            how(self.table.share(peer), raw_keys)


class _TableCommands:
    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def show(self, arguments: list[str]) -> Answer:
        if not arguments:
            for table in self._service.tables:
                yield _head(table)
            return
        selection = self._selection(arguments)
        if selection.raw_key is not None and not selection.table.entries_of(selection.raw_key):
            return
        yield _head(selection.table)
        for entry in selection:
            yield "" if entry is None else format_entry(entry) + "\n"

    def set(self, arguments: list[str]) -> Answer:
        table = self._table(arguments)
        if arguments[1:2] != ["key"] or len(arguments) < 3:
            raise CommandError("A key is missing")
        raw_key = _key(table, arguments[2])
        values = {}
        rest = arguments[3:]
        while rest:
            cell = _cell(table, rest[0])
            if len(rest) < 2:
                raise CommandError(f"A value is missing after {rest[0]}")
            try:
                values[rest[0].partition(".")[2]] = parse_value(rest[1], cell)
            except LocalProtocolError as problem:
                raise CommandError(str(problem)) from problem
            rest = rest[2:]
        try:
            table.set_raw(raw_key, values)
        except LocalProtocolError as problem:
            raise CommandError(str(problem)) from problem
        yield ""

    def clear(self, arguments: list[str]) -> Answer:
        selection = self._selection(arguments)
        if selection.everything:
            selection.table.clear()
            return
        yield from self._do_away(selection, StickTable.remove_raw)

    def forget(self, arguments: list[str]) -> Answer:
        selection = self._selection(arguments)
        if selection.raw_key is not None and not selection.filters:
            # Peers may have an entry that is not here yet.
            selection.table.forget_raw([selection.raw_key])
            return
        yield from self._do_away(selection, StickTable.forget_raw)

    def _do_away(
        self, selection: _Selection, how: Callable[[StickTable, list[bytes]], int]
    ) -> Answer:
        doomed: list[Entry] = []
        for entry in selection:
            if entry is not None:
                doomed.append(entry)
            if len(doomed) >= _CLEARED_AT_ONCE:
                selection.do_away(doomed, how)
                doomed = []
            yield ""
        selection.do_away(doomed, how)

    def _table(self, arguments: list[str]) -> StickTable:
        if not arguments:
            raise CommandError("The name of a table is missing")
        try:
            return self._service.table(arguments[0])
        except KeyError:
            names = ", ".join(table.name for table in self._service.tables)
            raise CommandError(
                f"No such table: '{arguments[0]}'. There are: {names or 'none'}"
            ) from None

    def _selection(self, arguments: list[str]) -> _Selection:
        table = self._table(arguments)
        raw_key, filters = None, []
        rest = arguments[1:]
        while rest:
            if rest[0] == "key":
                if len(rest) < 2:
                    raise CommandError("A key is missing after 'key'")
                raw_key = _key(table, rest[1])
                rest = rest[2:]
            elif rest[0].startswith("data."):
                filters.append(_filter(table, rest[:3]))
                rest = rest[3:]
            else:
                raise CommandError(f"Neither a key nor a filter: '{rest[0]}'")
        return _Selection(table, raw_key, filters)


def _head(table: StickTable) -> str:
    word = table.key_type.word
    size = table.declaration.size or 0
    return f"# table: {table.name}, type: {word}, size:{size}, used:{len(table)}\n"


def _key(table: StickTable, text: str) -> bytes:
    try:
        return parse_key(text, table.layout)
    except LocalProtocolError as problem:
        raise CommandError(f"Invalid {problem}") from problem


def _cell(table: StickTable, word: str) -> Cell:
    name = word[5:] if word.startswith("data.") else ""
    cell = table.cells.get(name)
    if cell is None:
        names = ", ".join(f"data.{cell.name}" for cell in dict.fromkeys(table.cells.values()))
        raise CommandError(
            f"Data type not stored in this table: '{word}'. There are: {names or 'none'}"
        )
    return cell


def _filter(table: StickTable, words: list[str]) -> Filter:
    cell = _cell(table, words[0])
    if cell.is_text:
        raise CommandError(f"Not a number, so it cannot be compared: '{words[0]}'")
    if len(words) < 3 or words[1] not in OPERATORS:
        raise CommandError(f"Require an operator among {', '.join(OPERATORS)}, and a value")
    try:
        value = parse_value(words[2], cell)
    except LocalProtocolError as problem:
        raise CommandError(str(problem)) from problem
    assert isinstance(value, int)
    return Filter(words[0].partition(".")[2], words[1], value)

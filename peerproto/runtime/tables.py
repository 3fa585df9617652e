"""``show table``, ``set table``, ``clear table`` and ``forget table``."""

from __future__ import annotations

from typing import Final

from peerproto import LocalProtocolError
from peerproto.runtime.selection import How, Selection, cell_of, key_of, selection_of, table_of
from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.service.text import format_entry, parse_value

_FILTERS: Final = "[key <key> | data.<type> <operator> <value>]..."


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


class _TableCommands:
    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def show(self, arguments: list[str]) -> Answer:
        if not arguments:
            for table in self._service.tables:
                yield _head(table)
            return
        selection = selection_of(self._service, arguments)
        if selection.raw_key is not None and not selection.table.entries_of(selection.raw_key):
            return
        yield _head(selection.table)
        for entry in selection:
            yield "" if entry is None else format_entry(entry) + "\n"

    def set(self, arguments: list[str]) -> Answer:
        table = table_of(self._service, arguments)
        if arguments[1:2] != ["key"] or len(arguments) < 3:
            raise CommandError("A key is missing")
        raw_key = key_of(table, arguments[2])
        values = {}
        rest = arguments[3:]
        while rest:
            cell = cell_of(table, rest[0])
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
        selection = selection_of(self._service, arguments)
        if selection.everything:
            selection.table.clear()
            return
        yield from self._do_away(selection, StickTable.remove_raw)

    def forget(self, arguments: list[str]) -> Answer:
        selection = selection_of(self._service, arguments)
        if selection.one_key and selection.raw_key is not None:
            # Peers may have an entry that is not here yet.
            selection.table.forget_raw([selection.raw_key])
            return
        yield from self._do_away(selection, StickTable.forget_raw)

    def _do_away(self, selection: Selection, how: How) -> Answer:
        for _ in selection.all_done_away(how):
            yield ""


def _head(table: StickTable) -> str:
    word = table.key_type.word
    size = table.declaration.size or 0
    return f"# table: {table.name}, type: {word}, size:{size}, used:{len(table)}\n"

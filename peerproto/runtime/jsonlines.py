"""``json …``: commands for programs. Each line of an answer is an object in JSON.

The values, and how names and keys are written, are those of HTTP, `peerproto.service.showing`. A
line that is no object says why a command cannot be done, or not to its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from typing import Any, Final, TypeVar

import peerproto
from peerproto import Entry, LocalProtocolError
from peerproto.runtime.answers import SLICE
from peerproto.runtime.selection import Wanted, table_of
from peerproto.service import spelling
from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.portable import portables
from peerproto.service.query import Steps
from peerproto.service.service import StickTableService
from peerproto.service.showing import (
    entry_shown,
    node_shown,
    parts_shown,
    peer_shown,
    table_shown,
)
from peerproto.service.sticktable import StickTable

T = TypeVar("T")

_KEY: Final = "<table> key <key> [peer <peer>]"
_CONDITIONS: Final = (
    "[data.<type> <operator> <value>]... [prefix <text>] [cidr <network>] [peer <peer>]"
)


def json_commands(service: StickTableService) -> list[Command]:
    """The commands for programs."""
    commands = _JsonCommands(service)
    return [
        Command(("json", "tables"), "[<table>]", "the tables", commands.tables),
        Command(
            ("json", "entries"),
            f"<table> [key <key>] {_CONDITIONS} [top <number> [by [-]<type>]] [raw yes]",
            "entries, those with the highest values of a type if it is named",
            commands.entries,
        ),
        Command(("json", "peers"), "", "the peers", commands.peers),
        Command(("json", "parts"), "", "the parts of the node", commands.parts),
        Command(("json", "node"), "", "the node", commands.node),
        Command(
            ("json", "set"),
            f"<values> {_KEY}",
            "create or change an entry: <values> is an object",
            commands.set,
            changes=True,
        ),
        Command(
            ("json", "count"),
            f"<events> {_KEY}",
            "count events that happen now: <events> is an object",
            commands.count,
            changes=True,
        ),
        Command(
            ("json", "forget"),
            f"<table> [key <key>] {_CONDITIONS}",
            "forget entries, and say how many there were",
            commands.forget,
            changes=True,
        ),
    ]


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False) + "\n"


def _entry(wanted: Wanted, entry: Entry) -> str:
    """The line of an entry; none if it is gone by now."""
    if not wanted.raw:
        return _line(entry_shown(entry))
    table = wanted.selection.table
    return "".join(_line(one.json(table.key_type)) for one in portables(table, [entry]))


def _in_turns(steps: Steps[T]) -> Iterator[T | None]:
    """Do work in short steps, each in a turn of its own: the result comes last, nothing before."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            yield end.value
            return
        yield from repeat(None, SLICE)


class _JsonCommands:
    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def tables(self, arguments: list[str]) -> Answer:
        writers = self._service.parts.writers()
        if arguments:
            try:
                table = table_of(self._service, [spelling.read(arguments[0])])
            except LocalProtocolError as problem:
                raise CommandError(str(problem)) from problem
            yield _line(table_shown(table, writers))
            return
        for table in self._service.tables:
            yield _line(table_shown(table, writers))

    def entries(self, arguments: list[str]) -> Answer:
        wanted = Wanted.of(self._service, arguments)
        selection = wanted.selection
        if wanted.by is not None:
            if wanted.top is None or selection.raw_key is not None:
                raise CommandError("'by' stands behind 'top', and without a key")
            lowest = wanted.by.startswith("-")
            steps = selection.table.top_in_steps(
                wanted.top, wanted.by.removeprefix("-"), *selection.conditions, lowest=lowest
            )
            for entries in _in_turns(steps):
                if entries is None:
                    yield ""
                else:
                    yield from (_entry(wanted, entry) for entry in entries)
            return
        left = wanted.top
        for entry in selection:
            if left == 0:
                return
            if entry is not None:
                left = left and left - 1
            yield "" if entry is None else _entry(wanted, entry)

    def peers(self, arguments: list[str]) -> Answer:
        for peer in list(self._service.peers.values()):
            yield _line(peer_shown(peer.status()))

    def parts(self, arguments: list[str]) -> Answer:
        yield _line(parts_shown(self._service))

    def node(self, arguments: list[str]) -> Answer:
        yield _line(node_shown(self._service, peerproto.__version__))

    def set(self, arguments: list[str]) -> Answer:
        values = _object(arguments)
        table, raw_key = self._place(arguments[1:])
        cells = table.cells
        for name, value in values.items():
            if name not in cells:
                names = ", ".join(one.name for one in table.layout.printed) or "none"
                raise CommandError(f"{name}: it is not stored in this table. There are: {names}")
            if cells[name].is_text and isinstance(value, str):
                values[name] = spelling.read(value)
            elif not (value is None if cells[name].is_text else type(value) is int):
                expected = "a text or null" if cells[name].is_text else "a whole number"
                raise CommandError(f"{name}: read {json.dumps(value)}, expected {expected}")
        yield _line(entry_shown(table.set_raw(raw_key, values)))

    def count(self, arguments: list[str]) -> Answer:
        events = _object(arguments)
        table, raw_key = self._place(arguments[1:])
        for name, value in events.items():
            if type(value) is not int:
                raise CommandError(f"{name}: read {json.dumps(value)}, expected a whole number")
        yield _line(entry_shown(table.count_raw(raw_key, events)))

    def forget(self, arguments: list[str]) -> Answer:
        selection = Wanted.of(self._service, arguments).selection
        check_free(self._service, selection.table)
        count = 0
        if selection.one_key and selection.raw_key is not None:
            # Peers may have an entry that is not here yet.
            count = selection.table.forget_raw([selection.raw_key])
        else:
            for some in selection.all_done_away(StickTable.forget_raw):
                count += some
                yield ""
        yield _line({"forgotten": count})

    def _place(self, arguments: list[str]) -> tuple[StickTable, bytes]:
        """The table and the key that are meant."""
        selection = Wanted.of(self._service, arguments).selection
        if not selection.one_key or selection.raw_key is None:
            raise CommandError("One key is meant, and nothing else")
        check_free(self._service, selection.table)
        return selection.table.share(None), selection.raw_key


def check_free(service: StickTableService, table: StickTable) -> None:
    """See that no part alone writes a table.

    :raises CommandError: one does, and what is written would not last.
    """
    part = service.parts.writers().get(table.name)
    if part is not None:
        raise CommandError(
            f"table {spelling.shown(table.name)} is written by the part {part} of this node alone:"
            " it would write it again"
        )


def _object(arguments: list[str]) -> dict[str, Any]:
    """The object that the first word is."""
    text = arguments[0] if arguments else ""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CommandError(f"read '{text[:100]}', expected an object in JSON")
    return value

"""``json import``: entries from elsewhere, many at once."""

from __future__ import annotations

import json
from typing import Any

from peerproto import LocalProtocolError, Portable
from peerproto.runtime.jsonlines import check_free
from peerproto.runtime.selection import table_of
from peerproto.service import spelling
from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.portable import bring
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable


def import_commands(service: StickTableService) -> list[Command]:
    """The command that takes entries from elsewhere."""

    def run(arguments: list[str]) -> Answer:
        try:
            names = [spelling.read(one) for one in arguments[1:2]]
        except LocalProtocolError as problem:
            raise CommandError(str(problem)) from problem
        table = table_of(service, names)
        check_free(service, table)
        for given in _entries(arguments[0]):
            yield json.dumps(_taken(table, given)) + "\n"

    return [
        Command(
            ("json", "import"),
            "<entries> <table>",
            "set entries as `json entries … raw yes` has them: <entries> is an array",
            run,
            changes=True,
        )
    ]


def _entries(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise CommandError(f"read '{text[:100]}', expected an array in JSON")
    return value


def _taken(table: StickTable, given: Any) -> dict[str, Any]:
    """What became of one of the entries."""
    try:
        came = bring(table, Portable.read(given, table.layout))
    except LocalProtocolError as problem:
        return {"taken": False, "expired": False, "problem": spelling.shown(str(problem))}
    return {"taken": came, "expired": not came, "problem": None}

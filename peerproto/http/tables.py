"""``/v1/tables``: the tables, and what of them a request is about."""

from __future__ import annotations

from typing import Optional

from peerproto import LocalProtocolError, StickTable, StickTableService
from peerproto.http import text
from peerproto.http.answers import Answer
from peerproto.http.problems import UNFIT, Problem
from peerproto.http.routes import Call
from peerproto.http.showing import table_shown


class TableRoutes:
    """What is asked of tables."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def tables(self, call: Call) -> Answer:
        """All tables."""
        writers = self._service.parts.writers()
        return Answer({"tables": [table_shown(one, writers) for one in self._service.tables]})

    def table(self, call: Call) -> Answer:
        """One table."""
        return Answer(table_shown(table_of(self._service, call), self._service.parts.writers()))


def table_of(service: StickTableService, call: Call) -> StickTable:
    """The table that the path of a request names.

    :raises Problem: there is none.
    """
    name = call.name("table")
    table = service.find_table(name)
    if table is None:
        raise Problem.wrong("path.table", text.written(name), "the name of a table", 404)
    return table


def share_of(table: StickTable, name: Optional[str], field: str = "query.peer") -> StickTable:
    """A table, or the share of a peer, as ``name`` (a text) says.

    :param field: where the name stands.
    :raises Problem: a name is missing, or there is no such share.
    """
    if name is None and not table.per_peer:
        return table
    if not table.per_peer:
        raise Problem.unfit(field, name, "none: this table is not shared per peer")
    peers = table.contributions()
    names = ", ".join(map(text.written, peers)) or "a peer that has taught: there is none yet"
    if name is None:
        raise Problem.unfit(field, "", f"one of {names}: this table is shared per peer")
    try:
        share = peers.get(text.read(name))
    except LocalProtocolError as problem:
        raise Problem.of(field, problem, UNFIT) from problem
    if share is None:
        raise Problem.unfit(field, name, f"one of {names}")
    return share


def key_of(table: StickTable, given: str, field: str = "path.key") -> bytes:
    """The raw key whose text stands in a request.

    :raises Problem: it is none of the table's type.
    """
    try:
        return text.raw_key(given, table)
    except LocalProtocolError as problem:
        raise Problem.of(field, problem, UNFIT) from problem


def check_free(service: StickTableService, table: StickTable) -> None:
    """See that no part alone writes a table.

    :raises Problem: one does, and what is written would not last.
    """
    part = service.parts.writers().get(table.name)
    if part is not None:
        raise Problem(
            409,
            f"table {text.shown(table.name)} is written by the part {part} of this node alone:"
            " it would write it again",
        )

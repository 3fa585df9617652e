"""Changes of entries: each is a local change of the node, and reaches every HAProxy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, Optional

import attrs

from peerproto import Entry, LocalProtocolError, StickTable, StickTableService, TableFull
from peerproto.http import text
from peerproto.http.answers import Answer
from peerproto.http.bodies import MOST_ERRORS, structured, whole
from peerproto.http.problems import UNFIT, Problem, Wrong
from peerproto.http.routes import Call
from peerproto.http.showing import entry_shown
from peerproto.http.tables import check_free, key_of, share_of, table_of
from peerproto.service.filters import Cell

_RANGES: Final = {
    "signed": (-(1 << 31), (1 << 31) - 1),
    "unsigned 32": (0, (1 << 32) - 1),
    "unsigned 64": (0, (1 << 64) - 1),
    "frequency": (0, (1 << 32) - 1),
}
"""The smallest and the largest number of each kind of value."""


_MOST_EVENTS: Final = (1 << 32) - 1


@attrs.frozen
class SetBody:
    """The body of ``PUT`` and ``PATCH``."""

    values: dict[str, Any] = attrs.field(factory=dict)
    expires_in: Optional[int] = None
    """How long the entry lives from now, in ms."""


@attrs.frozen
class CountBody:
    """The body of ``POST …/count``."""

    events: dict[str, Any]


def values_for(table: StickTable, given: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The values of JSON, as a table takes them.

    :raises Problem: some of them it does not.
    """
    values: dict[str, Any] = {}
    errors: list[Wrong] = []
    for name, value in given.items():
        if len(errors) >= MOST_ERRORS:
            break
        cell = table.cells.get(name)
        if cell is None:
            names = ", ".join(one.name for one in table.layout.printed) or "none"
            errors.append(Wrong.of(f"{field}.{name}", name, f"one of {names}"))
            continue
        try:
            values[name] = _value(cell, value)
        except LocalProtocolError as problem:
            errors.append(Wrong.of(f"{field}.{name}", problem.read, problem.expected))
    if errors:
        first = errors[0]
        detail = f"{first.field}: read '{first.read}', expected {first.expected}"
        raise Problem(UNFIT, detail, tuple(errors))
    return values


def _value(cell: Cell, value: Any) -> Any:
    if cell.is_text:
        if value is None:
            return None
        if isinstance(value, str):
            return text.read(value)
        raise LocalProtocolError(cell.name, value, "a string or null")
    least, most = _RANGES[cell.column.data_type.kind.value]
    number = whole(value)
    if number is None or not least <= number <= most:
        raise LocalProtocolError(cell.name, value, f"a whole number from {least} to {most}")
    return number


def check_life(table: StickTable, life: Optional[int], field: str) -> None:
    """See that entries of a table can live for so many ms.

    :raises Problem: they cannot.
    """
    expire = table.declaration.expire
    if life is not None and not 0 < life <= expire:
        expected = f"1 to {expire} (ms)" if expire else "none: the table has no expire"
        raise Problem.unfit(field, life, expected)


def put(
    table: StickTable,
    raw_key: bytes,
    body: SetBody,
    whole: bool,
    field: str = "body",
) -> tuple[Entry, bool]:
    """Create or change an entry: the entry, and whether it is new.

    :param whole: whether values that are not named become 0; else they stay as they are.
    :param field: where the body stands.
    :raises Problem: the table cannot store it.
    """
    values = values_for(table, body.values, f"{field}.values")
    check_life(table, body.expires_in, f"{field}.expires_in")
    if whole:
        blank = {cell.name: None if cell.is_text else 0 for cell in table.layout.printed}
        named = {table.cells[name].name: value for name, value in values.items()}
        values = {**blank, **named}
    is_new = not table.entries_of(raw_key)
    try:
        return table.set_raw(raw_key, values, body.expires_in), is_new
    except TableFull:
        raise
    except LocalProtocolError as problem:
        raise Problem.of(f"{field}.values", problem, UNFIT) from problem


def count(
    table: StickTable, raw_key: bytes, events: Mapping[str, Any], field: str = "body"
) -> tuple[Entry, bool]:
    """Count events that happen now: the entry, and whether it is new.

    :param field: where the body stands.
    :raises Problem: the table cannot count them.
    """
    is_new = not table.entries_of(raw_key)
    if not events:
        raise Problem.wrong(f"{field}.events", "", "the name of a counter or a rate")
    numbers: dict[str, int] = {}
    for name, value in events.items():
        if name not in table.cells:
            names = ", ".join(one.name for one in table.layout.printed) or "none"
            raise Problem.unfit(f"{field}.events.{name}", name, f"one of {names}")
        number = whole(value)
        if number is None or not 0 <= number <= _MOST_EVENTS:
            expected = f"a whole number from 0 to {_MOST_EVENTS}"
            raise Problem.wrong(f"{field}.events.{name}", value, expected)
        numbers[name] = number
    try:
        return table.count_raw(raw_key, numbers), is_new
    except TableFull:
        raise
    except LocalProtocolError as problem:
        raise Problem.of(f"{field}.events", problem, UNFIT) from problem


def forget(service: StickTableService, table: StickTable, raw_key: bytes) -> dict[str, Any]:
    """Forget an entry: what is said of that."""
    found = table.entries_of(raw_key)
    life = found[0].expires_in if found else _longest_life(service, table)
    table.forget_raw([raw_key])
    until = None
    if life is not None:
        now = service.time.now() + service.time.step()
        end = datetime.fromtimestamp((now + life) / 1000, timezone.utc)
        until = end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value: dict[str, Any] = {
        "key": text.key_text(raw_key, table.key_type),
        "was_here": bool(found),
        "seen_by_haproxy": {"values": 0, "in_table_for": life, "in_table_until": until},
    }
    if table.peer is not None:
        value["peer"] = text.written(table.peer)
    return value


def _longest_life(service: StickTableService, table: StickTable) -> Optional[int]:
    """For how long (in ms) a peer may keep an entry that is not known here; ``None`` for ever."""
    lives = [table.declaration.expire or None]
    for peer in service.peers.values():
        lives += [
            one.expire or None
            for one in peer.status().tables
            if one.name == table.name and one.expire is not None
        ]
    known = [one for one in lives if one is not None]
    return max(known) if len(known) == len(lives) else None


class WriteRoutes:
    """The routes that change one entry."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def replace(self, call: Call) -> Answer:
        """``PUT``: the entry is what the body says, and nothing else."""
        return self._set(call, whole=True)

    def set(self, call: Call) -> Answer:
        """``PATCH``: values that are not named stay as they are."""
        return self._set(call, whole=False)

    def _set(self, call: Call, whole: bool) -> Answer:
        table, raw_key = self._place(call)
        body = structured(call.content, SetBody)
        entry, is_new = put(table, raw_key, body, whole)
        return Answer(entry_shown(entry), 201 if is_new else 200)

    def count(self, call: Call) -> Answer:
        """``POST …/count``: events happened."""
        table, raw_key = self._place(call)
        body = structured(call.content, CountBody)
        entry, is_new = count(table, raw_key, body.events)
        return Answer(entry_shown(entry), 201 if is_new else 200)

    def forget(self, call: Call) -> Answer:
        """``DELETE``: the entry is gone here, and zero on all peers."""
        table, raw_key = self._place(call)
        return Answer(forget(self._service, table, raw_key))

    def _place(self, call: Call) -> tuple[StickTable, bytes]:
        table = table_of(self._service, call)
        raw_key = key_of(table, call.path["key"])
        check_free(self._service, table)
        return share_of(table, call.one("peer")), raw_key

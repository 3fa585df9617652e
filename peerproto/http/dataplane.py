"""The paths of HAProxy's Data Plane API for stick tables, as its version 3.4 answers them.

Its specification says what the fields are; https://github.com/haproxytech/client-native has it
under ``specification/``. It shows what ``show table`` prints, under the names that it knows.
"""

from __future__ import annotations

import re
from typing import Any, Final, Optional

import attrs

from peerproto import (
    Cursor,
    Entry,
    Filter,
    LocalProtocolError,
    StickTable,
    StickTableService,
    TableFull,
)
from peerproto.http import text
from peerproto.http.access import Needs
from peerproto.http.answers import JSON_TYPE, Answer, as_json
from peerproto.http.bodies import structured, whole
from peerproto.http.entries import LOOKS, MOST_FILTERS, filter_of
from peerproto.http.problems import UNFIT, Problem
from peerproto.http.routes import Call, Parameter, Routes
from peerproto.http.schemas import COUNT, NUMBER, TEXT, closed, many
from peerproto.http.streaming import Stream
from peerproto.http.tables import check_free, share_of
from peerproto.http.writes import values_for
from peerproto.service.filters import OPERATORS
from peerproto.service.text import entry_id, format_key, parse_key

ROOT: Final = "/v3/services/haproxy/runtime/stick_tables"

_PAGE: Final = 100
"""Entries that are written at once."""

_LARGEST: Final = (1 << 63) - 1
"""The largest integer of that API."""

_COUNTERS: Final = [
    "server_id",
    "glitch_cnt",
    "gpc0",
    "gpc1",
    "gpt0",
    "conn_cnt",
    "conn_cur",
    "sess_cnt",
    "http_fail_cnt",
    "http_req_cnt",
    "http_err_cnt",
    "bytes_in_cnt",
    "bytes_out_cnt",
]
_RATES: Final = [
    "glitch_rate",
    "gpc0_rate",
    "gpc1_rate",
    "conn_rate",
    "sess_rate",
    "http_fail_rate",
    "http_req_rate",
    "http_err_rate",
    "bytes_in_rate",
    "bytes_out_rate",
]
_ARRAYS: Final = ("gpc", "gpc_rate", "gpt")
_VALUES: Final = frozenset((*_COUNTERS, *_RATES))
"""The values that its entries have."""

_FIELDS: Final = _VALUES - {"http_fail_cnt", "http_fail_rate"}
"""Those that its tables may name: its specification has no others."""

_ELEMENT: Final = closed({"value": NUMBER, "idx": COUNT})
ENTRY: Final = closed(
    {
        "id": TEXT,
        "key": TEXT,
        "use": {"type": "boolean"},
        "exp": COUNT,
        **dict.fromkeys((*_COUNTERS, *_RATES), NUMBER),
    },
    "use",
    *_VALUES,
)
TABLE: Final = closed(
    {
        "name": TEXT,
        "type": {"enum": ["ip", "ipv6", "integer", "string", "binary"]},
        "size": COUNT,
        "used": COUNT,
        "fields": many(
            closed(
                {
                    "field": {"enum": sorted(_FIELDS)},
                    "type": {"enum": ["rate", "counter"]},
                    "period": COUNT,
                },
                "period",
            )
        ),
    },
    "fields",
)
ERROR: Final = closed({"code": NUMBER, "message": TEXT})
_DATA: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "id": TEXT,
        "key": TEXT,
        "use": {"type": "boolean"},
        **{name: {"type": ["integer", "null"]} for name in (*_COUNTERS, *_RATES)},
        **dict.fromkeys(_ARRAYS, _ELEMENT),
    },
}
BODY: Final = closed({"key": TEXT, "data_type": _DATA})

_ONE: Final = rf"(data\.)?[^\s,]+ +({'|'.join(OPERATORS)}) +-?[0-9]{{1,20}}"

QUERY: Final = (
    Parameter(
        "filter",
        "`data.<type> <operator> <value>`, several of them between commas.",
        {"type": "string", "pattern": f"^({_ONE}(,{_ONE})*)?$"},
    ),
    Parameter("key", "The key of the entry that is wanted."),
    Parameter("count", "Entries at most.", {"type": "integer", "minimum": 0}),
    Parameter("offset", "Entries that are left out first.", {"type": "integer", "minimum": 0}),
)
PEER: Final = Parameter(
    "peer", "The peer whose share is meant, where the table is shared per peer: not of that API."
)


@attrs.frozen
class EntryBody:
    """The body of ``POST``."""

    key: str
    data_type: dict[str, Any]


def error_of(problem: Problem) -> Answer:
    """The answer that a problem is in that API."""
    message = text.shown(problem.detail)
    value = {"code": problem.status, "message": message}
    return Answer(value, problem.status, problem.headers)


def add_to(routes: Routes, service: StickTableService) -> None:
    """Add all these paths."""
    paths = DataPlaneRoutes(service)
    more: dict[str, Any] = {"describe": error_of, "problem_type": JSON_TYPE, "problem": ERROR}
    entries, add = f"{ROOT}/{{name}}/entries", routes.add
    add("GET", ROOT, paths.tables, "Stick tables", answers={200: many(TABLE)}, **more)
    one = {**more, "problems": (404,)}
    add("GET", f"{ROOT}/{{name}}", paths.table, "One stick table", answers={200: TABLE}, **one)
    page = {**more, "answers": {200: many(ENTRY)}, "problems": (404, 409, 422, 503)}
    add("GET", entries, paths.entries, "Entries", query=(*QUERY, PEER), **page)
    write = {**more, "answers": {204: None}, "problems": (404, 409, 422, 507), "query": (PEER,)}
    add("POST", entries, paths.set, "Set an entry", needs=Needs.WRITE, body=BODY, **write)


class DataPlaneRoutes:
    """What clients of the Data Plane API ask for."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def tables(self, call: Call) -> Answer:
        """All tables."""
        return Answer([_table(one) for one in self._service.tables])

    def table(self, call: Call) -> Answer:
        """One table."""
        return Answer(_table(self._table(call)))

    async def entries(self, call: Call) -> Optional[Answer]:
        """The entries of a table: all of them, unless fewer are asked for."""
        table = self._table(call)
        if call.one("peer") is not None:
            table = share_of(table, call.one("peer"))
        offset = call.number("offset", 0, 0, _LARGEST)
        count = call.number("count", _LARGEST, 0, _LARGEST)
        conditions = _conditions(table, call.one("filter") or "")
        key = call.one("key") or ""
        if key:
            found = table.entries_of(_raw_key(table, key, "query.key"))
            meant = [one for one in found if all(means(one) for means in conditions)]
            _check_offset(offset, len(meant))
            return Answer([_entry(one) for one in meant[offset:][:count]])
        return await self._stream(call, table, conditions, offset, count)

    async def _stream(
        self,
        call: Call,
        table: StickTable,
        conditions: list[Filter],
        offset: int,
        count: int,
    ) -> Optional[Answer]:
        """Write entries as they are found: there may be a million."""
        stream, cursor, seen, written = Stream(call.request), None, 0, 0
        try:
            while True:
                cursor, found = await self._page(table, cursor, conditions)
                fresh = found[max(0, offset - seen) :][: count - written]
                seen += len(found)
                if fresh:
                    pieces = b",".join(as_json(_entry(one)) for one in fresh)
                    await stream.write((b"," if written else b"[") + pieces)
                    written += len(fresh)
                if cursor is None or (written >= count and seen > offset):
                    break
            if not written:
                _check_offset(offset, seen)
                return Answer([])
            await stream.write(b"]")
            return None
        finally:
            stream.end()

    async def _page(
        self, table: StickTable, cursor: Optional[Cursor], conditions: list[Filter]
    ) -> tuple[Optional[Cursor], list[Entry]]:
        page = await table.page_in_turns(_PAGE, cursor, *conditions, looks=LOOKS)
        return page.after, page.entries

    def set(self, call: Call) -> Answer:
        """Create or change an entry."""
        table = self._table(call)
        check_free(self._service, table)
        try:
            body = structured(call.content, EntryBody)
        except Problem as problem:
            raise attrs.evolve(problem, status=422) from problem
        share = share_of(table, call.one("peer"))
        raw_key = _raw_key(table, body.key, "body.key")
        values = values_for(share, _values(body.data_type), "body.data_type")
        try:
            share.set_raw(raw_key, values)
        except TableFull:
            raise
        except LocalProtocolError as problem:
            raise Problem.of("body.data_type", problem, UNFIT) from problem
        return Answer(status=204)

    def _table(self, call: Call) -> StickTable:
        name = call.name("name")
        table = self._service.find_table(name)
        if table is None:
            raise Problem(404, f"Stick table {text.shown(name)} not found")
        return table


def _table(table: StickTable) -> dict[str, Any]:
    fields = []
    for cell in table.layout.printed:
        if cell.name in _FIELDS:
            rate = {"type": "rate", "period": cell.column.period}
            is_rate = cell.column.period is not None
            fields.append({"field": cell.name, **(rate if is_rate else {"type": "counter"})})
    value: dict[str, Any] = {
        "name": text.written(table.name),
        "type": table.key_type.word,
        "size": table.declaration.size or 0,
        "used": len(table),
    }
    return {**value, "fields": fields} if fields else value


def _entry(entry: Entry) -> dict[str, Any]:
    values = {cell.name: entry.value(cell) for cell in entry.layout.printed if cell.name in _VALUES}
    # Its JSON has no use that is false.
    return {
        "id": entry_id(entry),
        "key": format_key(entry.raw_key, entry.layout.key_type),
        "exp": entry.expires_in or 0,
        **values,
    }


_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_NAMED: Final = {"t": "\t", "n": "\n", "r": "\r", "e": "\x1b"}


def _raw_key(table: StickTable, given: str, field: str) -> bytes:
    """The raw key as ``show table`` prints it, or as it is."""

    def character(match: re.Match[str]) -> str:
        word = match[1]
        if len(word) == 3:
            return bytes.fromhex(word[1:]).decode("utf-8", "surrogateescape")
        return _NAMED.get(word, word)

    try:
        word = _ESCAPE.sub(character, given) if table.key_type.word == "string" else given
        # Bytes that follow each other may be one character.
        word = word.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        return parse_key(word, table.layout)
    except UnicodeEncodeError as problem:
        raise Problem.unfit(field, given, "text without halves of surrogate pairs") from problem
    except LocalProtocolError as problem:
        raise Problem.of(field, problem, UNFIT) from problem


def _conditions(table: StickTable, given: str) -> list[Filter]:
    """Filters between commas, each with ``data.`` before its type, or without."""
    some = [one.strip() for one in given.split(",") if one.strip()]
    if len(some) > MOST_FILTERS:
        raise Problem.unfit("query.filter", f"{len(some)} filters", f"{MOST_FILTERS} at most")
    return [filter_of(table, one if one.startswith("data.") else f"data.{one}") for one in some]


def _values(data: dict[str, Any]) -> dict[str, Any]:
    """The values in ``data_type``, by the names that tables have."""
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name in ("id", "key", "use") or value is None:
            continue
        if name in _ARRAYS and isinstance(value, dict):
            values[f"{name}[{whole(value.get('idx', 0))}]"] = value.get("value")
        else:
            values[name] = value
    return values


def _check_offset(offset: int, size: int) -> None:
    """:raises Problem: as that API does."""
    if size and offset >= size:
        raise Problem(400, f"Offset {offset} is larger than the slice size {size}")

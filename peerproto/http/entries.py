"""``/v1/tables/{table}/entries``: entries, page by page, and one of them."""

from __future__ import annotations

import re
from typing import Any, Final, Optional, Union

from peerproto import Cursor, Entry, Filter, LocalProtocolError, StickTable, StickTableService
from peerproto.http import text
from peerproto.http.answers import Answer, as_json
from peerproto.http.problems import Problem
from peerproto.http.routes import Call, Parameter
from peerproto.http.schemas import FILTER
from peerproto.http.showing import entry_shown
from peerproto.http.tables import key_of, share_of, table_of
from peerproto.service.filters import OPERATORS, Condition, Network, Prefix
from peerproto.service.portable import portables
from peerproto.service.query import Rank, Steps

MOST_ENTRIES: Final = 1000
"""Entries of a page at most."""

ENTRIES: Final = 100
"""Entries of a page, if nothing is said."""

MOST_KEYS: Final = 40
"""Keys of one request."""

MOST_FILTERS: Final = 10
"""Filters of one request."""

LOOKS: Final = 20_000
"""Keys that are looked at for one page: it ends then, with a cursor, however few there were."""

_AT_ONCE: Final = 50
"""Entries that are written in one step: a few ms."""

PEER: Final = Parameter(
    "peer", "The peer whose share is meant, where the table is shared per peer."
)

QUERY: Final = (
    Parameter(
        "filter",
        "`data.<type> <operator> <value>`, as on the runtime socket; all of several hold.",
        FILTER,
        many=True,
    ),
    Parameter(
        "key",
        "The entries of these keys alone, in this order and on one page; of a table that is shared"
        " per peer, the shares of each.",
        many=True,
    ),
    Parameter("prefix", "What keys begin with, in a table of type string."),
    Parameter("cidr", "The network that keys are of, in a table of type ip or ipv6."),
    Parameter(
        "sort",
        "The name of a value by which entries come, the lowest first; with `-` before it, the"
        " highest.",
    ),
    Parameter(
        "limit",
        "Entries of a page.",
        {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES, "default": ENTRIES},
    ),
    Parameter(
        "raw",
        "With `yes`, entries as `import` takes them: without a loss, and with absolute times.",
        {"enum": ["yes", "no"], "default": "no"},
    ),
    Parameter("cursor", "`next` of the page before; the other parameters stay the same."),
    PEER,
)


_WITHOUT_KEYS: Final = ("filter", "prefix", "cidr", "sort", "limit", "cursor")
"""What chooses and orders entries otherwise."""


class EntryRoutes:
    """What is asked of entries."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service

    async def entries(self, call: Call) -> Answer:
        """A page of entries."""
        table = table_of(self._service, call)
        if call.one("peer") is not None:
            table = share_of(table, call.one("peer"))
        conditions = conditions_of(table, call)
        if "key" in call.query:
            return await self._of_keys(table, call)
        limit = call.number("limit", ENTRIES, 1, MOST_ENTRIES)
        cursor = call.one("cursor")
        raw = table if _raw(call) else None
        if (sort := call.one("sort")) is not None:
            return await self._sorted(table, limit, sort, cursor, conditions, raw)
        page = await table.page_in_turns(limit, _cursor(Cursor, cursor), *conditions, looks=LOOKS)
        return await self._written(page.entries, page.after, raw)

    async def _of_keys(self, table: StickTable, call: Call) -> Answer:
        """The entries of some keys: those that there are."""
        for other in _WITHOUT_KEYS:
            if other in call.query:
                raise Problem.unfit(f"query.{other}", call.one(other), "no such parameter with key")
        given = call.query["key"]
        if len(given) > MOST_KEYS:
            raise Problem.unfit("query.key", f"{len(given)} keys", f"{MOST_KEYS} at most")
        raw_keys = [key_of(table, one, "query.key") for one in dict.fromkeys(given)]
        found = [entry for raw_key in raw_keys for entry in table.entries_of(raw_key)]
        return await self._written(found, None, table if _raw(call) else None)

    async def _written(
        self,
        entries: list[Entry],
        after: Union[Cursor, Rank, None],
        raw: Optional[StickTable],
    ) -> Answer:
        """The answer that a page is, written in turns with others: a thousand entries take long.

        :param raw: the table, if entries are wanted as ``import`` takes them.
        """
        pieces = await self._service.in_turns(_pieces(entries, raw))
        end = as_json(None if after is None else str(after))
        return Answer(b'{"entries":[' + b",".join(pieces) + b'],"next":' + end + b"}")

    async def _sorted(
        self,
        table: StickTable,
        limit: int,
        sort: str,
        cursor: Optional[str],
        conditions: list[Condition],
        raw: Optional[StickTable],
    ) -> Answer:
        name = sort.removeprefix("-")
        cell = table.cells.get(name)
        if cell is None or cell.is_text:
            names = ", ".join(one.name for one in table.layout.printed if not one.is_text)
            raise Problem.unfit("query.sort", sort, f"one of {names or 'none'}, or - before it")
        ranked = await table.ranked_in_turns(
            limit, name, *conditions, lowest=not sort.startswith("-"), after=_cursor(Rank, cursor)
        )
        after = None if len(ranked) < limit else ranked[-1][0]
        return await self._written([entry for _, entry in ranked], after, raw)

    def entry(self, call: Call) -> Answer:
        """One entry."""
        table = share_of(table_of(self._service, call), call.one("peer"))
        raw_key = key_of(table, call.path["key"])
        found = table.entries_of(raw_key)
        if not found:
            raise Problem.wrong("path.key", call.path["key"], "the key of an entry", 404)
        return Answer(entry_shown(found[0]))


def _raw(call: Call) -> bool:
    word = call.one("raw") or "no"
    if word not in ("yes", "no"):
        raise Problem.wrong("query.raw", word, "yes or no")
    return word == "yes"


def _pieces(entries: list[Entry], raw: Optional[StickTable]) -> Steps[list[bytes]]:
    pieces = []
    for number, entry in enumerate(entries, 1):
        if raw is None:
            pieces.append(as_json(entry_shown(entry)))
        else:
            # An entry may have gone since.
            pieces += [as_json(one.json(raw.key_type)) for one in portables(raw, [entry])]
        if number % _AT_ONCE == 0:
            yield
    return pieces


def _cursor(kind: Any, given: Optional[str]) -> Any:
    """:raises Problem: it is no cursor."""
    if given is None:
        return None
    try:
        return kind.parse(given)
    except LocalProtocolError as problem:
        expected = "next of the page before, asked for in the same order"
        raise Problem.unfit("query.cursor", given, expected) from problem


_FILTER: Final = re.compile(r"data\.(\S+) +(\w+) +(-?\d{1,20})", re.ASCII)


def conditions_of(table: StickTable, call: Call) -> list[Condition]:
    """What entries are chosen by.

    :raises Problem: something that the table has not, or that cannot be read.
    """
    given = call.query.get("filter", [])
    if len(given) > MOST_FILTERS:
        raise Problem.unfit("query.filter", f"{len(given)} filters", f"{MOST_FILTERS} at most")
    conditions: list[Condition] = [filter_of(table, one) for one in given]
    prefix, cidr = call.one("prefix"), call.one("cidr")
    for field, value, make in (
        ("query.prefix", prefix, lambda given: Prefix(text.read(given))),
        ("query.cidr", cidr, Network),
    ):
        if value is not None:
            try:
                condition = make(value)
                condition.for_keys(table.layout)
            except LocalProtocolError as problem:
                raise Problem.unfit(field, value, problem.expected) from problem
            conditions.append(condition)
    return conditions


def filter_of(table: StickTable, given: str, field: str = "query.filter") -> Filter:
    """The filter that a text is.

    :raises Problem: it is none, or the table has not what it is about.
    """
    match = _FILTER.fullmatch(given)
    if match is None or match[2] not in OPERATORS:
        words = "|".join(OPERATORS)
        raise Problem.wrong(field, given, f"data.<type> {words} <whole number>")
    one = Filter(match[1], match[2], int(match[3]))
    try:
        one.check(table.layout)
    except LocalProtocolError as problem:
        names = ", ".join(cell.name for cell in table.layout.printed if not cell.is_text)
        raise Problem.unfit(field, given, f"{problem.expected}: one of {names}") from problem
    return one

"""What one client wants to be told of: the query of its request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Optional

import attrs

from peerproto import Entry, Filter, LocalProtocolError, StickTable, StickTableService
from peerproto.http import text
from peerproto.http.entries import conditions_of
from peerproto.http.problems import Problem
from peerproto.http.routes import Call, Parameter
from peerproto.http.schemas import FILTER
from peerproto.service.filters import Condition

KINDS: Final = ("entry", "table", "peer", "resync", "part")
"""What there are events of."""

LONGEST_INTERVAL: Final = 60_000
"""Ms between two changes of a key, at most."""

QUERY: Final = (
    Parameter("table", "A table whose entries are told of; all tables without it.", many=True),
    Parameter(
        "kind",
        "What is told of; everything without it.",
        {"type": "string", "enum": list(KINDS)},
        many=True,
    ),
    Parameter(
        "filter",
        "Only entries of which this holds, as on the runtime socket: data.gpc0 gt 5.",
        FILTER,
        many=True,
    ),
    Parameter("prefix", "Only keys that begin so."),
    Parameter("cidr", "Only keys that are addresses of this network."),
    Parameter(
        "interval",
        "Ms from one change of a key to the next, at least.",
        {"type": "integer", "minimum": 0, "maximum": LONGEST_INTERVAL, "default": 0},
    ),
)


@attrs.frozen
class Wanted:
    """Which events, and how often."""

    tables: Optional[tuple[str, ...]] = None
    """Names of tables; ``None`` for all."""
    kinds: frozenset[str] = frozenset(KINDS)
    conditions: tuple[Condition, ...] = ()
    interval: int = 0
    """Ms."""

    @classmethod
    def of(cls, call: Call, service: StickTableService) -> Wanted:
        """What a request asks for.

        :raises Problem: there is no such table, or something cannot be read.
        """
        names = call.query.get("table")
        tables = None if names is None else tuple(dict.fromkeys(map(_name, names)))
        found_tables = []
        for name in tables or ():
            table = service.find_table(name)
            if table is None:
                raise Problem.wrong("query.table", text.written(name), "a table of this node", 404)
            found_tables.append(table)
        kinds = call.query.get("kind", list(KINDS))
        for kind in kinds:
            if kind not in KINDS:
                raise Problem.wrong("query.kind", kind, f"one of {', '.join(KINDS)}")
        if tables is None and call.query.keys() & {"filter", "prefix", "cidr"}:
            raise Problem.unfit("query.table", "", "the tables that are filtered")
        conditions: list[Condition] = []
        for found in found_tables:
            conditions = conditions_of(found, call)
        interval = call.number("interval", 0, 0, LONGEST_INTERVAL)
        return cls(tables, frozenset(kinds), tuple(conditions), interval)

    def follows(self, table: str) -> bool:
        """Whether the table of this name is one of those that are meant."""
        return self.tables is None or table in self.tables


def _name(given: str) -> str:
    try:
        return text.read(given)
    except LocalProtocolError as problem:
        raise Problem.of("query.table", problem, 404) from problem


class Sieve:
    """Tells of the entries of one table whether they are meant."""

    def __init__(self, conditions: Sequence[Condition], table: StickTable) -> None:
        """:raises LocalProtocolError: the table has not what a condition is about."""
        self.layout = table.layout
        self.filters: list[Filter] = []
        self._keys: list[Callable[[bytes], bool]] = []
        for one in conditions:
            if isinstance(one, Filter):
                one.check(table.layout)
                self.filters.append(one)
            else:
                self._keys.append(one.for_keys(table.layout))

    def takes_key(self, raw_key: bytes) -> bool:
        """Whether a key is meant, whatever its entry has."""
        return all(means(raw_key) for means in self._keys)

    def takes(self, found: list[Entry]) -> bool:
        """Whether an entry is meant, if there is one: by what it has.

        :raises LocalProtocolError: the table has not what a condition is about any more.
        """
        return bool(found) and all(holds(found[0]) for holds in self.filters)

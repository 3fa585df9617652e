"""What people type, read with what the node has: tables, columns, filters, values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final, Optional

from peerproto.terminal.node import Comparison, Node, NodeError
from peerproto.terminal.text import listed, typed, visible
from peerproto.terminal.values import TableInfo, Value

OPERATORS: Final = {
    "=": "eq",
    "==": "eq",
    "!=": "ne",
    "<>": "ne",
    "<=": "le",
    ">=": "ge",
    "<": "lt",
    ">": "gt",
}
"""By what people write, HAProxy's words; these are taken as well."""

_COMPARISON: Final = re.compile(
    r"\s*(?:data\.)?(?P<name>[\w\[\]]+)\s*(?P<op>==|!=|<>|<=|>=|[=<>]|\s[a-z]{2}\s)"
    r"\s*(?P<number>-?[0-9][0-9_]*)\s*"
)
_ASSIGNMENT: Final = re.compile(r"(?:data\.)?(?P<name>[\w\[\]]+)=(?P<value>.*)", re.DOTALL)


def unknown(what: str, read: str, names: Iterable[str], having: str) -> NodeError:
    """That there is no such thing; which one may have been meant, and which there are."""
    names = list(names)
    close = difflib.get_close_matches(read, names, 1, 0.5)
    meant = f": did you mean '{visible(close[0])}'?" if close else "."
    return NodeError(f"no {what} '{visible(read)}'{meant} {having}: {listed(names)}")


def table_of(node: Node, name: str) -> TableInfo:
    """The table of this name.

    :raises NodeError: there is none.
    """
    name = typed(name)
    tables = {one.name: one for one in node.tables()}
    if name not in tables:
        raise unknown("table", name, tables, "The node has")
    return tables[name]


def share_of(table: TableInfo, peer: Optional[str], needed: bool = False) -> Optional[str]:
    """The peer whose share is meant, if one is.

    :param needed: whether one has to be named where the table is shared per peer.
    :raises NodeError: there is no such share.
    """
    if peer is None:
        if needed and table.per_peer:
            raise NodeError(
                f"table '{visible(table.name)}' is shared per peer: --peer says whose share is"
                f" meant. There are: {listed(list(table.shares))}"
            )
        return None
    peer = typed(peer)
    if not table.per_peer:
        raise NodeError(
            f"--peer: read '{visible(peer)}', expected none: table '{visible(table.name)}' is not"
            " shared per peer"
        )
    if peer not in table.shares:
        raise unknown("share of", peer, table.shares, "There are those of")
    return peer


def column_of(table: TableInfo, name: str, numbers: bool = True) -> str:
    """The name of a value that the table stores; of arrays by index, too: ``gpc[1]``.

    :param numbers: whether it has to be a number.
    :raises NodeError: it stores no such value.
    """
    name = name.removeprefix("data.")
    shown = re.sub(r"\[(\d+)\]", r"\1", name)
    rate = re.fullmatch(r"(gpc)_rate\[(\d+)\]", name)
    if rate:
        shown = f"{rate[1]}{rate[2]}_rate"
    names = table.numbers if numbers else [one.name for one in table.columns]
    if shown in names:
        return shown
    what = "number" if numbers and shown in [one.name for one in table.columns] else "value"
    raise unknown(what, name, names, f"Table '{visible(table.name)}' has")


def comparison_of(table: TableInfo, text: str) -> Comparison:
    """``http_req_rate > 100``, or ``data.http_req_rate gt 100``.

    :raises NodeError: it cannot be read, or the table stores no such number.
    """
    found = _COMPARISON.fullmatch(text)
    word = "" if found is None else found["op"].strip()
    word = OPERATORS.get(word, word)
    if found is None or word not in OPERATORS.values():
        column = table.busiest or "gpc0"
        raise NodeError(
            f"--filter: read '{visible(typed(text))}', expected a value, one of"
            f" {' '.join(OPERATORS)}, and a whole number: '{column} > 100'"
        )
    return Comparison(column_of(table, found["name"]), word, int(found["number"]))


def values_of(table: TableInfo, texts: Iterable[str]) -> dict[str, Value]:
    """``gpc0=1 server_key=s1``; ``server_key=-`` for no text.

    :raises NodeError: one cannot be read, or the table does not store it.
    """
    values: dict[str, Value] = {}
    kinds = {one.name: one.kind for one in table.columns}
    for text in texts:
        found = _ASSIGNMENT.fullmatch(text)
        if found is None:
            raise NodeError(
                f"read '{visible(typed(text))}', expected a value and what it is to be:"
                f" {table.busiest or 'gpc0'}=1"
            )
        name, value = column_of(table, found["name"], numbers=False), found["value"]
        if name in values:
            raise NodeError(f"{name} is named twice")
        if kinds[name] == "text":
            values[name] = None if value == "-" else typed(value)
        elif re.fullmatch(r"-?[0-9][0-9_]{0,25}", value, re.ASCII):
            values[name] = int(value)
        else:
            raise NodeError(
                f"{name}: read '{visible(typed(value))}', expected a whole number: {name}=1"
            )
    return values

"""``watch``: what changes, as it changes."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Optional

import click

from peerproto.terminal import output
from peerproto.terminal.asking import (
    asked_node,
    json_option,
    selecting,
    selection_of,
    table_argument,
    which_node,
)
from peerproto.terminal.text import visible
from peerproto.terminal.values import Change, EntryInfo, Lost, TableInfo
from peerproto.terminal.wanted import table_of

Place = tuple[Optional[str], str]

_MOST_KNOWN: Final = 100_000
"""Entries whose values are remembered, so that what has changed can be told."""


@click.command(short_help="What changes in a table, as it changes.")
@table_argument
@selecting
@click.option(
    "--interval",
    type=click.FloatRange(0, 60),
    metavar="SECONDS",
    help="Time from one change of an entry to the next at least; over the runtime socket, from one"
    " look to the next (1 without it).",
)
@which_node
@json_option
def watch(
    table: str,
    filters: tuple[str, ...],
    prefix: Optional[str],
    network: Optional[str],
    peer: Optional[str],
    interval: Optional[float],
    as_json: bool,
    **_: object,
) -> None:
    """What changes in TABLE, as it changes, until Ctrl-C.

    Over HTTP the node tells each change at once, with its cause, and of an entry that changes more
    often than can be told the latest. Over the runtime socket the node cannot tell by itself: it
    is asked each --interval for all entries that are chosen, 100,000 at most, and what differs is
    printed. What comes and goes between two looks is not seen, and why something changed is
    not known. A large table is asked for less often, so that nine tenths of the time are the
    node's own.
    """
    known: dict[Place, EntryInfo] = {}
    lost: Optional[Lost] = None
    with asked_node() as node:
        info = table_of(node, table)
        chosen = selection_of(info, filters, prefix, network, peer)
        for one in node.watch(info, chosen, interval):
            if isinstance(one, Lost):
                if one != lost:
                    output.note(visible(one.why))
                lost = one
                continue
            lost = None
            if as_json:
                output.as_json(one.json)
            else:
                click.echo(_line(info, one, known))


def _line(table: TableInfo, change: Change, known: dict[Place, EntryInfo]) -> str:
    """A line about a change: values that differ from what was told before are bold."""
    place = (change.peer, change.key)
    before = known.pop(place, None)
    who = visible(change.key) + ("" if change.peer is None else f" of {visible(change.peer)}")
    cause = change.cause or ("gone" if change.entry is None else "changed")
    if change.origin is not None:
        cause += f" from {visible(change.origin)}"
    values: list[str] = []
    if change.entry is not None:
        if len(known) < _MOST_KNOWN:
            known[place] = change.entry
        for column in table.columns:
            value = change.entry.values.get(column.name)
            text = f"{column.name}={'-' if value is None else visible(str(value))}"
            differs = before is not None and before.values.get(column.name) != value
            values.append(click.style(text, bold=True) if differs else text)
    if not change.matches:
        values.append("(not one of the chosen any more)")
    at = datetime.now().strftime("%H:%M:%S.%f")[:-3]
    return "  ".join([click.style(at, dim=True), f"{who:<15}", f"{cause:<16}", " ".join(values)])

"""``tables``, ``show``, ``peers``, ``aggregates`` and ``node``."""

from __future__ import annotations

from typing import Final, Optional

import click
from rich.text import Text

from peerproto.terminal import output
from peerproto.terminal.asking import (
    ColumnsType,
    ColumnType,
    KeyType,
    PeerType,
    asked_node,
    json_option,
    selecting,
    selection_of,
    table_argument,
    which_node,
)
from peerproto.terminal.node import NodeError
from peerproto.terminal.text import life, many, typed, visible
from peerproto.terminal.values import ColumnInfo, EntryInfo, PeerInfo, TableInfo
from peerproto.terminal.wanted import column_of, table_of, unknown

TOP: Final = 20
"""Entries of ``--by`` without ``--top``."""

MOST: Final = 10_000
"""Entries of ``--top``."""


@click.command(short_help="The tables.")
@which_node
@json_option
def tables(as_json: bool, **_: object) -> None:
    """The tables that the node has: type, entries, and what they store."""
    with asked_node() as node:
        found = node.tables()
    if as_json:
        output.document({"tables": [one.json for one in found]})
        return
    if not found:
        output.note(
            "no table yet. A line under [tables] in peers.ini declares one; with"
            " `learn-tables = yes` those of the peers come by themselves"
        )
        return
    rows = [
        (
            visible(one.name),
            one.type,
            f"{one.used:,}",
            "any" if one.size is None else f"{one.size:,}",
            life(one.expire),
            ", ".join(map(_column, one.columns)) or "-",
        )
        for one in found
    ]
    output.listing(("table", "type", "entries", "size", "expire", "stores"), rows, (2, 3, 4))


def _column(column: ColumnInfo) -> str:
    return column.name if column.period is None else f"{column.name}({life(column.period)})"


@click.command(short_help="The entries of a table.")
@table_argument
@click.option("--key", type=KeyType(), metavar="KEY", help="The entry of this key alone.")
@selecting
@click.option(
    "--top",
    type=click.IntRange(1, MOST),
    metavar="N",
    help="Only N entries: those with the highest values of --by, or else of the first rate.",
)
@click.option(
    "--by",
    type=ColumnType(),
    metavar="COLUMN",
    help=f"The highest values first ({TOP} of them without --top); -COLUMN: the lowest first.",
)
@click.option(
    "--columns",
    type=ColumnsType(),
    metavar="COLUMN,…",
    help="Only these values, in this order.",
)
@which_node
@json_option
def show(
    table: str,
    key: Optional[str],
    filters: tuple[str, ...],
    prefix: Optional[str],
    network: Optional[str],
    peer: Optional[str],
    top: Optional[int],
    by: Optional[str],
    columns: Optional[str],
    as_json: bool,
    **_: object,
) -> None:
    """The entries of TABLE: all of them, some, or those with the highest values.

    \b
    peerproto show rates
    peerproto show rates --filter 'http_req_rate > 100' --top 20
    peerproto show rates --key 192.0.2.7
    """
    if key is not None and (filters or prefix or network or top or by):
        raise click.UsageError("--key names one entry: no --filter, --top or the like beside it")
    with asked_node() as node:
        info = table_of(node, table)
        if top is not None and by is None:
            by = info.busiest
        elif by is not None and top is None:
            top = TOP
        chosen = selection_of(info, filters, prefix, network, peer, key, top, by)
        names = _names(info, columns)
        found = node.entries(info, chosen)
        if chosen.by is not None:
            with output.waiting(f"{visible(info.name)}: the highest of {info.used:,} entries"):
                found = iter(list(found))
        elif output.shows_progress():
            total = info.used if chosen.everything and top is None else None
            found = output.counted(found, visible(info.name), total, True)
        else:
            what = f"{visible(info.name)}: looking through {info.used:,} entries"
            found = output.awaited(found, what, 1 if as_json else output.FIRST)
        if as_json:
            count = output.json_lines(one.json for one in found)
        elif key is not None:
            first = list(found)
            count = len(first)
            print_entries(info, first, names)
        else:
            count = output.entries(found, names, info.per_peer)
    if key is not None and not count:
        raise NodeError(f"no entry '{visible(typed(key))}' in table '{visible(info.name)}'")
    if not count and not as_json:
        whole = chosen.everything and chosen.peer is None
        what = "has no entries" if whole else "has no such entries"
        output.note(f"table '{visible(info.name)}' {what}")


def _names(table: TableInfo, columns: Optional[str]) -> list[str]:
    """The values that are shown."""
    if columns is None:
        return [one.name for one in table.columns]
    return [column_of(table, one.strip(), numbers=False) for one in columns.split(",")]


def print_entries(table: TableInfo, found: list[EntryInfo], names: list[str]) -> None:
    """Print an entry, or that of each share, with a line for each value."""
    for one in found:
        rows = [("key", visible(one.key))]
        if one.peer is not None:
            rows.append(("peer", visible(one.peer)))
        rows.append(("expires", life(one.expires_in)))
        periods = {column.name: column.period for column in table.columns}
        for name in names:
            value = one.values.get(name)
            period = periods.get(name)
            within = "" if period is None else f"  in {life(period)}"
            rows.append((name, f"{'-' if value is None else visible(str(value))}{within}"))
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            click.echo(click.style(name.ljust(width), bold=True) + "  " + text)


_COLOURS: Final = {"in step": "green", "away": "red"}


@click.command(short_help="The peers, who is in step, and why not.")
@click.argument("names", nargs=-1, type=PeerType(), metavar="[PEER]...")
@which_node
@json_option
def peers(names: tuple[str, ...], as_json: bool, **_: object) -> None:
    """The peers: who is connected, who is in step, and why not."""
    with asked_node() as node:
        found = node.peers()
    by_name = {one.name: one for one in found}
    for name in map(typed, names):
        if name not in by_name:
            raise unknown("peer", name, by_name, "The node has")
    if names:
        found = [by_name[typed(name)] for name in names]
    if as_json:
        output.document({"peers": [one.json for one in found]})
        return
    if not found:
        output.note(
            "no peer yet. A line under [peers] in peers.ini names one, and a line `peer` in its"
            " haproxy.cfg names this node"
        )
        return
    heads = (
        "peer",
        "address",
        "state",
        "since",
        "version",
        "lag",
        "why, and what else is to be known",
    )
    rows = [
        (
            visible(one.name),
            visible(one.address),
            Text(one.state, _COLOURS.get(one.state, "yellow")),
            life(one.handshake_ago) if one.connected else "-",
            one.version or "-",
            f"{one.lag:,}",
            visible("; ".join([*one.reasons, *one.notes])),
        )
        for one in found
    ]
    output.listing(heads, rows, (3, 5))
    if names:
        for one in found:
            _one_peer(one)


def _one_peer(peer: PeerInfo) -> None:
    """Print the rest that is known of a peer."""
    counters = peer.json["counters"]
    click.echo()
    click.echo(click.style(visible(peer.name), bold=True))
    for name, value in counters.items():
        click.echo(f"  {visible(name)}: {value:,}")
    for table in peer.json["tables"]:
        click.echo(
            f"  table {visible(table['name'])}: sent up to {table['pushed']}, acked up to"
            f" {table['taken']}, received up to {table['got']}"
        )


@click.command(short_help="What is added up, and of whom.")
@which_node
@json_option
def aggregates(as_json: bool, **_: object) -> None:
    """The tables that are added up: of whom, and whether the sums may be relied on."""
    with asked_node() as node:
        found = node.aggregates()
    if as_json:
        output.document({"aggregates": [one.json for one in found]})
        return
    if not found:
        output.note("nothing is added up. A section [aggregate <table>] in peers.ini does that")
        return
    heads = ("table", "sums in", "keys", "authority", "waiting", "lag", "sources")
    rows = []
    for one in found:
        authority = (
            Text("yes", "green")
            if one.authority
            else Text(f"no: {visible(one.why_not or '')}", "red")
        )
        sources = [f"{visible(name)} {visible(state)}" for name, state in one.sources.items()]
        rows.append(
            (
                visible(one.name),
                visible(one.to),
                f"{one.keys:,}",
                authority,
                f"{one.waiting:,}",
                life(one.lag) if one.lag else "-",
                ", ".join(sources) or "none",
            )
        )
    output.listing(heads, rows, (2, 4, 5))


@click.command("node", short_help="The node, and whether it may be relied on.")
@which_node
@json_option
def node_command(as_json: bool, **_: object) -> None:
    """The node itself: whether it may be relied on, and why not."""
    with asked_node() as node:
        found = node.node()
    if as_json:
        output.document(found.json)
        return
    ready = Text("yes", "green")
    if found.not_ready:
        ready = Text(f"no: {visible('; '.join(found.not_ready))}", "red")
    output.listing(
        ("node", visible(found.localpeer)),
        [
            ("version", f"{visible(found.version)}, {visible(str(found.json['speed']))}"),
            ("runs for", life(found.uptime)),
            ("ready", ready),
            ("learning", visible(found.resync)),
            ("peers", f"{found.connected:,} of {found.peers:,} connected"),
            ("tables", f"{found.tables:,}, with {many(found.entries)}"),
        ],
    )

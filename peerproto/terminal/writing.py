"""``set``, ``count`` and ``forget``: changes, which reach every HAProxy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Optional

import click

from peerproto.terminal import output
from peerproto.terminal.asking import (
    KeyType,
    ValueType,
    asked_node,
    json_option,
    key_argument,
    peer_option,
    selecting,
    selection_of,
    table_argument,
    which_node,
)
from peerproto.terminal.node import Node, NodeError, Selection
from peerproto.terminal.reading import print_entries
from peerproto.terminal.text import many, typed, visible
from peerproto.terminal.values import EntryInfo, TableInfo, Value
from peerproto.terminal.wanted import share_of, table_of, values_of

Do = Callable[[Node, TableInfo, str, dict[str, Value], Optional[str]], EntryInfo]


def _change(
    do: Do, table: str, key: str, values: tuple[str, ...], peer: Optional[str], as_json: bool
) -> None:
    """Change an entry, and print what it is then."""
    with asked_node() as node:
        info = table_of(node, table)
        check_free(info)
        share = share_of(info, peer, needed=True)
        entry = do(node, info, typed(key), values_of(info, values), share)
    if as_json:
        output.document(entry.json)
    else:
        print_entries(info, [entry], [one.name for one in info.columns])


def check_free(table: TableInfo) -> None:
    """See that no part of the node writes a table by itself.

    :raises NodeError: one does.
    """
    if table.written_by is not None:
        raise NodeError(
            f"table '{visible(table.name)}' is written by the node itself ({table.written_by}):"
            " what is changed there would be written again. Change what it is made of"
        )


@click.command("set", short_help="Create or change an entry.")
@table_argument
@key_argument
@click.argument("values", nargs=-1, type=ValueType(), metavar="[COLUMN=VALUE]...")
@peer_option
@which_node
@json_option
def set_command(
    table: str,
    key: str,
    values: tuple[str, ...],
    peer: Optional[str],
    as_json: bool,
    **_: object,
) -> None:
    """Create or change the entry of KEY in TABLE, here and on all HAProxies.

    What is not named stays as it is. The entry lives anew from now.

    \b
    peerproto set rates 192.0.2.7 gpc0=1
    """

    def do(
        node: Node, info: TableInfo, key: str, values: dict[str, Value], share: Optional[str]
    ) -> EntryInfo:
        return node.set(info, key, values, share)

    _change(do, table, key, values, peer, as_json)


@click.command("count", short_help="Count events that happen now.")
@table_argument
@key_argument
@click.argument("events", nargs=-1, required=True, type=ValueType(), metavar="COLUMN=NUMBER...")
@peer_option
@which_node
@json_option
def count_command(
    table: str,
    key: str,
    events: tuple[str, ...],
    peer: Optional[str],
    as_json: bool,
    **_: object,
) -> None:
    """Count events that happen now: counters grow by NUMBER, and rates as HAProxy's own do.

    \b
    peerproto count rates 192.0.2.7 http_req_rate=1
    """

    def do(
        node: Node, info: TableInfo, key: str, values: dict[str, Value], share: Optional[str]
    ) -> EntryInfo:
        numbers = {}
        for name, value in values.items():
            if not isinstance(value, int):
                raise NodeError(f"{name} is a text: it cannot be counted")
            numbers[name] = value
        return node.count(info, key, numbers, share)

    _change(do, table, key, events, peer, as_json)


@click.command("forget", short_help="Forget entries, here and on all HAProxies.")
@table_argument
@click.argument("key", type=KeyType(), required=False)
@selecting
@click.option("--all", "everything", is_flag=True, help="All entries of the table.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@which_node
@json_option
def forget_command(
    table: str,
    key: Optional[str],
    filters: tuple[str, ...],
    prefix: Optional[str],
    network: Optional[str],
    peer: Optional[str],
    everything: bool,
    yes: bool,
    as_json: bool,
    **_: object,
) -> None:
    """Forget the entry of KEY in TABLE, or all that are chosen: they are gone here, and their
    values are zero on all HAProxies at once.

    \b
    peerproto forget rates 192.0.2.7
    peerproto forget rates --filter 'http_req_rate > 100'
    """
    some = bool(filters or prefix or network)
    if (key is not None) + some + everything != 1:
        raise click.UsageError(
            "one of them: KEY, a filter (--filter, --prefix, --network), or --all"
        )
    with asked_node() as node:
        info = table_of(node, table)
        check_free(info)
        chosen = selection_of(info, filters, prefix, network, peer, key)
        if key is None and not yes and not _agreed(node, info, chosen):
            raise click.Abort
        with output.waiting(f"{visible(info.name)}: forgetting"):
            count = node.forget(info, chosen)
    if as_json:
        output.document({"table": info.name, "forgotten": count})
    elif key is not None and not count:
        output.note(
            f"no entry '{visible(typed(key))}' was here; peers that have it forget it all the same"
        )
    else:
        click.echo(f"{many(count)} forgotten")


def _agreed(node: Node, table: TableInfo, chosen: Selection) -> bool:
    """Ask whether entries are to be forgotten, with how many there are."""
    if not sys.stdin.isatty():
        raise NodeError("nobody can be asked whether to forget entries here: --yes does not ask")
    found = output.counted(node.entries(table, chosen), "looking", table.used, sys.stderr.isatty())
    count = sum(1 for _ in found)
    if not count:
        return True
    return click.confirm(
        f"Forget {many(count)} of '{visible(table.name)}' here and on all HAProxies?", err=True
    )

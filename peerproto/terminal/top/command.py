"""The command ``top``."""

from __future__ import annotations

import sys
from typing import Optional

import click

from peerproto.terminal.asking import TableType, asked_node, which_node
from peerproto.terminal.wanted import table_of


@click.command(short_help="A live screen of the node.")
@click.argument("table", type=TableType(), required=False)
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time from one look at the node to the next, at least.",
)
@which_node
def top(table: Optional[str], interval: float, **_: object) -> None:
    """A live screen: tables, the entries with the highest values, peers, aggregates. ? is help.

    The node is asked for the highest 100 entries alone, and never for more than a fifth of the
    time. When it stops, the screen stays, and goes on when it is there again.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("top needs a terminal. show --top N prints the same once")
    # It takes its time to load.
    from peerproto.terminal.top.app import Top

    with asked_node() as node:
        name = None if table is None else table_of(node, table).name
        Top(node, name, interval).run()

"""Options and arguments that commands have in common, and what the shell completes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Optional

import click
from click.shell_completion import CompletionItem

from peerproto.terminal.node import Node, NodeError, Selection
from peerproto.terminal.places import node_at
from peerproto.terminal.text import typed, visible
from peerproto.terminal.values import TableInfo
from peerproto.terminal.wanted import column_of, comparison_of, share_of, table_of

_MOST_KEYS: Final = 2000
"""Entries that are looked at for the keys that a shell offers."""

_OFFERED: Final = 100
"""Keys that a shell offers at most."""

_PATIENCE: Final = 2.0
"""Seconds in which a node has to say what a shell is to offer."""

_PLAIN: Final = re.compile(r"(?!-)[\w.:/@%+,-]+")
"""Names and keys that a shell takes as they stand, and peerproto for no option."""

Command = Callable[..., None]

if TYPE_CHECKING:
    _Word = click.ParamType[str]
else:
    _Word = click.ParamType  # older versions have no parameter


# -- the node ------------------------------------------------------------------


def _given(ctx: click.Context, name: str) -> Any:
    """An option of a command, or of the program before it."""
    here: Optional[click.Context] = ctx
    while here is not None:
        if here.params.get(name):
            return here.params[name]
        here = here.parent
    return None


def which_node(command: Command, by_environment: bool = False) -> Command:
    """Give a command the options that say which node is meant.

    :param by_environment: whether the environment may say it, too: for the program, whose options
        those of a command override.
    """
    command = click.option(
        "--token-file",
        type=FileType(),
        metavar="FILE",
        envvar="PEERPROTO_TOKEN_FILE" if by_environment else None,
        help="File with the token for HTTP  [env: PEERPROTO_TOKEN_FILE]",
    )(command)
    return click.option(
        "--node",
        "node",
        type=FileType(),
        metavar="NODE",
        envvar="PEERPROTO_NODE" if by_environment else None,
        help="The node: path of its runtime socket, http(s)://host:port, or http+unix:/path"
        "  [env: PEERPROTO_NODE]",
    )(command)


@contextmanager
def asked_node(patience: Optional[float] = None) -> Iterator[Node]:
    """The node that the command at hand is to ask: the context's object, if it has one."""
    ctx = click.get_current_context()
    with _node_of(ctx, patience) as node:
        yield node


@contextmanager
def _node_of(ctx: click.Context, patience: Optional[float] = None) -> Iterator[Node]:
    given: Optional[Node] = ctx.obj
    if given is not None:
        yield given
        return
    more = {} if patience is None else {"patience": patience}
    node = node_at(_given(ctx, "node"), _given(ctx, "token_file"), **more)
    try:
        yield node
    finally:
        node.close()


def json_option(command: Command) -> Command:
    """Give a command ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON; where much may come, a line for each."
    )(command)


# -- what the shell completes --------------------------------------------------


def _offered(names: Iterator[str], incomplete: str) -> list[CompletionItem]:
    """Those of the names that go on so."""
    shown = (visible(name) for name in names)
    fit = (one for one in shown if one.startswith(incomplete) and _PLAIN.fullmatch(one))
    return [CompletionItem(one) for one in islice(fit, _OFFERED)]


class FileType(_Word):
    """The path of a file, which the shell knows itself."""

    name = "file"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """See click."""
        return [CompletionItem(incomplete, type="file")]


class _Asked(_Word):
    """A word that the node is asked for."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """See click. A node that cannot be asked offers nothing: a shell shows no errors."""
        try:
            with _node_of(ctx, _PATIENCE) as node:
                return self.offer(node, ctx, incomplete)
        except NodeError:
            return []

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What a node has for it."""
        raise NotImplementedError


class TableType(_Asked):
    """The name of a table."""

    name = "table"

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return _offered((one.name for one in node.tables()), incomplete)


class PeerType(_Asked):
    """The name of a peer."""

    name = "peer"

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return _offered((one.name for one in node.peers()), incomplete)


class KeyType(_Asked):
    """A key of the table."""

    name = "key"

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        table = _table(node, ctx)
        prefix = incomplete if table.type == "string" and incomplete else None
        some = node.entries(table, Selection(prefix=prefix, top=_MOST_KEYS))
        return _offered(iter(dict.fromkeys(one.key for one in some)), incomplete)


class ColumnType(_Asked):
    """The name of a value of the table."""

    name = "column"

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return _offered(iter(_table(node, ctx).numbers), incomplete)


class ColumnsType(_Asked):
    """Names of values with commas between them."""

    name = "columns"

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        names = [one.name for one in _table(node, ctx).columns]
        fit = [one for one in names if one.startswith(last)]
        return [CompletionItem(f"{before}{comma}{one}") for one in fit]


class ValueType(_Asked):
    """``name=value``."""

    name = "value"

    def offer(self, node: Node, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [f"{one.name}=" for one in _table(node, ctx).columns]
        return [CompletionItem(one) for one in names if one.startswith(incomplete)]


def _table(node: Node, ctx: click.Context) -> TableInfo:
    # Behind an option that lacks its value, click has yet to tell arguments from each other.
    name: Any = ctx.params.get("table") or next(iter(ctx.args), "")
    return table_of(node, name)


# -- arguments and options -----------------------------------------------------

table_argument = click.argument("table", type=TableType())
key_argument = click.argument("key", type=KeyType())

peer_option = click.option(
    "--peer",
    type=PeerType(),
    metavar="PEER",
    help="The peer whose share is meant, where a table is shared per peer.",
)


def selecting(command: Command) -> Command:
    """Give a command the options by which entries are chosen."""
    for option in (
        peer_option,
        click.option("--network", metavar="NETWORK", help="Only addresses of it: 192.0.2.0/24."),
        click.option("--prefix", metavar="TEXT", help="Only keys that begin so."),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            type=ColumnType(),
            metavar="FILTER",
            help="Only entries of which this holds: 'http_req_rate > 100'. Several hold together.",
        ),
    ):
        command = option(command)
    return command


def selection_of(
    table: TableInfo,
    filters: tuple[str, ...] = (),
    prefix: Optional[str] = None,
    network: Optional[str] = None,
    peer: Optional[str] = None,
    key: Optional[str] = None,
    top: Optional[int] = None,
    by: Optional[str] = None,
) -> Selection:
    """What was chosen.

    :raises NodeError: the table has not what is asked for.
    """
    comparisons = tuple(comparison_of(table, one) for one in filters)
    if by is not None:
        sign = "-" if by.startswith("-") else ""
        by = sign + column_of(table, by.removeprefix("-"))
    return Selection(
        None if key is None else typed(key),
        comparisons,
        None if prefix is None else typed(prefix),
        network,
        share_of(table, peer),
        top,
        by,
    )

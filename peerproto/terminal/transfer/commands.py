"""``export``, ``import`` and ``copy``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Optional, cast

import click

from peerproto.terminal import output
from peerproto.terminal.asking import (
    FileType,
    TableType,
    asked_node,
    json_option,
    selecting,
    selection_of,
    table_argument,
    which_node,
)
from peerproto.terminal.node import NodeError
from peerproto.terminal.places import node_at
from peerproto.terminal.text import typed, visible
from peerproto.terminal.transfer.csvlines import CsvFormat
from peerproto.terminal.transfer.haproxy import NEWEST, HaproxyFormat
from peerproto.terminal.transfer.jsonlines import JsonFormat
from peerproto.terminal.transfer.lines import Format, Line, Reading
from peerproto.terminal.transfer.parquet import ParquetFormat
from peerproto.terminal.transfer.sources import Source, file_source, node_source
from peerproto.terminal.transfer.targets import (
    NodeTarget,
    Nowhere,
    Tally,
    Target,
    bring_all,
    file_target,
)
from peerproto.terminal.wanted import table_of
from peerproto.terminal.writing import check_free

FORMATS: Final = ("json", "csv", "haproxy", "parquet")

_PEEKED: Final = 64
"""Bytes by which a format is told."""

Command = Callable[..., None]

if TYPE_CHECKING:
    _Version = click.ParamType[tuple[int, int]]
else:
    _Version = click.ParamType  # older versions have no parameter


class VersionType(_Version):
    """A version of HAProxy: ``3.2``."""

    name = "version"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """See click."""
        if isinstance(value, tuple):
            return cast("tuple[int, int]", value)
        numbers = str(value).split(".")
        if len(numbers) < 2 or not all(one.isascii() and one.isdecimal() for one in numbers[:2]):
            self.fail(f"read '{value}', expected two numbers: 3.2", param, ctx)
        return int(numbers[0]), int(numbers[1])


def format_of(name: str, version: tuple[int, int] = NEWEST) -> Format:
    """A format by its name."""
    if name == "csv":
        return CsvFormat()
    if name == "haproxy":
        return HaproxyFormat(version, output.note)
    if name == "parquet":
        return ParquetFormat()
    return JsonFormat()


def _from_where(command: Command) -> Command:
    """Give a command the options that say where a table is read."""
    for option in (
        which_node,
        click.option(
            "--sort",
            "in_order",
            is_flag=True,
            help="In the order of keys, as a file has them; a node has an order of its own.",
        ),
        selecting,
        click.option(
            "--file",
            "file",
            type=FileType(),
            metavar="FILE",
            help="Read the file of [storage], and no node; it may run meanwhile.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def _source(
    table: str,
    file: Optional[str],
    filters: tuple[str, ...],
    prefix: Optional[str],
    network: Optional[str],
    peer: Optional[str],
    in_order: bool,
) -> Iterator[Source]:
    if file is not None:
        if filters or prefix or network:
            raise click.UsageError("--filter, --prefix and --network ask a node: not with --file")
        with file_source(file, table, peer) as source:
            yield source
        return
    with asked_node() as node:
        info = table_of(node, table)
        selection = selection_of(info, filters, prefix, network, peer)
        yield node_source(node, info, selection, in_order)


@click.command("export", short_help="Entries of a table, into a file.")
@table_argument
@_from_where
@click.option(
    "--format",
    "name",
    type=click.Choice(FORMATS),
    default="json",
    show_default=True,
    help="json, csv, parquet: all of it. haproxy: `set table` lines for HAProxy's own socket.",
)
@click.option(
    "--for",
    "version",
    type=VersionType(),
    metavar="VERSION",
    default=NEWEST,
    help="With --format haproxy: the oldest HAProxy that is to take the lines, say 2.8.",
)
@click.option(
    "--output",
    "-o",
    "path",
    type=FileType(),
    metavar="FILE",
    help="Write there, and not to the standard output; it has its name when it is whole.",
)
def export_command(
    table: str,
    name: str,
    version: tuple[int, int],
    path: Optional[str],
    file: Optional[str],
    filters: tuple[str, ...],
    prefix: Optional[str],
    network: Optional[str],
    peer: Optional[str],
    in_order: bool,
    **_: object,
) -> None:
    """Write the entries of TABLE, of a node or of the file of [storage], so that they can be
    imported again: rates with both periods, and all times as times.

    \b
    peerproto export rates -o rates.json
    peerproto export rates --file /var/lib/peerproto/tables.db --format csv
    """
    form = format_of(name, version)
    with (
        _source(table, file, filters, prefix, network, peer, in_order) as source,
        _written(path) as out,
    ):
        shown = sys.stderr.isatty() and (path is not None or not sys.stdout.isatty())
        what = f"{visible(typed(table))}: exporting"
        form.write(source.table, output.counted(source.entries(), what, source.total, shown), out)
        remarks = source.remarks()
    for one in remarks:
        output.note(one)
    if remarks:
        raise NodeError("some of the table is missing in what was written")


@contextmanager
def _written(path: Optional[str]) -> Iterator[BinaryIO]:
    """Where to write. A file has its name once it is whole; what is no file, such as a pipe or
    ``/dev/null``, stays what it is."""
    if path is None:
        out = sys.stdout.buffer
        yield out
        out.flush()
        return
    path = os.path.realpath(path)
    part = f"{path}.part"
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as there:
                yield there
            return
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as problem:
        if isinstance(problem, BrokenPipeError):
            raise
        raise NodeError(f"--output {path}: {problem.strerror}") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as problem:
            raise NodeError(f"{path}: {problem.strerror}") from None
        yield file


def told_format(begin: bytes) -> str:
    """The name of the format of what begins so."""
    begin = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith(b"{"):
        return "json"
    if begin.startswith(b"PAR1"):
        return "parquet"
    if begin.startswith((b"set table ", b"prompt")):
        return "haproxy"
    return "csv"


def _begin(stream: BinaryIO) -> bytes:
    """Some of the first bytes of a stream, which has them still."""
    if stream.seekable():
        begin = stream.read(_PEEKED)
        stream.seek(0)
        return begin
    peek: Callable[[int], bytes] = cast(Any, stream).peek
    return peek(_PEEKED)


@click.command("import", short_help="Entries of a file, into a table.")
@click.argument("path", metavar="[FILE]", default="-", type=click.Path())
@click.option(
    "--table",
    type=TableType(),
    metavar="TABLE",
    help="The table; that of the export if nothing is said.",
)
@click.option(
    "--format",
    "name",
    type=click.Choice(FORMATS),
    help="What FILE is; it is told by how it begins if nothing is said.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be wrong.")
@which_node
@json_option
def import_command(
    path: str,
    table: Optional[str],
    name: Optional[str],
    dry_run: bool,
    as_json: bool,
    **_: object,
) -> None:
    """Set entries of a table as FILE has them, or the standard input, here and on all HAProxies.

    Values that are not in it stay as they are. An entry lives for what is left of its time; one
    whose time is over is left out. What could not be taken is named, and the rest is taken.

    \b
    peerproto import rates.json
    peerproto export rates --node lb1.sock | peerproto import --node lb2.sock
    """
    with _opened(path) as stream, asked_node() as node:
        form = format_of(name or told_format(_begin(stream)))
        reading = form.read(stream)
        wanted = table if table is not None else reading.name
        if wanted is None:
            raise NodeError(f"{path}: it does not say of which table it is: --table does")
        info = table_of(node, wanted)
        check_free(info)
        target: Target = NodeTarget(node, info)
        if dry_run:
            target = Nowhere(target.table)
        tally = _brought(reading, target, f"{visible(info.name)}: importing", None)
    _end(tally, as_json)


@click.command("copy", short_help="A table of a node or a file, into another one.")
@table_argument
@_from_where
@click.option(
    "--to",
    "to",
    type=FileType(),
    metavar="NODE",
    help="The node that is to have it, as --node says it.",
)
@click.option(
    "--to-token-file", type=FileType(), metavar="FILE", help="File with the token of that node."
)
@click.option(
    "--to-file",
    type=FileType(),
    metavar="FILE",
    help="The file that is to have it: no node may have it.",
)
@click.option("--as", "name", metavar="TABLE", help="The name of the table there, if it differs.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be wrong.")
@json_option
def copy_command(
    table: str,
    file: Optional[str],
    filters: tuple[str, ...],
    prefix: Optional[str],
    network: Optional[str],
    peer: Optional[str],
    in_order: bool,
    to: Optional[str],
    to_token_file: Optional[str],
    to_file: Optional[str],
    name: Optional[str],
    dry_run: bool,
    as_json: bool,
    **_: object,
) -> None:
    """Copy TABLE of a node or of the file of [storage] to another node, or into another file.

    A node has to have the table; in a file it is made.

    \b
    peerproto copy rates --node /run/peerproto.sock --to https://other:8404 --to-token-file token
    peerproto copy rates --file tables.db --to /run/peerproto.sock
    """
    if (to is None) == (to_file is None):
        raise click.UsageError("one of them: --to NODE, or --to-file FILE")
    with ExitStack() as stack:
        source = stack.enter_context(_source(table, file, filters, prefix, network, peer, in_order))
        target: Target
        if to_file is not None:
            if file is not None and _same(file, to_file):
                raise NodeError(f"--to-file: read '{to_file}', expected another file than --file")
            declared = source.table if name is None else source.table.named(typed(name))
            if dry_run:
                target = Nowhere(declared)
            else:
                target = stack.enter_context(file_target(to_file, declared))
        else:
            node = stack.enter_context(closing(node_at(to, to_token_file)))
            info = table_of(node, source.table.json["name"] if name is None else name)
            check_free(info)
            target = NodeTarget(node, info)
            if dry_run:
                target = Nowhere(target.table)
        what = f"{visible(typed(table))}: copying"
        tally = _brought(_Copied(source), target, what, source.total)
        for one in source.remarks():
            output.note(one)
            tally.failed += 1
    _end(tally, as_json)


class _Copied(Reading):
    """The entries of a source, as if they were read from lines."""

    unit = "entry"

    def __init__(self, source: Source) -> None:
        self.table = source.table
        self.name = None
        self._source = source

    def lines(self, layout: Any) -> Iterator[Line]:
        """See `Reading`."""
        for number, entry in enumerate(self._source.entries(), 1):
            yield Line(number, entry)


def _same(one: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(one, other)


def _brought(reading: Reading, target: Target, what: str, total: Optional[int]) -> Tally:
    shown = sys.stderr.isatty()

    def watched(lines: Iterator[Line]) -> Iterator[Line]:
        return output.counted(lines, what, total, shown)

    return bring_all(reading, target, output.note, watched)


def _end(tally: Tally, as_json: bool) -> None:
    """Say what became of entries; with a status of 1 if some were not taken."""
    if as_json:
        output.document({"taken": tally.taken, "expired": tally.expired, "failed": tally.failed})
    else:
        click.echo(tally.words)
    if tally.failed:
        sys.stdout.flush()
        sys.exit(1)

"""What is printed: tables for people, JSON for programs, and progress of what takes long."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Final, Optional, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from peerproto.terminal.text import life, visible
from peerproto.terminal.values import EntryInfo, Json

T = TypeVar("T")

SOON: Final = 1.0
"""Seconds after which it is shown that something goes on."""

FIRST: Final = 500
"""Entries that are looked at before the first is printed, for the widths of columns."""

_WIDE: Final = 10_000
"""Width of what is no terminal: nothing is wrapped or cut there."""


def screen(error: bool = False) -> Console:
    """Where something is printed: with colours and a width if it is a terminal."""
    console = Console(stderr=error, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(
            stderr=error,
            highlight=False,
            markup=False,
            emoji=False,
            width=_WIDE,
            color_system=None,
        )
    return console


def note(text: str) -> None:
    """Say something beside the output."""
    click.echo(text, err=True)


def as_json(value: Any) -> None:
    """Print an object in JSON: of more than one, each on a line of its own."""
    click.echo(_in_a_line(value), nl=False)


def _in_a_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True) + "\n"


def document(value: Any) -> None:
    """Print one document in JSON."""
    click.echo(json.dumps(value, ensure_ascii=True, indent=2))


def json_lines(values: Iterable[Json]) -> int:
    """Print objects, one on a line: how many."""
    count = 0
    for value in values:
        sys.stdout.write(_in_a_line(value))
        count += 1
    return count


def listing(heads: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int] = ()) -> None:
    """Print a table that is not long. Cells are texts as they are to be seen, or ``Text``.

    :param right: the columns that stand to the right.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, head in enumerate(heads):
        last = number == len(heads) - 1
        table.add_column(
            Text(head), justify="right" if number in right else "left", no_wrap=not last
        )
    for row in rows:
        table.add_row(*[one if isinstance(one, Text) else Text(str(one)) for one in row])
    console = screen()
    with console.capture() as captured:
        console.print(table)
    # Blanks at the ends of lines are of no use to anybody.
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True)


def entries(found: Iterable[EntryInfo], names: Sequence[str], per_peer: bool) -> int:
    """Print entries in columns as they come: how many. Of a table that is too wide for the
    terminal, each entry has the values that are not 0, with their names."""
    rest = iter(found)
    first = list(islice(rest, FIRST))
    if not first:
        return 0
    heads = ["key", *(["peer"] if per_peer else []), "expires", *names]

    def cells(entry: EntryInfo) -> list[str]:
        peer = [visible(entry.peer or "")] if per_peer else []
        values = [_value(entry.values.get(name)) for name in names]
        return [visible(entry.key), *peer, life(entry.expires_in), *values]

    widths = [
        max(cell_len(one) for one in column)
        for column in zip(heads, *(cells(entry) for entry in first))
    ]
    left = 2 if per_peer else 1
    console = screen()
    short = console.is_terminal and sum(widths) + 2 * len(widths) > console.width
    if short:
        heads = [*heads[: left + 1], "values that are not 0"]

    def line(row: list[str]) -> str:
        end = len(row) - 1
        return "  ".join(
            one if number == end and short else _filled(one, widths[number], number >= left)
            for number, one in enumerate(row)
        )

    click.echo(click.style(line(heads), bold=True))
    count = 0
    for entry in chain(first, rest):
        count += 1
        row = cells(entry)
        if short:
            said = [
                f"{name}={_value(value)}"
                for name in names
                if (value := entry.values.get(name)) not in (0, None)
            ]
            row = [*row[: left + 1], " ".join(said)]
        # `click.echo` would flush each line.
        sys.stdout.write(line(row).rstrip() + "\n")
    return count


def _filled(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks


def _value(value: Any) -> str:
    return "-" if value is None else visible(str(value))


def shows_progress() -> bool:
    """Whether a terminal has room for a progress: not where the output goes to it as well."""
    return sys.stderr.isatty() and not sys.stdout.isatty()


def counted(found: Iterable[T], what: str, total: Optional[int], shown: bool) -> Iterator[T]:
    """The same things, with a bar that tells how many have come, from a second on: also if none
    has."""
    if not shown:
        yield from found
        return
    bar = _bar(MofNCompleteColumn())
    task = bar.add_task(what, total=total)
    with _soon(bar):
        for number, one in enumerate(found, 1):
            if number % 100 == 0:
                bar.update(task, completed=number)
            yield one


def awaited(found: Iterable[T], what: str, first: int) -> Iterator[T]:
    """The same things; that the first ones are waited for is shown, from a second on. What comes
    then is printed where that was shown."""
    rest = iter(found)
    with waiting(what):
        begun = list(islice(rest, first))
    yield from begun
    yield from rest


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something goes on, from a second on, until it is done."""
    if not sys.stderr.isatty():
        yield
        return
    bar = _bar()
    bar.add_task(what, total=None)
    with _soon(bar):
        yield


@contextmanager
def _soon(bar: Progress) -> Iterator[None]:
    """Show a bar from a second on, whatever is waited for meanwhile."""
    timer = threading.Timer(SOON, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _bar(*more: Any) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *more,
        TimeElapsedColumn(),
        console=screen(error=True),
        transient=True,
    )

"""``peerproto decode``: a recorded session as messages."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import click
from rich.console import Console
from rich.progress import Progress

from peerproto.terminal.decode.lines import Apart, as_json, as_text
from peerproto.terminal.decode.recording import DAMAGED, Heard, NotReadable, heard
from peerproto.terminal.decode.source import Source
from peerproto.terminal.decode.told import BREAKS
from peerproto.wire.frames import MAX_PAYLOAD
from peerproto.wire.printable import printable

_QUIET: Final = 1.0
"""Seconds after which it is shown how far it is."""


@click.command(short_help="Show a recorded session as messages.")
@click.argument("recording", metavar="FILE|-", type=click.File("rb"))
@click.option("--json", "json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--interleaved",
    is_flag=True,
    help="Show the connections of a capture as they went on, not one after the other.",
)
@click.option(
    "--bufsize",
    type=click.IntRange(1024, 1 << 24),
    default=MAX_PAYLOAD,
    show_default=True,
    help="The tune.bufsize of the HAProxies: no message is longer.",
)
def decode(recording: BinaryIO, json: bool, interleaved: bool, bufsize: int) -> None:
    """Show a recorded session of peers as messages.

    FILE has the bytes that one side has sent, or packets: a pcap or pcapng, as tcpdump -w writes
    it. A dash stands for what comes through a pipe.

    The status is 0, or 1 if something breaks the protocol or the file is damaged, or 2 if it is no
    recording.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    colour = out.isatty() and "NO_COLOR" not in os.environ
    broken = False

    def each(found: Iterator[Heard]) -> Iterator[Heard]:
        nonlocal broken
        for one in found:
            broken = broken or one.told.kind in (BREAKS, DAMAGED)
            yield one

    try:
        with _progress(recording) as tell:
            all_heard = each(heard(Source(recording, tell), bufsize))
            if json:
                for one in all_heard:
                    out.write(f"{as_json(one)}\n")
            elif interleaved:
                for one in all_heard:
                    out.write(f"{as_text(one, colour, True)}\n")
            else:
                with Apart(out.write) as apart:
                    for one in all_heard:
                        apart.add(one, f"{as_text(one, colour, False)}\n")
        out.flush()
    except NotReadable as problem:
        name = printable(str(getattr(recording, "name", "<stdin>")))
        click.echo(f"{name}: {problem}", err=True)
        sys.exit(2)
    sys.exit(1 if broken else 0)


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], object]]:
    """Show how much of a file was read, where that does not disturb anybody."""
    try:
        size = os.fstat(file.fileno()).st_size
    except OSError:
        size = 0
    if not size or sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("decode", total=size, visible=False)
        began = time.monotonic()

        def tell(offset: int) -> None:
            progress.update(task, completed=offset, visible=time.monotonic() - began > _QUIET)

        yield tell


if __name__ == "__main__":
    decode()

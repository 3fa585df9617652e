"""The program: its commands, and how it ends."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any, Final, NoReturn, Optional

import click
from click.shell_completion import add_completion_class, get_completion_class

import peerproto
from peerproto.terminal.asking import which_node
from peerproto.terminal.checking import check
from peerproto.terminal.completing import Bash
from peerproto.terminal.decoding import decode
from peerproto.terminal.node import NodeError
from peerproto.terminal.reading import aggregates, node_command, peers, show, tables
from peerproto.terminal.top.command import top
from peerproto.terminal.transfer.commands import copy_command, export_command, import_command
from peerproto.terminal.watching import watch
from peerproto.terminal.writing import count_command, forget_command, set_command

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""

NO_READER: Final = 141
"""The exit code where nobody reads the output any more, as shells have it."""

_EPILOG: Final = """\
\b
Exit codes:
  0  it is done
  1  the node says no, or there is no such thing
  2  the command line is wrong
  3  no node answers
  130  Ctrl-C
  141  nobody reads the output any more
"""


class _NoReader(Exception):
    """Nobody reads the output any more. (By itself click takes that for any failure.)"""


class _Program(click.Group):
    """Ends with a line about what is wrong, and never with a traceback of something usual."""

    def invoke(self, ctx: click.Context) -> Any:
        """See ``click.Group``."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            raise _NoReader from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See ``click.Group``."""
        kwargs["prog_name"] = "peerproto"
        kwargs["standalone_mode"] = False
        try:
            super().main(*args, **kwargs)
        except NodeError as problem:
            self._end(f"peerproto: {problem}", problem.status)
        except click.ClickException as problem:
            problem.show()
            self._end(None, problem.exit_code)
        except (click.Abort, KeyboardInterrupt):
            self._end(None, INTERRUPTED)
        except _NoReader:
            # What is left in the buffers has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._end(None, NO_READER)
        sys.exit(0)

    def _end(self, said: Optional[str], status: int) -> NoReturn:
        if said is not None:
            click.echo(said, err=True)
        sys.exit(status)


@click.group(
    cls=_Program,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@partial(which_node, by_environment=True)
@click.version_option(peerproto.__version__, prog_name="peerproto")
def program(**_: object) -> None:
    """Stick tables of a node, and of the HAProxies behind it.

    Without --node, the node is the one whose runtime socket is
    /run/peerproto/peerproto.sock or /run/peerproto.sock.
    """


@click.command(short_help="The script by which a shell completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """The script by which SHELL completes commands, tables, keys and columns.

    \b
    eval "$(peerproto completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(program, {}, "peerproto", "_PEERPROTO_COMPLETE").source())


for _command in (
    tables,
    show,
    peers,
    aggregates,
    node_command,
    set_command,
    count_command,
    forget_command,
    watch,
    top,
    decode,
    check,
    export_command,
    import_command,
    copy_command,
    completion,
):
    program.add_command(_command)
add_completion_class(Bash)

"""Where the program ``peerproto`` begins: it needs packages that a node does not."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from typing import Final

NEEDED: Final = ("click", "httpx", "rich", "textual")
"""The packages of ``pip install 'peerproto[terminal]'``."""


def main() -> None:
    """Run the program; or say what is to be installed for it."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"peerproto needs {', '.join(missing)}: pip install 'peerproto[terminal]'")
    from peerproto.terminal.program import program

    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding lacks is no reason to end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    program()

"""check on the haproxy.cfg of each test: there is a peers.ini for it, and nothing is wrong but that
a HAProxy may know no peerproto."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from peerproto.daemon.config import Config
from peerproto.terminal.checking import check

_NO_PEERPROTO: Final = (
    "read no peer peerproto, expected a line: peer peerproto <address of this machine>:10000; add"
    " it to the section at every HAProxy, or name another peer by --localpeer"
)


def check_files(files: Iterable[Path]) -> None:
    """Have check print a peers.ini for each file of a HAProxy, and read it.

    :raises AssertionError: it cannot read a file, ends with a traceback, finds what is not
        expected, or does not find what is.
    """
    for path in files:
        text = path.read_text()
        done = CliRunner().invoke(check, [str(path)])
        expected = [f"{path}:{number}: {_NO_PEERPROTO}" for number in _without_peerproto(text)]
        said = (f"{path}\n{text}", done.output, done.exception)
        # A note is no finding: it says what HAProxy reads otherwise than it is written.
        found = [line for line in done.stderr.splitlines() if ": note: read " not in line]
        assert found == expected, said
        assert done.exit_code == (1 if expected else 0), said
        for one in done.stdout.split("# ---- another file ----"):
            # The certificate is yet to be made.
            Config.parse("peers.ini", re.sub(r"\[tls\][^\[]*", "", one))


def _without_peerproto(text: str) -> Iterator[int]:
    """The lines at which peers sections begin in which no peer can be taken for a peerproto.

    That is one of two peers, if the other one is this HAProxy; or else one that is called so.
    """
    localpeer = re.search(r"^\s+localpeer (\S+)", text, re.M)
    for section in re.finditer(r"^peers .*\n((?:[ \t].*\n|\n)*)", text, re.M):
        names = re.findall(r"^\s+(?:peer|server) (\S+)", section[1], re.M)
        others = [name for name in names if localpeer is None or name != localpeer[1]]
        named = [name for name in others if "peerproto" in name.lower()]
        if len(named) != 1 and "peerproto" not in names and len(others) != 1:
            yield text[: section.start()].count("\n") + 1

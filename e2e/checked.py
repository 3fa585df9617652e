"""check on the haproxy.cfg of each test: whatever it has, there is a peers.ini for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from click.testing import CliRunner

from peerproto.daemon.config import Config
from peerproto.terminal.checking import check


def check_files(files: Iterable[Path]) -> None:
    """Have check print a peers.ini for each file of a HAProxy, and read it.

    :raises AssertionError: it cannot read a file, or ends with a traceback.
    """
    for path in files:
        done = CliRunner().invoke(check, [str(path)])
        assert done.exit_code in (0, 1), (path.read_text(), done.output, done.exception)
        for text in done.stdout.split("# ---- another file ----"):
            # The certificate is yet to be made.
            Config.parse("peers.ini", re.sub(r"\[tls\][^\[]*", "", text))

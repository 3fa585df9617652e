"""``twist peers``: options, and the service that they ask for."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.python.usage import Options as TwistedOptions

import peerproto
from peerproto.compiled import SPEED
from peerproto.config import Config, ConfigError


class Options(TwistedOptions):
    """The options of ``twist peers``."""

    synopsis = "[--config peers.ini] [--pid-file FILE] [--soft-finish PID] [--check]"
    longdesc = "A peer in a mesh of HAProxies: reads, writes, keeps and teaches their stick tables."

    optParameters = [
        ["config", "c", "peers.ini", "The configuration file."],
        ["pid-file", "p", None, "Write our process id there, while we run."],
        [
            "soft-finish",
            "s",
            None,
            "Take over from the process with this id, losing no entry.",
            int,
        ],
    ]
    optFlags = [["check", None, "Say whether the file is good, and exit (status 1 if not)."]]

    file: Config

    def opt_version(self) -> NoReturn:
        """Display peerproto's version and exit."""
        print(f"peerproto {peerproto.__version__} ({SPEED})")
        sys.exit(0)

    def postOptions(self) -> None:
        """Read the file. An error ends the process with one line and status 1."""
        path: str = self["config"]
        try:
            self.file = Config.read(path)
        except ConfigError as problem:
            sys.exit(str(problem))
        except OSError as problem:
            sys.exit(f"{path}: cannot be read: {problem.strerror}")
        if self["check"]:
            print(f"{path}: good ({self._summary()})")
            sys.exit(0)

    def _summary(self) -> str:
        peers, tables = len(self.file.peers), len(self.file.tables)
        return f"localpeer {self.file.localpeer}, {peers} peers, {tables} tables"


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service for a configuration that was read."""
    from peerproto.daemon import Daemon

    if reactor is None:
        from twisted.internet import reactor
    return Daemon(
        options["config"], options.file, reactor, options["soft-finish"], options["pid-file"]
    )

"""``twist peers``: options, and the service that they ask for."""

from __future__ import annotations

import gc
import sys
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.python.usage import Options as TwistedOptions

import peerproto
from peerproto.daemon.config import Config, ConfigError
from peerproto.updates.compiled import SPEED


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
            for warning in self.file.warnings:
                print(warning)
            print(f"{path}: good ({self._summary()})")
            sys.exit(0)

    def _summary(self) -> str:
        file = self.file
        peers, tables = len(file.peers_but(file.localpeer)), len(file.tables)
        return f"localpeer {file.localpeer}, {peers} peers, {tables} tables"


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service for a configuration that was read."""
    from peerproto.daemon.process import Daemon
    from peerproto.daemon.shortage import end_without_memory

    if reactor is None:
        from twisted.internet import reactor

        end_without_memory()
        # What stands to the end need not be looked at in each full collection: some ms.
        gc.freeze()
    return Daemon(
        options["config"], options.file, reactor, options["soft-finish"], options["pid-file"]
    )

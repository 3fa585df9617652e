"""``twist peers``: options, and the service that they ask for."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.python.usage import Options as TwistedOptions

import peerproto
from peerproto.config import Config, ConfigError


class Options(TwistedOptions):
    """The options of ``twist peers``."""

    synopsis = "[--config peers.ini] [--check]"
    longdesc = "A peer in a mesh of HAProxies: reads, writes, keeps and teaches their stick tables."

    optParameters = [["config", "c", "peers.ini", "The configuration file."]]
    optFlags = [["check", None, "Say whether the file is good, and exit (status 1 if not)."]]

    file: Config

    def opt_version(self) -> NoReturn:
        """Display peerproto's version and exit."""
        print(f"peerproto {peerproto.__version__}")
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


class _Node(MultiService):
    """All that one ``peers.ini`` describes; it starts whole or not at all."""

    def startService(self) -> None:
        try:
            super().startService()
        except CannotListenError as problem:
            sys.exit(f"peerproto: {problem}")


def makeService(options: Options) -> IService:
    """The service for a configuration that was read."""
    from twisted.internet import reactor

    return service_for(options.file, reactor)


def service_for(config: Config, reactor: Any) -> MultiService:
    """A running node, as ``config`` describes it, on ``reactor``."""
    from twisted.internet.endpoints import serverFromString

    from peerproto.runtime.protocol import runtime_service
    from peerproto.service import StickTableService

    node = _Node()
    tables = StickTableService(
        config.localpeer,
        config.peers,
        config.tables,
        config.bind,
        learn_tables=config.learn_tables,
        reactor=reactor,
    )
    tables.setServiceParent(node)
    if config.runtime is not None:
        endpoint = serverFromString(reactor, config.runtime)
        runtime_service(tables, endpoint, reactor).setServiceParent(node)
    return node

"""The process that ``twist peers`` runs: what one ``peers.ini`` describes, and its signals.

SIGUSR1 hands over to a new process, SIGHUP reads the file again; SIGTERM and
SIGINT are the reactor's, and stop everything cleanly.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from peerproto.config import Config, ConfigError
from peerproto.runtime.protocol import runtime_service
from peerproto.service import StickTableService
from peerproto.sharing import SharingReactor
from peerproto.systemd import Notifier, Readiness


class Daemon(MultiService):
    """A `StickTableService`, its runtime socket, and the word to systemd.

    It starts whole or not at all.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        config: Config,
        reactor: Any,
        old_process: Optional[int] = None,
        pid_file: Optional[str] = None,
    ) -> None:
        """``old_process`` is the process id of the one to take over from."""
        super().__init__()
        self._path = path
        self._config = config
        self._reactor = reactor
        self._old_process = old_process
        self._pid_file = None if pid_file is None else Path(pid_file)
        sharing = SharingReactor(reactor, beside_old=old_process is not None)
        self.stick_tables = StickTableService(
            config.localpeer,
            config.peers,
            config.tables,
            serverFromString(sharing, config.bind),
            learn_tables=config.learn_tables,
            limits=config.limits,
            credentials=config.credentials,
            expect_old=old_process is not None,
            reactor=reactor,
        )
        self.stick_tables.setServiceParent(self)
        self.runtime: Optional[Any] = None
        if config.runtime is not None:
            endpoint = serverFromString(sharing, config.runtime)
            self.runtime = runtime_service(self.stick_tables, endpoint, reactor)
            self.runtime.setServiceParent(self)
        self.readiness = Readiness(self.stick_tables, reactor, Notifier())
        self.readiness.setServiceParent(self)

    def startService(self) -> None:
        """Listen, and tell the old process to stop softly.

        Ends the process with one line and status 1 if an address is taken or
        there is no old process.
        """
        try:
            super().startService()
            if self._old_process is not None:
                self.readiness.take_over()
                os.kill(self._old_process, signal.SIGUSR1)
        except CannotListenError as problem:
            sys.exit(f"peerproto: {problem}")
        except OSError as problem:
            sys.exit(f"peerproto: process {self._old_process}: {problem.strerror}")
        if self._pid_file is not None:
            self._pid_file.write_text(f"{os.getpid()}\n")
        self._on_signal(signal.SIGUSR1, self.stop_softly)
        self._on_signal(signal.SIGHUP, self.reload)

    def stopService(self) -> Deferred[Any]:
        """Stop all, and remove the pid file if it is still ours."""
        if self._pid_file is not None:
            try:
                if self._pid_file.read_text().strip() == str(os.getpid()):
                    self._pid_file.unlink()
            except OSError as problem:
                self._log.warn("pid file: {problem}", problem=problem)
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def _on_signal(self, number: signal.Signals, do: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(do))

    def stop_softly(self) -> None:
        """Hand over to the new process that listens beside us, then end: status 0, or 1."""
        if self.runtime is not None:
            self.runtime.disownServiceParent()
        self.readiness.hand_over()
        self.stick_tables.stop_softly().addCallback(self._handed_over)

    def _handed_over(self, taught: bool) -> None:
        if not taught:
            # `twist` has no way to end with a status of ours.
            self._reactor.addSystemEventTrigger("after", "shutdown", _exit_with_failure)
        self._reactor.stop()

    def reload(self) -> None:
        """Read the file again; a bad one changes nothing."""
        try:
            config = Config.read(self._path)
        except (ConfigError, OSError) as problem:
            self._log.error("nothing is changed: {problem}", problem=problem)
            return
        for name in ("localpeer", "bind", "runtime", "limits"):
            value = getattr(self._config, name)
            if getattr(config, name) != value:
                self._log.warn(
                    "{name} changes with a restart only: it stays {value}", name=name, value=value
                )
                config = attrs.evolve(config, **{name: value})
        if (config.credentials is None) != (self._config.credentials is None):
            self._log.warn("[tls] comes and goes with a restart only: it stays as it was")
            config = attrs.evolve(config, credentials=self._config.credentials)
        if config.credentials is not None:
            self.stick_tables.use_credentials(config.credentials)
        self._take_peers(config)
        self._take_tables(config)
        self._config = config
        self._log.info("{path} was read again", path=self._path)

    def _take_peers(self, config: Config) -> None:
        """Sessions with peers that stay as they are are not touched."""
        for name in self._config.peers.keys() - config.peers.keys():
            self.stick_tables.remove_peer(name)
        for name, endpoint in config.peers.items():
            if self._config.peers.get(name) != endpoint:
                self.stick_tables.add_peer(name, endpoint)

    def _take_tables(self, config: Config) -> None:
        before = {declaration.name: declaration for declaration in self._config.tables}
        after = {declaration.name: declaration for declaration in config.tables}
        for name in before.keys() - after.keys():
            self.stick_tables.remove_table(name)
        for name, declaration in after.items():
            if before.get(name) != declaration:
                self.stick_tables.declare_table(declaration)
        self.stick_tables.node.learn_tables = config.learn_tables


def _exit_with_failure() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)

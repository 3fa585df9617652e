"""The process that ``twist peers`` runs: what one ``peers.ini`` describes, and its signals.

SIGUSR1 hands over to a new process, SIGHUP reads the file again; SIGTERM and
SIGINT are the reactor's, and stop everything cleanly.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Optional, Union

import attrs
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.aggregation.relay import Relay
from peerproto.aggregation.service import Aggregation
from peerproto.connections.clock import make_monotonic
from peerproto.daemon.config import Config, ConfigError, text_of
from peerproto.daemon.oldprocess import OldProcess, OldProcessError
from peerproto.daemon.pidfile import PidFile
from peerproto.daemon.sharing import Address, SharingReactor
from peerproto.daemon.steady import Steady
from peerproto.daemon.systemd import Notifier, Readiness
from peerproto.runtime.protocol import RuntimeService, runtime_service
from peerproto.service.service import StickTableService
from peerproto.storage.errors import StorageError
from peerproto.wire.errors import PeerError

# What only some nodes have is imported by those: it takes a tenth of the time to start.
if TYPE_CHECKING:
    from peerproto.http.service import HttpService
    from peerproto.storage.keeper import StorageKeeper


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
        make_monotonic(reactor)
        self._path = path
        self._file = Steady(reactor, path, text_of, self._take)
        self._config = config
        self._reactor = reactor
        self._old_pid = old_process
        self._old: Optional[OldProcess] = None
        self._pid_file = None if pid_file is None else PidFile(pid_file)
        self._ending = False
        takes_over = old_process is not None
        sharing = SharingReactor(reactor, takes_over, self._check_address)
        self._sharing = [sharing]
        self.storage: Optional[StorageKeeper] = None
        if config.storage is not None:
            from peerproto.storage.keeper import StorageKeeper

            self.storage = StorageKeeper(config.storage, reactor, takes_over=takes_over)
        self.stick_tables = StickTableService(
            config.localpeer,
            config.peers,
            config.tables,
            serverFromString(sharing, config.bind),
            learn_tables=config.learn_tables,
            learn_columns=config.learn_columns,
            limits=config.limits,
            credentials=config.credentials,
            expect_old=takes_over,
            keeper=self.storage,
            reactor=reactor,
        )
        config.relay.begin(self.stick_tables, Relay())
        self.aggregation = Aggregation(self.stick_tables, config.aggregates, reactor)
        self.aggregation.setServiceParent(self)
        self.stick_tables.setServiceParent(self)
        self.runtime: Optional[RuntimeService] = None
        if config.runtime is not None:
            # An old process may have had its runtime socket elsewhere.
            sharing = SharingReactor(reactor, takes_over)
            self._sharing.append(sharing)
            endpoint = serverFromString(sharing, config.runtime)
            self.runtime = runtime_service(self.stick_tables, endpoint, reactor)
            self.runtime.setServiceParent(self)
        self.http: Optional[HttpService] = None
        if config.http is not None:
            # What it takes is installed: the file was read.
            from peerproto.http.service import HttpService

            sharing = SharingReactor(reactor, takes_over)
            self._sharing.append(sharing)
            endpoint = serverFromString(sharing, config.http.bind)
            self.http = HttpService(self.stick_tables, endpoint, config.http, reactor)
            self.http.setServiceParent(self)
            self._warn(config.http.warnings)
        self.readiness = Readiness(self.stick_tables, reactor, Notifier())
        self.readiness.setServiceParent(self)

    def _check_address(self, address: Address) -> None:
        if self._old is not None:
            self._old.check(address)

    def startService(self) -> None:
        """Listen, and tell the old process to stop softly.

        Ends the process with one line and status 1 if an address is taken, the pid
        file cannot be written, or there is no old process. All that can fail comes
        before the old process is told.
        """
        self._on_signal(signal.SIGUSR1, self.stop_softly)
        self._on_signal(signal.SIGHUP, self.reload)
        try:
            self._start()
        except (CannotListenError, OldProcessError, StorageError) as problem:
            self._undo_start()
            sys.exit(f"peerproto: {problem}")

    def _start(self) -> None:
        if self._old_pid is not None:
            self._old = OldProcess(self._old_pid)
        if self.storage is not None:
            # A disk that cannot be written is tried again when the tables are loaded.
            with suppress(OSError):
                self.storage.take_lock()
        super().startService()
        loading = self.storage is not None and not self._can_listen()
        if self._old is None:
            # Of two that start at once, one gets no further than here.
            if not loading:
                self._place()
            self._write_pid()
            return
        self._write_pid()
        self._place()
        self.readiness.take_over()
        self._old.stop_softly()

    def _can_listen(self) -> bool:
        """Whether it listens for peers. If it has still to load its tables, it listens once that is
        done; if it cannot then, the process ends with status 1.

        :raises CannotListenError: it cannot.
        """
        problems: list[Failure] = []
        listening = self.stick_tables.when_listening()
        listening.addErrback(problems.append)
        if problems:
            problems[0].raiseException()
        if listening.called:
            return True

        def placed(_: object) -> None:
            if problems:
                problems[0].raiseException()
            self._place()

        listening.addCallback(placed).addErrback(self._cannot_listen)
        return False

    def _cannot_listen(self, reason: Failure) -> None:
        if self._ending or not self.running:
            return
        self._log.critical("peerproto: {problem}", problem=reason.getErrorMessage())
        self._reactor.addSystemEventTrigger("after", "shutdown", _exit_with_failure)
        self._reactor.stop()

    def _place(self) -> None:
        for sharing in self._sharing:
            sharing.place()

    def _write_pid(self) -> None:
        if self._pid_file is None:
            return
        try:
            self._pid_file.write()
        except OSError as problem:
            self._pid_file = None
            self._undo_start()
            sys.exit(f"peerproto: pid file {problem.filename}: {problem.strerror}")

    def _undo_start(self) -> None:
        """Leave everything as it was: an old process goes on."""
        self._ending = True
        self.readiness.hand_over()
        for service in self:
            if isinstance(service, Service) and service.running:
                service.stopService()
        if self._pid_file is not None:
            self._with_pid_file(self._pid_file.restore)
        if self._old is not None:
            self._old.close()

    def stopService(self) -> Deferred[Any]:
        """Stop all, and remove the pid file if it is still ours."""
        self._end()
        if self._pid_file is not None:
            self._with_pid_file(self._pid_file.remove)
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def _with_pid_file(self, do: Callable[[], None]) -> None:
        try:
            do()
        except OSError as problem:
            self._log.warn("pid file: {problem}", problem=problem)

    def _on_signal(self, number: signal.Signals, do: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(do))

    def _end(self) -> None:
        """From now on signals change nothing, up to the last moment of the interpreter."""
        self._ending = True
        self._file.stop()
        for number in (signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def stop_softly(self) -> None:
        """Hand over to the new process that listens beside us, then end: status 0, or 1.

        A second time it does nothing.
        """
        if self._ending:
            return
        self._end()
        if self.runtime is not None:
            self.runtime.disownServiceParent()
        if self.http is not None:
            self.http.disownServiceParent()
        self.readiness.hand_over()
        self.stick_tables.stop_softly().addErrback(self._failed).addCallback(self._handed_over)

    def _failed(self, reason: Failure) -> bool:
        self._log.failure("the hand-over failed", reason)
        return False

    def _handed_over(self, taught: bool) -> None:
        if not self.running:  # SIGTERM came meanwhile
            return
        if not taught:
            # `twist` has no way to end with a status of ours.
            self._reactor.addSystemEventTrigger("after", "shutdown", _exit_with_failure)
        self._reactor.stop()

    def reload(self) -> None:
        """Read the file again, once it stays the same for a moment; a bad one changes nothing,
        nor does one that was cut."""
        if not self._ending:
            self._file.begin()

    def _take(self, text: Union[str, OSError]) -> None:
        try:
            if isinstance(text, OSError):
                raise text
            config = Config.whole(self._path, text)
        except (ConfigError, OSError) as problem:
            self._log.error("nothing is changed: {problem}", problem=problem)
            return
        lost = self._lost(config)
        if lost and not config.allow_empty:
            self._log.error(
                "nothing is changed: {path} takes away all {lost}; if that is meant, write"
                " allow-empty = yes in [node]",
                path=self._path,
                lost=lost,
            )
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
        before, self._config = self._config, self._with_http(self._with_storage(config))
        self._take_peers(config)
        # What is no aggregate any more leaves its tables first, then others may have them.
        self._take_part("[aggregate]", partial(self.aggregation.leave, config.aggregates))
        self._take_part("[relay]", partial(config.relay.begin, self.stick_tables, before.relay))
        self._take_tables(config)
        self._take_part("[aggregate]", partial(self.aggregation.take, config.aggregates))
        self._log.info("{path} was read again", path=self._path)

    def _with_http(self, config: Config) -> Config:
        """Take what a file says of HTTP, but for what takes a restart: what holds from now on."""
        now, then = self._config.http, config.http
        if self.http is None or now is None or then is None:
            if now is not then:
                self._log.warn("[http] comes and goes with a restart only: it stays as it was")
            return attrs.evolve(config, http=now)
        if (then.bind, then.plain) != (now.bind, now.plain):
            self._log.warn("[http] stays at {bind} until a restart", bind=now.bind)
            then = attrs.evolve(then, bind=now.bind, plain=now.plain)
        self._warn(warning for warning in then.warnings if warning not in now.warnings)
        self.http.take(then)
        return attrs.evolve(config, http=then)

    def _with_storage(self, config: Config) -> Config:
        """Take what a file says of storage, but for what takes a restart: what holds from now
        on."""
        now, then = self._config.storage, config.storage
        if self.storage is None or now is None or then is None:
            if now is not then:
                self._log.warn("[storage] comes and goes with a restart only: it stays as it was")
            return attrs.evolve(config, storage=now)
        if (then.path, then.url, then.schema) != (now.path, now.url, now.schema):
            self._log.warn("[storage] stays at {path} until a restart", path=now.place)
            then = attrs.evolve(then, path=now.path, url=now.url, schema=now.schema)
        self.storage.take(then)
        return attrs.evolve(config, storage=then)

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self._log.warn("{text}", text=warning)

    def _lost(self, config: Config) -> str:
        """What there was, and nothing of it in the new file: peers, tables, or both."""
        name = self._config.localpeer
        lost = []
        if self._config.peers_but(name) and not config.peers_but(name):
            lost.append("peers")
        if self._config.tables and not config.tables:
            lost.append("tables")
        return " and ".join(lost)

    def _take_peers(self, config: Config) -> None:
        """Sessions with peers that stay as they are are not touched."""
        service = self.stick_tables
        before = {name: peer.address for name, peer in service.peers.items()}
        after = config.peers_but(config.localpeer)
        for name in before.keys() - after.keys():
            self._take_part(f"peer {name}", partial(service.remove_peer, name))
        for name, endpoint in after.items():
            if before.get(name) != endpoint:
                self._take_part(f"peer {name}", partial(service.add_peer, name, endpoint))

    def _take_tables(self, config: Config) -> None:
        service = self.stick_tables
        before = {table.name: table.declaration for table in service.tables}
        after = {declaration.name: declaration for declaration in config.tables}
        made = [table for one in config.aggregates for table in one.made]
        for name, declared in before.items():
            if name not in {*after, *made} and declared.adopted_from is None:
                self._take_part(f"table {name}", partial(service.remove_table, name))
        service.learn(config.learn_tables, config.learn_columns)
        for name, declaration in after.items():
            known = before.get(name)
            learnt = known.learnt if known is not None and config.learn_columns else ()
            if declaration.with_columns(learnt) != known:
                self._take_part(f"table {name}", partial(service.declare_table, declaration))

    def _take_part(self, what: str, take: Callable[[], object]) -> None:
        """Take one of the changes of a file: the others do not depend on it, and it is tried
        again with the next file, since that is compared with what the service has."""
        try:
            take()
        except PeerError as problem:
            self._log.error("{what} is not changed: {problem}", what=what, problem=problem)
        except Exception:
            self._log.failure("{what} may not be as {path} has it", what=what, path=self._path)


def _exit_with_failure() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)

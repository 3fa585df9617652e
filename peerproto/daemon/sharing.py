"""Listening where another process listens already, so that one can replace the other.

TCP ports are opened with ``SO_REUSEPORT``: the new process accepts while the old
one still does. A UNIX socket is bound under another name and renamed into
place, as HAProxy does it, so that its path is never without a listener; it has
its mode before it is.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import stat
import struct
from collections.abc import Callable
from typing import Any, Final, Union

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.daemon.pathlock import alone_at

_log = Logger()

Address = Union[tuple[str, int], str]
"""Host and port, or the path of a UNIX socket."""


class SharingReactor:
    """A reactor for server endpoints, whose ports can be shared with another process.

    They are only with ``beside_old``: otherwise an address that somebody listens
    on is taken, as usual.
    """

    def __init__(
        self,
        reactor: Any,
        beside_old: bool,
        check: Callable[[Address], object] = lambda address: None,
    ) -> None:
        """``check`` is called with each address before this process listens there, and raises
        if it is not to."""
        self._reactor = reactor
        self._beside_old = beside_old
        self._check = check
        self._unplaced: list[_UNIXPort] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def place(self) -> None:
        """Put the UNIX sockets that were bound to where others look for them.

        Until then an old process has them: so this comes after all that can fail.

        :raises CannotListenError: a path cannot be taken.
        """
        while self._unplaced:
            self._unplaced.pop().place()

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """``IReactorTCP.listenTCP``, with ``SO_REUSEPORT``.

        :raises CannotListenError: the address is taken, or is none of ours.
        """
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            with _bound(family, (interface, port), self._beside_old) as listening:
                self._check(listening.getsockname()[:2])
                listening.setblocking(False)
                listening.listen(backlog)
                if self._beside_old:
                    _take_new_connections(listening)
                else:
                    # Not before: of two processes that start at once, one can listen.
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                adopted: IListeningPort = self._reactor.adoptStreamPort(
                    listening.fileno(), family, factory
                )
        except OSError as problem:
            raise CannotListenError(interface, port, problem) from problem
        return adopted

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """``IReactorSSL.listenSSL``: `listenTCP`, with TLS.

        :raises CannotListenError: see `listenTCP`.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory

        inner = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, inner, backlog, interface)

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """``IReactorUNIX.listenUNIX``; a path that a dead process left behind is free.

        The socket is at its path once `place` was called.

        :raises CannotListenError: the path is taken, or cannot be made.
        """
        try:
            self._check(address)
            _check_replaceable(address, self._beside_old)
            temporary = f"{address}.{secrets.token_hex(4)}"
            listening = _bound_unix(temporary, mode)
        except OSError as problem:
            raise CannotListenError(None, address, problem) from problem
        listening.setblocking(False)
        listening.listen(backlog)
        port = _UNIXPort(listening, factory, self._reactor, temporary, address, self._beside_old)
        port.startListening()
        self._unplaced.append(port)
        return port

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> IListeningPort:
        """``IReactorSocket.adoptStreamPort``, for what systemd has opened."""
        with socket.socket(fileno=os.dup(fileDescriptor)) as listening:
            address = listening.getsockname()
            self._check(address if addressFamily == socket.AF_UNIX else address[:2])
            if addressFamily != socket.AF_UNIX:
                adopted: IListeningPort = self._reactor.adoptStreamPort(
                    fileDescriptor, addressFamily, factory
                )
                return adopted
            ours = listening.dup()
        ours.setblocking(False)
        port = _AdoptedUNIXPort(ours, factory, self._reactor)
        port.startListening()
        return port


class _AdoptedUNIXPort(unix.Port):
    """A port of a UNIX socket that listens already.

    ``unix.Port`` sets a mode of its own, and removes the path in the end, of sockets that it
    adopts, too.
    """

    # The socket may be another process's as well.
    _shouldShutdown = False

    def __init__(self, listening: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        super().__init__(listening.getsockname(), factory, reactor=reactor)
        self._listening = listening
        self._factory = factory

    def startListening(self) -> None:
        tcp._reservedFD.reserve()
        _log.info("listening on {path}", path=self.getHost().name)
        self._factory.doStart()
        self.connected = True
        self.socket = self._listening
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self._listening.getsockname())


class _UNIXPort(_AdoptedUNIXPort):
    """A port under a temporary path, to be put into another one's place.

    In the end it removes its path, unless another socket is there by now.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: IProtocolFactory,
        reactor: Any,
        temporary: str,
        path: str,
        beside_old: bool,
    ) -> None:
        self._path = path
        self._beside_old = beside_old
        super().__init__(listening, factory, reactor)
        self._temporary = temporary
        self._inode = os.stat(temporary).st_ino

    def place(self) -> None:
        """:raises CannotListenError: the path cannot be taken."""
        try:
            with alone_at(self._path):
                # Another process may have taken it since it was looked at.
                _check_replaceable(self._path, self._beside_old)
                os.rename(self._temporary, self._path)
        except OSError as problem:
            raise CannotListenError(None, self._path, problem) from problem

    def stopListening(self, connDone: Failure = connectionDone) -> Any:
        if self._is_at(self._temporary):
            os.unlink(self._temporary)
        try:
            if self._is_at(self._path):
                with alone_at(self._path):
                    # Another process may have put its own there meanwhile.
                    if self._is_at(self._path):
                        os.unlink(self._path)
        except OSError as problem:
            # Nobody answers there from now on, so that the next process replaces it.
            _log.warn("{path} stays: {why}", path=self._path, why=problem)
        return super().stopListening(connDone)  # type: ignore[no-untyped-call]

    def _is_at(self, path: str) -> bool:
        try:
            return os.lstat(path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self._path)


def _check_replaceable(path: str, beside_old: bool) -> None:
    """:raises OSError: somebody listens there, or there is something that is no socket."""
    if not beside_old and _answers(path):
        raise OSError("somebody listens there")
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError("there is a file that is no socket")


def _bound_unix(path: str, mode: int) -> socket.socket:
    """A UNIX socket at a path, to which nobody could connect before it has its mode."""
    bound = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o777)
    try:
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(umask)
    os.chmod(path, mode)
    return bound


def _bound(family: int, address: tuple[str, int], reuse_port: bool) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_RETURN_CONSTANT: Final = 0x06


def _take_new_connections(listening: socket.socket) -> None:
    """Have the kernel give all new connections to this process, none to the old one.

    A connection that waits in the queue of a socket when that is closed is lost. So
    a program is attached to the sockets that share the port, which always chooses
    the second: it stays ours until the old one is gone. Where that cannot be
    done, a connection made in the very moment of the change may be reset.
    """
    choose_second = struct.pack("HBBI", _RETURN_CONSTANT, 0, 0, 1)
    instructions = ctypes.create_string_buffer(choose_second)
    program = struct.pack("HP", 1, ctypes.addressof(instructions))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError as problem:
        _log.warn("connections may be reset while the old process ends: {why}", why=problem)


def _answers(path: str) -> bool:
    """Whether somebody listens on a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        # Where very many wait to be accepted, nobody else can even wait.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

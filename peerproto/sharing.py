"""Listening where another process listens already, so that one can replace the other.

TCP ports are opened with ``SO_REUSEPORT``: the new process accepts while the old
one still does. A UNIX socket is bound under another name and renamed into
place, as HAProxy does it, so that its path is never without a listener.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Any, Final, Optional

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()


@attrs.frozen
class SharingReactor:
    """A reactor for server endpoints, whose ports can be shared with another process.

    They are only with ``beside_old``: otherwise an address that somebody listens
    on is taken, as usual.
    """

    _reactor: Any
    _beside_old: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """`IReactorTCP.listenTCP`, with ``SO_REUSEPORT``.

        :raises CannotListenError: the address is taken, or is none of ours.
        """
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            if not self._beside_old and port:
                _bound(family, (interface, port), reuse_port=False).close()
            listening = _bound(family, (interface, port), reuse_port=True)
            adopted = self._adopt(listening, factory, backlog)
        except OSError as problem:
            raise CannotListenError(interface, port, problem) from problem
        return adopted

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """`IReactorUNIX.listenUNIX`; a path that a dead process left behind is free.

        :raises CannotListenError: the path is taken, or cannot be made.
        """
        try:
            if not self._beside_old and _answers(address):
                raise OSError("somebody listens there")
            temporary = f"{address}.{os.getpid()}"
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(temporary)
            os.chmod(temporary, mode)
            inode = os.stat(temporary).st_ino
            port = self._adopt(listening, factory, backlog)
            os.rename(temporary, address)
        except OSError as problem:
            raise CannotListenError(None, address, problem) from problem
        return _UNIXPort(port, address, inode)

    def _adopt(
        self, listening: socket.socket, factory: IProtocolFactory, backlog: int
    ) -> IListeningPort:
        listening.setblocking(False)
        listening.listen(backlog)
        if self._beside_old and listening.family != socket.AF_UNIX:
            _take_new_connections(listening)
        with listening:
            port: IListeningPort = self._reactor.adoptStreamPort(
                listening.fileno(), listening.family, factory
            )
        return port


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
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


@implementer(IListeningPort)
@attrs.frozen
class _UNIXPort:
    """A port under the path that it was renamed to; removes it, unless it is another's by now."""

    _port: IListeningPort
    _path: str
    _inode: int

    def startListening(self) -> None:
        """It listens since it was made."""

    def stopListening(self) -> Optional[Any]:
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        return self._port.stopListening()

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self._path)

"""Listening where another process listens already, so that one can replace the other.

TCP ports are opened with ``SO_REUSEPORT``: the new process accepts while the old
one still does. A UNIX socket is bound under another name and renamed into
place, as HAProxy does it, so that its path is never without a listener.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Optional

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from zope.interface import implementer


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
            return self._adopt(_bound(family, (interface, port), reuse_port=True), factory, backlog)
        except OSError as problem:
            raise CannotListenError(interface, port, problem) from problem

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

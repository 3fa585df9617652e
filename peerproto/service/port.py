"""The port at which a service listens, and the ways to peers and to itself."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Optional, Union, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.connections.factory import QuietFactory
from peerproto.connections.handshake import AcceptingHandshake
from peerproto.connections.mesh import Mesh
from peerproto.service.listening import listen
from peerproto.service.waiters import Waiters
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.printable import printable

if TYPE_CHECKING:
    from peerproto.connections.tls import Credentials

QUEUE_TIMEOUT: Final = 0.1
"""Seconds in which an old process still accepts what waits in its queue, to close it."""

ServerEndpoint = Union[IStreamServerEndpoint, str]
ClientEndpoint = Union[IStreamClientEndpoint, str]


def read_address(what: str, text: str, read: Callable[[str], str]) -> str:
    """The description of an endpoint for an address as people write it.

    :raises LocalProtocolError: it is none; ``what`` names it.
    """
    try:
        return read(text)
    except LocalProtocolError as problem:
        raise LocalProtocolError(what, problem.read, problem.expected) from problem


class Port:
    """Where peers call the node, with TLS if the mesh has credentials."""

    _log = Logger()

    def __init__(self, mesh: Mesh, reactor: Any, bind: Optional[ServerEndpoint]) -> None:
        """``bind`` is where to listen; ``None`` to call only."""
        self._mesh = mesh
        self._reactor = reactor
        self._bind = bind
        self._port: Optional[IListeningPort] = None
        self._closed = False
        self._refuses = False
        self._closing: Optional[IDelayedCall] = None
        """Stops listening after a soft stop."""
        self._waiters: Waiters[Any] = Waiters()
        self.failure: Optional[Failure] = None
        """Why nobody can connect."""
        self._open = False

    def when_listening(self) -> Deferred[Any]:
        """Fires with the address as soon as peers can connect; with ``None`` where none can, by
        ``bind``. Fails with what listening fails with."""
        if self.failure is not None:
            return fail(self.failure)
        if self._refuses:
            return self._waiters.wait()
        if self._port is not None or (self._open and self._bind is None):
            return succeed(self.address())
        return self._waiters.wait()

    def failed(self, reason: Failure) -> None:
        """Nobody can connect, for this reason."""
        self.failure = reason
        self._waiters.fail(reason)

    def address(self) -> Any:
        """Where it listens; ``None`` if it does not."""
        return None if self._port is None else self._port.getHost()

    def accepting(self) -> Optional[AcceptingHandshake]:
        """A protocol for one connection that a peer made; ``None`` to close it."""
        return None if self._refuses else AcceptingHandshake(self._mesh)

    def open(self) -> None:
        """Listen.

        :raises CannotListenError: the address is taken.
        """
        self._refuses = self._closed = False
        self._open = True
        self.failure = None
        if self._bind is None:
            self._waiters.tell(None)
            return
        endpoint = self._bind
        if isinstance(endpoint, str):
            endpoint = serverFromString(self._reactor, endpoint)
        factory: IProtocolFactory = QuietFactory(self.accepting)
        if self._mesh.credentials is not None:
            from peerproto.connections.tls import TLSFactory

            factory = TLSFactory(factory, self._credentials, self._mesh.clock)
        what = f"peer {printable(self._mesh.node.localpeer)}"
        listen(endpoint, factory, self._listening, what, self.failed)

    def close(self) -> Deferred[Any]:
        """Listen no more; fires when that is so."""
        self._closed = True
        self._open = False
        self.failure = None
        self._waiters.cancel("the node listens no more")
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._closing = None
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

    def close_softly(self) -> None:
        """Take no one any more, and listen no more once those that wait were closed."""
        self._refuses = True
        self._closing = self._mesh.clock.callLater(QUEUE_TIMEOUT, self.close)

    # -- ways ------------------------------------------------------------

    def way_to_itself(self) -> IStreamClientEndpoint:
        """An endpoint that leads to where it listens."""
        address = self.address()
        if isinstance(address, UNIXAddress):
            return UNIXClientEndpoint(self._reactor, address.name)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
        return self.way(HostnameEndpoint(self._reactor, host, address.port))

    def way(self, endpoint: ClientEndpoint) -> IStreamClientEndpoint:
        """An endpoint that leads to a peer, with TLS if the mesh has credentials."""
        if isinstance(endpoint, str):
            endpoint = cast(IStreamClientEndpoint, clientFromString(self._reactor, endpoint))
        if self._mesh.credentials is not None:
            from peerproto.connections.tls import TLSClientEndpoint

            endpoint = TLSClientEndpoint(endpoint, self._credentials, self._mesh.clock)
        return endpoint

    def _credentials(self) -> Credentials:
        return cast("Credentials", self._mesh.credentials)

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        if self._closed:
            self.close()
            return
        host = port.getHost()
        self._log.info(
            "{peer} listens on {host}", peer=printable(self._mesh.node.localpeer), host=host
        )
        address = getattr(host, "host", None)
        if address is not None and not ip_address(address).is_loopback:
            self._warn_of_open(host)
        self._waiters.tell(host)

    def _warn_of_open(self, host: Any) -> None:
        credentials = self._mesh.credentials
        if credentials is None:
            self._log.warn("{host} is open to whoever can reach it: there is no TLS", host=host)
        elif not credentials.verify:
            self._log.warn("{host} is open to whoever can reach it: verify = none", host=host)

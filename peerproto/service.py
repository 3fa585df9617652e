"""`StickTableService`: a peer as a Twisted service."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Optional, Union, cast

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
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
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.handover import HandOver
from peerproto.interfaces import ITableObserver
from peerproto.limits import Limits
from peerproto.peering.calling import Caller
from peerproto.peering.factory import QuietFactory
from peerproto.peering.handshake import AcceptingHandshake, CallingHandshake
from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.peering.resync import Resync
from peerproto.sharedtable import SharedStickTable
from peerproto.tables.batch import Batch
from peerproto.tables.declaration import Declaration
from peerproto.tables.reception import disagreement
from peerproto.upkeep import Upkeep

if TYPE_CHECKING:
    from peerproto.peering.tls import Credentials

QUEUE_TIMEOUT: Final = 0.1
"""Seconds in which an old process still accepts what waits in its queue, to close it."""

ServerEndpoint = Union[IStreamServerEndpoint, str]
ClientEndpoint = Union[IStreamClientEndpoint, str]


class StickTableService(Service):
    """A peer in a mesh of HAProxies: listens, calls, holds the tables.

    Give it to a ``MultiService`` or an ``Application`` as a child, or call
    ``startService`` and ``stopService``.
    """

    _log = Logger()

    def __init__(
        self,
        localpeer: str,
        peers: Mapping[str, ClientEndpoint] = {},
        tables: Union[Mapping[str, str], Iterable[Declaration]] = (),
        bind: Optional[ServerEndpoint] = None,
        *,
        learn_tables: bool = True,
        expect_old: bool = False,
        limits: Optional[Limits] = None,
        credentials: Optional[Credentials] = None,
        observers: Iterable[ITableObserver] = (),
        reactor: Any = None,
        chance: Optional[random.Random] = None,
    ) -> None:
        """
        :param localpeer: our name, as HAProxy's ``peer`` line for us has it.
        :param peers: by name, where to call each; endpoints or their descriptions.
        :param tables: by name what follows ``stick-table`` in a haproxy.cfg, or
            declarations.
        :param bind: where to listen; ``None`` to call only.
        :param learn_tables: adopt tables that peers define and ``tables`` has not.
        :param expect_old: whether an old process of our name is about to hand over.
        :param limits: what a hostile network may cost.
        :param credentials: for TLS with all peers, but those on UNIX sockets.
        :param reactor: the reactor, or a clock where nothing is bound or called.
        :param chance: for the waits and choices that are random.
        :raises LocalProtocolError: a table line that cannot be read.
        """
        if reactor is None:
            from twisted.internet import reactor
        if isinstance(tables, Mapping):
            tables = [Declaration.parse(name, line) for name, line in tables.items()]
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._bind = bind
        self._expect_old = expect_old
        self._chance = chance or random.Random()
        self._observers = list(observers)
        self._stopping = False
        self._port: Optional[IListeningPort] = None
        self._flushing: Optional[IDelayedCall] = None
        self.resync = Resync(self._clock, self._chance)
        self.node = Node(
            localpeer, self.resync, tables, learn_tables, limits, self._tell, self._wake
        )
        self._upkeep = Upkeep(self.node, self._clock)
        self.node.credentials = credentials
        self.node.peers[localpeer] = Peer(localpeer, local=True)
        self._endpoints: dict[str, ClientEndpoint] = {}
        for name, endpoint in peers.items():
            if name != localpeer:
                self.add_peer(name, endpoint)
        self.started = 0
        """When the service was started, in ms of its clock."""

    # -- for applications ------------------------------------------------

    @property
    def localpeer(self) -> str:
        return self.node.localpeer

    @property
    def peers(self) -> dict[str, Peer]:
        """The remote peers by name, with what is known of them."""
        return {name: peer for name, peer in self.node.peers.items() if not peer.local}

    @property
    def tables(self) -> list[SharedStickTable]:
        """All tables, those included that were adopted from peers so far."""
        return [self.table(name) for name in self.node.tables]

    def table(self, name: str) -> SharedStickTable:
        """:raises KeyError: there is no table of this name (yet)."""
        return SharedStickTable(self.node, self.node.tables[name], self.now)

    def add_table(self, declaration: Declaration) -> SharedStickTable:
        """Share one more table.

        :raises LocalProtocolError: there is one of this name already.
        """
        self.node.add_table(declaration)
        return self.table(declaration.name)

    def declare_table(self, declaration: Declaration) -> None:
        """Share a table, or declare one anew: entries keep what both declarations store.

        With another type or length of keys, it begins anew without entries.
        """
        table = self.node.tables.get(declaration.name)
        if table is not None and disagreement(table, declaration.layout) is None:
            table.redeclare(declaration)
        else:
            self.node.remove_table(declaration.name)
            self.node.add_table(declaration)

    def remove_table(self, name: str) -> None:
        """Share a table no longer; with ``learn_tables`` a peer may bring it back."""
        self.node.remove_table(name)

    def add_peer(self, name: str, endpoint: ClientEndpoint) -> None:
        """Call one more peer, or call one at another address."""
        peer = self.node.peers.setdefault(name, Peer(name))
        peer.address = str(endpoint)
        if peer.caller is not None:
            peer.caller.stop()
        self._endpoints[name] = endpoint
        if self.running:
            self._call(peer, self._client(endpoint))

    def remove_peer(self, name: str) -> None:
        """Neither call a peer any more, nor take its calls.

        :raises KeyError: there is no such peer.
        """
        peer = self.node.peers.pop(name)
        self._endpoints.pop(name, None)
        if peer.caller is not None:
            peer.caller.stop()
        if peer.connection is not None:
            peer.connection.close("it is no peer of ours any more")

    def expect_peer(self, name: str) -> None:
        """Accept calls of a peer that we do not call ourselves."""
        self.node.peers.setdefault(name, Peer(name))

    def when_up_to_date(self) -> Deferred[str]:
        """Fires, with the reason in words, when this peer counts itself up to date.

        That is after a lesson from a peer that does, or when there was nobody
        to learn from for 5 s.
        """
        return self.resync.when_up_to_date()

    def add_observer(self, observer: ITableObserver) -> None:
        """Tell ``observer`` of all changes from now on."""
        self._observers.append(observer)

    def remove_observer(self, observer: ITableObserver) -> None:
        """:raises ValueError: it was not added."""
        self._observers.remove(observer)

    def now(self) -> int:
        """The time in ms by the service's clock."""
        return int(self._clock.seconds() * 1000)

    @property
    def tasks(self) -> int:
        """How many calls wait for their time, on the whole reactor."""
        return len(self._clock.getDelayedCalls())

    def address(self) -> Any:
        """Where the service listens; ``None`` if it does not."""
        return None if self._port is None else self._port.getHost()

    # -- Service ---------------------------------------------------------

    def startService(self) -> None:
        """Listen, call all peers, and wait for one to learn from.

        :raises CannotListenError: ``bind`` is taken.
        """
        self.started = self.now()
        self._listen()
        super().startService()
        self.resync.start(self._expect_old)
        self._upkeep.start()
        for name, endpoint in self._endpoints.items():
            self._call(self.node.peers[name], self._client(endpoint))

    def stopService(self) -> Deferred[Any]:
        """Close all sessions and the port; fires when they are closed."""
        super().stopService()
        self.resync.stop()
        self._upkeep.stop()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        closing = [self._stop_listening(), *self._hang_up("this node stops")]
        return gatherResults(closing, consumeErrors=True)

    def _stop_listening(self) -> Deferred[Any]:
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

    def _hang_up(self, why: str) -> list[Deferred[Any]]:
        """Call no more, and end all sessions."""
        closing: list[Deferred[Any]] = []
        for peer in self.node.peers.values():
            if peer.caller is not None:
                closing.append(peer.caller.stop())
            if peer.connection is not None:
                peer.connection.close(why)
        return closing

    def use_credentials(self, credentials: Credentials) -> None:
        """From the next connection on, use these, on a service that was made with others."""
        self.node.credentials = credentials

    def _way_to(self, address: Any) -> IStreamClientEndpoint:
        """From the address that we listen on to an endpoint that leads there."""
        if isinstance(address, UNIXAddress):
            return UNIXClientEndpoint(self._reactor, address.name)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
        return self._client(HostnameEndpoint(self._reactor, host, address.port))

    def stop_softly(self) -> Deferred[bool]:
        """Hand over to a new process of our name, which listens at our address by now.

        Listens no more, ends the sessions with remote peers, and teaches the new
        process. Fires with whether that one has learnt everything; the service
        is to be stopped then in either case.
        """
        self._log.info("{peer} stops softly", peer=self.localpeer)
        address = self.address()
        self.resync.stop()
        self._stopping = True
        self._clock.callLater(QUEUE_TIMEOUT, self._stop_listening)
        self._hang_up("it stops softly")
        if address is None:
            return succeed(False)
        return HandOver(self.node, self._clock, self._way_to(address)).start()

    def accepting(self) -> Optional[AcceptingHandshake]:
        """A protocol for one connection that a peer made to us; ``None`` to close it."""
        return None if self._stopping else AcceptingHandshake(self.node, self._clock)

    def _listen(self) -> None:
        if self._bind is None:
            return
        endpoint = self._bind
        if isinstance(endpoint, str):
            endpoint = serverFromString(self._reactor, endpoint)
        problems: list[Failure] = []
        factory: IProtocolFactory = QuietFactory(self.accepting)
        if self.node.credentials is not None:
            from peerproto.peering.tls import TLSFactory

            factory = TLSFactory(factory, self._credentials, self._clock)
        listening = endpoint.listen(factory)
        listening.addCallbacks(self._listening, problems.append)
        if problems:
            problems[0].raiseException()

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        host = port.getHost()
        self._log.info("{peer} listens on {host}", peer=self.localpeer, host=host)
        address = getattr(host, "host", None)
        if address is not None and not ip_address(address).is_loopback:
            self._warn_of_open(host)

    def _warn_of_open(self, host: Any) -> None:
        credentials = self.node.credentials
        if credentials is None:
            self._log.warn("{host} is open to whoever can reach it: there is no TLS", host=host)
        elif not credentials.verify:
            self._log.warn("{host} is open to whoever can reach it: verify = none", host=host)

    def _credentials(self) -> Credentials:
        return cast("Credentials", self.node.credentials)

    def _call(self, peer: Peer, endpoint: IStreamClientEndpoint) -> None:
        def handshake() -> CallingHandshake:
            return CallingHandshake(self.node, self._clock, peer)

        peer.caller = Caller(peer, endpoint, QuietFactory(handshake), self._clock, self._chance)
        peer.caller.start()

    def _client(self, endpoint: ClientEndpoint) -> IStreamClientEndpoint:
        if isinstance(endpoint, str):
            endpoint = cast(IStreamClientEndpoint, clientFromString(self._reactor, endpoint))
        if self.node.credentials is not None:
            from peerproto.peering.tls import TLSClientEndpoint

            endpoint = TLSClientEndpoint(endpoint, self._credentials, self._clock)
        return endpoint

    # -- what goes on ----------------------------------------------------

    def _tell(self, batch: Batch) -> None:
        for observer in list(self._observers):
            try:
                observer.tableChanged(batch)
            except Exception:
                self._log.failure(
                    "observer {observer} failed on {batch}", observer=observer, batch=batch
                )

    def _wake(self) -> None:
        """Something was changed here: send it once this turn of the reactor is over."""
        if self._flushing is None and self.running:
            self._flushing = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        for peer in list(self.node.peers.values()):
            if peer.connection is not None:
                peer.connection.flush_safely()

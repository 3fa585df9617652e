"""`StickTableService`: a peer as a Twisted service."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, Union

from twisted.internet.defer import (
    Deferred,
    DeferredList,
    FirstError,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.connections.addresses import client_endpoint, server_endpoint
from peerproto.connections.factory import QuietFactory
from peerproto.connections.handover import HandOver
from peerproto.connections.handshake import AcceptingHandshake, CallingHandshake
from peerproto.connections.mesh import Mesh
from peerproto.peering.limits import Limits
from peerproto.peering.memory import PeerMemory
from peerproto.peering.node import Node
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.service.holder import TableHolder
from peerproto.service.keeper import IKeeper
from peerproto.service.observers import IObserver
from peerproto.service.peer import Peer
from peerproto.service.port import ClientEndpoint, Port, ServerEndpoint, read_address
from peerproto.service.status import NodeStatus
from peerproto.service.upkeep import Upkeep
from peerproto.service.waiters import Waiters
from peerproto.service.watch import Watch
from peerproto.tables.changes import Changes
from peerproto.tables.declaration import Declaration
from peerproto.wire.printable import printable

if TYPE_CHECKING:
    from peerproto.connections.tls import Credentials


class StickTableService(TableHolder):
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
        learn_columns: bool = True,
        expect_old: bool = False,
        limits: Optional[Limits] = None,
        credentials: Optional[Credentials] = None,
        observers: Iterable[IObserver] = (),
        keeper: Optional[IKeeper] = None,
        reactor: Any = None,
        chance: Optional[random.Random] = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """
        :param localpeer: our name, as HAProxy's ``peer`` line for us has it.
        :param peers: by name, where to call each: an endpoint, its description,
            ``host:port`` or ``/path``. Our own name may be among them, as in HAProxy's
            ``peers`` section, and is not called.
        :param tables: by name what follows ``stick-table`` in a haproxy.cfg, or
            declarations.
        :param bind: where to listen; ``None`` to call only.
        :param learn_tables: adopt tables that peers define and ``tables`` has not.
        :param learn_columns: store what peers store beyond the lines of ``tables``.
        :param expect_old: whether an old process of our name is about to hand over.
        :param limits: what a hostile network may cost.
        :param credentials: for TLS with all peers, but those on UNIX sockets.
        :param keeper: fills the tables before the node listens, and keeps them when it stops.
        :param reactor: the reactor, or a clock where nothing is bound or called.
        :param chance: for the waits and choices that are random.
        :param wall_clock: seconds since the epoch; see `NodeTime`.
        :raises LocalProtocolError: a table line or an address that cannot be read, or a name with
            white space or control characters.
        """
        if reactor is None:
            from twisted.internet import reactor
        if isinstance(bind, str):
            bind = read_address("bind", bind, server_endpoint)
        if isinstance(tables, Mapping):
            tables = [Declaration.parse(name, line) for name, line in tables.items()]
        self._expect_old = expect_old
        self._chance = chance or random.Random()
        self._handover: Optional[HandOver] = None
        self._up_to_date_waiters: Waiters[str] = Waiters()
        self._keeper = keeper
        self._loading: Optional[Deferred[Any]] = None
        """What the keeper does before the node listens."""
        self._loaded_once = self._stops_softly = False
        self._not_loaded: Optional[str] = None
        """Why the keeper could not fill the tables."""
        node = Node(
            localpeer,
            self._log,
            tables,
            learn_tables=learn_tables,
            learn_columns=learn_columns,
            limits=limits,
            chance=self._chance,
        )
        mesh = Mesh(node, reactor, self._tell, self._resynced, self._peer_moved, self._chance)
        super().__init__(node, mesh, reactor, observers, self._resynced, wall_clock)
        self.mesh.credentials = credentials
        self._port = Port(self.mesh, reactor, bind)
        self._watch = Watch(self._clock, lambda: self.up_to_date)
        self._upkeep = Upkeep(self.node, self._clock, self.changed)
        self._resync_told = ("", "")
        """What observers were told of the resync last."""
        self._peers: dict[str, Peer] = {}
        self._endpoints: dict[str, ClientEndpoint] = {}
        for name, endpoint in peers.items():
            if name != localpeer:
                self.add_peer(name, endpoint)
        self.started = 0
        """When the service was started, in ms of its clock."""

    # -- for applications ------------------------------------------------

    @property
    def localpeer(self) -> str:
        """The name by which peers know this node."""
        return self.node.localpeer

    @property
    def peers(self) -> dict[str, Peer]:
        """The remote peers by name, with what is known of them."""
        return dict(self._peers)

    def add_peer(self, name: str, endpoint: ClientEndpoint) -> None:
        """Call one more peer, or call one at another address.

        :param endpoint: an endpoint, its description, ``host:port`` or ``/path``.
        :raises LocalProtocolError: the name is our own, has white space or control characters, or
            the text is no address.
        """
        if isinstance(endpoint, str):
            endpoint = read_address(f"address of peer {name}", endpoint, client_endpoint)
        client = self._port.way(endpoint) if self._begun else None
        peer = self._expect(name)
        link = self.mesh.link(peer)
        link.address = str(endpoint)
        link.stop_calling("it is called at another address")
        self._endpoints[name] = endpoint
        if client is not None:
            self._call(peer, client)

    def remove_peer(self, name: str) -> None:
        """Neither call a peer any more, nor take its calls.

        :raises KeyError: there is no such peer.
        """
        peer, handle = self.node.peers[name], self._peers[name]
        self._endpoints.pop(name, None)
        self.mesh.forget(peer, "it is no peer of ours any more")
        del self._peers[name]
        self.node.forget(peer, self.now())
        self._watch.forget(handle, "it is no peer of ours any more")
        self.dispatcher.tell("peer_removed", handle)
        self.mesh.resync_moved()

    def expect_peer(self, name: str) -> None:
        """Accept calls of a peer that we do not call ourselves.

        :raises LocalProtocolError: the name is our own, or has white space or control characters.
        """
        self._expect(name)

    def _expect(self, name: str) -> PeerMemory:
        """What is remembered of the peer of this name, whether it is known or new."""
        peer = self.node.expect(name, self.now())
        if name not in self._peers:
            handle = self._peers[name] = Peer(self.mesh, peer)
            self.dispatcher.tell("peer_added", handle)
            self.mesh.resync_moved()
        return peer

    @property
    def resync(self) -> Resync:
        """From whom this node learns, and whether it is up to date."""
        return self.node.resync

    def when_up_to_date(self) -> Deferred[str]:
        """Fires, with the reason in words, when this peer counts itself up to date.

        That is after a lesson from a peer that does, or when there was nobody
        to learn from for 5 s. Fails with ``CancelledError`` when the service stops.
        """
        if self.up_to_date:
            return succeed(self.resync.reason)
        return self._up_to_date_waiters.wait()

    def when_listening(self) -> Deferred[Any]:
        """Fires with the address as soon as peers can connect, or with ``None`` without ``bind``.

        Fails with what listening fails with, as with ``CannotListenError``, and with
        ``CancelledError`` when the service stops.
        """
        return self._port.when_listening()

    def when_delivered(
        self, peers: Optional[Collection[str]] = None, tables: Optional[Collection[str]] = None
    ) -> Deferred[None]:
        """Fires when peers have acked all that was changed here so far.

        A peer that is away is waited for. One that has not got a table acks nothing of it:
        name the ``tables`` that the peers have. Changes of entries that are gone by now do not
        count; nor do peers and tables that are removed meanwhile.

        Fails with ``CancelledError`` when the service stops.

        :param peers: names of peers; ``None`` for all that there are.
        :param tables: names of tables; ``None`` for all that there are.
        :raises KeyError: there is no such peer, or no such table.
        """
        names = {
            self.node.tables[name].name for name in (self.node.tables if tables is None else tables)
        }
        handles = [self._peers[name] for name in (self._peers if peers is None else peers)]

        def delivered(peer: Peer) -> Deferred[Optional[Failure]]:
            mine = [one for one in peer.tables() if one.name in names]
            return self._watch.delivered(peer, mine).addErrback(
                lambda reason: reason if self._peers.get(peer.name) is peer else None
            )

        waiting = gatherResults([delivered(peer) for peer in handles], consumeErrors=True)
        return waiting.addCallbacks(lambda _: None, _first_failure)

    def when_in_step(self, name: str) -> Deferred[None]:
        """Fires when this node is up to date, and there is no reason to call the peer of this name
        out of step: see `Peer.out_of_step`. A peer that has just come is given a second to ask for
        a lesson. Of a table that the peer is not known to have, nothing is said.

        Fails with ``CancelledError`` when the service stops, or the peer is removed.

        :raises KeyError: there is no such peer.
        """
        return self._watch.in_step(self._peers[name])

    @property
    def up_to_date(self) -> bool:
        """Whether it counts itself up to date: it learns from nobody, and is not about to ask."""
        return self._begun and self.resync.up_to_date and not self._renewal.ahead

    def _peer_moved(self, session: Session, why: Optional[str]) -> None:
        """A session has begun, or is over for a reason in words."""
        handle = self._peers.get(session.peer.name)
        if handle is None or session.peer.local:
            return
        self._watch.look(handle)
        if why is None:
            self.dispatcher.tell("peer_connected", handle)
        else:
            self.dispatcher.tell("peer_disconnected", handle, why)

    def _resynced(self) -> None:
        self._watch.look_at_all()
        resync = (self.resync.state.name.lower(), self.resync.reason)
        if resync != self._resync_told:
            self._resync_told = resync
            self.dispatcher.tell("resync_moved", *resync)
        if self.up_to_date:
            self._up_to_date_waiters.tell(self.resync.reason)

    def status(self) -> NodeStatus:
        """The node, its peers and its tables, as they are now."""
        resync = self.resync
        return NodeStatus(
            localpeer=self.localpeer,
            running=bool(self.running),
            uptime=self.now() - self.started if self.running else 0,
            up_to_date=self.up_to_date,
            resync=resync.state.name.lower(),
            resync_in_words=resync.state.value,
            reason=resync.reason,
            peers={name: peer.status() for name, peer in self._peers.items()},
            tables={name: self.table(name).status() for name in self.node.tables},
            parts=self.parts.status(),
        )

    def address(self) -> Any:
        """Where the service listens; ``None`` if it does not."""
        return self._port.address()

    def not_ready(self) -> list[str]:
        """Every reason why this node is not ready to be relied on, in words.

        It does not run, nobody can connect, it has still to learn, or a part of it is not ready.
        """
        if not self.running:
            return ["it does not run"]
        if not self._begun:
            return ["its tables are being filled"]
        reasons = []
        if self._not_loaded is not None:
            reasons.append(f"its tables could not be filled: {self._not_loaded}")
        if self._port.failure is not None:
            reasons.append(f"nobody can connect: {self._port.failure.getErrorMessage()}")
        if not self.up_to_date:
            reasons.append(f"{self.resync.state.value}: {self.resync.reason}")
        return [*reasons, *self.parts.not_ready()]

    # -- Service ---------------------------------------------------------

    def startService(self) -> None:
        """Listen, call all peers, and wait for one to learn from; with a keeper, as soon as it has
        filled the tables.

        :raises CannotListenError: ``bind`` is taken. With a keeper, `when_listening` fails
            instead.
        """
        self.started = self.now()
        self._not_loaded = None
        self._stops_softly = False
        if self._keeper is None:
            self._open()
        super().startService()
        self.dispatcher.start()
        if self._keeper is None:
            self._begin()
        else:
            self._loaded_once = True
            self._loading = loading = maybeDeferred(self._keeper.load, self)
            loading.addErrback(self._cannot_load, loading)
            loading.addCallback(self._loaded, loading)

    def _open(self) -> None:
        try:
            self._port.open()
        except Exception:
            self._port.failed(Failure())
            raise

    def _cannot_load(self, reason: Failure, loading: Deferred[Any]) -> None:
        # If it is another one by now, the service has stopped meanwhile.
        if loading is self._loading:
            self._not_loaded = reason.getErrorMessage()
            self._log.failure("the keeper cannot fill the tables: they are as they are", reason)

    def _loaded(self, _: object, loading: Deferred[Any]) -> None:
        if loading is not self._loading or self._stops_softly:
            # The service has stopped meanwhile, and may have started again.
            return
        self._loading = None
        try:
            self._open()
        except Exception:
            self._log.failure("{peer} cannot listen", peer=printable(self.localpeer))
        self._begin()

    def _begin(self) -> None:
        self._begun = True
        self.mesh.start(self._expect_old)
        self._upkeep.start()
        for name, endpoint in self._endpoints.items():
            self._call(self.node.peers[name], self._port.way(endpoint))

    def stopService(self) -> Deferred[Any]:
        """Close all connections and the port; fires when they are closed, and the keeper has
        stopped after that."""
        super().stopService()
        self._begun = False
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()
        self.mesh.stop()
        self._upkeep.stop()
        self.dispatcher.stop()
        self._work.cancel("the node stops")
        self._watch.cancel("the node stops")
        self._up_to_date_waiters.cancel("the node stops")
        if self._handover is not None:
            self._handover.stop()
            self._handover = None
        self._renewal.stop()
        closing = [self._port.close(), *self.mesh.hang_up("this node stops")]
        closing.append(self.mesh.when_closed())
        return DeferredList(closing, consumeErrors=True).addCallback(self._all_closed)

    def _all_closed(self, results: list[Any]) -> Deferred[None]:
        for closed, result in results:
            if not closed:
                self._log.failure(
                    "{peer} has not closed well", result, peer=printable(self.localpeer)
                )
        if self._keeper is None or not self._loaded_once:
            return succeed(None)
        self._loaded_once = False
        stopping = maybeDeferred(self._keeper.stop)
        return stopping.addCallbacks(lambda _: None, self._cannot_keep)

    def _cannot_keep(self, reason: Failure) -> None:
        self._log.failure("the keeper has not stopped well", reason)

    def use_credentials(self, credentials: Credentials) -> None:
        """From the next connection on, use these, on a service that was made with others."""
        self.mesh.credentials = credentials

    def stop_softly(self, way: Optional[IStreamClientEndpoint] = None) -> Deferred[bool]:
        """Hand over to a new process of our name, which listens at our address by now.

        Listens no more, ends the sessions with remote peers, and teaches the new
        process. Fires with whether that one has learnt everything; the service
        is to be stopped then in either case. ``way`` is the endpoint that leads to our
        own address, where that is neither one of TCP nor of a UNIX socket.
        """
        self._log.info("{peer} stops softly", peer=printable(self.localpeer))
        self._stops_softly = True
        if self.address() is None:
            way = None
        elif way is None:
            way = self._port.way_to_itself()
        self.resync.stop()
        self.mesh.resync_moved()
        self._port.close_softly()
        self.mesh.hang_up("it stops softly")
        if way is None:
            return succeed(False)
        self._handover = HandOver(self.mesh, way)
        return self._handover.start()

    def changed(self, batches: list[Changes]) -> None:
        """See `TableHolder.changed`: what is gone need not be acked."""
        super().changed(batches)
        if self._watch and any(batch.cause.removes for batch in batches):
            self._watch.look_at_all()

    def _tell(self, batches: list[Changes]) -> None:
        self.dispatcher.announce(batches)
        if self._watch and (not batches or any(batch.cause.removes for batch in batches)):
            # Tables may be gone, or are not sent any more.
            self._watch.look_at_all()

    def accepting(self) -> Optional[AcceptingHandshake]:
        """A protocol for one connection that a peer made to us; ``None`` to close it."""
        return self._port.accepting()

    def _call(self, peer: PeerMemory, endpoint: IStreamClientEndpoint) -> None:
        def handshake() -> CallingHandshake:
            return CallingHandshake(self.mesh, peer)

        self.mesh.dial(peer, endpoint, QuietFactory(handshake))


def _first_failure(reason: Failure) -> Failure:
    """What the first of several Deferreds failed with."""
    error = reason.check(FirstError) and reason.value
    return error.subFailure if isinstance(error, FirstError) else reason

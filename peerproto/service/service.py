"""`StickTableService`: a peer as a Twisted service."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union
from weakref import WeakValueDictionary

from twisted.application.service import Service
from twisted.internet.defer import (
    Deferred,
    FirstError,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import Cooperator, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.connections.addresses import client_endpoint, server_endpoint
from peerproto.connections.clock import milliseconds
from peerproto.connections.factory import QuietFactory
from peerproto.connections.handover import HandOver
from peerproto.connections.handshake import AcceptingHandshake, CallingHandshake
from peerproto.connections.mesh import Mesh
from peerproto.peering.limits import Limits
from peerproto.peering.memory import PeerMemory
from peerproto.peering.node import Node
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.peering.sharing import Passes, Sharing
from peerproto.service.dispatcher import Dispatcher
from peerproto.service.feed import MOST, Feed
from peerproto.service.keeper import IKeeper
from peerproto.service.nodetime import NodeTime
from peerproto.service.observers import IObserver
from peerproto.service.part import IPart
from peerproto.service.parts import Parts
from peerproto.service.peer import Peer
from peerproto.service.port import ClientEndpoint, Port, ServerEndpoint, read_address
from peerproto.service.query import Steps
from peerproto.service.renewal import Renewal
from peerproto.service.status import NodeStatus
from peerproto.service.sticktable import StickTable
from peerproto.service.upkeep import Upkeep
from peerproto.service.waiters import Waiters
from peerproto.service.watch import Watch
from peerproto.service.work import Work
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.compiled import SPEED

if TYPE_CHECKING:
    from peerproto.connections.tls import Credentials

T = TypeVar("T")

_SENT = (Cause.SET, Cause.FORGOTTEN)
"""What peers are to hear of."""


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
        :raises LocalProtocolError: a table line or an address that cannot be read.
        """
        if reactor is None:
            from twisted.internet import reactor
        if isinstance(bind, str):
            bind = read_address("bind", bind, server_endpoint)
        if isinstance(tables, Mapping):
            tables = [Declaration.parse(name, line) for name, line in tables.items()]
        self._clock: IReactorTime = reactor
        self._expect_old = expect_old
        self._chance = chance or random.Random()
        self._handover: Optional[HandOver] = None
        self._up_to_date_waiters: Waiters[str] = Waiters()
        self.time = NodeTime(reactor, wall_clock)
        """The time as people and disks read it."""
        self._keeper = keeper
        self._loading: Optional[Deferred[Any]] = None
        """What the keeper does before the node listens."""
        self._begun = False
        """Whether the node listens and calls, or has tried to."""
        self.node = Node(
            localpeer,
            self._log,
            tables,
            learn_tables=learn_tables,
            learn_columns=learn_columns,
            limits=limits,
            chance=self._chance,
        )
        self.mesh = Mesh(
            self.node, self._clock, self._tell, self._resynced, self._peer_moved, self._chance
        )
        self.mesh.credentials = credentials
        self._port = Port(self.mesh, reactor, bind)
        self.dispatcher = Dispatcher(self.node.tables, self.public, self.mesh.turns, observers)
        self._renewal = Renewal(self.mesh, self._clock, self._resynced)
        self._work = Work(self.mesh.turns)
        self.parts = Parts()
        """The features that this node has beside its tables, by name."""
        self._watch = Watch(self._clock, lambda: self._up_to_date)
        self._upkeep = Upkeep(self.node, self._clock, self.changed)
        self._resync_told = ("", "")
        """What observers were told of the resync last."""
        self._peers: dict[str, Peer] = {}
        self._tables: WeakValueDictionary[TableStore, StickTable] = WeakValueDictionary()
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

    @property
    def tables(self) -> list[StickTable]:
        """All tables, those included that were adopted from peers so far."""
        return [self.public(store) for store in self.node.tables.values()]

    def table(self, name: str) -> StickTable:
        """:raises KeyError: there is no table of this name (yet)."""
        return self.public(self.node.tables[name])

    def public(self, store: TableStore) -> StickTable:
        """The one object that an application has for a table."""
        known = self._tables.get(store)
        if known is None:
            known = self._tables[store] = StickTable(self, store)
        return known

    def add_table(self, declaration: Declaration) -> StickTable:
        """Share one more table.

        :raises LocalProtocolError: there is one of this name already.
        """
        self._share_anew(self.node.add_table(declaration), declaration.name)
        self._tell([])
        return self.table(declaration.name)

    def declare_table(self, declaration: Declaration) -> None:
        """Share a table, or declare one anew: entries keep what both declarations store.

        With ``learn_columns``, what peers store beyond the declaration stays, too.
        With another type or length of keys, it begins anew without entries. What peers
        have of it and this node has not is learnt from one of them.

        :raises LocalProtocolError: it has entries of as many earlier declarations
            as can be told from each other, which are 256.
        """
        before = self.node.tables.get(declaration.name)
        news = self.node.declare_table(declaration)
        if news is not None:
            self._share_anew(news, declaration.name)
        self._tell_gone(before)

    def remove_table(self, name: str) -> None:
        """Share a table no longer; with ``learn_tables`` a peer may bring it back."""
        before = self.node.tables.get(name)
        self.node.remove_table(name)
        self._tell_gone(before)

    def share(
        self,
        name: str,
        *,
        learn: bool = True,
        teach: bool = True,
        per_peer: bool = False,
        relay: Union[bool, Passes] = False,
        after: Optional[str] = None,
    ) -> None:
        """Share the table of this name otherwise than evenly with all peers; it need not be there
        yet. What is not said is as it is without any rules.

        :param learn: whether what peers send of it is stored.
        :param teach: whether peers are sent what is stored.
        :param per_peer: each peer has a store of its own, to learn into and to be taught from: see
            `StickTable.contributions`. The node is up to date when each peer has taught. A
            table that was shared otherwise begins anew.
        :param relay: what one peer says is passed on to the others as our change, never to where
            it came from; a function of two names tells whether what the first one says goes to
            the second. What changes nothing is not passed on; of a lesson, only entries are that
            were not known here.
        :param after: the name of a table; this one is sent to a peer only while nothing of that
            one waits to be sent to it.
        :raises LocalProtocolError: both ``per_peer`` and ``relay``, or ``after`` in a circle.
        """
        passes = _to_all if relay is True else relay or None
        before = self.node.tables.get(name)
        news = self.node.share(name, Sharing(learn, teach, per_peer, passes, after))
        if news is not None:
            self._share_anew(news, name)
        self._tell_gone(before)

    def _tell_gone(self, store: Optional[TableStore]) -> None:
        """Tell observers that a table is cleared, if it is gone: the first now, the rest in
        slices."""
        tables = self.node.tables
        self._tell([])
        if store is not None and store in tables.removed:
            self.changed([Changes(store, Cause.CLEARED, tables.discard(store), self.now())])

    def add_peer(self, name: str, endpoint: ClientEndpoint) -> None:
        """Call one more peer, or call one at another address.

        :param endpoint: an endpoint, its description, ``host:port`` or ``/path``.
        :raises LocalProtocolError: the name is our own, or the text is no address.
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

        :raises LocalProtocolError: the name is our own.
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
    def turns(self) -> Cooperator:
        """Shares the reactor among all that have much to do, a few ms a turn."""
        return self.mesh.turns

    def in_turns(self, steps: Steps[T]) -> Deferred[T]:
        """Do work in short steps, in turns with others; fires with its result.

        Fails with what a step raises, or with ``CancelledError`` when the service stops.
        """
        return self._work.do(steps)

    @property
    def limits(self) -> Limits:
        """What a hostile network may cost."""
        return self.node.limits

    @property
    def speed(self) -> str:
        """Whether the hot modules run compiled, in words."""
        return SPEED

    def learn(self, tables: bool, columns: bool) -> None:
        """From now on adopt tables of peers, or columns beyond the lines of tables, or not.

        What is adopted from now on is learnt from the peers that are connected, too.
        What was adopted before stays.
        """
        adoption = self.node.adoption
        more = [
            f"{what} of peers are adopted"
            for what, wanted, before in (
                ("tables", tables, adoption.learn_tables),
                ("columns", columns, adoption.learn_columns),
            )
            if wanted and not before
        ]
        adoption.learn_tables, adoption.learn_columns = tables, columns
        for news in more:
            self._share_anew(news)

    @property
    def resync(self) -> Resync:
        """From whom this node learns, and whether it is up to date."""
        return self.node.resync

    def when_up_to_date(self) -> Deferred[str]:
        """Fires, with the reason in words, when this peer counts itself up to date.

        That is after a lesson from a peer that does, or when there was nobody
        to learn from for 5 s. Fails with ``CancelledError`` when the service stops.
        """
        if self._up_to_date:
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
        names = {self.node.tables[name].name for name in tables or self.node.tables}
        handles = [self._peers[name] for name in (self._peers if peers is None else peers)]

        def delivered(peer: Peer) -> Deferred[Optional[Failure]]:
            changes = {one: one.log.head for one in peer.tables() if one.name in names}
            return self._watch.delivered(peer, changes).addErrback(
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
    def _up_to_date(self) -> bool:
        """Whether peers are asked for nothing, and are not about to be in another turn."""
        return self.resync.up_to_date and not self._renewal.ahead

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
        if self._up_to_date:
            self._up_to_date_waiters.tell(self.resync.reason)

    def add_observer(self, observer: IObserver) -> None:
        """Tell ``observer`` of all changes from now on."""
        self.dispatcher.observers.append(observer)

    def remove_observer(self, observer: IObserver) -> None:
        """:raises ValueError: it was not added."""
        self.dispatcher.observers.remove(observer)

    def feed(
        self,
        tables: Optional[Collection[str]] = None,
        causes: Collection[Cause] = tuple(Cause),
        most: int = MOST,
    ) -> Feed:
        """A feed of all changes from now on; `Feed.close` ends it.

        :param tables: names of tables, also of those that there are later; ``None`` for all.
        :param causes: changes for other causes are left out.
        :param most: how many changed keys it holds: see `FeedOverrun`.
        """
        feeds = self.dispatcher.feeds
        feed = Feed(self.now, self.turn, feeds.remove, tables, causes, most)
        feeds.append(feed)
        return feed

    def turn(self) -> Deferred[None]:
        """Fires in another turn of the reactor."""
        return deferLater(self._clock, 0)

    def now(self) -> int:
        """The time in ms by the service's clock: the monotonic one, whatever steps the wall
        clock makes, but for clocks of tests."""
        return milliseconds(self._clock)

    def status(self) -> NodeStatus:
        """The node, its peers and its tables, as they are now."""
        resync = self.resync
        return NodeStatus(
            localpeer=self.localpeer,
            running=bool(self.running),
            uptime=self.now() - self.started if self.running else 0,
            up_to_date=self._up_to_date,
            resync=resync.state.name.lower(),
            resync_in_words=resync.state.value,
            reason=resync.reason,
            peers={name: peer.status() for name, peer in self._peers.items()},
            tables={name: self.table(name).status() for name in self.node.tables},
            parts=self.parts.status(),
        )

    @property
    def tasks(self) -> int:
        """How many calls wait for their time, on the whole reactor."""
        return len(self._clock.getDelayedCalls())

    def address(self) -> Any:
        """Where the service listens; ``None`` if it does not."""
        return self._port.address()

    def add_part(self, name: str, part: IPart) -> None:
        """Have one more part: its status, its commands and what it measures are shown from now on
        wherever those of the node are.

        :raises LocalProtocolError: there is a part of this name, or with such a command, already.
        """
        self.parts.add(name, part)

    def remove_part(self, name: str) -> None:
        """:raises KeyError: there is no part of this name."""
        self.parts.remove(name)

    def not_ready(self) -> list[str]:
        """Every reason why this node is not ready to be relied on, in words: it has still to learn,
        or a part of it is not ready."""
        learning = [] if self._up_to_date else [f"{self.resync.state.value}: {self.resync.reason}"]
        return [*learning, *self.parts.not_ready()]

    # -- Service ---------------------------------------------------------

    def startService(self) -> None:
        """Listen, call all peers, and wait for one to learn from; with a keeper, as soon as it has
        filled the tables.

        :raises CannotListenError: ``bind`` is taken. With a keeper, `when_listening` fails
            instead.
        """
        self.started = self.now()
        if self._keeper is None:
            self._port.open()
        super().startService()
        self.dispatcher.start()
        if self._keeper is None:
            self._begin()
        else:
            self._loading = maybeDeferred(self._keeper.load, self)
            self._loading.addErrback(self._cannot_load).addCallback(self._loaded)

    def _cannot_load(self, reason: Failure) -> None:
        if self.running:
            self._log.failure("the keeper cannot fill the tables: they are as they are", reason)

    def _loaded(self, _: object) -> None:
        self._loading = None
        if not self.running:
            return
        try:
            self._port.open()
        except Exception:
            reason = Failure()
            self._log.failure("{peer} cannot listen", reason, peer=self.localpeer)
            self._port.failed(reason)
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
        if self._loading is not None:
            self._loading.cancel()
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
        closed = gatherResults(closing, consumeErrors=True)
        if self._keeper is not None:
            keeper = self._keeper
            closed.addBoth(lambda _: maybeDeferred(keeper.stop))
            closed.addErrback(self._cannot_keep)
        return closed

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
        self._log.info("{peer} stops softly", peer=self.localpeer)
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

    def accepting(self) -> Optional[AcceptingHandshake]:
        """A protocol for one connection that a peer made to us; ``None`` to close it."""
        return self._port.accepting()

    def _call(self, peer: PeerMemory, endpoint: IStreamClientEndpoint) -> None:
        def handshake() -> CallingHandshake:
            return CallingHandshake(self.mesh, peer)

        self.mesh.dial(peer, endpoint, QuietFactory(handshake))

    # -- what goes on ----------------------------------------------------

    def changed(self, batches: list[Changes]) -> None:
        """Tell observers of changes, and let sessions send what was changed here."""
        if any(batch.cause in _SENT for batch in batches):
            self.mesh.flush_soon()
        self.dispatcher.announce(batches)
        self._watch.look_at_all()

    def _tell(self, batches: list[Changes]) -> None:
        self.dispatcher.announce(batches)

    def _share_anew(self, reason: str, name: Optional[str] = None) -> None:
        """A table is shared anew, or more of what peers have: they are told after this turn."""
        if self._begun:
            self._renewal.add(reason, None if name is None else self.node.tables[name])


def _to_all(source: str, target: str) -> bool:
    """Whom a relay passes on to, if nothing else is said."""
    return True


def _first_failure(reason: Failure) -> Failure:
    """What the first of several Deferreds failed with."""
    error = reason.check(FirstError) and reason.value
    return error.subFailure if isinstance(error, FirstError) else reason

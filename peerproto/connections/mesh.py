"""The mesh of connections: through what each peer is reached, and what they all share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Optional, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import Cooperator
from twisted.logger import Logger

from peerproto.connections.admission import Admission
from peerproto.connections.clock import Turn, milliseconds
from peerproto.connections.dialing import Dialer
from peerproto.connections.protocol import SessionProtocol
from peerproto.peering.events import Event, Learnt
from peerproto.peering.memory import PeerMemory
from peerproto.peering.node import Node
from peerproto.peering.session import Session
from peerproto.tables.changes import Changes
from peerproto.tables.store import TableStore

if TYPE_CHECKING:
    from peerproto.connections.tls import Credentials


CROSSING: Final = 1000
"""Milliseconds after the begin of a session on our call, in which the peer may have called, too,
before it took that."""

_SETTLING: Final = (0.03, 0.13)
"""Bounds in s of the random time in which the caller hangs up, if the calls have crossed."""


class OpenConnection(Protocol):
    """A connection, with a session or before one."""

    def close(self, why: str) -> None:
        """Close it, for the reason in words."""


@attrs.define(eq=False)
class Link:
    """The ways between this node and one peer."""

    address: str = "-"
    """Where the peer is called, as configured."""
    dialer: Optional[Dialer] = None
    """What calls the peer; ``None`` for the local peer, and for one that is not called."""
    connection: Optional[SessionProtocol] = None
    """What the session runs on."""
    greeting: Optional[OpenConnection] = None
    """A call of ours on which we have said hello, and have no answer yet."""
    caller: Optional[OpenConnection] = None
    """A call of the peer that may have crossed ours, and is taken if it stays."""

    def crosses(self, began: Optional[int], now: int) -> bool:
        """Whether a call of the peer may have crossed ours, so that it gives its own up.

        :param began: when the last session with it began; that and ``now`` are in ms.
        """
        if self.greeting is not None:
            return True
        if self.connection is None or self.dialer is None or not self.dialer.calling:
            return False
        return began is not None and now - began < CROSSING

    def stop_calling(self, why: str) -> None:
        """Call no more at this address: a session on a call of ours ends, on one of the peer's
        it goes on."""
        if self.dialer is None:
            return
        if self.connection is not None and self.dialer.calling:
            self.connection.close(why)
        self.dialer.stop()

    def hang_up(self, why: str) -> list[Deferred[Any]]:
        """Call no more, and end the session; the Deferreds fire when all is closed."""
        closing = [] if self.dialer is None else [self.dialer.stop()]
        if self.caller is not None:
            self.caller.close(why)
        if self.connection is not None:
            self.connection.close(why)
        return closing


class Mesh:
    """All connections of a node, and the timers of its resync."""

    _log = Logger()

    def __init__(
        self,
        node: Node,
        clock: IReactorTime,
        tell: Callable[[list[Changes]], None],
        resynced: Callable[[], None],
        moved: Callable[[Session, Optional[str]], None],
        chance: Optional[random.Random] = None,
    ) -> None:
        """
        :param tell: called with what happened in the tables.
        :param resynced: called when something has happened to the node's resync.
        :param moved: called with a session that has begun, or is over for a reason in words.
        :param chance: for the waits that are random.
        """
        self.node = node
        self.clock = clock
        self._tell = tell
        self._resynced = resynced
        self._moved = moved
        self._chance = chance or random.Random()
        self.admission = Admission(node.limits, self._log)
        self.credentials: Optional[Credentials] = None
        """With them, TLS is under all connections but those on UNIX sockets."""
        self.handshakes: set[OpenConnection] = set()
        """Those that have no session yet."""
        self._open: set[OpenConnection] = set()
        self._all_closed: list[Deferred[None]] = []
        self.turns = Cooperator(Turn, partial(clock.callLater, 0))
        """Shares the reactor among all with much to do, a few ms a turn."""
        self._running = False
        self._links: dict[PeerMemory, Link] = {}
        self._flushing: Optional[IDelayedCall] = None
        self._alarm: Optional[IDelayedCall] = None

    def start(self, expect_old: bool) -> None:
        """Begin to learn: with ``expect_old`` an old process of our name is about to call."""
        self._running = True
        self.node.start(self.now(), expect_old)
        self.resync_moved()

    def now(self) -> int:
        """The time in ms."""
        return milliseconds(self.clock)

    def link(self, peer: PeerMemory) -> Link:
        """The ways to a peer."""
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link()
        return link

    def dial(
        self, peer: PeerMemory, endpoint: IStreamClientEndpoint, factory: IProtocolFactory
    ) -> None:
        """Call a peer, unless it has called us, and again whenever the connection ends."""
        link = self.link(peer)
        link.dialer = Dialer(peer, endpoint, factory, self.clock, self._chance)
        link.dialer.start(suspended=link.connection is not None)

    def settling(self) -> float:
        """How long to wait for the end of a call that may have crossed ours, in s: another time for
        each, since the other side may be a peerproto that waits, too."""
        return self._chance.uniform(*_SETTLING)

    def forget(self, peer: PeerMemory, why: str) -> None:
        """End all that there is with a peer that is none any more."""
        self.link(peer).hang_up(why)
        del self._links[peer]

    def hang_up(self, why: str) -> list[Deferred[Any]]:
        """Call no more, and end all sessions; the Deferreds fire when all is closed."""
        closing: list[Deferred[Any]] = []
        for handshake in list(self.handshakes):
            handshake.close(why)
        for link in list(self._links.values()):
            closing += link.hang_up(why)
        return closing

    # -- connections -----------------------------------------------------

    def opened(self, connection: OpenConnection) -> None:
        """A connection was made, by either side."""
        self._open.add(connection)

    def closed(self, connection: OpenConnection) -> None:
        """A connection is over, and its transport is closed."""
        self._open.discard(connection)
        if not self._open:
            waiting, self._all_closed = self._all_closed, []
            for closed in waiting:
                closed.callback(None)

    def when_closed(self) -> Deferred[None]:
        """Fires when no connection is open, whoever made it."""
        closed: Deferred[None] = Deferred()
        self._all_closed.append(closed)
        if not self._open:
            self._all_closed.remove(closed)
            closed.callback(None)
        return closed

    # -- sessions --------------------------------------------------------

    def begin(
        self,
        peer: PeerMemory,
        minor: int,
        ended: Callable[[Session, str], None],
        process: Optional[int] = None,
    ) -> SessionProtocol:
        """A handshake succeeded: what the session runs on. ``ended`` is called at its end;
        ``process`` is as `Session` has it."""
        session = self.node.begin(peer, minor, self.now(), process)
        connection = SessionProtocol(session, self.clock, self.turns, self._took, ended)
        self.link(peer).connection = connection
        return connection

    def connected(self, session: Session) -> None:
        """A session is there to learn from."""
        self.node.connected(session, self.now())
        self._moved(session, None)
        self.resync_moved()

    def _took(self, session: Session, events: Sequence[Event]) -> None:
        learnt: list[Changes] = []
        others: list[Event] = []
        for event in events:
            if not isinstance(event, Learnt):
                others.append(event)
                continue
            learnt += event.batches
            if event.relayed:
                self.flush_soon()
        # All of it is stored by now: what others do when they hear of it comes later.
        self._tell(learnt)
        for event in others:
            self._tell(self.node.took(session, event, self.now()))
            self.resync_moved()

    def ended(self, session: Session, why: str) -> None:
        """A session is over, for the reason in words: call its peer again."""
        self._tell(self.node.ended(session, why, self.now()))
        self._moved(session, why)
        link = self.link(session.peer)
        if link.connection is not None and link.connection.session is session:
            link.connection = None
        if link.dialer is not None:
            if session.call_soon:
                link.dialer.call_soon()
            link.dialer.resume()
        self.resync_moved()

    def share_anew(self, tables: Iterable[TableStore], why: str, adopt: bool) -> None:
        """More is shared than before, for the reason in words: define these tables to all
        peers, look for theirs, and learn what they have of them, if that is learnt.

        ``adopt`` is whether that holds for all that peers have defined before.
        """
        added = [table for table in tables if self.node.tables.shares(table)]
        for link in list(self._links.values()):
            if link.connection is not None:
                link.connection.look_again(added, adopt)
        if adopt or any(self.node.tables.sharing(one.name).learn for one in added):
            self.node.learn_again(why, self.now())
        self.resync_moved()

    # -- the resync ------------------------------------------------------

    def resync_moved(self) -> None:
        """Something has happened to the resync: wake it in time, and send what it asks."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        deadline = self.node.resync.deadline
        if deadline is not None:
            delay = max(0, deadline - self.now()) / 1000
            self._alarm = self.clock.callLater(delay, self._wake)
        self.flush_soon()
        self._resynced()

    def _wake(self) -> None:
        self._alarm = None
        self.node.wake(self.now())
        self.resync_moved()

    # -- writing ---------------------------------------------------------

    def flush_soon(self) -> None:
        """Let sessions send what they have to send, once this turn of the reactor is over."""
        if self._flushing is None and self._running:
            self._flushing = self.clock.callLater(0, self._flush)

    def stop(self) -> None:
        """The node stops: no timer stays behind."""
        self._running = False
        self.node.resync.stop()
        for call in (self._flushing, self._alarm):
            if call is not None:
                call.cancel()
        self._flushing = self._alarm = None

    def _flush(self) -> None:
        self._flushing = None
        for link in list(self._links.values()):
            if link.connection is not None:
                link.connection.flush_safely()

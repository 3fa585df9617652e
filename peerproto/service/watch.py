"""Who waits for something to be so between a peer and this node."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Optional

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from peerproto.connections.clock import milliseconds
from peerproto.peering.session import ASK_TIMEOUT
from peerproto.service.delivery import Delivery
from peerproto.service.peer import Peer
from peerproto.tables.store import TableStore

Holds = Callable[[Peer], bool]
"""Whether something is so with a peer."""


class Watch:
    """Deferreds that wait until something is so with a peer."""

    def __init__(self, clock: IReactorTime, is_up_to_date: Callable[[], bool]) -> None:
        """``is_up_to_date`` tells whether this node counts itself so, and asks nobody."""
        self._clock = clock
        self._is_up_to_date = is_up_to_date
        self._call: Optional[IDelayedCall] = None
        """What looks again at peers that have just come."""
        self._waiters: dict[Peer, dict[Deferred[None], Holds]] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiters)

    def in_step(self, peer: Peer) -> Deferred[None]:
        """Fires when the node is up to date, and has no reason to call the peer out of step."""
        return self._wait(peer, self._is_in_step)

    def delivered(self, peer: Peer, tables: Collection[TableStore]) -> Deferred[None]:
        """Fires when the peer has acked all that was changed in these tables so far, or what the
        same entries were changed to since. Of entries that are gone, nothing is to be acked."""
        return self._wait(peer, Delivery(tables).reached)

    def _wait(self, peer: Peer, holds: Holds) -> Deferred[None]:
        def gave_up(waiter: Deferred[None]) -> None:
            self._waiters.get(peer, {}).pop(waiter, None)
            self._mark(peer)

        waiter: Deferred[None] = Deferred(gave_up)
        self._waiters.setdefault(peer, {})[waiter] = holds
        self._mark(peer)
        self.look(peer)
        return waiter

    def _is_in_step(self, peer: Peer) -> bool:
        session = peer.session
        if session is not None and not session.taught:
            # A peer that begins empty asks for a lesson: until then it only seems to be in step.
            wait = (session.peer.established_at or 0) + ASK_TIMEOUT - milliseconds(self._clock)
            if wait > 0:
                self._look_later(wait)
                return False
        return self._is_up_to_date() and not peer.out_of_step()

    def look_at_all(self) -> None:
        """Something has happened that matters for any peer."""
        for peer in list(self._waiters):
            self.look(peer)

    def look(self, peer: Peer) -> None:
        """Something has happened with a peer: its session is watched if somebody waits."""
        for waiter, holds in list(self._waiters.get(peer, {}).items()):
            # Who was told before may have changed it, or have given up for another.
            if waiter in self._waiters.get(peer, {}) and holds(peer):
                del self._waiters[peer][waiter]
                waiter.callback(None)
        self._mark(peer)

    def _look_later(self, ms: int) -> None:
        if self._call is None:
            self._call = self._clock.callLater(ms / 1000, self._look_now)

    def _look_now(self) -> None:
        self._call = None
        self.look_at_all()

    def cancel(self, why: str) -> None:
        """Nobody waits any longer."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for peer in list(self._waiters):
            self.forget(peer, why)

    def forget(self, peer: Peer, why: str) -> None:
        """Nobody waits for this peer any longer."""
        for waiter in self._waiters.pop(peer, {}):
            waiter.errback(CancelledError(why))
        self._mark(peer)

    def _mark(self, peer: Peer) -> None:
        """Let reads of a peer be noted as long as somebody waits for it."""
        if not self._waiters.get(peer):
            self._waiters.pop(peer, None)
        if peer.session is not None:
            peer.session.watched = peer in self._waiters

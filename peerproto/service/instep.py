"""Who waits until a peer is in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from peerproto.connections.clock import milliseconds
from peerproto.peering.session import ASK_TIMEOUT
from peerproto.service.peer import Peer


class InStep:
    """Deferreds that wait for peers to be in step."""

    def __init__(self, clock: IReactorTime, is_up_to_date: Callable[[], bool]) -> None:
        """``is_up_to_date`` tells whether this node counts itself so, and asks nobody."""
        self._clock = clock
        self._is_up_to_date = is_up_to_date
        self._call: Optional[IDelayedCall] = None
        """What looks again at peers that have just come."""
        self._waiters: dict[Peer, list[Deferred[None]]] = {}

    def wait(self, peer: Peer) -> Deferred[None]:
        """Fires when the node is up to date, and has no reason to call the peer out of step."""

        def gave_up(waiter: Deferred[None]) -> None:
            if waiter in self._waiters.get(peer, ()):
                self._waiters[peer].remove(waiter)
            self._watch(peer)

        waiter: Deferred[None] = Deferred(gave_up)
        self._waiters.setdefault(peer, []).append(waiter)
        self._watch(peer)
        self.look(peer)
        return waiter

    def look_at_all(self) -> None:
        """Something has happened that may have brought any peer into step."""
        for peer in list(self._waiters):
            self.look(peer)

    def look(self, peer: Peer) -> None:
        """Something has happened with a peer: its session is watched if somebody waits."""
        if peer not in self._waiters:
            return
        session = peer.session
        if session is not None and not session.taught:
            # A peer that begins empty asks for a lesson: until then it only seems to be in step.
            wait = (session.peer.established_at or 0) + ASK_TIMEOUT - milliseconds(self._clock)
            if wait > 0:
                self._look_later(wait)
                return
        while self._is_up_to_date() and not peer.out_of_step():
            waiter = self._next(peer)
            if waiter is None:
                break
            waiter.callback(None)
        self._watch(peer)

    def _look_later(self, ms: int) -> None:
        if self._call is None:
            self._call = self._clock.callLater(ms / 1000, self._look_now)

    def _look_now(self) -> None:
        self._call = None
        self.look_at_all()

    def _next(self, peer: Peer) -> Optional[Deferred[None]]:
        """One that waits for a peer, and is to be told now."""
        waiters = self._waiters.get(peer)
        if not waiters:
            return None
        return waiters.pop(0)

    def cancel(self, why: str) -> None:
        """Nobody waits any longer."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for peer in list(self._waiters):
            self.forget(peer, why)

    def forget(self, peer: Peer, why: str) -> None:
        """Nobody waits for this peer any longer."""
        while (waiter := self._next(peer)) is not None:
            waiter.errback(CancelledError(why))
        self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        """Let reads of a peer be noted as long as somebody waits for it."""
        if not self._waiters.get(peer):
            self._waiters.pop(peer, None)
        if peer.session is not None:
            peer.session.watched = peer in self._waiters

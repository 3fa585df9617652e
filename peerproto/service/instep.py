"""Who waits until a peer is in step."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred

from peerproto.service.peer import Peer


class InStep:
    """Deferreds that wait for peers to be in step."""

    def __init__(self, is_up_to_date: Callable[[], bool]) -> None:
        """``is_up_to_date`` tells whether this node counts itself so, and asks nobody."""
        self._is_up_to_date = is_up_to_date
        self._waiters: dict[Peer, list[Deferred[None]]] = {}

    def wait(self, peer: Peer) -> Deferred[None]:
        """Fires when the node is up to date, and has no reason to call the peer out of step."""

        def gave_up(waiter: Deferred[None]) -> None:
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
        if self._is_up_to_date() and not peer.out_of_step():
            for waiter in self._taken(peer):
                waiter.callback(None)
        self._watch(peer)

    def cancel(self, why: str) -> None:
        """Nobody waits any longer."""
        for peer in list(self._waiters):
            self.forget(peer, why)

    def forget(self, peer: Peer, why: str) -> None:
        """Nobody waits for this peer any longer."""
        for waiter in self._taken(peer):
            waiter.errback(CancelledError(why))
        self._watch(peer)

    def _taken(self, peer: Peer) -> list[Deferred[None]]:
        return self._waiters.pop(peer, [])

    def _watch(self, peer: Peer) -> None:
        """Let reads of a peer be noted as long as somebody waits for it."""
        if not self._waiters.get(peer):
            self._waiters.pop(peer, None)
        if peer.session is not None:
            peer.session.watched = peer in self._waiters

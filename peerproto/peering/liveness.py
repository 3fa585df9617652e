"""Whether the peer of a session is alive, and when it must hear of us.

HAProxy 1.9 sends no heartbeats, nor does any HAProxy to the old or new process of its own
name. So such a process may be silent, and so may a peer that sent no heartbeat before it
was taken for dead the last time. Source: doc/protocol.md, "Heartbeats".
"""

from __future__ import annotations

from typing import Final

from peerproto.peering.memory import PeerMemory

HEARTBEAT_TIMEOUT: Final = 3000
"""Send a heartbeat after so many ms without sending anything."""

DEAD_TIMEOUT: Final = 5000
"""A period of so many ms without a byte received ends the session. A lesson of which
nothing is received in such a period is given up."""

LONGEST_GAP: Final = 4500
"""Time in ms in which a peer with heartbeats, which it sends every 3 s, says something."""


class Liveness:
    """What was heard of the peer, and when something was sent to it; times are in ms."""

    def __init__(self, peer: PeerMemory, now: int) -> None:
        self._peer = peer
        self._sent_at = now
        self._alive = True
        """Whether anything was heard in this period."""
        self._heartbeats = False
        """Whether the peer has sent a heartbeat on this session."""
        self.noted_at = -1
        """The ms of which it is noted in this period that bytes came."""
        self._received_at = now
        self._has_gaps = False
        """Whether the peer was silent for longer than a peer with heartbeats ever is."""
        self._has_spoken = False
        """Whether the peer has sent anything on this session."""
        self.period_end = now + DEAD_TIMEOUT
        """When the peer is dead, if it is silent until then."""

    def received(self, now: int) -> None:
        """Bytes came from the peer."""
        if self.is_silent(now) and not self._heartbeats:
            self._has_gaps = True
        self.noted_at = self._received_at = now
        self._alive = self._has_spoken = True

    def is_silent(self, now: int) -> bool:
        """Whether nothing came for longer than a peer with heartbeats is ever silent."""
        return now - self._received_at > LONGEST_GAP

    def heartbeat(self) -> None:
        """The peer has sent a heartbeat."""
        self._heartbeats, self._peer.heartless = True, False
        self._peer.counters.rx_hbt += 1

    def sent(self, now: int) -> None:
        """Bytes were sent to the peer."""
        self._sent_at = now

    @property
    def heartbeat_at(self) -> int:
        """When a heartbeat is to be sent, if nothing else is."""
        return self._sent_at + HEARTBEAT_TIMEOUT

    def begin_period(self, now: int, unread: bool) -> bool:
        """A period is over, and another one begins: whether the peer is alive.

        ``unread`` is whether bytes of it wait to be read.
        """
        if not (self._alive or unread or self._may_be_silent):
            self._peer.counters.no_hbt += 1
            # A peer that has always something to send owes no heartbeat.
            silent = self._has_gaps or not self._has_spoken
            self._peer.heartless = silent and not self._heartbeats
            return False
        self._alive = False
        self.noted_at = -1
        self.period_end = now + DEAD_TIMEOUT
        return True

    @property
    def _may_be_silent(self) -> bool:
        """Whether silence says nothing."""
        return not self._heartbeats and (self._peer.local or self._peer.heartless)

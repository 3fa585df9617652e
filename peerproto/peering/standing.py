"""How the node stands: what a session has to know of it. The resync is what tells it."""

from __future__ import annotations

from typing import Protocol

from peerproto.peering.memory import PeerMemory


class Pupil(Protocol):
    """A session on which a lesson is given."""

    peer: PeerMemory


class Standing(Protocol):
    """What a session asks its node."""

    @property
    def lessons_ahead(self) -> bool:
        """Whether a lesson is awaited, or a peer is giving one."""

    def can_finish(self, pupil: Pupil) -> bool:
        """Whether a lesson of this session may end with *finished*, as things stand now."""

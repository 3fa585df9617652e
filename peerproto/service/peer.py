"""A peer, as an application sees it."""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto.connections.mesh import Mesh
from peerproto.peering.memory import Counters, PeerMemory
from peerproto.peering.session import Session
from peerproto.peering.sharedtable import SharedTable
from peerproto.tables.log import ID_MASK


@attrs.frozen
class SharedTableStatus:
    """What there is between a peer and this node about one table; ids as on the wire."""

    name: str
    local_id: int
    """The number under which this node defines the table to the peer."""
    remote_id: int
    """The number under which the peer has defined it; 0 if it has not."""
    remote_data: int
    """The data types that the peer stores, as the bits of its definition."""
    pushed: int
    """Update id of the latest of our changes that went out."""
    taken: int
    """Update id of the latest of our changes that the peer has acked."""
    got: int
    """Update id of the latest update that was received; 0 if there was none."""
    acked: int
    """Update id that was acked to the peer last; 0 if there was none."""
    expire: Optional[int]
    """How long the peer keeps an entry, in ms; ``None`` as long as that is not known."""


class Peer:
    """One of `StickTableService.peers`: what is known of it now."""

    def __init__(self, mesh: Mesh, memory: PeerMemory) -> None:
        self._mesh = mesh
        self._memory = memory

    @property
    def name(self) -> str:
        """As the configuration has it."""
        return self._memory.name

    @property
    def address(self) -> str:
        """Where it is called, as configured; ``-`` if it is not."""
        return self._mesh.link(self._memory).address

    @property
    def status(self) -> Optional[int]:
        """Latest status of a handshake with it, in either direction."""
        return self._memory.status

    @property
    def trouble(self) -> Optional[str]:
        """Why there is no session, in words; ``None`` if there is one, or was none yet."""
        return self._memory.trouble

    @property
    def counters(self) -> Counters:
        """What has happened with it since the start."""
        return self._memory.counters

    @property
    def connected(self) -> bool:
        """Whether there is a session with it."""
        return self.session is not None

    @property
    def session(self) -> Optional[Session]:
        """The session with it, if there is one."""
        return self._mesh.node.sessions.get(self._memory)

    @property
    def tables(self) -> list[SharedTableStatus]:
        """The tables of this node, as far as the session knows them."""
        session = self.session
        return [] if session is None else [self._table(shared) for shared in session.tables]

    def _table(self, shared: SharedTable) -> SharedTableStatus:
        return SharedTableStatus(
            shared.table.name,
            shared.local_id,
            shared.remote_id or 0,
            0 if shared.reception is None else shared.reception.layout.bits,
            shared.sent & ID_MASK,
            self._memory.acked.get(shared.table.log, 0) & ID_MASK,
            shared.got or 0,
            shared.acked or 0,
            shared.expire,
        )

    def notes(self) -> list[str]:
        """What else is to be known of the peer, in words: it is in step all the same."""
        session = self.session
        return [] if session is None else session.notes()

    def out_of_step(self) -> list[str]:
        """Every reason why this peer and this node do not have the same, in words."""
        return self._mesh.node.out_of_step(self._memory)

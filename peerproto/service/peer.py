"""A peer, as an application sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from peerproto.connections.mesh import Mesh
from peerproto.peering.memory import Counters, PeerMemory
from peerproto.peering.reasons import Reason
from peerproto.peering.session import Session
from peerproto.service.status import PeerStatus
from peerproto.tables.store import TableStore
from peerproto.wire.layout import Column


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
    def trouble(self) -> Optional[str]:
        """Why there is no session, in words; ``None`` if there is one, or was none yet."""
        return self._memory.trouble

    @property
    def established_at(self) -> Optional[int]:
        """When (in ms of `StickTableService.now`) the latest session with it began; ``None`` if
        there was none."""
        return self._memory.established_at

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
    def is_peerproto(self) -> bool:
        """Whether there is a session, on which it has said that it is a peerproto."""
        session = self.session
        return session is not None and session.is_peerproto

    def has_taught(self, table: str) -> bool:
        """Whether a lesson of it with the table of this name came to its end: what it had is here,
        and what it has changed on sessions since, but for what waits (`shares_wait`)."""
        store = self._mesh.node.tables_of(self._memory).get(table)
        return store is not None and self._mesh.node.resync.heard(self._memory, store)

    @property
    def shares_wait(self) -> bool:
        """Whether it may have yet to get back what it had, so that what it says of its shares of
        tables waits."""
        session = self.session
        return session is not None and session.shares_wait

    @property
    def is_silent(self) -> bool:
        """Whether nothing was received from it for 4.5 s, in which a peer with heartbeats says
        something; or there is no session."""
        session = self.session
        return session is None or session.is_silent(self._mesh.now())

    def status(self) -> PeerStatus:
        """All that is known of it, as it is now."""
        return PeerStatus.of(
            self._memory,
            self.session,
            self.address,
            self.out_of_step(),
            self.tables(),
            self._mesh.now(),
        )

    def tables(self) -> list[TableStore]:
        """The tables of which it is sent changes: of those that are shared per peer, its own."""
        tables = self._mesh.node.tables_of(self._memory)
        return [one for one in tables.values() if (rules := tables.sharing(one)) and rules.teach]

    def acked(self, table: TableStore) -> int:
        """The number of our latest change of a table that it has acked."""
        return self._memory.acked.get(table.log, 0)

    def columns_of(self, table: str) -> Mapping[str, Column]:
        """The columns of the table of this name, as far as the peer has defined it on this session,
        by the names of their data types: HAProxy defines all, a peerproto those that it sends."""
        session, store = self.session, self._mesh.node.tables_of(self._memory).get(table)
        if session is None or store is None:
            return {}
        return {one.name: one for one in session.columns_of(store).values()}

    def notes(self) -> list[str]:
        """What else is to be known of the peer, in words: it is in step all the same."""
        session = self.session
        return [] if session is None else session.notes()

    def out_of_step(self) -> list[Reason]:
        """Every reason why this peer and this node do not have the same, in words."""
        return self._mesh.node.out_of_step(self._memory)

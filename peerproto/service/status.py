"""Status: what can be said of a node, its peers and its tables at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Optional

import attrs

from peerproto.peering.memory import Counters, PeerMemory
from peerproto.peering.reasons import Lack, Reason
from peerproto.peering.session import Session
from peerproto.peering.sharedtable import SharedTable
from peerproto.peering.states import ResyncState, SessionState
from peerproto.service.part import Plain
from peerproto.tables.declaration import Declaration
from peerproto.tables.log import ID_MASK
from peerproto.tables.store import TableStore

SESSION_STATES: Final = tuple(one.value for one in SessionState if one is not SessionState.ENDED)
"""What `PeerStatus.state` may be."""

RESYNC_STATES: Final = tuple(one.name.lower() for one in ResyncState)
"""What `NodeStatus.resync` may be."""

LACKS: Final = tuple(one.value for one in Lack)
"""The kinds of reasons why a peer is out of step: see `PeerStatus.lacks`."""


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

    @classmethod
    def of(cls, shared: SharedTable, peer: PeerMemory) -> SharedTableStatus:
        """As it is now, with a session."""
        return cls(
            shared.table.name,
            shared.local_id,
            shared.remote_id or 0,
            0 if shared.reception is None else shared.reception.layout.bits,
            shared.sent & ID_MASK,
            peer.acked.get(shared.table.log, 0) & ID_MASK,
            shared.got or 0,
            shared.acked or 0,
            shared.expire,
        )


@attrs.frozen
class Lag:
    """What a peer has not acked of the changes that were made here, in the tables that it is
    known to have."""

    changes: int = 0
    """How many: an entry that was changed twice counts twice."""
    ms: int = 0
    """How long ago the oldest of them was made, in ms; up to a thirtieth more may be said."""

    @classmethod
    def of(cls, peer: PeerMemory, tables: list[TableStore], now: int) -> Lag:
        """That of a peer, whether it is connected or not; ``now`` in ms."""
        changes = ms = 0
        for table in tables:
            log = table.log
            acked = peer.acked.get(log, 0)
            if not acked and table not in peer.expires:
                continue  # a lesson is confirmed also by a peer that has no such table
            if acked < log.latest:
                changes += log.head - acked
                ms = max(ms, now - log.made_at(acked + 1))
        return cls(changes, ms)


@attrs.frozen
class PeerStatus:
    """A remote peer."""

    name: str
    address: str
    """Where it is called, as configured; ``-`` if it is not."""
    connected: bool
    """Whether there is a session with it."""
    state: Optional[str]
    """The state of the session, in a word; ``None`` without one."""
    version: Optional[str]
    """The version of the protocol that both speak, such as ``2.1``; ``None`` without a session."""
    handshake_status: Optional[int]
    """Latest status of a handshake with it, in either direction; ``None`` if there was none."""
    handshake_ago: Optional[int]
    """How long ago the latest session began, in ms, whether it has ended since; ``None`` if there
    was none."""
    trouble: Optional[str]
    """Why there is no session, in words; ``None`` if there is one, or was none yet."""
    learning: bool
    """Whether it is giving this node a lesson."""
    teaching: bool
    """Whether it is being given a lesson, or has yet to confirm one."""
    lesson_given: Optional[int]
    """How many entries it has been given of the lesson under way; ``None`` without one."""
    lesson_left: Optional[int]
    """How many are left, about: entries come and go meanwhile."""
    lesson_learnt: Optional[int]
    """How many updates have come of the lesson that it gives; ``None`` if it gives none. A peer
    does not tell how many are left."""
    out_of_step: tuple[Reason, ...]
    """Every reason why it and this node do not have the same, in words."""
    notes: tuple[str, ...]
    """What else is to be known of it, in words: it is in step all the same."""
    lag: Lag
    counters: Counters
    """What has happened with it since the start."""
    tables: tuple[SharedTableStatus, ...]
    """The tables of this node, as far as the session knows them."""

    @property
    def in_step(self) -> bool:
        """Whether there is a session, and no reason why it and this node do not have the same."""
        return self.connected and not self.out_of_step

    @property
    def lacks(self) -> frozenset[str]:
        """The kinds of reasons why it is out of step, some of `LACKS`; empty if it is in step."""
        return frozenset(one.lack.value for one in self.out_of_step)

    @property
    def reconnects(self) -> int:
        """How many sessions there were after the first one."""
        return max(0, self.counters.new_conn - 1)

    @classmethod
    def of(
        cls,
        peer: PeerMemory,
        session: Optional[Session],
        address: str,
        out_of_step: Sequence[Reason],
        tables: list[TableStore],
        now: int,
    ) -> PeerStatus:
        """As it is now, in ms; ``tables`` are all of the node."""
        shared = [] if session is None else session.tables
        since = peer.established_at
        given = None if session is None else session.lesson_given
        return cls(
            name=peer.name,
            address=address,
            connected=session is not None,
            state=None if session is None else session.state.value,
            version=None if session is None else f"2.{session.minor}",
            handshake_status=peer.status,
            handshake_ago=None if since is None else now - since,
            trouble=peer.trouble,
            learning=session is not None and session.learning,
            teaching=session is not None and session.teaching,
            lesson_given=None if given is None else given[0],
            lesson_left=None if given is None else given[1],
            lesson_learnt=None if session is None else session.lesson_learnt,
            out_of_step=tuple(out_of_step),
            notes=() if session is None else tuple(session.notes()),
            lag=Lag.of(peer, tables, now),
            counters=attrs.evolve(peer.counters),
            tables=tuple(SharedTableStatus.of(one, peer) for one in shared),
        )


@attrs.frozen
class TableStatus:
    """A table."""

    name: str
    declaration: Declaration
    """Key type, data types and limits."""
    used: int
    """Number of entries, expired ones included that were not removed yet."""
    update_id: int
    """Update id of the latest change made here."""
    stored: int
    """How often an entry was stored so far, new or changed, whether a peer or this node did."""
    trashed: int
    """Entries removed so far to make room for others."""
    refused: int
    """Entries that a full ``nopurge`` table did not take so far."""
    tombstones: int
    """Entries that were forgotten here and of which peers are still told."""
    shares: Mapping[str, int]
    """By the names of peers, how many entries their shares have, where it is shared per peer."""

    @property
    def adopted_from(self) -> Optional[str]:
        """The peer that it was adopted from; ``None`` if it was declared here."""
        return self.declaration.adopted_from

    @classmethod
    def of(cls, table: TableStore, shares: Mapping[str, TableStore]) -> TableStatus:
        """As it is now, with the shares that there are of it."""
        stores = (table, *shares.values())
        return cls(
            name=table.name,
            declaration=table.declaration,
            used=sum(one.used for one in stores),
            update_id=table.log.head & ID_MASK,
            stored=sum(one.stored_so_far for one in stores),
            trashed=sum(one.trashed for one in stores),
            refused=sum(one.refused for one in stores),
            tombstones=sum(len(one.tombstones) for one in stores),
            shares={peer: one.used for peer, one in shares.items()},
        )


@attrs.frozen
class NodeStatus:
    """A node, with its peers and its tables."""

    localpeer: str
    """The name by which peers know it."""
    running: bool
    """Whether the service was started, and has not been stopped."""
    uptime: int
    """How long it has run, in ms; 0 if it does not."""
    up_to_date: bool
    """Whether it counts itself up to date, and learns from nobody."""
    resync: str
    """The state of the resync, in a word: ``waiting``, ``learning``, ``up_to_date``, …"""
    resync_in_words: str
    """The same as people read it."""
    reason: str
    """Why it is in that state, in words."""
    peers: Mapping[str, PeerStatus]
    """The remote peers by name."""
    tables: Mapping[str, TableStatus]
    """All tables by name, those included that were adopted."""
    parts: Mapping[str, Mapping[str, Plain]]
    """The parts by name, with what they say of themselves."""

    @property
    def connected(self) -> int:
        """With how many peers there is a session."""
        return sum(peer.connected for peer in self.peers.values())

    @property
    def entries(self) -> int:
        """Number of entries of all tables."""
        return sum(table.used for table in self.tables.values())

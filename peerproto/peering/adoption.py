"""The adoption of tables: what becomes of a peer's definition.

A table that nobody here declared is adopted, with ``learn-tables``, and an adopted one
follows what the peer that it was adopted from defines later. Every peer may add data
types, to a declared table with ``learn-columns`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

import attrs

from peerproto.peering.directory import TableDirectory
from peerproto.peering.events import Event, TableBegun, TableShared
from peerproto.peering.limits import Limits
from peerproto.peering.memory import PeerMemory
from peerproto.peering.peertables import PeerTables
from peerproto.tables.columns import beyond
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.reception import disagreement
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.messages import (
    Definition,
    RefusedDefinition,
    TableDefinition,
    can_be_named,
)


@attrs.define
class Refusal:
    """Why a peer's table is not shared, or cannot follow its definition yet."""

    why: str
    """In words."""
    table: TableStore | None = None
    """The table that is shared all the same."""


@attrs.define(eq=False)
class Adoption:
    """What this node does with the definitions of its peers."""

    localpeer: str
    """Our own name."""
    directory: TableDirectory
    limits: Limits
    peers: Mapping[str, PeerMemory]
    """All peers, by their names."""
    learn_tables: bool = True
    learn_columns: bool = True

    def tables_of(self, peer: PeerMemory) -> PeerTables:
        """The tables as a peer knows them."""
        return PeerTables(self.directory, peer, self.peers)

    def passes_on(self, peer: PeerMemory, table: TableStore) -> bool:
        """Whether what we tell a peer of a table is passed on by it, and not by us.

        A share is one peer's: what we tell it of that is for nobody else.
        """
        # Asked for each read, and hardly any peer is a relay.
        if table.name not in peer.relays or table.name in peer.differences:
            return False
        sharing = self.directory.sharing(table.name)
        return not sharing.per_peer and sharing.relay is None

    def relayed_for(self, peer: PeerMemory) -> set[str]:
        """The tables of which we pass on what a peer tells us: those that we share with it."""
        if peer.local:
            return set()
        return {
            name
            for name in self.directory.relayed
            if name in self.directory and name not in peer.differences
        }

    def passed_on_to(self, peer: PeerMemory) -> list[str]:
        """The names of all tables that we pass on, whether we have them and share them with a peer
        or not; none for our own other process."""
        names = [] if peer.local else sorted(self.directory.relayed)
        return [name for name in names if can_be_named(name)]

    def acked_by_relays(self, table: TableStore) -> int:
        """The change of ours up to which all peers that pass on what they are told of a table have
        acked it."""
        return min(
            peer.acked.get(table.log, 0)
            for peer in self.peers.values()
            if self.passes_on(peer, table)
        )

    def table_for(
        self, definition: Definition, peer: PeerMemory, now: int, in_lesson: bool
    ) -> tuple[Union[TableStore, Refusal], list[Event]]:
        """The table that a peer's updates belong to after this definition, or why there is none.

        ``now`` is in ms; ``in_lesson`` is whether the peer is giving this node a lesson.
        """
        events: list[Event] = []
        table = self._shared_table(definition, peer, now, in_lesson, events)
        if isinstance(table, str):
            return Refusal(table), events
        if not self._follow(table, definition, peer, now):
            why = f"table {table.name} was defined too often to follow another definition yet"
            return Refusal(why, table), events
        return table, events

    def _shared_table(
        self,
        definition: Definition,
        peer: PeerMemory,
        now: int,
        in_lesson: bool,
        events: list[Event],
    ) -> Union[TableStore, str]:
        """The table, or in words why there is none."""
        name = definition.name
        if not name.isprintable() or " " in name:
            return f"table {name!r} cannot be shared: its name has characters that are not printed"
        if isinstance(definition, RefusedDefinition):
            return f"table {name} cannot be stored: {definition.why}"
        tables = self.tables_of(peer)
        table = tables.get(name)
        base = tables.base_name(name) if table is None else table.name
        sharing = self.directory.sharing(base)
        anew = table is not None and self._begins_anew(table, definition, peer)
        if anew:
            self.directory.remove(base)
            table = None
        if table is not None:
            return disagreement(table, definition.layout) or table
        if base in self.directory or (base == name and tables.is_share(name)):
            return f"table {name} is shared otherwise here"
        if not sharing.learn:
            return f"table {name} is not learnt from peers"
        if not (self.learn_tables or sharing.per_peer):
            return f"table {name} is not declared here, and learn-tables is off"
        limit = self.limits.tables_per_peer
        if (
            sum(one.declaration.adopted_from == peer.name for one in self.directory.values())
            >= limit
        ):
            return f"table {name} is not adopted: {limit} of this peer's tables are already"
        try:
            declaration = Declaration.adopted(
                attrs.evolve(definition, name=base), peer.name, self.limits.entries_per_table
            )
        except LocalProtocolError as problem:
            return f"table {name} cannot be adopted: {problem}"
        peer.log.info(now, "table {table} adopted from peer {peer}", table=name, peer=peer.shown)
        self.directory.add(declaration)
        table = tables.get(name)
        if table is None:
            return f"table {name} is shared under other names"
        events.append(TableShared(table, in_lesson))
        if anew:
            events.append(TableBegun(table))
        return table

    def _begins_anew(
        self, table: TableStore, definition: TableDefinition, peer: PeerMemory
    ) -> bool:
        """Whether an adopted table has other keys now, where it was adopted from."""
        origin = table.declaration.adopted_from
        return (
            origin is not None
            and (origin == peer.name or origin not in self.peers)
            and disagreement(table, definition.layout) is not None
        )

    def _follow(
        self, table: TableStore, definition: Definition, peer: PeerMemory, now: int
    ) -> bool:
        """Take over what a later definition of a table says: whether that can be."""
        ours = later = table.declaration
        if isinstance(definition, RefusedDefinition) or not self.directory.sharing(ours.name).learn:
            return True
        if self.learn_columns or ours.adopted_from is not None:
            later = later.with_columns(definition.layout.columns)
        if peer.name == ours.adopted_from:
            later = later.following(definition)
        if later == ours:
            return True
        if not self.directory.redeclare(self.directory[table.name], later):
            return False
        more = ", ".join(one.name for one in beyond(later.layout.columns, ours.layout))
        peer.log.info(
            now,
            "table {table} follows a definition by peer {peer}{more}",
            table=table.name,
            peer=peer.shown,
            more=f", and stores {more} too" if more else "",
        )
        return True

"""The tables of a node as one peer knows them."""

from __future__ import annotations

from collections.abc import Container
from typing import Optional

from peerproto.peering.directory import TableDirectory
from peerproto.peering.memory import PeerMemory
from peerproto.peering.sharing import Sharing
from peerproto.tables.store import TableStore
from peerproto.updates.outgoing import Outgoing

_AT = "@"
"""Between the name of a table and that of a peer, in a hand-over."""


class PeerTables:
    """What is shared with one peer: its own shares of the tables that are shared per peer, and
    all others. Our old or new process has all shares, under the names ``<table>@<peer>``."""

    def __init__(self, directory: TableDirectory, peer: PeerMemory, peers: Container[str]) -> None:
        """``peers`` are the names of all peers."""
        self._directory = directory
        self._peer = peer
        self._peers = peers
        self._version = -1
        self._all: dict[TableStore, Sharing] = {}
        """The tables as of this version of the directory, in order, with their rules."""

    @property
    def version(self) -> int:
        """Another one whenever other tables are shared, or one is declared anew."""
        return self._directory.version

    def values(self) -> list[TableStore]:
        """All tables; one that is sent after another one comes behind it."""
        return list(self._now())

    def _now(self) -> dict[TableStore, Sharing]:
        if self._version != self._directory.version:
            self._version = self._directory.version
            sharing = self._directory.sharing
            self._all = {table: sharing(table.name) for table in self._look()}
        return self._all

    def _look(self) -> list[TableStore]:
        directory = self._directory
        tables: list[TableStore] = []
        for name, table in directory.items():
            if not directory.sharing(name).per_peer:
                tables.append(table)
            elif self._peer.local:
                tables += directory.shares_of(name).values()
            elif self._peer.name in directory.shares_of(name):
                tables.append(directory.shares_of(name)[self._peer.name])
        return sorted(tables, key=lambda table: self._depth(table.name))

    def _depth(self, name: Optional[str]) -> int:
        """After how many others a table is sent."""
        depth = -1
        while name is not None:
            depth += 1
            name = self._directory.sharing(name).after
        return depth

    def get(self, name: str) -> Optional[TableStore]:
        """The table that goes by this name between the peer and us."""
        directory = self._directory
        if name in directory:
            if not directory.sharing(name).per_peer:
                return directory[name]
            return directory.shares_of(name).get(self._peer.name)
        table = self.base_name(name)
        if table != name:
            return directory.shares_of(table).get(name.rpartition(_AT)[2])
        return None

    def is_share(self, name: str) -> bool:
        """Whether a name is that of a share, as our old or new process tells it."""
        return self._peer.local and name.rpartition(_AT)[2] in self._peers and _AT in name

    def base_name(self, name: str) -> str:
        """The name of the table of the node that goes by this name between the peer and us."""
        table = name.rpartition(_AT)[0]
        per_peer = self.is_share(name) and self._directory.sharing(table).per_peer
        return table if per_peer else name

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def shares(self, table: TableStore) -> bool:
        """Whether a table is shared with the peer."""
        return self.sharing(table) is not None

    def alike(self, table: TableStore) -> list[TableStore]:
        """The tables of the peer that have the name of a table of the node."""
        return [one for one in self.values() if one.name == table.name]

    def wire_name(self, table: TableStore) -> str:
        """The name by which the peer knows a table."""
        peer = self._directory.peer_of(table)
        return table.name if peer is None or not self._peer.local else f"{table.name}{_AT}{peer}"

    def sharing(self, table: TableStore) -> Optional[Sharing]:
        """The rules of a table; ``None`` if it is not shared with the peer."""
        if self._version != self._directory.version:
            self._now()
        return self._all.get(table)

    def local_id(self, table: TableStore) -> int:
        """The number under which a table is defined to the peer."""
        return self._directory.local_id(table)

    def outgoing(self, table: TableStore) -> Outgoing:
        """What is written of a table for all peers."""
        return self._directory.outgoing(table)

"""The directory of tables: what a node shares, and under which number peers know it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from weakref import WeakKeyDictionary

from peerproto.peering.boundedlog import Log
from peerproto.peering.limits import Limits
from peerproto.peering.sharing import EVENLY, Sharing
from peerproto.tables.declaration import Declaration
from peerproto.tables.room import Quota
from peerproto.tables.store import TableStore
from peerproto.updates.outgoing import Outgoing
from peerproto.wire.errors import LocalProtocolError


class TableDirectory(Mapping[str, TableStore]):
    """The tables of a node, by name.

    A table that is shared per peer has a store for each peer, its *shares*. The one that stands
    under its name stores nothing: it is the model by which shares are made.
    """

    def __init__(self, limits: Limits, log: Log, declarations: Iterable[Declaration] = ()) -> None:
        self._log = log
        self._tables: dict[str, TableStore] = {}
        self._sharings: dict[str, Sharing] = {}
        self._shares: dict[str, dict[str, TableStore]] = {}
        """By the name of a table and that of a peer."""
        self._peers: dict[str, None] = {}
        """The names of the remote peers."""
        self._peer_of: WeakKeyDictionary[TableStore, str] = WeakKeyDictionary()
        self._ids: WeakKeyDictionary[TableStore, int] = WeakKeyDictionary()
        self._outgoing: dict[TableStore, Outgoing] = {}
        self._latest_id = 0
        self._quota = Quota(limits.entries)
        self.version = 0
        """Another one whenever other tables are shared, or one is declared anew."""
        self.removed: list[TableStore] = []
        """Tables that are shared no longer, until their memory is given back."""
        for declaration in declarations:
            self.add(declaration)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._tables))

    def __len__(self) -> int:
        return len(self._tables)

    def __getitem__(self, name: str) -> TableStore:
        """:raises KeyError: there is no table of this name."""
        return self._tables[name]

    def stores(self) -> list[TableStore]:
        """All tables, shares included."""
        return [
            *self._tables.values(),
            *(one for by in self._shares.values() for one in by.values()),
        ]

    def add(self, declaration: Declaration) -> TableStore:
        """Share one more table.

        :raises LocalProtocolError: there is one of this name already.
        """
        if declaration.name in self._tables:
            raise LocalProtocolError("table", declaration.name, "a name that is not taken")
        self.warn_of(declaration)
        table = self._tables[declaration.name] = self._make(declaration)
        if self.sharing(declaration.name).per_peer:
            for peer in self._peers:
                self._add_share(declaration.name, peer)
        return table

    def _make(self, declaration: Declaration) -> TableStore:
        table = TableStore(declaration, quota=self._quota)
        self._latest_id += 1
        self._ids[table] = self._latest_id
        self._outgoing[table] = Outgoing(table, self.sharing(declaration.name).stamp)
        self.version += 1
        return table

    def redeclare(self, table: TableStore, declaration: Declaration) -> bool:
        """Declare a table anew, with keys of the same type and length: whether that can be done.

        It cannot as long as the table has entries of too many earlier declarations. All shares of
        a table are declared alike.
        """
        self.version += 1
        shares = self.shares_of(table.name).values()
        # Those that cannot stay as they are, until they can.
        taken = [one.redeclare(declaration) for one in (table, *shares)]
        return all(taken)

    def remove(self, name: str) -> None:
        """Share a table no longer, if there is one of this name."""
        table = self._tables.pop(name, None)
        if table is not None:
            for peer in list(self._shares.get(name, ())):
                self._drop_share(name, peer)
            self._drop(table)

    def _drop(self, table: TableStore) -> None:
        self.version += 1
        del self._outgoing[table]
        table.drop()
        if table.discarding:
            self.removed.append(table)

    def discard(self, table: TableStore) -> list[bytes]:
        """Give back a slice of the memory of one that is shared no longer: which keys went."""
        keys = table.discard()
        if not table.discarding:
            self.removed.remove(table)
        return keys

    def shares(self, table: TableStore) -> bool:
        """Whether a table is shared, and not another one of its name."""
        return table in self._outgoing

    def local_id(self, table: TableStore) -> int:
        """The number under which a table is defined to peers, from 1.

        No two tables have the same, even if they bear the same name one after the
        other: an ack that is late is for the table that it means.
        """
        return self._ids[table]

    def outgoing(self, table: TableStore) -> Outgoing:
        """What is written of a table for all peers."""
        return self._outgoing[table]

    def warn_of(self, declaration: Declaration) -> None:
        """Log what HAProxy would warn of in a declaration."""
        for warning in declaration.warnings:
            self._log.warn("{problem}", problem=warning)

    # -- how tables are shared -------------------------------------------

    def sharing(self, name: str) -> Sharing:
        """The rules of the table of this name, whether there is one yet or not."""
        return self._sharings.get(name, EVENLY)

    @property
    def per_peer(self) -> bool:
        """Whether any table is shared per peer."""
        return any(self.sharing(name).per_peer for name in self._tables)

    @property
    def relayed(self) -> list[str]:
        """The names of tables of which what one peer says is passed on, if there are such."""
        return [name for name, one in self._sharings.items() if one.relay is not None]

    def set_sharing(self, name: str, sharing: Sharing) -> None:
        """Share the table of this name by other rules.

        :raises LocalProtocolError: it would wait for itself; or there is a table already, which
            is shared per peer and is not to be, or the other way round.
        """
        before = self.sharing(name)
        if name in self._tables and before.per_peer is not sharing.per_peer:
            raise LocalProtocolError(
                f"sharing of table {name}", "per_peer", "the same as before, or no such table yet"
            )
        seen, after = [name], sharing.after
        while after is not None:
            seen.append(after)
            if after == name:
                raise LocalProtocolError(
                    f"sharing of table {name}", f"after {' after '.join(seen)}", "no circle"
                )
            after = self.sharing(after).after
        self._sharings[name] = sharing
        if sharing.stamp != before.stamp:
            for table in (one for one in self._outgoing if one.name == name):
                self._outgoing[table].stamp(sharing.stamp)
        self.version += 1

    def shares_of(self, name: str) -> Mapping[str, TableStore]:
        """By the names of peers, their shares of the table of this name."""
        return self._shares.get(name, {})

    def add_peer(self, peer: str) -> None:
        """There is a remote peer of this name: it has a share of all that is shared per peer."""
        self._peers[peer] = None
        for name in self._tables:
            if self.sharing(name).per_peer and peer not in self.shares_of(name):
                self._add_share(name, peer)

    def _add_share(self, name: str, peer: str) -> None:
        share = self._make(self._tables[name].declaration)
        self._shares.setdefault(name, {})[peer] = share
        self._peer_of[share] = peer

    def peer_of(self, table: TableStore) -> str | None:
        """The name of the peer whose share a table is; ``None`` if it is none."""
        return self._peer_of.get(table)

    def remove_peer(self, peer: str) -> None:
        """A peer is none any more: it has no shares."""
        self._peers.pop(peer, None)
        for name in [name for name, shares in self._shares.items() if peer in shares]:
            self._drop_share(name, peer)

    def _drop_share(self, name: str, peer: str) -> None:
        self._drop(self._shares[name].pop(peer))

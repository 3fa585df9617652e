"""The directory of tables: what a node shares, and under which number peers know it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from weakref import WeakKeyDictionary

from peerproto.peering.boundedlog import Log
from peerproto.peering.limits import Limits
from peerproto.tables.declaration import Declaration
from peerproto.tables.room import Quota
from peerproto.tables.store import TableStore
from peerproto.updates.outgoing import Outgoing
from peerproto.wire.errors import LocalProtocolError


class TableDirectory(Mapping[str, TableStore]):
    """The tables of a node, by name."""

    def __init__(self, limits: Limits, log: Log, declarations: Iterable[Declaration] = ()) -> None:
        self._log = log
        self._tables: dict[str, TableStore] = {}
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

    def add(self, declaration: Declaration) -> TableStore:
        """Share one more table.

        :raises LocalProtocolError: there is one of this name already.
        """
        if declaration.name in self._tables:
            raise LocalProtocolError("table", declaration.name, "a name that is not taken")
        self.warn_of(declaration)
        table = self._tables[declaration.name] = TableStore(declaration, quota=self._quota)
        self._latest_id += 1
        self._ids[table] = self._latest_id
        self._outgoing[table] = Outgoing(table)
        self.version += 1
        return table

    def redeclare(self, table: TableStore, declaration: Declaration) -> bool:
        """Declare a table anew, with keys of the same type and length: whether that can be done.

        It cannot as long as the table has entries of too many earlier declarations.
        """
        self.version += 1
        return table.redeclare(declaration)

    def remove(self, name: str) -> None:
        """Share a table no longer, if there is one of this name."""
        table = self._tables.pop(name, None)
        if table is not None:
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
        return self._tables.get(table.name) is table

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

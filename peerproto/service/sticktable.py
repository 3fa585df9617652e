"""A stick table as an application uses it: with the service's clock and observers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional, Protocol

from peerproto.peering.node import Node
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.log import ID_MASK
from peerproto.tables.store import TableStore
from peerproto.wire import keys
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import Key, KeyType
from peerproto.wire.layout import Cell, Layout


class Holder(Protocol):
    """What holds the table: a `StickTableService`."""

    node: Node

    def now(self) -> int:
        """The time in ms by which lives go."""

    def changed(self, batches: list[Changes]) -> None:
        """Tell observers of changes, and let sessions send what was changed here."""


class StickTable:
    """One of the tables of a `StickTableService`; get it from `StickTableService.table`.

    Keys are what the table's type asks for: ``int``, ``str``, ``bytes``, an
    ``ipaddress`` object or an address as text.

    A table is gone once it was removed, or has begun anew with other keys: another one has
    its name then, if any. One that is gone has no entries, and to ask it for one, or to
    change one, raises `LocalProtocolError`.
    """

    def __init__(self, service: Holder, table: TableStore) -> None:
        self._service = service
        self._table = table

    @property
    def shared(self) -> bool:
        """Whether it is one of the service's tables: if not, it is gone."""
        return self._service.node.tables.shares(self._table)

    def _here(self) -> TableStore:
        """What stores the entries.

        :raises LocalProtocolError: the table is gone.
        """
        if not self.shared:
            raise LocalProtocolError(
                f"table {self.name}", "one that is gone", "one that the service has"
            )
        return self._table

    def _now(self) -> int:
        return self._service.now()

    @property
    def name(self) -> str:
        """The name under which peers share the table."""
        return self._table.name

    @property
    def declaration(self) -> Declaration:
        """Key type, data types and limits."""
        return self._table.declaration

    @property
    def key_type(self) -> KeyType:
        """The type of the keys."""
        return self._table.layout.key_type

    @property
    def cells(self) -> Mapping[str, Cell]:
        """By its name, and by each other name that it goes by, a value that entries have."""
        return self._table.layout.cells

    @property
    def layout(self) -> Layout:
        """The type and length of its keys, and its columns."""
        return self._table.layout

    @property
    def update_id(self) -> int:
        """Update id of the latest change made here."""
        return self._table.log.head & ID_MASK

    @property
    def trashed(self) -> int:
        """Entries removed so far to make room for others."""
        return self._table.trashed

    @property
    def refused(self) -> int:
        """Entries that a full ``nopurge`` table did not take so far."""
        return self._table.refused

    def __len__(self) -> int:
        """Number of entries, expired ones included that were not removed yet."""
        return self._table.used

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: Key) -> Entry:
        """:raises KeyError: there is no such entry."""
        entry = self.get(key)
        if entry is None:
            raise KeyError(key)
        return entry

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in no order. The table may change meanwhile."""
        return (entry for entry in self.scan() if entry is not None)

    def scan(self) -> Iterator[Optional[Entry]]:
        """The same, and ``None`` for each that has expired and was not removed yet.

        So each step is short, and whoever has other things to do can stop between any two.

        :raises LocalProtocolError: the table is gone, also if it goes meanwhile.
        """
        for raw_key, stored in self._here().scan():
            yield self._here().entry(raw_key, stored, self._now())
        self._here()

    def get(self, key: Key) -> Optional[Entry]:
        """The entry of this key, or ``None``.

        :raises LocalProtocolError: the key is not one of the table's type, or the table
            is gone.
        """
        return self.get_raw(self._raw(key))

    def entries(self, raw_keys: Iterable[bytes]) -> Iterator[Entry]:
        """The entries of raw keys, as they are when the first is asked for, without those that
        are not there; none if the table is gone."""
        if self.shared:
            now, get = self._now(), self._table.get
            for raw_key in raw_keys:
                entry = get(raw_key, now)
                if entry is not None:
                    yield entry

    def get_raw(self, raw_key: bytes) -> Optional[Entry]:
        """The entry of a raw key (`peerproto.wire.keys`), or ``None``."""
        return self._here().get(raw_key, self._now())

    def set(self, key: Key, values: Mapping[str, Any] = {}, /, **more: Any) -> Entry:
        """Create or change an entry, here and on all peers: ``set("192.0.2.7", gpc0=3)``.

        Names that are none in Python go into a mapping: ``{"gpc[0]": 1}``.
        Values not named stay as they are: those of an entry that is new here are 0 here, and
        what they were on peers that have one. The entry lives for the table's expiry from now.

        :raises LocalProtocolError: a key or value that the table cannot store, or the
            table is gone.
        :raises TableFull: the table is full and declared with ``nopurge``.
        """
        return self.set_raw(self._raw(key), {**values, **more})

    def set_raw(self, raw_key: bytes, values: Mapping[str, Any]) -> Entry:
        """`set` for a raw key."""
        now = self._now()
        batches = self._here().set(raw_key, values, now)
        entry = self._table.get(raw_key, now)
        assert entry is not None
        self._service.changed(batches)
        return entry

    def remove(self, key: Key) -> bool:
        """Remove an entry, here only, as in HAProxy: whether it was there."""
        return bool(self.remove_raw([self._raw(key)]))

    def remove_raw(self, raw_keys: list[bytes]) -> int:
        """`remove` for raw keys: how many there were."""
        table = self._here()
        self._service.node.keys_removed(table, raw_keys)
        removed = [raw_key for raw_key in raw_keys if table.remove(raw_key)]
        self._service.changed([Changes(self._table, Cause.CLEARED, removed, self._now())])
        return len(removed)

    def clear(self) -> int:
        """Remove all entries, here only, as in HAProxy: how many there were."""
        count = self._here().clear()
        self._service.node.cleared(self._table)
        # Observers are told of the first now, of the rest in slices.
        first = self._table.discard()
        self._service.changed([Changes(self._table, Cause.CLEARED, first, self._now())])
        return count

    def _raw(self, key: Key) -> bytes:
        return keys.to_raw(key, self.layout.key_type, self.layout.key_length)

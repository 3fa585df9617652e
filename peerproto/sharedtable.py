"""A stick table as an application uses it: with the service's clock and observers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

from peerproto.peering.node import Node
from peerproto.tables.batch import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.log import ID_MASK
from peerproto.tables.table import StickTable
from peerproto.wire import keys
from peerproto.wire.keys import Key
from peerproto.wire.layout import Layout


class SharedStickTable:
    """One of the tables of a `StickTableService`; get it from `StickTableService.table`.

    Keys are what the table's type asks for: `int`, `str`, `bytes`, an
    `ipaddress` object or an address as text.
    """

    def __init__(self, node: Node, table: StickTable, now: Callable[[], int]) -> None:
        self._node = node
        self._table = table
        self._now = now

    @property
    def name(self) -> str:
        return self._table.name

    @property
    def declaration(self) -> Declaration:
        """Key type, data types and limits."""
        return self._table.declaration

    @property
    def layout(self) -> Layout:
        return self._table.layout

    @property
    def update_id(self) -> int:
        """Update id of the latest change made here."""
        return self._table.log.head & ID_MASK

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
        """
        for raw_key, stored in self._table.scan():
            yield self._table.entry(raw_key, stored, self._now())

    def get(self, key: Key) -> Optional[Entry]:
        """The entry of this key, or ``None``.

        :raises LocalProtocolError: the key is not one of the table's type.
        """
        return self.get_raw(self._raw(key))

    def get_raw(self, raw_key: bytes) -> Optional[Entry]:
        """The entry of a raw key (`peerproto.wire.keys`), or ``None``."""
        return self._table.get(raw_key, self._now())

    def set(self, key: Key, values: Mapping[str, Any] = {}, /, **more: Any) -> Entry:
        """Create or change an entry, here and on all peers: ``set("192.0.2.7", gpc0=3)``.

        Names that are none in Python go into a mapping: ``{"gpc[0]": 1}``.
        Values not named stay as they are. The entry lives for the table's
        expiry from now.

        :raises LocalProtocolError: a key or value that the table cannot store.
        :raises TableFull: the table is full and declared with ``nopurge``.
        """
        return self.set_raw(self._raw(key), {**values, **more})

    def set_raw(self, raw_key: bytes, values: Mapping[str, Any]) -> Entry:
        """`set` for a raw key."""
        now = self._now()
        entry = self._table.set(raw_key, values, now)
        self._node.changed(self._table, [raw_key], Cause.SET, now)
        return entry

    def remove(self, key: Key) -> bool:
        """Remove an entry, here only, as in HAProxy: whether it was there."""
        return bool(self.remove_raw([self._raw(key)]))

    def remove_raw(self, raw_keys: list[bytes]) -> int:
        """`remove` for raw keys: how many there were."""
        removed = [raw_key for raw_key in raw_keys if self._table.remove(raw_key)]
        self._node.changed(self._table, removed, Cause.CLEARED, self._now())
        return len(removed)

    def clear(self) -> int:
        """Remove all entries, here only, as in HAProxy: how many there were."""
        count = self._table.clear()
        # Observers are told of the first now, of the rest in slices.
        self._node.changed(self._table, self._table.discard(), Cause.CLEARED, self._now())
        return count

    def _raw(self, key: Key) -> bytes:
        return keys.to_raw(key, self.layout.key_type, self.layout.key_length)

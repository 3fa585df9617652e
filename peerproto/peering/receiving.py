"""Frames to tables, for one session: who defined what, and whose update is whose.

What comes in one read is collected and stored in one go for each table, however
often the peer goes from one to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Optional

import attrs

from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.log import ID_MASK
from peerproto.tables.reception import Reception
from peerproto.tables.table import StickTable
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import STICK_TABLE, Frame
from peerproto.wire.layout import Layout
from peerproto.wire.messages import Definition, TableDefinition, read_update

_LEARNT: Final = Cause.LEARNT


@attrs.define(eq=False)
class SharedTable:
    """What this session knows of a table that both sides have.

    ``sent`` is the latest of our changes that went out. ``got`` is the id of
    the latest live update that came, ``acked`` the one that we acked.
    """

    table: StickTable
    local_id: int
    sent: int
    remote_id: Optional[int] = None
    reception: Optional[Reception] = None
    got: Optional[int] = None
    acked: Optional[int] = None


@attrs.frozen
class _Defined:
    """What a peer defined, and which table it was when that was looked up last."""

    definition: Definition
    shared: Optional[SharedTable] = None
    declaration: Optional[Declaration] = None

    def again(
        self, definition: Definition, tables: Mapping[str, StickTable]
    ) -> Optional[SharedTable]:
        """The table, if looking it up again would change nothing."""
        if self.shared is None or definition != self.definition:
            return None
        table = tables.get(self.shared.table.name)
        same = table is self.shared.table and table.declaration is self.declaration
        return self.shared if same else None


@attrs.frozen
class _Unshared:
    """Updates to skip: of a table that is not shared, or before any definition."""

    layout: Optional[Layout]
    """For the texts that they put into the dictionary."""


class Receiver:
    """What the peer said on this session so far, as far as decoding depends on it."""

    def __init__(self, node: Node, peer: Peer) -> None:
        self._node = node
        self._peer = peer
        self._dictionary = ReceivingDictionary()
        self._tables: dict[str, SharedTable] = {}
        self._version = -1
        self._all: list[SharedTable] = []
        """Those of `_tables` that are shared, as of this version."""
        self._defined: dict[int, _Defined] = {}
        self._current: SharedTable | _Unshared = _Unshared(None)
        self._collecting: dict[SharedTable, None] = {}
        """The tables of which updates may wait to be stored, in order."""
        self._batches: list[Batch] = []

    @property
    def tables(self) -> list[SharedTable]:
        """All tables of the node, as far as this session knows them."""
        if self._version != self._node.tables_version:
            self._version = self._node.tables_version
            self._all = [self.shared(table) for table in self._node.tables.values()]
        return self._all

    def shared(self, table: StickTable) -> SharedTable:
        """What is known of a table."""
        shared = self._tables.get(table.name)
        if shared is None or shared.table is not table:
            sent = self._peer.acked.get(table.name, 0)
            shared = SharedTable(table, self._node.local_id(table), sent)
            self._tables[table.name] = shared
        return shared

    def define(self, definition: Definition, now: int) -> None:
        """The next updates are for this table."""
        known = self._defined.get(definition.id)
        shared = None if known is None else known.again(definition, self._node.tables)
        if shared is not None:
            self._collect(shared)
            return
        self.store(now)  # before the table may follow this definition
        current = self._share(definition)
        room = len(self._defined) < 2 * self._node.limits.tables_per_peer
        if room or definition.id in self._defined:
            if isinstance(current, SharedTable):
                known = _Defined(definition, current, current.table.declaration)
            else:
                known = _Defined(definition)
            self._defined[definition.id] = known

    def switch(self, table_id: int, now: int) -> None:
        """The next updates are for the table that was defined under this id."""
        known = self._defined.get(table_id)
        if known is None:
            self._current = _Unshared(None)
        else:
            self.define(known.definition, now)

    def update(self, frame: Frame, now: int) -> None:
        """:raises MalformedMessage: see `read_update`."""
        current = self._current
        if isinstance(current, _Unshared):
            if current.layout is not None:
                read_update(frame.message_type, frame.payload, current.layout, self._dictionary)
            return
        reception = current.reception
        assert reception is not None
        update_id, expiry, key, record = read_update(
            frame.message_type, frame.payload, reception.layout, self._dictionary
        )
        if update_id is None:
            update_id = ((current.got or 0) + 1) & ID_MASK
        current.got = update_id
        self._peer.counters.rx_updates += 1
        reception.add((key, expiry, record), now)

    def read_run(self, data: bytes, start: int, now: int) -> int:
        """Take as many updates as can be taken at once: where the rest of ``data`` begins."""
        rest = len(data) - start
        if rest < 3 or data[start] != STICK_TABLE or rest < 3 + data[start + 2]:
            return start
        current = self._current
        if isinstance(current, _Unshared):
            return start
        assert current.reception is not None
        reader = current.reception.reader
        if reader is None:
            return start
        before = len(reader.keys)
        end = reader.read(data, start, current.table.stamp(now))
        count = len(reader.keys) - before
        if count:
            self._peer.counters.rx_updates += count
            current.got = reader.take_ids(current.got or 0)
        return end

    def store(self, now: int) -> None:
        """Put the updates read so far into the tables that they are for."""
        for shared in self._collecting:
            self._store(shared, now)
        if len(self._collecting) > 1:
            self._collecting.clear()
            if isinstance(self._current, SharedTable):
                self._collect(self._current)

    def _store(self, shared: SharedTable, now: int) -> None:
        table, reception = shared.table, shared.reception
        assert reception is not None
        if self._node.tables.get(table.name) is not table:
            reception.forget()  # the table was removed here since it was defined
            return
        if self._peer.local:
            taken = reception.store(now, self._node.newer_than_old(table))
        else:
            taken = reception.store(now)
            if taken:
                self._node.note_newer(table, taken)
        if taken is None:
            return
        self._batches.append(Batch(table, _LEARNT, taken, now, self._peer.name))

    def take_batches(self) -> list[Batch]:
        """What was stored since the last call."""
        batches, self._batches = self._batches, []
        return batches

    def _share(self, definition: Definition) -> SharedTable | _Unshared:
        table = self._node.table_for(definition, self._peer)
        if not isinstance(definition, TableDefinition) or table is None:
            self._current = _Unshared(getattr(definition, "layout", None))
            return self._current
        shared = self.shared(table)
        known = shared.reception
        if known is None or (known.layout, known.expire) != (definition.layout, definition.expire):
            shared.reception = Reception(
                table, definition.layout, definition.expire, self._dictionary.known
            )
        shared.remote_id = definition.id
        self._collect(shared)
        return shared

    def _collect(self, shared: SharedTable) -> None:
        self._current = shared
        self._collecting[shared] = None

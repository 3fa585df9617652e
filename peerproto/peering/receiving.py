"""Frames to tables, for one session: who defined what, and whose update is whose.

What comes in one read is collected and stored in one go for each table.
"""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.log import ID_MASK
from peerproto.tables.reception import Reception
from peerproto.tables.stored import stamp
from peerproto.tables.table import StickTable
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import Frame
from peerproto.wire.layout import Layout
from peerproto.wire.messages import Definition, TableDefinition, read_update


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
        self._defined: dict[int, Definition] = {}
        self._current: SharedTable | _Unshared = _Unshared(None)
        self._batches: list[Batch] = []

    @property
    def tables(self) -> list[SharedTable]:
        """All tables of the node, as far as this session knows them."""
        return [self.shared(table) for table in self._node.tables.values()]

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
        self.store(now)
        room = len(self._defined) < 2 * self._node.limits.tables_per_peer
        if room or definition.id in self._defined:
            self._defined[definition.id] = definition
        self._current = self._share(definition)

    def switch(self, table_id: int, now: int) -> None:
        """The next updates are for the table that was defined under this id."""
        self.store(now)
        definition = self._defined.get(table_id)
        self._current = _Unshared(None) if definition is None else self._share(definition)

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
        current = self._current
        if isinstance(current, _Unshared) or current.reception is None:
            return start
        reader = current.reception.reader
        if reader is None:
            return start
        before = len(reader.keys)
        end = reader.read(data, start, stamp(now))
        count = len(reader.keys) - before
        if count:
            self._peer.counters.rx_updates += count
            current.got = reader.take_ids(current.got or 0)
        return end

    def store(self, now: int) -> None:
        """Put the updates read so far into the table that they are for."""
        current = self._current
        if isinstance(current, _Unshared) or current.reception is None:
            return
        if self._node.tables.get(current.table.name) is not current.table:
            current.reception.forget()  # the table was removed here since it was defined
            return
        but: set[bytes] = set()
        if self._peer.local:
            but = self._node.newer_than_old(current.table)
        taken = current.reception.store(now, but)
        if taken is None:
            return
        if not self._peer.local:
            self._node.note_newer(current.table, taken)
        self._batches.append(Batch(current.table, Cause.LEARNT, taken, now, self._peer.name))

    def take_batches(self) -> list[Batch]:
        """What was stored since the last call."""
        batches, self._batches = self._batches, []
        return batches

    def _share(self, definition: Definition) -> SharedTable | _Unshared:
        table = self._node.table_for(definition, self._peer)
        if not isinstance(definition, TableDefinition) or table is None:
            return _Unshared(getattr(definition, "layout", None))
        shared = self.shared(table)
        shared.remote_id = definition.id
        known = shared.reception
        if known is None or (known.layout, known.expire) != (definition.layout, definition.expire):
            shared.reception = Reception(
                table, definition.layout, definition.expire, self._dictionary.known
            )
        return shared

"""Entries to bytes, for one session: live changes and lessons.

Every update carries its id: HAProxy 3.3 and later acks wrongly after one that
does not. With 2.1 every update carries its expiry too, so that a change that a
peer gets late does not live longer there than here. HAProxy takes both, and
does the latter in lessons only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import NEVER
from peerproto.tables.log import ID_MASK
from peerproto.tables.table import StickTable
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.messages import EntryUpdate


class Sender:
    """What was said on this session so far, as far as encoding depends on it."""

    def __init__(self, timed: bool) -> None:
        self.now = 0
        """The time in ms that expiries and ages are reckoned to."""
        self.taught = 0
        """Entries in the current lesson so far."""
        self._timed = timed
        self._dictionary = SendingDictionary()
        self._announced: Optional[Declaration] = None

    def changes(
        self, out: bytearray, local_id: int, table: StickTable, sent: int, room: int
    ) -> tuple[int, int]:
        """Append the changes after ``sent`` until ``out`` has ``room`` bytes.

        Returns the number of the latest change that is behind us now, and how
        many updates that took.
        """
        count = 0
        for number, key in table.log.after(sent):
            stored = table.stored(key)
            update = stored and self._update(table, number, key, stored)
            if update:
                out += self._announcement(local_id, table)
                out += update
                count += 1
            sent = number
            if len(out) >= room:
                return sent, count
        return table.log.head, count

    def lesson(self, tables: list[tuple[int, StickTable]]) -> Iterator[bytes]:
        """Every entry of the tables, given with our ids of them.

        All updates of a table carry the id of its latest change at the start:
        a peer that acks it says that it needs nothing from before.
        """
        self.taught = 0
        origins = [table.log.head for _, table in tables]
        for (local_id, table), origin in zip(tables, origins):
            yield self._announcement(local_id, table)
            for key, stored in table.scan():
                update = self._update(table, origin, key, stored)
                if update:
                    self.taught += 1
                    yield self._announcement(local_id, table) + update

    def _announcement(self, local_id: int, table: StickTable) -> bytes:
        """The definition, when updates so far were for another table or layout."""
        if table.declaration is self._announced:
            return b""
        self._announced = table.declaration
        return table.declaration.definition(local_id).encode()

    def _update(self, table: StickTable, number: int, key: bytes, stored: bytes) -> bytes:
        """An update for what is stored; empty if it has expired."""
        came, deadline = table.lifetime(stored)
        left = 0 if deadline == NEVER else deadline - self.now
        if left <= 0 and deadline != NEVER:
            return b""
        layout = table.layout
        values = layout.codec.write(stored, table.record_at, self.now - came, self._dictionary)
        expiry = left if self._timed else None
        return EntryUpdate(number & ID_MASK, expiry, key, values).encode(layout.key_type)

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
from peerproto.tables.lesson import lesson_of
from peerproto.tables.log import ID_MASK
from peerproto.tables.table import StickTable
from peerproto.tables.updates import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary


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
        self._writer: Optional[UpdateWriter] = None

    def changes(
        self, local_id: int, table: StickTable, sent: int, room: int
    ) -> tuple[bytes, int, int]:
        """The changes after ``sent``, until they have ``room`` bytes.

        Returns with them the number of the latest change that is behind us now, and
        how many updates that took.
        """
        count = 0
        now = table.origin + self.now
        writer = self._writer
        for number, key in table.log.after(sent):
            stored = table.stored(key)
            if stored is not None:
                writer = self._announce(local_id, table, table.declaration)
                update_id = (number & ID_MASK).to_bytes(4, "big")
                count += writer.write(key, stored, now, update_id)
            sent = number
            if writer is not None and writer.size >= room:
                return writer.take(), sent, count
        return b"" if writer is None else writer.take(), table.log.head, count

    def lesson(self, tables: list[tuple[int, StickTable]]) -> Iterator[bytes]:
        """Every entry of the tables, given with our ids of them, a chunk at a time.

        All updates of a table carry the id of its latest change at the start:
        a peer that acks it says that it needs nothing from before.
        """
        self.taught = 0
        origins = [table.log.head for _, table in tables]
        for (local_id, table), origin in zip(tables, origins):
            update_id = (origin & ID_MASK).to_bytes(4, "big")
            yield self._announce(local_id, table, table.declaration).take()
            for chunk in lesson_of(
                table, self._timed, update_id, self._dictionary, lambda: self.now
            ):
                self.taught += chunk.count
                yield self._announce(local_id, table, chunk.declaration).take() + chunk.data

    def _announce(self, local_id: int, table: StickTable, declaration: Declaration) -> UpdateWriter:
        """What writes updates of a table; the definition first, if those so far were others."""
        if self._writer is None or declaration is not self._announced:
            self._announced = declaration
            self._writer = UpdateWriter(
                declaration.layout, declaration.expire, self._dictionary, self._timed
            )
            self._writer.add(declaration.definition(local_id).encode())
        return self._writer

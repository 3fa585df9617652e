"""Entries to bytes, for one session: live changes and lessons.

Every update carries its id: HAProxy 3.3 and later acks wrongly after one that
does not. With 2.1 every update carries its expiry too, so that a change that a
peer gets late does not live longer there than here. HAProxy takes both, and
does the latter in lessons only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.lesson import lesson_of
from peerproto.tables.log import ID_MASK
from peerproto.tables.table import StickTable
from peerproto.tables.updates import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary


@attrs.frozen
class _Announced:
    """What a table was announced as."""

    declaration: Declaration
    definition: bytes
    """The message."""
    writer: UpdateWriter


class Sender:
    """What was said on this session so far, as far as encoding depends on it."""

    def __init__(self, timed: bool) -> None:
        self.now = 0
        """The time in ms that expiries and ages are reckoned to."""
        self.taught = 0
        """Entries in the current lesson so far."""
        self._timed = timed
        self._dictionary = SendingDictionary()
        self._announced: dict[int, _Announced] = {}
        """By our ids of the tables."""
        self._current: Optional[_Announced] = None
        """What the next update belongs to, for the peer."""

    def changes(
        self, local_id: int, table: StickTable, sent: int, room: int
    ) -> tuple[bytes, int, int]:
        """The changes after ``sent``, until they have ``room`` bytes.

        Returns with them the number of the latest change that is behind us now, and
        how many updates that took.
        """
        count = 0
        now = table.origin + self.now
        writer: Optional[UpdateWriter] = None
        for number, key in table.log.after(sent):
            sent = number
            stored = table.stored(key)
            if stored is None:
                continue
            if writer is None:
                definition, writer = self._announce(local_id, table.declaration)
                writer.add(definition)
            update_id = (number & ID_MASK).to_bytes(4, "big")
            count += writer.write([(key, stored)], now, update_id)
            if writer.size >= room:
                break
        else:
            sent = table.log.head
        return b"" if writer is None else writer.take(), sent, count

    def lesson(self, tables: list[tuple[int, StickTable]]) -> Iterator[bytes]:
        """Every entry of the tables, given with our ids of them, a chunk at a time.

        All updates of a table carry the id of its latest change at the start:
        a peer that acks it says that it needs nothing from before.
        """
        self.taught = 0
        origins = [table.log.head for _, table in tables]
        for (local_id, table), origin in zip(tables, origins):
            update_id = (origin & ID_MASK).to_bytes(4, "big")
            yield self._announce(local_id, table.declaration)[0]
            for chunk in lesson_of(
                table, self._timed, update_id, self._dictionary, lambda: self.now
            ):
                self.taught += chunk.count
                yield self._announce(local_id, chunk.declaration)[0] + chunk.data

    def _announce(self, local_id: int, declaration: Declaration) -> tuple[bytes, UpdateWriter]:
        """The table's definition, empty if the updates so far were of it; what writes more."""
        announced = self._announced.get(local_id)
        if announced is None or announced.declaration is not declaration:
            definition = declaration.definition(local_id).encode()
            writer = UpdateWriter(
                declaration.layout, declaration.expire, self._dictionary, self._timed
            )
            announced = self._announced[local_id] = _Announced(declaration, definition, writer)
        elif announced is self._current:
            return b"", announced.writer
        self._current = announced
        return announced.definition, announced.writer

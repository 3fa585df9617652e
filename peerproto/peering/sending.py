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
from peerproto.tables.lesson import Question
from peerproto.tables.live import LiveUpdates, live_of
from peerproto.tables.log import ID_MASK
from peerproto.tables.table import StickTable
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
        self._definitions: dict[int, tuple[Declaration, bytes]] = {}
        """By our ids of the tables: the declaration that was announced last, and how."""
        self._current: Optional[Declaration] = None
        """What the next update belongs to, for the peer."""
        self._live: dict[int, LiveUpdates] = {}
        """By our ids of the tables, for those with texts."""

    def changes(
        self, local_id: int, table: StickTable, sent: int, room: int
    ) -> tuple[bytes, int, int]:
        """The changes after ``sent``, until they have ``room`` bytes.

        Returns with them the number of the latest change that is behind us now, and
        how many updates that took.
        """
        if table.layout.codec.has_texts:
            updates = self._live.get(local_id)
            if updates is None:
                updates = self._live[local_id] = LiveUpdates(self._timed, self._dictionary)
        else:
            updates = live_of(table, self._timed)
        live = updates.after(table, sent, room, self.now)
        if not live.count:
            return b"", live.sent, 0
        return self._announce(local_id, table.declaration) + live.data, live.sent, live.count

    def lesson(self, tables: list[tuple[int, StickTable]]) -> Iterator[bytes]:
        """Every entry of the tables, given with our ids of them, a chunk at a time.

        All updates of a table carry the id of its latest change at the start:
        a peer that acks it says that it needs nothing from before.
        """
        self.taught = 0
        return self._answers(
            [
                (
                    local_id,
                    Question(table, self._timed, (table.log.head & ID_MASK).to_bytes(4, "big")),
                )
                for local_id, table in tables
            ]
        )

    def _answers(self, questions: list[tuple[int, Question]]) -> Iterator[bytes]:
        for local_id, question in questions:
            yield self._announce(local_id, question.table.declaration)
            for chunk in question.chunks(self._dictionary, lambda: self.now):
                self.taught += chunk.count
                yield self._announce(local_id, chunk.declaration) + chunk.data

    def _announce(self, local_id: int, declaration: Declaration) -> bytes:
        """A table's definition; empty if the updates so far were of it."""
        if declaration is self._current:
            return b""
        self._current = declaration
        announced, definition = self._definitions.get(local_id, (None, b""))
        if announced is not declaration:
            definition = declaration.definition(local_id).encode()
            self._definitions[local_id] = declaration, definition
        return definition

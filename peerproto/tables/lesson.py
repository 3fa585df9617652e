"""Lessons of one table, written once for all that are taught at about the same time.

Updates are gathered in chunks. A pupil that asks while the first of them is
still kept follows with the same chunks, and whoever is ahead has the next one
written. A pupil that falls too far behind goes on by itself. Records with texts
are written for each pupil, since they refer to the cache of its connection.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.parts import Sweep
from peerproto.tables.table import StickTable
from peerproto.tables.updates import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary

CHUNK: Final = 16384
"""Bytes of a chunk, or a few more: a ms of work."""

KEPT: Final = 128
"""Chunks that are kept for others: 2 MiB."""

FRESH: Final = 1000
"""Age in ms above which a chunk is of no use: expiries and ages are as of its writing."""


@attrs.frozen
class Chunk:
    """Updates of a table under one declaration."""

    declaration: Declaration
    data: bytes
    count: int
    """How many they are."""
    written: int
    """When, in ms."""
    after: Sweep
    """What is still to come."""


class TableLesson:
    """Every entry of a table, in chunks that are numbered from 0."""

    def __init__(
        self,
        table: StickTable,
        timed: bool,
        update_id: bytes,
        dictionary: Optional[SendingDictionary] = None,
        sweep: Optional[Sweep] = None,
    ) -> None:
        """With a ``dictionary`` or a ``sweep``, which is where to begin, it is for one alone."""
        self._table = table
        self._timed = timed
        self._update_id = update_id
        self._dictionary = dictionary
        shared = dictionary is None and sweep is None
        self._sweep = table.sweep() if sweep is None else sweep
        self._declaration: Optional[Declaration] = None
        self._writer: Optional[UpdateWriter] = None
        self._kept: deque[Chunk] = deque(maxlen=KEPT if shared else 1)
        self._written = 0

    def chunk(self, number: int, now: int) -> Optional[Chunk]:
        """A chunk that is kept, or the next one, written as of ``now``; ``None`` after the last.

        :raises LookupError: it is not kept any more, or no longer fresh.
        """
        place = number - self._written
        if place == 0:
            return self._write(now)
        if -place > len(self._kept) or now - self._kept[place].written > FRESH:
            raise LookupError(number)
        return self._kept[place]

    def apart(self, last: Optional[Chunk]) -> TableLesson:
        """A lesson for one pupil: what comes after the last chunk that it had."""
        sweep = self._table.sweep() if last is None else last.after.copy()
        return TableLesson(self._table, self._timed, self._update_id, self._dictionary, sweep)

    def _write(self, now: int) -> Optional[Chunk]:
        table = self._table
        writer = self._writer
        if writer is None or table.declaration is not self._declaration:
            self._declaration = table.declaration
            writer = self._writer = UpdateWriter(
                table.layout,
                table.declaration.expire,
                self._dictionary or SendingDictionary(),
                self._timed,
            )
        pieces = map(table.present, self._sweep)
        count = writer.write_until(CHUNK, pieces, table.origin + now, self._update_id)
        if not writer.size:
            return None
        chunk = Chunk(table.declaration, writer.take(), count, now, self._sweep.copy())
        self._kept.append(chunk)
        self._written += 1
        return chunk


def lesson_of(
    table: StickTable, timed: bool, update_id: bytes, now: int, dictionary: SendingDictionary
) -> TableLesson:
    """A lesson for one more pupil: one that is under way, if it can still be followed."""
    if len(table.layout.codec.integers) > 1:
        return TableLesson(table, timed, update_id, dictionary)
    lesson = table.lessons.get((timed, update_id))
    try:
        if lesson is not None:
            lesson.chunk(0, now)
            return lesson
    except LookupError:
        pass
    lesson = table.lessons[timed, update_id] = TableLesson(table, timed, update_id)
    return lesson

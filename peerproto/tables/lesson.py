"""Lessons of one table, written once for all that are taught at about the same time.

Updates are gathered in chunks. A pupil that asks while another is taught joins
in: from there on both get the same chunks, whoever is ahead has the next one
written, and what the new one missed it gets by itself in the end. So each entry
comes to a pupil as it was when the pupil had asked, or later. One that falls too
far behind goes on by itself, too. Records with texts are written for each pupil,
since they refer to the cache of its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.parts import Sweep
from peerproto.tables.table import StickTable
from peerproto.tables.updates import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary

CHUNK: Final = 8192
"""Bytes of a chunk, or a few more: half a ms of work."""

KEPT: Final = 32
"""Chunks that are kept for others: 256 KiB."""

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
    """What is still to come, for who falls behind."""


class TableLesson:
    """Updates of a table in chunks that are numbered from 0."""

    def __init__(
        self,
        table: StickTable,
        timed: bool,
        update_id: bytes,
        sweep: Sweep,
        dictionary: Optional[SendingDictionary] = None,
        kept: int = 0,
    ) -> None:
        """For the entries of ``sweep``; as many chunks are ``kept`` for others."""
        self._sweep = sweep
        self.after = sweep.copy() if kept else sweep
        """What comes after the last chunk that was written; not to be read, but copied."""
        self.written = 0
        """How many chunks there are so far."""
        self._table = table
        self._timed = timed
        self._update_id = update_id
        self._dictionary = dictionary or SendingDictionary()
        self._declaration: Optional[Declaration] = None
        self._writer: Optional[UpdateWriter] = None
        self._kept: deque[Chunk] = deque(maxlen=kept)

    def chunk(self, number: int, now: int) -> Optional[Chunk]:
        """A chunk that is kept, or the next one, written as of ``now``; ``None`` after the last.

        :raises LookupError: it is not kept any more, or no longer fresh.
        """
        place = number - self.written
        if place == 0:
            return self._write(now)
        if -place > len(self._kept) or now - self._kept[place].written > FRESH:
            raise LookupError(number)
        return self._kept[place]

    def rest(self, sweep: Sweep) -> TableLesson:
        """The same for one pupil alone, of the entries of another sweep."""
        return TableLesson(self._table, self._timed, self._update_id, sweep, self._dictionary)

    def _write(self, now: int) -> Optional[Chunk]:
        table = self._table
        writer = self._writer
        if writer is None or table.declaration is not self._declaration:
            self._declaration = declaration = table.declaration
            writer = self._writer = UpdateWriter(
                declaration.layout, declaration.expire, self._dictionary, self._timed
            )
        pieces = map(table.present, self._sweep)
        count = writer.write_until(CHUNK, pieces, table.origin + now, self._update_id)
        if not writer.size:
            return None
        if self._kept.maxlen:
            self.after = self._sweep.copy()
        chunk = Chunk(table.declaration, writer.take(), count, now, self.after)
        self._kept.append(chunk)
        self.written += 1
        return chunk


def lesson_of(
    table: StickTable,
    timed: bool,
    update_id: bytes,
    dictionary: SendingDictionary,
    clock: Callable[[], int],
) -> Iterator[Chunk]:
    """The chunks for one pupil: every entry of the table, as of the call or later.

    ``clock`` tells the time in ms.
    """
    if table.layout.codec.has_texts:
        alone = TableLesson(table, timed, update_id, table.sweep(), dictionary)
        return _chunks(alone, 0, alone.after, clock)
    lesson = table.lessons.get((timed, update_id))
    if lesson is None or not lesson.after.extend():
        lesson = TableLesson(table, timed, update_id, table.sweep(), kept=KEPT)
        table.lessons[timed, update_id] = lesson
    return _joined(lesson, lesson.written, lesson.after, clock)


def _joined(
    lesson: TableLesson, number: int, after: Sweep, clock: Callable[[], int]
) -> Iterator[Chunk]:
    """The chunks from a number on, and then what was before them."""
    yield from _chunks(lesson, number, after, clock)
    missed = lesson.rest(after.behind())
    yield from _chunks(missed, 0, missed.after, clock)


def _chunks(
    lesson: TableLesson, number: int, after: Sweep, clock: Callable[[], int]
) -> Iterator[Chunk]:
    """The chunks from a number on, written for this pupil alone if it falls behind."""
    while True:
        try:
            chunk = lesson.chunk(number, clock())
        except LookupError:
            lesson, number = lesson.rest(after.copy()), 0
            continue
        if chunk is None:
            return
        after = chunk.after
        number += 1
        yield chunk

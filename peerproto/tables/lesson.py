"""Lessons of one table, written once for all that are taught at about the same time.

Updates are gathered in chunks. A pupil that asks while another is taught joins
in, with the first chunk that was written since it asked and is still kept: from
there on both get the same chunks, whoever is ahead has the next one written, and
what the new one missed it gets by itself in the end. So each entry comes to a
pupil as it was when the pupil had asked, or later. One that falls too far behind
goes on by itself, too. Records with texts are written for each pupil, since they
refer to the cache of its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Optional
from weakref import ref

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
        self._beginning = self.after
        self.written = 0
        """How many chunks there are so far."""
        self._table = table
        self._timed = timed
        self._update_id = update_id
        self._dictionary = dictionary or SendingDictionary()
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

    def join(self, since: int, now: int) -> tuple[int, Sweep]:
        """The first chunk for whoever asked when ``since`` of them were written; what comes then.

        It is one that is kept, or the next one.
        """
        kept = self._kept
        forgotten = self.written - len(kept)
        # Of the first one that is kept, nobody knows any more what came before it.
        number = max(since, forgotten + 1 if forgotten else 0)
        while number < self.written and now - kept[number - forgotten].written > FRESH:
            number += 1
        if number >= self.written:
            return self.written, self.after
        return number, kept[number - forgotten - 1].after if number else self._beginning

    def rest(self, sweep: Sweep) -> TableLesson:
        """The same for one pupil alone, of the entries of another sweep."""
        return TableLesson(self._table, self._timed, self._update_id, sweep, self._dictionary)

    def _write(self, now: int) -> Optional[Chunk]:
        table = self._table
        writer = self._writer
        if writer is None or writer.declaration is not table.declaration:
            writer = self._writer = UpdateWriter(table.declaration, self._dictionary, self._timed)
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


class Question:
    """That a peer wants to learn a table, and what of a lesson under way it is too late for."""

    def __init__(self, table: StickTable, timed: bool, update_id: bytes) -> None:
        """Asked now; see `TableLesson`."""
        self.table = table
        self._timed = timed
        self._update_id = update_id
        lesson = table.lessons.get((timed, update_id))
        self._earlier = None if lesson is None else ref(lesson)
        self._since: Optional[int] = None
        if lesson is not None and lesson.after.extend():
            self._since = lesson.written

    def chunks(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Chunk]:
        """The answer: every entry of the table, as when it was asked or later.

        ``clock`` tells the time in ms.
        """
        table = self.table
        if table.layout.codec.has_texts:
            alone = TableLesson(table, self._timed, self._update_id, table.sweep(), dictionary)
            return _chunks(alone, 0, alone.after, clock)
        lesson, number, after = self._lesson_now(clock())
        return _joined(lesson, number, after, clock)

    def _lesson_now(self, now: int) -> tuple[TableLesson, int, Sweep]:
        """One that can be joined, from which chunk on, and what comes then."""
        table, key = self.table, (self._timed, self._update_id)
        lesson = table.lessons.get(key)
        if lesson is not None:
            earlier = self._earlier is not None and lesson is self._earlier()
            since = self._since if earlier else 0
            if since is not None:
                number, after = lesson.join(since, now)
                if number < lesson.written or lesson.after.extend():
                    return lesson, number, after
        lesson = TableLesson(table, *key, table.sweep(), kept=KEPT)
        table.lessons[key] = lesson
        return lesson, 0, lesson.after


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

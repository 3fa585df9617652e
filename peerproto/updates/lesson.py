"""Lessons of one table, written once for all that are taught at about the same time.

Updates are gathered in chunks. A pupil that asks while another is taught joins
in, with the first chunk that was written since it asked and is still kept: from
there on both get the same chunks, whoever is ahead has the next one written, and
what the new one missed it gets by itself in the end. So each entry comes to a
pupil as it was when the pupil had asked, or later. One that falls too far behind
goes on by itself, too. Records with texts are written for each pupil, since they
refer to the cache of its connection.

Entries come in about the order of their keys (`peerproto.updates.order`). While that is made,
there is nothing to send.

A lesson ends when all has come that the table has then, so that *finished* is true
whatever came and went meanwhile; where so much did that no end is in sight, it says so.
That counts for what was learnt from others in particular: a change that was made here
goes out by itself (`peerproto.tables.log`).

Entries that were stored under earlier declarations, or that are of peers that store less,
are taught with the columns that they have, under a definition of these alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, MutableMapping
from itertools import islice
from typing import Final, Optional
from weakref import WeakSet, ref

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.row import GENERATION
from peerproto.tables.store import TableStore
from peerproto.updates.order import Order, OrderedSweep
from peerproto.updates.writer import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary

CHUNK: Final = 8192
"""Bytes of a chunk, or a few more: half a ms of work."""

KEPT: Final = 32
"""Chunks that are kept for others: 256 KiB."""

FRESH: Final = 1000
"""Age in ms above which a chunk is of no use: expiries and ages are as of its writing."""

_MOST_PIECES: Final = 64
"""Pieces of a sweep that are looked at for one chunk, so that a long time cannot go by with
those of which nothing is to be written."""

_ZEROS: Final = 512
"""Tombstones that are told of at once: a few ms of work."""

_MOST_KINDS: Final = 8
"""Sets of columns for which updates are written by what is generated: to prepare that takes ms."""


@attrs.frozen
class Updates:
    """Updates of a table; none if there are none yet."""

    stretches: list[tuple[Declaration, bytes]]
    """What some of them are to be announced as, and these."""
    count: int
    """How many they are."""


@attrs.frozen
class Chunk(Updates):
    """Updates of which others get the same."""

    written: int
    """When, in ms."""
    after: OrderedSweep
    """What is still to come, for who falls behind."""


class TableLesson:
    """Updates of a table in chunks that are numbered from 0."""

    def __init__(
        self,
        table: TableStore,
        timed: bool,
        update_id: bytes,
        sweep: OrderedSweep,
        left_out: dict[bytes, int],
        dictionary: Optional[SendingDictionary] = None,
        kept: int = 0,
    ) -> None:
        """For the entries of ``sweep``; as many chunks are ``kept`` for others. See
        `Outgoing` for ``left_out``."""
        self._sweep = sweep
        self.after = sweep.copy() if kept else sweep
        """What comes after the last chunk that was written; not to be read, but copied."""
        self._beginning = self.after
        self.written = 0
        """How many chunks there are so far."""
        self._table = table
        self._timed = timed
        self._update_id = update_id
        self._left_out = left_out
        self._dictionary = dictionary or SendingDictionary()
        self._writers: dict[int, UpdateWriter] = {}
        """By the generation of entries, as they are declared now."""
        self._writers_of: tuple[Optional[Declaration], int] = None, 0
        self._kept: deque[Chunk] = deque(maxlen=kept)

    @property
    def left_out(self) -> bool:
        """Whether it has ended though there was more, since too many entries came and went."""
        return self._sweep.left_out

    @property
    def order(self) -> Order:
        """That in which entries come."""
        return self._sweep.order

    def chunk(self, number: int, now: int) -> Optional[Chunk]:
        """A chunk that is kept, or the next one, written as of ``now``; ``None`` after the last.

        One without updates does not count: this is to be asked for again.

        :raises LookupError: it is not kept any more, or no longer fresh.
        """
        place = number - self.written
        if place == 0:
            return self._write(now)
        if -place > len(self._kept) or now - self._kept[place].written > FRESH:
            raise LookupError(number)
        return self._kept[place]

    def join(self, since: int, now: int) -> tuple[int, OrderedSweep]:
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

    def rest(self, sweep: OrderedSweep, dictionary: SendingDictionary) -> TableLesson:
        """The same for one pupil alone, of the entries of another sweep."""
        return TableLesson(
            self._table, self._timed, self._update_id, sweep, self._left_out, dictionary
        )

    def fits(self, dictionary: SendingDictionary) -> bool:
        """Whether the next chunk can be that of the pupil with this dictionary."""
        return dictionary is self._dictionary or not self._table.layout.codec.has_texts

    def _write(self, now: int) -> Optional[Chunk]:
        if not self._sweep.prepare():
            return Chunk([], 0, now, self.after)
        table = self._table
        generations = table.generations
        if self._writers_of != (table.declaration, generations.version):
            self._writers_of = table.declaration, generations.version
            self._writers = {generations.present: self._make_writer(table.declaration)}
        if generations.mixed:
            stretches, count = self._write_kinds(now)
        else:
            writer = self._writers[generations.present]
            pieces = islice(self._sweep, _MOST_PIECES)
            count = writer.write_until(CHUNK, pieces, table.origin + now, self._update_id)
            stretches = [(writer.declaration, writer.take())] if count else []
        if not stretches:
            return None if self._sweep.ended else Chunk([], 0, now, self.after)
        if self._kept.maxlen:
            self.after = self._sweep.copy()
        chunk = Chunk(stretches, count, now, self.after)
        self._kept.append(chunk)
        self.written += 1
        return chunk

    def _write_kinds(self, now: int) -> tuple[list[tuple[Declaration, bytes]], int]:
        """Write entries of several generations, those of each together, and how many."""
        stretches: list[tuple[Declaration, bytes]] = []
        count = 0
        for generation, entries in self._next_kinds().items():
            writer = self._writers[generation]
            moment = generation * GENERATION + now
            written = writer.write(entries, moment, self._update_id)
            if written:
                stretches.append((writer.declaration, writer.take()))
                count += written
        return stretches, count

    def _next_kinds(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """Entries for a chunk by their generation; those with columns of their own stay narrow.

        What nobody has said of an entry must not be taught as if it were 0.
        """
        generations, writers = self._table.generations, self._writers
        limit = min(len(self._writers) + 1, _MOST_KINDS)
        kinds: dict[int, list[tuple[bytes, bytes]]] = {}
        size = 0
        for piece in islice(self._sweep, _MOST_PIECES):
            for entry in piece:
                stored = entry[1]
                size += len(stored)
                generation = stored[0]
                if generation not in writers and not self._prepare(generation, limit):
                    generation = generations.present
                    entry = entry[0], generations.convert(stored)  # noqa: PLW2901
                kinds.setdefault(generation, []).append(entry)
            if size >= CHUNK:
                break
        return kinds

    def _prepare(self, generation: int, limit: int) -> bool:
        """Make what writes the entries of a generation as they are.

        ``limit`` is how many may be written by what is generated. Says no if the generation
        has all columns of the table.
        """
        narrow = self._table.generations.narrow(generation)
        if narrow is None:
            return False
        by_steps = len(self._writers) >= limit
        self._writers[generation] = self._make_writer(narrow, by_steps)
        return True

    def _make_writer(self, declaration: Declaration, by_steps: bool = False) -> UpdateWriter:
        return UpdateWriter(
            declaration,
            self._dictionary,
            self._timed,
            left_out=self._left_out,
            prefers_steps=by_steps,
        )


class LessonRequest:
    """That a peer wants to learn a table, and what of a lesson under way it is too late for."""

    def __init__(
        self,
        table: TableStore,
        lessons: MutableMapping[tuple[bool, bytes], TableLesson],
        all_lessons: WeakSet[TableLesson],
        timed: bool,
        update_id: bytes,
        left_out: dict[bytes, int],
    ) -> None:
        """Asked now; ``lessons`` are those under way that can be joined. See `TableLesson`."""
        self.table = table
        self.left_out = False
        """Whether the answer came to its end without all entries: too many came and went."""
        self._all_lessons = all_lessons
        self._lessons = lessons
        self._left_out = left_out
        self._timed = timed
        self._update_id = update_id
        lesson = lessons.get((timed, update_id))
        self._earlier = None if lesson is None else ref(lesson)
        self._since: Optional[int] = None
        if lesson is not None and lesson.after.extend():
            self._since = lesson.written

    def answer(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Updates]:
        """Every entry of the table, as when it was asked or later; then what was forgotten.

        ``clock`` tells the time in ms.
        """
        yield from self._chunks(dictionary, clock)
        yield from self._zeros(dictionary, clock)

    def _zeros(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Updates]:
        """Zeros for entries that were forgotten: the pupil may have them from others."""
        table = self.table
        keys = iter(table.tombstones)
        while some := list(islice(keys, _ZEROS)):
            # The table may have been declared anew meanwhile.
            writer = UpdateWriter(
                table.declaration, dictionary, self._timed, clears=True, left_out=self._left_out
            )
            now = clock()
            moment = table.origin + now
            count = 0
            for key in some:
                stored = table.zeroed(key, now)
                if stored is not None:
                    count += writer.write_one(key, stored, moment, self._update_id)
            if count:
                yield Updates([(writer.declaration, writer.take())], count)

    def _chunks(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Chunk]:
        """The entries."""
        table = self.table
        if table.layout.codec.has_texts:
            alone = TableLesson(
                table, self._timed, self._update_id, self._sweep(), self._left_out, dictionary
            )
            self._all_lessons.add(alone)
            return self._last(alone, alone.after, clock, dictionary)
        lesson, number, after = self._lesson_now(clock())
        return self._joined(lesson, number, after, clock, dictionary)

    def _joined(
        self,
        lesson: TableLesson,
        number: int,
        after: OrderedSweep,
        clock: Callable[[], int],
        dictionary: SendingDictionary,
    ) -> Iterator[Chunk]:
        """The chunks from a number on, what was before them, and what was stored meanwhile."""
        end, _ = yield from _chunks(lesson, number, after, clock, dictionary)
        missed = lesson.rest(after.behind(), dictionary)
        yield from _chunks(missed, 0, missed.after, clock, dictionary)
        late = lesson.rest(end.copy(), dictionary)
        yield from self._last(late, late.after, clock, dictionary)

    def _last(
        self,
        lesson: TableLesson,
        after: OrderedSweep,
        clock: Callable[[], int],
        dictionary: SendingDictionary,
    ) -> Iterator[Chunk]:
        """All chunks of a lesson with which the answer ends."""
        _, self.left_out = yield from _chunks(lesson, 0, after, clock, dictionary)

    def _lesson_now(self, now: int) -> tuple[TableLesson, int, OrderedSweep]:
        """One that can be joined, from which chunk on, and what comes then."""
        table, key = self.table, (self._timed, self._update_id)
        lesson = self._lessons.get(key)
        if lesson is not None:
            earlier = self._earlier is not None and lesson is self._earlier()
            since = self._since if earlier else 0
            if since is not None:
                number, after = lesson.join(since, now)
                if number < lesson.written or lesson.after.extend():
                    return lesson, number, after
        lesson = TableLesson(table, *key, self._sweep(), self._left_out, kept=KEPT)
        self._all_lessons.add(lesson)
        self._lessons[key] = lesson
        return lesson, 0, lesson.after

    def _sweep(self) -> OrderedSweep:
        """The whole table, in an order that is there for another lesson, if one is."""
        for lesson in self._all_lessons:
            if lesson.order.serves():
                return OrderedSweep(lesson.order, extended=True)
        table = self.table
        return OrderedSweep(Order(table.partitions, table.layout.fixed_key_length))


def _chunks(
    lesson: TableLesson,
    number: int,
    after: OrderedSweep,
    clock: Callable[[], int],
    dictionary: SendingDictionary,
) -> Generator[Chunk, None, tuple[OrderedSweep, bool]]:
    """The chunks from a number on, written for this pupil alone if it falls behind.

    So they are, too, if the table is declared to store texts meanwhile.
    Returns what is still to come after the last, which is only what is stored later; and whether
    entries were left out all the same.
    """
    while True:
        if not lesson.fits(dictionary):
            lesson, number = lesson.rest(after.copy(), dictionary), 0
        try:
            chunk = lesson.chunk(number, clock())
        except LookupError:
            lesson, number = lesson.rest(after.copy(), dictionary), 0
            continue
        if chunk is None:
            return after, lesson.left_out
        if chunk.stretches:
            after = chunk.after
            number += 1
        yield chunk

"""Lessons of one table, written once for all that are taught at about the same time.

Updates are gathered in chunks. The chunks go round the table for as long as anybody is taught:
after the last entry comes the first one again. A pupil begins with the first chunk that was
written since it asked and is still kept, and goes round once, to the place where it began;
whoever is ahead has the next chunk written. So each entry comes to a pupil as it was when the
pupil had asked, or later. What was stored meanwhile each gets by itself in the end, and one
that falls too far behind goes the rest of the way by itself. Records with texts are written
for each pupil, since they refer to the cache of its connection.

Entries come in about the order of their keys (`peerproto.updates.order`). While that is made,
there is nothing to send. If it is given up, pupils go round once more, in no order.

A lesson ends when all has come that the table has then, so that *finished* is true
whatever came and went meanwhile; where so much did that no end is in sight, it says so.
That counts for what was learnt from others in particular: a change that was made here
goes out by itself (`peerproto.tables.log`).

Entries that were stored under earlier declarations, or that are of peers that store less,
are taught with the columns that they have, under a definition of these alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Final, Optional
from weakref import WeakSet, WeakValueDictionary

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.row import GENERATION
from peerproto.tables.store import TableStore
from peerproto.updates.order import Entries, Order
from peerproto.updates.writer import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary

CHUNK: Final = 8192
"""Bytes of a chunk, or a few more: half a ms of work."""

KEPT: Final = 32
"""Chunks that are kept for others: 256 KiB."""

FRESH: Final = 1000
"""Age in ms above which a chunk is of no use: expiries and ages are as of its writing."""

_MOST_PIECES: Final = 16
"""Pieces of an order that are looked at for one chunk, so that a long time cannot go by with
those of which nothing is to be written. More than a chunk has if all is."""

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


_NOTHING: Final = Updates([], 0)


@attrs.frozen
class Chunk(Updates):
    """Updates of which others get the same."""

    written: int
    """When, in ms."""
    asked: int
    """How many pupils had asked for the table by then."""
    begin: int
    """The number of its first piece of the order."""
    end: int
    """Where the next one begins: 0 if no piece was left, so that there are no updates either."""


class Lessons:
    """What the lessons of one table have in common."""

    def __init__(self, table: TableStore, left_out: dict[bytes, int]) -> None:
        """See `Outgoing` for ``left_out``."""
        self.table = table
        self.left_out = left_out
        self.asked = 0
        """How many pupils have asked so far."""
        self.shared: WeakValueDictionary[tuple[bool, bytes], Round] = WeakValueDictionary()
        """Those that others can join, by their form: whether updates tell their life, and the
        4 bytes that all of them carry."""
        self._begun: WeakSet[Round] = WeakSet()
        """Those that are under way, also for one pupil alone."""

    def begin(
        self,
        form: tuple[bool, bytes],
        dictionary: Optional[SendingDictionary] = None,
        kept: int = 0,
    ) -> Round:
        """A round from the first entry on, in the order of another one if that serves."""
        begun = Round(self, form, self._order(), dictionary, kept)
        self._begun.add(begun)
        return begun

    def share(self, form: tuple[bool, bytes], now: int) -> Round:
        """One that is for all pupils of a form."""
        shared = self.shared.get(form)
        if shared is None or not shared.goes_on(now):
            shared = self.shared[form] = self.begin(form, kept=KEPT)
        return shared

    def _order(self) -> Order:
        for one in self._begun:
            if one.order.serves():
                return one.order
        return Order(self.table.partitions, self.table.layout.fixed_key_length)


class Round:
    """Updates of a table that go round it, in chunks that are numbered from 0."""

    def __init__(
        self,
        lessons: Lessons,
        form: tuple[bool, bytes],
        order: Order,
        dictionary: Optional[SendingDictionary] = None,
        kept: int = 0,
        place: int = 0,
    ) -> None:
        """From a ``place`` of the order on; as many chunks are ``kept`` for others."""
        self.order = order
        self._lessons = lessons
        self._form = form
        self._place = place
        self._stops: set[int] = set()
        """Places where a pupil has been round: the next chunk that comes to one ends there."""
        self._written = 0
        """How many chunks there are so far."""
        self._dictionary = dictionary or SendingDictionary()
        self._writers: dict[int, UpdateWriter] = {}
        """By the generation of entries, as they are declared now."""
        self._writers_of: tuple[Optional[Declaration], int] = None, 0
        self._kept: deque[Chunk] = deque(maxlen=kept)
        self._instead: Optional[Round] = None

    def goes_on(self, now: int) -> bool:
        """Whether it is for others to join."""
        kept = self._kept
        return self.order.serves() and not (kept and now - kept[-1].written > FRESH)

    def join(self, asked: int, now: int) -> tuple[int, int]:
        """The first chunk for a pupil, and where it begins; ``asked`` pupils had asked with it."""
        number, place = self._written, self._place
        for chunk in reversed(self._kept):
            if chunk.asked < asked or now - chunk.written > FRESH:
                break
            number, place = number - 1, chunk.begin
        self._stops.add(place)
        return number, place

    def alone(self, place: int, stop: int, dictionary: SendingDictionary) -> Round:
        """The same for one pupil alone, from a place on, up to a stop."""
        alone = Round(self._lessons, self._form, self.order, dictionary, place=place)
        alone._stops.add(stop)
        return alone

    def instead(self) -> Round:
        """What its pupils join if the order is given up."""
        instead = self._instead
        if instead is None or not instead.order.serves():
            table = self._lessons.table
            order = Order(table.partitions, table.layout.fixed_key_length, plain=True)
            kept = self._kept.maxlen or 0
            instead = Round(self._lessons, self._form, order, self._dictionary, kept)
            self._instead = instead
        return instead

    def is_for(self, dictionary: SendingDictionary, number: int, now: int) -> bool:
        """Whether a chunk is there, or is the next one, for the pupil with this dictionary."""
        if dictionary is not self._dictionary and self._lessons.table.layout.codec.has_texts:
            return False
        place = number - self._written
        return place == 0 or (
            -place <= len(self._kept) and now - self._kept[place].written <= FRESH
        )

    def chunk(self, number: int, now: int) -> Chunk:
        """One that is kept, or the next one, written as of ``now``."""
        if number < self._written:
            return self._kept[number - self._written]
        chunk = self._write(now)
        self._stops.discard(self._place)
        self._kept.append(chunk)
        self._written += 1
        return chunk

    def _pieces(self) -> Iterator[Entries]:
        """Some from here on, up to the next stop or to the last one."""
        order, stops = self.order, self._stops
        for place in range(self._place, self._place + _MOST_PIECES):
            self._place = place + 1
            yield order.entries(place)
            if self._place in stops or not order.has(self._place):
                break

    def _write(self, now: int) -> Chunk:
        begin, asked = self._place, self._lessons.asked
        if not self.order.has(begin):
            self._place = 0
            return Chunk([], 0, now, asked, begin, 0)
        table = self._lessons.table
        generations = table.generations
        if self._writers_of != (table.declaration, generations.version):
            self._writers_of = table.declaration, generations.version
            self._writers = {generations.present: self._make_writer(table.declaration)}
        if generations.mixed:
            stretches, count = self._write_kinds(now)
        else:
            writer = self._writers[generations.present]
            moment, update_id = table.origin + now, self._form[1]
            count = writer.write_until(CHUNK, self._pieces(), moment, update_id)
            stretches = [(writer.declaration, writer.take())] if count else []
        return Chunk(stretches, count, now, asked, begin, self._place)

    def _write_kinds(self, now: int) -> tuple[list[tuple[Declaration, bytes]], int]:
        """Write entries of several generations, those of each together, and how many."""
        stretches: list[tuple[Declaration, bytes]] = []
        count = 0
        for generation, entries in self._next_kinds().items():
            writer = self._writers[generation]
            moment = generation * GENERATION + now
            written = writer.write(entries, moment, self._form[1])
            if written:
                stretches.append((writer.declaration, writer.take()))
                count += written
        return stretches, count

    def _next_kinds(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """Entries for a chunk by their generation; those with columns of their own stay narrow.

        What nobody has said of an entry must not be taught as if it were 0.
        """
        generations, writers = self._lessons.table.generations, self._writers
        limit = min(len(self._writers) + 1, _MOST_KINDS)
        kinds: dict[int, list[tuple[bytes, bytes]]] = {}
        size = 0
        for piece in self._pieces():
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
        narrow = self._lessons.table.generations.narrow(generation)
        if narrow is None:
            return False
        by_steps = len(self._writers) >= limit
        self._writers[generation] = self._make_writer(narrow, by_steps)
        return True

    def _make_writer(self, declaration: Declaration, by_steps: bool = False) -> UpdateWriter:
        return UpdateWriter(
            declaration,
            self._dictionary,
            self._form[0],
            left_out=self._lessons.left_out,
            prefers_steps=by_steps,
        )


class LessonRequest:
    """That a peer wants to learn a table."""

    def __init__(self, lessons: Lessons, timed: bool, update_id: bytes) -> None:
        """Asked now; see `Outgoing.request`."""
        self.table = lessons.table
        self.left_out = False
        """Whether the answer came to its end without all entries: too many came and went."""
        self._lessons = lessons
        self._form = timed, update_id
        lessons.asked += 1
        self._asked = lessons.asked

    def answer(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Updates]:
        """Every entry of the table, as when it was asked or later; then what was forgotten.

        ``clock`` tells the time in ms.
        """
        yield from self._chunks(dictionary, clock)
        yield from self._zeros(dictionary, clock)

    def _zeros(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Updates]:
        """Zeros for entries that were forgotten: the pupil may have them from others."""
        table = self.table
        timed, update_id = self._form
        keys = iter(table.tombstones)
        while some := list(islice(keys, _ZEROS)):
            # The table may have been declared anew meanwhile.
            writer = UpdateWriter(
                table.declaration,
                dictionary,
                timed,
                clears=True,
                left_out=self._lessons.left_out,
            )
            now = clock()
            moment = table.origin + now
            count = 0
            for key in some:
                stored = table.zeroed(key, now)
                if stored is not None:
                    count += writer.write_one(key, stored, moment, update_id)
            if count:
                yield Updates([(writer.declaration, writer.take())], count)

    def _chunks(self, dictionary: SendingDictionary, clock: Callable[[], int]) -> Iterator[Updates]:
        """The entries."""
        if self.table.layout.codec.has_texts:
            lesson = self._lessons.begin(self._form, dictionary)
        else:
            lesson = self._lessons.share(self._form, clock())
        while True:
            while not lesson.order.prepare():
                yield _NOTHING
            number, place = lesson.join(self._asked, clock())
            end = yield from _go_round(lesson, number, place, place, dictionary, clock)
            if end is not None:
                late = lesson.alone(end, 0, dictionary)
                if (yield from _go_round(late, 0, end, 0, dictionary, clock)) is not None:
                    self.left_out = lesson.order.left_out
                    return
            lesson = lesson.instead()


def _go_round(
    lesson: Round,
    number: int,
    place: int,
    stop: int,
    dictionary: SendingDictionary,
    clock: Callable[[], int],
) -> Generator[Updates, None, Optional[int]]:
    """The chunks from a number on, of which the first begins at a place, up to a stop.

    They are written for this pupil alone if it falls behind, or if the table is declared to
    store texts meanwhile. Returns the place where no piece was left, since what is stored later
    comes from there on; ``None`` if the order was given up.
    """
    end = place
    passed = 0
    while not lesson.order.rows.ended:
        now = clock()
        if not lesson.is_for(dictionary, number, now):
            lesson, number = lesson.alone(place, stop, dictionary), 0
        chunk = lesson.chunk(number, now)
        number += 1
        if chunk.end == 0:
            end = place
        else:
            passed += chunk.end - place
            if chunk.count or passed >= _MOST_PIECES:
                # To have passed so much of which nothing is to be sent is enough for once, too.
                passed = 0
                yield chunk
        place = chunk.end
        if place == stop:
            return end
    return None

"""The order of lessons: keys that are near each other come together.

HAProxy keeps the keys of a table in a tree. Neighbours one after the other find the same
nodes in the processor's caches; scattered keys do not, and take two to three times as long.
So rows are spread over buckets before a lesson begins. A bucket has all keys between two
bounds, which are taken from a sample of the keys themselves: buckets have about the same
size, however the keys cluster, and whatever they are. Within a bucket keys come in about
the order in which they were stored.

The table is read in the order in which its rows lie in memory, and the rows themselves are
kept: to look each up again by its key would cost more than to write its update. Where rows
have no keys, keys are kept, too; of the last buckets keys alone, so that there are never more
than 16 bytes for each entry.

Behind all that come the keys of what was stored since, once a lesson gets there.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from itertools import islice, repeat
from math import ceil
from typing import Final

from peerproto.tables.partitions import PARTS, Partitions
from peerproto.tables.row import KEY_AT
from peerproto.updates.rows import Rows

SLICE: Final = 4096
"""Rows that are spread at once: 2 to 3 ms of work."""

_BUCKET: Final = 1024
"""Keys that a bucket has at least, on average."""

_MOST_BUCKETS: Final = 256

_SAMPLED: Final = 4
"""Keys of the sample for each bucket."""

_WALKED: Final = 1 << 13
"""Keys that are walked over at once for the sample."""

_WITH_ROWS: Final = 27 / 32
"""The share of the buckets in which rows are kept if keys are, too."""

_PIECE: Final = 64
"""Rows of a bucket that are taught at once."""

Entries = list[tuple[bytes, bytes]]
"""Keys and their rows. A key may be empty where the row has it."""


class Order:
    """Where the buckets of a table begin, and the rows in them, in pieces that are numbered.

    The table may change meanwhile: whatever is there from beginning to end is in a piece, and
    every key that is there when there is no further piece is in one, unless very many were
    stored, which it says. One that is removed and stored again may be in two.
    """

    def __init__(self, parts: Partitions, key_length: int, plain: bool = False) -> None:
        """``key_length`` is that of keys in rows; 0 if rows have none. If it is ``plain``, keys
        come as the table has them, and no rows are kept: those may all be replaced."""
        self.parts = parts
        self.rows = Rows(parts.sweep(), plain)
        parts.follow(self.rows)
        self._key_length = key_length
        self._keys = len(parts)
        count = min(self._keys // _BUCKET, _MOST_BUCKETS)
        self._step: int = self._keys // (count * _SAMPLED) if count > 1 else 0
        self._sampled = 0 if self._step else PARTS
        """How many of the parts have been sampled."""
        self._sample: list[bytes] = []
        self._bounds: list[bytes] = []
        """The least key of each bucket but the first."""
        self._latest: list[list[bytes]] = [[]]
        """The latest rows of each bucket: not a piece yet."""
        self._with_rows = 1
        """How many buckets have rows."""

    def serves(self) -> bool:
        """Whether it is of use for a lesson that begins now: most keys must still be these, and
        few others may have come behind them."""
        rows = self.rows
        used = len(self.parts)
        most = max(used, rows.sweep.taken)
        return not rows.ended and 3 * most <= 4 * self._keys <= 5 * used

    def prepare(self) -> bool:
        """Do another slice, unless all is done: whether it is, now."""
        rows = self.rows
        if rows.ready or rows.ended:
            return True
        if self._sampled < PARTS and self._choose_bounds() > SLICE:
            return False
        self._spread()
        # The collector lets go of tuples of bytes once it has seen them. It may wait for long
        # while some come and others go, and would then look into all of them at once.
        gc.collect(0)
        return rows.ready

    def has(self, place: int) -> bool:
        """Whether there is a piece of this number, once all is done.

        If there is none, all has come that the table has now, but for what it says it left out.
        """
        rows = self.rows
        return place < len(rows.pieces) or self._grow()

    @property
    def left_out(self) -> bool:
        """Whether there is no further piece though there was more: too many came and went."""
        return self.rows.sweep.left_out

    def entries(self, place: int) -> Entries:
        """A piece: the keys that are still there, with their rows of now."""
        rows = self.rows
        piece = rows.pieces[place]
        others = rows.others
        length = self._key_length
        if place >= rows.keys_from:
            others = set(piece)
            entries = [(key, b"") for key in piece]
        elif length == 0:
            entries = list(zip(piece[::2], piece[1::2]))
        elif others:
            end = KEY_AT + length
            entries = [(row[KEY_AT:end], row) for row in piece]
        else:
            return list(zip(repeat(b""), piece))
        if not others:
            return entries
        of = self.parts.of
        current: Entries = []
        for entry in entries:
            key = entry[0]
            if key not in others:
                current.append(entry)
            else:
                stored = of(key).get(key)
                if stored is not None:
                    current.append((key, stored))
        return current

    def _choose_bounds(self) -> int:
        """Sample the keys of some more parts; after the last, take the bounds from the sample.

        Returns how many keys these parts have.
        """
        walked = 0
        while self._sampled < PARTS and walked < _WALKED:
            part = self.parts.dicts[self._sampled]
            # Each part begins elsewhere: with few keys in each, all have their turn.
            first = self._sampled * self._step // PARTS
            self._sample += islice(part, first, None, self._step)
            self._sampled += 1
            walked += len(part)
        if self._sampled == PARTS:
            self._sample.sort()
            self._bounds = self._sample[_SAMPLED::_SAMPLED]
            self._sample = []
            self.rows.buckets = [[] for _ in range(len(self._bounds) + 1)]
            self._latest = [[] for _ in self.rows.buckets]
            self._with_rows = ceil(len(self._latest) * _WITH_ROWS)
        return walked

    def _spread(self) -> None:
        bounds, buckets, latest = self._bounds, self.rows.buckets, self._latest
        with_keys = self._key_length == 0
        with_rows = self._with_rows if with_keys else len(buckets)
        size = 2 * _PIECE if with_keys else _PIECE
        count = 0
        for piece in self.rows.sweep:
            for key, row in piece:
                place = bisect_right(bounds, key)
                gathered = latest[place]
                if with_keys:
                    gathered.append(key)
                if place < with_rows:
                    gathered.append(row)
                if len(gathered) == size:
                    buckets[place].append(tuple(gathered))
                    latest[place] = []
            count += len(piece)
            if count >= SLICE:
                return
        self._end(with_rows)

    def _grow(self) -> bool:
        """Make a piece of keys that were stored since: whether there are any."""
        rows = self.rows
        gathered: list[bytes] = []
        while len(gathered) < _PIECE and (piece := next(rows.sweep, None)) is not None:
            gathered += [key for key, _ in piece]
        if gathered:
            rows.pieces.append(tuple(gathered))
        return bool(gathered)

    def _end(self, with_rows: int) -> None:
        rows = self.rows
        pieces = rows.pieces
        for place, (bucket, gathered) in enumerate(zip(rows.buckets, self._latest)):
            pieces += bucket
            if gathered:
                pieces.append(tuple(gathered))
            if place < with_rows:
                rows.keys_from = len(pieces)
        rows.buckets, self._latest = [], []
        rows.ready = True

"""The fast road of teaching: what a table stores to the updates that say it.

An update has nearly what is stored, in the same order; but lives have become
shorter, ages of frequency counters have grown, and a text of a dictionary is
a reference to the connection's cache. What lies between is copied as it is.

There are two ways to find those places, with the same bytes as the result.
`UpdateWriter.by_steps` goes by a list of steps made of the columns: walk over
integers, let an age grow, refer to a text; compiled by mypyc it is the faster
one. In pure Python, `UpdateWriter.by_generated` runs what `peerproto.updates.generated`
has made for the columns. What is stored can be decoded (`peerproto.updates.runs`,
`peerproto.wire.codec`), so neither checks where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Optional

from peerproto.tables.declaration import Declaration
from peerproto.tables.row import KEY_AT, record_at
from peerproto.updates import generated
from peerproto.wire.codec import MAX_AGE
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.layout import Layout
from peerproto.wire.sizes import LONGEST_UPDATE, always_fits, longest_update
from peerproto.wire.varint import encode

COMPILED: Final = not __file__.endswith(".py")
"""Whether mypyc has compiled this module."""

MOST_LEFT_OUT: Final = 1000
"""Entries that are noted as left out, until that is said."""

_AGE: Final = -1
_TEXT: Final = -2

Entries = list[tuple[bytes, bytes]]
"""Keys with what is stored for them. Keys of a fixed length may be left empty here."""


class UpdateWriter:
    """Writes updates of one table for one session; they gather until `take`."""

    def __init__(
        self,
        declaration: Declaration,
        dictionary: SendingDictionary,
        timed: bool,
        clears: bool = False,
        left_out: Optional[dict[bytes, int]] = None,
        prefers_steps: bool = False,
    ) -> None:
        """
        :param declaration: that under which what is to be written is stored.
        :param timed: whether updates have an expiry.
        :param clears: whether an empty text is said, so that the peer clears it; only
            `write_one` does so.
        :param left_out: where entries that are too long to be written are noted: by key, how
            many bytes of payload an update would have.
        :param prefers_steps: whether there are too few entries for making a faster way.
        """
        layout = declaration.layout
        self.declaration = declaration
        self.size: int = 0
        """Bytes gathered."""
        self._pieces: list[bytes] = []
        self._layout = layout
        self._may_be_long: bool = not always_fits(layout)
        self._left_out: dict[bytes, int] = {} if left_out is None else left_out
        self._key_length: int = layout.fixed_key_length
        self._record_at: int = record_at(layout)
        self._key_at: int = KEY_AT
        self._expire: int = declaration.expire
        self._dictionary = dictionary
        self._timed = timed
        self._clears = clears
        self._steps: list[int] = _steps(layout)
        self._stamp: bytes = b"\xff" * 8
        self._came: int = 0
        self._heads: list[bytes] = generated.HEADS[timed]
        self._head: bytes = self._heads[0][:2]
        self._generated: Optional[generated.Write] = None
        self._by_steps: bool = COMPILED or prefers_steps

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces = []
        self.size = 0
        return taken

    def add(self, message: bytes) -> None:
        """Put another message between updates."""
        self._pieces.append(message)
        self.size += len(message)

    def write(self, entries: Entries, now: int, update_id: bytes) -> int:
        """Write updates for what is stored, but for what has expired by ``now``: how many.

        ``now`` is in ms, with the table's origin added; ``update_id`` is 4 bytes.
        """
        if self._by_steps:
            return self.by_steps(entries, now, update_id)
        return self.by_generated(entries, now, update_id)

    def write_until(self, room: int, pieces: Iterator[Entries], now: int, update_id: bytes) -> int:
        """Write whole pieces until ``room`` bytes are gathered, or there are no more: how many."""
        count = 0
        for entries in pieces:
            count += self.write(entries, now, update_id)
            if self.size >= room:
                break
        return count

    def _fits(self, key: bytes, stored: bytes) -> bool:
        """Whether an entry fits into a message, whatever its age is; it is noted if not."""
        if self._key_length:
            key = stored[self._key_at : self._record_at]
        size = longest_update(self._layout, key, stored[self._record_at :])
        if size <= LONGEST_UPDATE:
            return True
        if len(self._left_out) < MOST_LEFT_OUT:
            self._left_out[key] = size
        return False

    def by_generated(self, entries: Entries, now: int, update_id: bytes) -> int:
        """`write` by what was generated for the columns."""
        if self._may_be_long:
            entries = [entry for entry in entries if self._fits(*entry)]
        write = self._generated
        if write is None:
            write = generated.writer(self.declaration.layout, self._timed, self._expire > 0)
            self._generated = write
        dictionary = self._dictionary
        made = write(entries, now, update_id, self._expire, dictionary.references, dictionary.write)
        self.add(b"".join(made))
        return len(made) >> 1

    def by_steps(self, entries: Entries, now: int, update_id: bytes) -> int:
        """`write` step by step."""
        count = 0
        for key, stored in entries:
            if self.write_one(key, stored, now, update_id):
                count += 1
        return count

    def write_one(  # noqa: PLR0915 (one loop, without calls that would cost more than they say)
        self, key: bytes, stored: bytes, now: int, update_id: bytes
    ) -> bool:
        """Write an update by steps, unless the entry has expired: whether that was done.

        See `write`. What is too long is not written either.
        """
        if self._may_be_long and not self._fits(key, stored):
            return False
        if not stored.startswith(self._stamp):
            self._stamp = stored[:8]
            self._came = int.from_bytes(self._stamp, "big")
        # A clock that was set back makes nobody younger.
        elapsed = now - self._came if now > self._came else 0
        left = 0
        if self._expire:
            left = stored[9] << 24 | stored[10] << 16 | stored[11] << 8 | stored[12]
            left = (left if left < self._expire else self._expire) - elapsed
            if left <= 0:
                return False
        pieces = self._pieces
        head_at = len(pieces)
        pieces.append(b"")
        pieces.append(update_id)
        size = 4
        if self._timed:
            pieces.append(left.to_bytes(4, "big"))
            size = 8
        at = self._record_at
        copied = self._key_at
        if not self._key_length:
            length = encode(len(key))
            pieces.append(length)
            pieces.append(key)
            size += len(length) + len(key)
        for step in self._steps:
            if step >= 0:
                for _integer in range(step):
                    at += 1
                    if stored[at - 1] >= 240:
                        while stored[at] >= 128:
                            at += 1
                        at += 1
                continue
            # The integer here, and where it ends.
            start = at
            number = stored[at]
            at += 1
            if number >= 240:
                shift = 4
                byte = stored[at]
                while byte >= 128:
                    number += byte << shift
                    shift += 7
                    at += 1
                    byte = stored[at]
                number += byte << shift
                at += 1
            if step == _AGE:
                number &= 0xFFFFFFFF
                if number > MAX_AGE:
                    # Another thread of HAProxy's has just begun this period: see `codec`.
                    number = 0
                number += elapsed
                if number > MAX_AGE:
                    number = MAX_AGE
                elif number < 0:
                    number = 0
                new = encode(number)
            else:
                text = stored[at : at + number]
                at += number
                if number == 0 and self._clears:
                    new = self._dictionary.write_empty()
                else:
                    new = self._dictionary.write(text)
            if start > copied:
                pieces.append(stored[copied:start])
                size += start - copied
            pieces.append(new)
            size += len(new)
            copied = at
        pieces.append(stored[copied:])
        size += len(stored) - copied
        head = self._heads[size] if size < 240 else self._head + encode(size)
        pieces[head_at] = head
        self.size += len(head) + size
        return True


def _steps(layout: Layout) -> list[int]:
    """How many integers to walk over, and what then; nothing after the last age or text."""
    steps: list[int] = []
    for number, run in enumerate(layout.codec.segments.runs):
        if number:
            steps.append(_TEXT)
        walked = 0
        for age in run.ages:
            steps += [age - walked, _AGE]
            walked = age + 1
        steps.append(run.count - walked)
    steps.pop()
    return [step for step in steps if step]

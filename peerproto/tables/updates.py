"""The fast road of teaching: what a table stores to the updates that say it.

An update has nearly what is stored, in the same order; but lives have become
shorter, ages of frequency counters have grown, and a text of a dictionary is
a reference to the connection's cache. What lies between is copied as it is.

There are two ways to find those places, with the same result. `UpdateWriter.write`
goes by a list of steps made of the columns: walk over integers, let an age grow,
refer to a text; compiled by mypyc it is the faster one. In pure Python,
`UpdateWriter.write_usual` asks `_Ages`, which remembers them: where integers
begin depends on the classes of a record's bytes alone (below 128, below 240,
others), of which few combinations occur. Invariants:

- What is stored can be decoded (`peerproto.wire.runs`, `peerproto.wire.codec`),
  so ends are not checked here.
- Both write the same bytes. Only tables whose updates are timed, which have at
  most one text, and that first, go the second way.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Optional

from peerproto.tables.stored import KEY_AT, record_at, unpack
from peerproto.wire.codec import INTEGERS, MAX_AGE
from peerproto.wire.datatypes import Kind
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.layout import Layout
from peerproto.wire.varint import CLASSES, decode, encode, ends

COMPILED: Final = not __file__.endswith(".py")
"""Whether mypyc has compiled this module."""

_AGE: Final = -1
_TEXT: Final = -2

_BYTES: Final = [bytes((byte,)) for byte in range(256)]
_TWO: Final = [encode(240 + number) for number in range(2048)]
"""The integers that are two bytes long."""
_BEGINNINGS: Final = [bytes((two[0], two[1] | 0x80)) for two in _TWO]
"""The first two bytes of longer ones."""

_MOST_SHAPES: Final = 4096
_MOST_ENCODED: Final = 1 << 15

Entries = list[tuple[bytes, bytes]]
"""Keys with what is stored for them."""

Place = tuple[int, int]
"""Where an integer begins, and where it ends."""


class _Ages(dict[bytes, tuple[Place, ...]]):
    """By the classes of a record's bytes behind its texts: where the ages are."""

    def __init__(self, ages: list[int], count: int) -> None:
        """``ages`` are those of the ``count`` integers that are ages."""
        super().__init__()
        self._ages = ages
        self._count = count

    def __missing__(self, shape: bytes) -> tuple[Place, ...]:
        at = [0, *ends(shape, self._count)]
        if len(self) >= _MOST_SHAPES:
            self.clear()
        places = self[shape] = tuple((at[number], at[number + 1]) for number in self._ages)
        return places


class _Encoded(dict[int, bytes]):
    """Ages and sizes as they travel: most of them occur again and again."""

    def __missing__(self, age: int) -> bytes:
        if len(self) >= _MOST_ENCODED:
            self.clear()
        encoded = self[age] = encode(min(age, MAX_AGE))
        return encoded


_ENCODED: Final = _Encoded()


def quick_encode(value: int) -> bytes:
    """`varint.encode` for what was checked before."""
    if value < 240:
        return _BYTES[value]
    value -= 240
    if value < 2048:
        return _TWO[value]
    rest = (value - 2048) >> 11
    if rest < 128:
        return _BEGINNINGS[value & 0x7FF] + _BYTES[rest]
    return encode(value + 240)


class UpdateWriter:
    """Writes updates of one table for one session; they gather until `take`."""

    def __init__(
        self, layout: Layout, expire: int, dictionary: SendingDictionary, timed: bool
    ) -> None:
        """``expire`` is the table's, in ms; ``timed`` is whether updates carry their expiry."""
        self.size: int = 0
        """Bytes gathered."""
        self._pieces: list[bytes] = []
        self._key_length: int = layout.fixed_key_length
        self._record_at: int = record_at(layout)
        self._key_at: int = KEY_AT
        self._steps: list[int] = _steps(layout)
        self._expire: int = expire
        self._dictionary = dictionary
        self._timed = timed
        self._head: bytes = b"\n\x85" if timed else b"\n\x80"
        self._stamp: bytes = b"\xff" * 8
        self._came: int = 0
        self._update_id: bytes = b""
        self._last_id: bytes = b""
        self._heads: list[bytes] = []
        """By the size of a payload: what stands before the life, with the id of now."""
        self._text: bool = False
        """Whether a text is all that stands before the integers."""
        self._ages: Optional[_Ages] = None
        if timed and expire:
            self._remember(layout)

    def _remember(self, layout: Layout) -> None:
        """What `write_usual` has a short way for: a text first, if there is one."""
        before, *after = layout.codec.integers
        if len(after) > 1 or (after and before):
            return
        self._text = bool(after)
        ages = []
        count = 0
        for kind, elements in layout.codec.shape:
            for _ in range(elements or 1):
                if kind is Kind.FREQUENCY:
                    ages.append(count)
                if kind is not Kind.DICTIONARY:
                    count += INTEGERS.get(kind, 1)
        self._ages = _Ages(ages, count)

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

    def write_until(self, room: int, pieces: Iterator[Entries], now: int, update_id: bytes) -> int:
        """Write whole pieces until ``room`` bytes are gathered, or there are no more: how many.

        See `write`.
        """
        write = self.write_each if self._ages is None or COMPILED else self.write_usual
        count = 0
        for entries in pieces:
            count += write(entries, now, update_id)
            if self.size >= room:
                break
        return count

    def write_each(self, entries: Entries, now: int, update_id: bytes) -> int:
        """Write entries, one by one: how many."""
        count = 0
        for key, stored in entries:
            if self.write(key, stored, now, update_id):
                count += 1
        return count

    def write_usual(self, entries: Entries, now: int, update_id: bytes) -> int:
        """The same with what is remembered of other entries."""
        ages = self._ages
        assert ages is not None
        count = 0
        size = self.size
        pieces = self._pieces
        expire, text, string = self._expire, self._text, not self._key_length
        record_at, encoded = self._record_at, _ENCODED
        heads = self._heads_for(update_id)
        refer, references = self._dictionary.write, self._dictionary.references
        for key, stored in entries:
            came, left = unpack(stored)
            elapsed = now - came if now > came else 0
            left = (left if left < expire else expire) - elapsed
            if left <= 0:
                continue
            made = left.to_bytes(4, "big")
            at = record_at
            if string:
                made += encoded[len(key)] + key
            if text:
                size_of_text = stored[at]
                at += 1
                if size_of_text >= 240:
                    size_of_text, at = decode(stored, record_at)
                known = stored[at : at + size_of_text]
                at += size_of_text
                if not string:
                    made += stored[KEY_AT:record_at]
                made += references.get(known) or refer(known)
                copied = at
            else:
                copied = KEY_AT
            for start, end in ages[stored[at:].translate(CLASSES)]:
                age = stored[at + start]
                if age >= 240:
                    width = end - start
                    if width == 2:
                        age += stored[at + start + 1] << 4
                    elif width == 3:
                        age += (stored[at + start + 1] << 4) + (stored[at + start + 2] << 11)
                    else:
                        age = _long_age(stored, at + start)
                made += stored[copied : at + start] + encoded[age + elapsed]
                copied = at + end
            made += stored[copied:]
            length = len(made) + 4
            head = heads[length] if length < 240 else self._new_head(length, update_id)
            pieces += (head, made)
            size += len(head) + length - 4
            count += 1
        self.size = size
        return count

    def write(  # noqa: PLR0915 (one loop, without calls that would cost more than they say)
        self, key: bytes, stored: bytes, now: int, update_id: bytes
    ) -> bool:
        """Write an update for what is stored: not if it has expired by ``now``.

        ``now`` is in ms, with the table's origin added; ``update_id`` is 4 bytes.
        """
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
        size = 4
        if self._timed:
            pieces.append(left.to_bytes(4, "big"))
            size += 4
        at = self._record_at
        copied = self._key_at
        if not self._key_length:
            length = quick_encode(len(key))
            pieces.append(length)
            pieces.append(key)
            size += len(length) + len(key)
        for step in self._steps:
            if step >= 0:
                for _ in range(step):
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
                new = quick_encode(number)
            else:
                text = stored[at : at + number]
                at += number
                new = self._dictionary.write(text)
            if start > copied:
                pieces.append(stored[copied:start])
                size += start - copied
            pieces.append(new)
            size += len(new)
            copied = at
        pieces.append(stored[copied:])
        size += len(stored) - copied
        if update_id == self._update_id and size < 240:
            head = self._heads[size]
        else:
            head = self._new_head(size, update_id)
        pieces[head_at] = head
        self.size += len(head) + size - 4
        return True

    def _new_head(self, size: int, update_id: bytes) -> bytes:
        """What stands before the life; all that are likely are kept if the id came before."""
        if update_id == self._last_id:
            self._heads_for(update_id)
        self._last_id = update_id
        return self._head + quick_encode(size) + update_id

    def _heads_for(self, update_id: bytes) -> list[bytes]:
        if update_id != self._update_id:
            self._heads = _usual_heads(self._head, update_id)
            self._update_id = update_id
        return self._heads


@lru_cache(maxsize=8)
def _usual_heads(head: bytes, update_id: bytes) -> list[bytes]:
    return [head + byte + update_id for byte in _BYTES[:240]]


def _long_age(stored: bytes, at: int) -> int:
    """An age that may be too long; see `write` for those that are."""
    age = decode(stored, at)[0] & 0xFFFFFFFF
    return 0 if age > MAX_AGE else age


def _steps(layout: Layout) -> list[int]:
    """How many integers to walk over, and what then; nothing after the last age or text."""
    steps = [0]
    for column in layout.columns:
        kind = column.data_type.kind
        for _ in range(column.elements or 1):
            if kind is Kind.FREQUENCY:
                steps += [_AGE, 2]
            elif kind is Kind.DICTIONARY:
                steps += [_TEXT, 0]
            else:
                steps[-1] += 1
    steps.pop()
    return [step for step in steps if step]

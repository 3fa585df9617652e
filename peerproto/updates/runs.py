"""The fast road of learning: runs of updates to keys, and what is stored for them.

A lesson is one long run of updates of one table, nearly all of type 0x86: two
bytes of head, one of length, and then, but for strings as keys, just what a
table stores (`peerproto.tables.row`). So little is done for each: find where it ends,
take the key, see that the values are whole, put a *stamp* before the rest.

There are two ways through a run, with the same result. The plain loop goes
from message to message; compiled by mypyc it is the faster one. In pure
Python ``bytes.split`` cuts at C speed instead, and the loop is left for what
cannot be cut so. Invariants, which the tests hold against reading frame by frame:

- Only messages that are whole, valid and of the usual form are taken: lengths
  below 240, texts by reference or not said. At anything else the run ends, and
  the caller reads on by frames; so errors are found and worded in one place.
- A record is whole if it is one encoded integer for each value and nothing
  more. That depends on the classes of its bytes alone (0, below 128, below 240,
  others), of which few combinations occur: a `ShapeCache` remembers them.
- A part that was cut is a message if it is as long as it says: the
  separator may stand in a payload, too. Where that is not so often, less is
  given to ``bytes.split`` next time: hostile input costs little more than the loop.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import repeat
from operator import itemgetter
from typing import Final

from peerproto.wire.dictionary import PLACES
from peerproto.wire.frames import (
    INCREMENTAL_TIMED_UPDATE,
    INCREMENTAL_UPDATE,
    STICK_TABLE,
    TIMED_UPDATE,
    UPDATE,
)
from peerproto.wire.shape import ShapeCache

COMPILED: Final = not __file__.endswith(".py")
"""Whether mypyc has compiled this module."""

_NO_LIFE: Final = b"\x00\xff\xff\xff\xff"
"""A byte without meaning, and the life of what came without one: the table's own is shorter."""

_EMPTY: Final = b"\x00"
"""How an empty text stands in a record."""

_EXPLICIT: Final = bytes((STICK_TABLE, TIMED_UPDATE))
_SEPARATOR: Final = bytes((STICK_TABLE, INCREMENTAL_TIMED_UPDATE))

_CLASSES: Final = bytes(
    0 if byte == 0 else 1 if byte < 128 else 2 if byte < 240 else 3 for byte in range(256)
)
_REPRESENTATIVES: Final = bytes.maketrans(b"\x00\x01\x02\x03", b"\x00\x01\x80\xff")
_ONE_MORE: Final = bytes(byte + 1 if byte < 240 else 0 for byte in range(256))

_FIRST_PIECE: Final = 2048
_LONGEST_PIECE: Final = 65536
_TOO_LITTLE: Final = 256
_FEWEST_IN_LOOP: Final = 8
_MOST_IN_LOOP: Final = 1024


@lru_cache(maxsize=512)
def _places(before: int, after: int) -> ShapeCache[int]:
    """By the classes of a record's bytes: where its dictionary value stands, or its end.

    -1 if the record is not whole. There are so many integers before a dictionary value and
    after it; -1 after if there is none.
    """
    return ShapeCache(partial(_place, before, after))


def _place(before: int, after: int, shape: bytes) -> int:
    """What `_places` are to remember."""
    record = shape.translate(_REPRESENTATIVES)
    size = len(record)
    place = end = _after_integers(record, 0, size, before)
    if after >= 0:
        if not 0 <= place < size:
            return -1
        end += 1
        if record[place]:
            if record[place:end] != b"\x01" or record[end : end + 1] not in (b"\x01", b"\x80"):
                return -1
            end += 1
        end = _after_integers(record, end, size, after)
    return place if end == size else -1


def _after_integers(data: bytes, at: int, end: int, count: int) -> int:
    """Where ``count`` encoded integers end; -1 if they do not before ``end``."""
    for _integer in range(count):
        if at >= end:
            return -1
        if data[at] >= 240:
            last = at + 10
            at += 1
            while at < end and at < last and data[at] >= 128:
                at += 1
            if at >= end or at >= last:
                return -1
        at += 1
    return at


class RunReader:
    """Reads runs of updates that all follow one definition.

    What is read gathers in `keys` and `values` until `clear`.
    """

    def __init__(
        self,
        key_length: int,
        longest_string: int,
        before: int,
        after: int,
        texts: list[bytes],
    ) -> None:
        """
        :param key_length: bytes of a key; 0 for strings.
        :param longest_string: bytes of a string's key at most: what is longer is cut.
        :param before: integers in a record before its dictionary value, or in all.
        :param after: integers after that; -1 without such a value.
        :param texts: by the byte that an id is, 256 of them: the text as it stands in a
            record, with its length; empty if the id says nothing, or is none.
        """
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        """For each key: the stamp, a byte without meaning, the life in ms as 4 bytes, the
        key if its length is fixed, and the record."""
        self.shortest: int = 0xFFFFFFFF
        """The shortest life among them."""
        self.unsaid: list[int] = []
        """Which of them have an empty text because nothing was said of it."""
        self.explicit_id: int = -1
        """The last update id that came, -1 for none."""
        self.since_explicit: int = 0
        """Updates without an id after that."""
        self._key_length = key_length
        self._longest_string = longest_string
        self._before = before
        self._after = after
        self._texts = texts
        self._shapes = _places(before, after)
        self.piece = 0
        """Bytes that are cut at once; 0 until a run was long enough to be cut."""
        self._in_loop = _FEWEST_IN_LOOP

    def clear(self) -> None:
        """Forget what was read."""
        self.keys = []
        self.values = []
        self.shortest = 0xFFFFFFFF
        self.unsaid = []

    def add(self, key: bytes, stamp: bytes, life: int, record: bytes, said: bool) -> None:
        """Take one more update, which was read otherwise.

        ``life`` is in ms; ``said`` is whether something was said of its text, if it has one.
        """
        if not said:
            self.unsaid.append(len(self.keys))
        self.keys.append(key)
        head = stamp + b"\x00" + life.to_bytes(4, "big")
        self.values.append(head + key + record if self._key_length else head + record)
        self.shortest = min(self.shortest, life)

    def take_ids(self, got: int) -> int:
        """The id of the latest update; ``got`` was that when this was called last."""
        got = (got if self.explicit_id < 0 else self.explicit_id) + self.since_explicit
        self.explicit_id = -1
        self.since_explicit = 0
        return got & 0xFFFFFFFF

    def read(self, data: bytes, start: int, stamp: bytes) -> int:
        """Take updates from ``start`` on: where what was not taken begins."""
        if COMPILED:
            return self.loop(data, start, stamp, len(data))
        size = len(data)
        while True:
            if self.piece:
                position = self.cut(data, start, stamp)
                read = position - start
                whole = size - position < self.piece or read >= self.piece >> 1
                if whole and read:
                    self.piece = min(4 * self.piece, _LONGEST_PIECE)
                    if self.piece == _LONGEST_PIECE:
                        self._in_loop = _FEWEST_IN_LOOP
                else:
                    self.piece = 4 * read if read >= _TOO_LITTLE else 0
                start = position
            count = 1 if self.piece else self._in_loop
            before = len(self.keys)
            start = self.loop(data, start, stamp, count)
            if len(self.keys) - before < count:
                return start
            if not self.piece:
                self.piece = _FIRST_PIECE
                self._in_loop = min(2 * self._in_loop, _MOST_IN_LOOP)

    def loop(  # noqa: PLR0915 (one loop, without calls that would cost more than they say)
        self, data: bytes, start: int, stamp: bytes, most: int
    ) -> int:
        """The plain loop: at most ``most`` updates, one by one."""
        size = len(data)
        key_length = self._key_length
        longest_string = self._longest_string
        keys = self.keys
        values = self.values
        texts = self._texts
        after = self._after
        position = start
        for _update in range(most):  # mypyc makes an object of each `_`
            if position + 3 > size or data[position] != STICK_TABLE:
                break
            kind = data[position + 1]
            length = data[position + 2]
            at = position + 3
            end = at + length
            if length >= 240 or end > size:
                break
            timed = kind == INCREMENTAL_TIMED_UPDATE  # the usual kind
            explicit = False
            if not timed and kind != INCREMENTAL_UPDATE:
                timed = kind == TIMED_UPDATE
                if not timed and kind != UPDATE:
                    break
                explicit = True
            if explicit:
                at += 4
            life_at = at
            if timed:
                at += 4
            key_start = key_at = at
            if key_length:
                record_at = key_at + key_length
                key_end = record_at
            else:
                if at >= end or data[at] >= 240:
                    break
                key_at += 1
                record_at = key_at + data[at]
                key_end = min(record_at, key_at + longest_string)
            if record_at > end:
                break
            if COMPILED or after >= 0:
                at = _after_integers(data, record_at, end, self._before)
            else:
                # Less than `record_at` if the record is not whole: that is not where it ends.
                at = record_at + self._shapes[data[record_at:end].translate(_CLASSES)]
            text = b""
            said = True
            text_at = at
            if after >= 0:
                if not 0 <= at < end:
                    break
                if data[at]:
                    at += 2
                    if at > end or data[text_at] != 1:
                        break
                    number = data[text_at + 1]
                    text = texts[number]
                    if not text:
                        if number == 0 or number > PLACES:
                            break
                        said = False
                        text = _EMPTY
                else:
                    said = False
                    at += 1
                at = _after_integers(data, at, end, after)
            if at != end:
                break
            if timed and key_length and not text:
                # All of it as it came, from a byte without meaning on.
                stored = stamp + data[life_at - 1 : end]
            else:
                stored = stamp + (data[life_at - 1 : key_start] if timed else _NO_LIFE)
                kept_at = key_at if key_length else record_at
                if text:
                    if text_at > kept_at:
                        stored += data[kept_at:text_at]
                    stored += text + data[text_at + 2 : end]
                else:
                    stored += data[kept_at:end]
            if not said:
                self.unsaid.append(len(keys))
            keys.append(data[key_at:key_end])
            values.append(stored)
            if timed:
                life = (
                    data[life_at] << 24
                    | data[life_at + 1] << 16
                    | data[life_at + 2] << 8
                    | data[life_at + 3]
                )
                self.shortest = min(self.shortest, life)
            if explicit:
                at = position + 3
                self.explicit_id = (
                    data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
                )
                self.since_explicit = 0
            else:
                self.since_explicit += 1
            position = end
        return position

    def cut(self, data: bytes, start: int, stamp: bytes) -> int:
        """The same in a piece of the data, cut at the separators."""
        head = data[start : start + 2]
        if head not in (_EXPLICIT, _SEPARATOR):
            return start
        explicit = head == _EXPLICIT
        position = start
        end = start + self.piece
        for run in data[start + 2 : end].split(_EXPLICIT):
            parts = run.split(_SEPARATOR)
            # The last one may go on beyond this piece.
            if len(parts[-1]) != parts[-1][0] + 1 if parts[-1] else True:
                parts.pop()
            count = self._count_whole(parts)
            if count < len(parts):
                del parts[count:]
            if not parts:
                break
            update_id = -1
            size = sum(map(len, parts)) + 2 * count
            if explicit:
                # What a table stores begins with the last byte of the id, in place of a length.
                update_id = int.from_bytes(parts[0][1:5], "big")
                parts[0] = parts[0][4:]
            taken = self._take(parts, stamp)
            if taken and explicit:
                self.explicit_id = update_id
                self.since_explicit = taken - 1
            else:
                self.since_explicit += taken
            if taken < count:
                if taken:
                    size = sum(map(len, parts[:taken])) + 2 * taken + 4 * explicit
                    position += size
                break
            position += size
            if position + 2 > end or data[position : position + 2] != _EXPLICIT:
                break
            explicit = True
        return position

    @staticmethod
    def _count_whole(parts: list[bytes]) -> int:
        """How many parts, from the first on, are as long as they say."""
        try:
            if bytes(map(len, parts)) == bytes(map(_first, parts)).translate(_ONE_MORE):
                return len(parts)
        except (IndexError, ValueError):
            pass
        for count, part in enumerate(parts):
            if not part or len(part) != _ONE_MORE[part[0]]:
                return count
        return len(parts)

    def _take(self, parts: list[bytes], stamp: bytes) -> int:
        """Take timed updates without their ids, from length to end: how many are good."""
        record_at = 5 + self._key_length
        if self._key_length and self._after < 0:
            shapes = map(bytes.translate, map(itemgetter(slice(record_at, None)), parts), _ALWAYS)
            if min(map(len, parts)) < record_at or min(map(self._shapes.__getitem__, shapes)) < 0:
                return 0
            self.keys += [part[5:record_at] for part in parts]
            self.values += [stamp + part for part in parts]
            taken = len(parts)
        else:
            taken = self._take_each(parts, stamp)
        if taken:
            shortest = int.from_bytes(min(map(_life, parts[:taken])), "big")
            self.shortest = min(self.shortest, shortest)
        return taken

    def _take_each(self, parts: list[bytes], stamp: bytes) -> int:
        """The same where keys are strings, or records refer to texts."""
        shapes, texts, longest = self._shapes, self._texts, self._longest_string
        unsaid = self.unsaid
        add_key, add_value = self.keys.append, self.values.append
        fixed_end = 5 + self._key_length if self._key_length else 0
        has_text = self._after >= 0
        taken = 0
        for part in parts:
            if fixed_end:
                end = fixed_end
                key = part[5:end]
                head = part[:end]
            else:
                if len(part) < 6 or part[5] >= 240:
                    break
                end = 6 + part[5]
                key = part[6:end][:longest]
                head = part[:5]
            if end > len(part):
                break
            record = part[end:]
            place = shapes[record.translate(_CLASSES)]
            if place < 0:
                break
            if has_text:
                size = record[place]
                if size == 1:
                    text = texts[record[place + 1]]
                    if not text:
                        if record[place + 1] > PLACES:
                            break
                        unsaid.append(len(self.keys))
                        text = _EMPTY
                    record = record[:place] + text + record[place + 2 :]
                elif size:
                    break
                else:
                    unsaid.append(len(self.keys))
            add_key(key)
            add_value(stamp + head + record)
            taken += 1
        return taken


_first = itemgetter(0)
_life = itemgetter(slice(1, 5))
_ALWAYS = repeat(_CLASSES)

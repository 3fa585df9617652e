"""Adding up: the records of one key, each of another peer, to one record.

Counters add up, and stop at the largest number that they hold. So do rates, each as one
frequency counter that HAProxy's own estimator reads: doc/aggregation.md, "Rates". Tags and the
like cannot be added; a rule chooses.
"""

from __future__ import annotations

from typing import Final, Optional

from peerproto.updates.stamping import UNSTAMPED
from peerproto.wire.varint import encode

UINT32: Final = 0xFFFFFFFF
UINT64: Final = 0xFFFFFFFFFFFFFFFF
_SIGN: Final = 1 << 63
OLDEST: Final = 0x7FFFFFFF
"""Largest age in ms; a larger one is below 0, of a period that another thread has just begun."""

# What becomes of a value.
COUNTER: Final = 0
"""The sum, of 32 bits."""
LARGE_COUNTER: Final = 1
"""The sum, of 64 bits."""
CONNECTIONS: Final = 2
"""The sum over peers whose current connections count."""
LAST: Final = 3
"""The value that was changed last."""
LARGEST: Final = 4
BITS: Final = 5
"""All bits that any of them has."""
TEXT: Final = 6
"""The text that was changed last, if there is one."""
RATE: Final = 7
"""A frequency counter."""
NOTHING: Final = 8
"""A value that no peer has."""
STAMP: Final = 9
"""What stands for the number of a session."""

_UNSTAMPED: Final = encode(UNSTAMPED)

_PART_OFF: Final = 2
"""A rate may be off by one event in so many before it is added up again: what is read is rounded
down, so that less than one event more is off by as many events as there are sources, at most."""


def summed(ages: list[int], current: list[int], previous: list[int], period: int) -> list[int]:
    """Age (ms), current and previous events of the counter that reads as all of them together.

    It does so until the first of them begins another period: see `again_in`. The ages are
    within the ``period`` (ms).
    """
    now = before = weighted = oldest = 0
    for place in range(len(ages)):
        now += current[place]
        before += previous[place]
        weighted += previous[place] * ages[place]
        if current[place] and ages[place] > oldest:
            oldest = ages[place]
    age = (weighted + before // 2) // before if before else oldest
    return [min(age, period - 1), min(now, UINT32), min(before, UINT32)]


def again_in(
    ages: list[int], current: list[int], previous: list[int], total: list[int], period: int
) -> int:
    """In how many ms the sum will be read too far from what its peers read by themselves; -1 if
    never. Both go down in straight lines, whose slopes change where periods end."""
    if len(ages) < 2:
        return -1
    bends: list[tuple[int, int]] = []
    for place in range(len(ages)):
        age, now = ages[place], current[place]
        if now != previous[place]:
            bends.append((period - age, now - previous[place]))
        if now:
            bends.append((2 * period - age, -now))
    if total[1] != total[2]:
        bends.append((period - total[0], total[2] - total[1]))
    bends.append((2 * period - total[0], total[1]))
    bends.sort()
    may = period // _PART_OFF
    off = slope = before = 0
    for at, change in bends:
        then = off + slope * (at - before)
        if then > may:
            return max(1, before + (may - off) // slope)
        if then < -may:
            return max(1, before + (may + off) // -slope)
        off, before = then, at
        slope += change
    return -1


class Adder:
    """Adds up records of one layout to a record of another one."""

    def __init__(self, texts: list[bool], steps: list[tuple[int, int, int]]) -> None:
        """
        :param texts: for each field of a record, whether it is a text and not a number.
        :param steps: for each value of the sum, what becomes of it, the number of its first
            field (those of a rate follow each other), and its period in ms if it is a rate.
        """
        self._texts = texts
        self._steps = steps
        self.again = -1
        """In how many ms what was added up last is to be added up again; -1 if that is not
        needed before something changes."""

    def add(
        self, records: list[bytes], elapsed: list[int], changed: list[int], counts: list[bool]
    ) -> bytes:
        """The sum of the records of one key; there is at least one.

        :param elapsed: what ages have grown by, in ms, for each.
        :param changed: when each was changed: times, or places in an order.
        :param counts: whether the current connections of each count.
        """
        if len(records) == 1:
            return self._alone(records[0], elapsed[0], counts[0])
        width = len(self._texts)
        fields: list[int] = []
        texts: list[bytes] = []
        latest = 0
        for number in range(len(records)):
            self._read(records[number], fields, texts)
            if changed[number] > changed[latest]:
                latest = number
        self.again = -1
        out = bytearray()
        for how, place, period in self._steps:
            if how == RATE:
                self._add_rate(out, fields, place, width, elapsed, period)
                continue
            value = UNSTAMPED if how == STAMP else 0
            if how in (COUNTER, LARGE_COUNTER):
                for at in range(place, len(fields), width):
                    value += fields[at]
                value = min(value, UINT32 if how == COUNTER else UINT64)
            elif how == LAST:
                value = fields[latest * width + place]
            elif how == CONNECTIONS:
                for number in range(len(records)):
                    if counts[number]:
                        value += fields[number * width + place]
                value = min(value, UINT32)
            elif how == LARGEST:
                value = fields[place]
                for at in range(place, len(fields), width):
                    # Signed ones are negative from the 64th bit on.
                    if fields[at] ^ _SIGN > value ^ _SIGN:
                        value = fields[at]
            elif how == BITS:
                for at in range(place, len(fields), width):
                    value |= fields[at]
            elif how == TEXT:
                out += self._last_text(texts, changed)
                continue
            _write(out, value)
            if how == NOTHING and period:
                out += b"\x00\x00"
        return bytes(out)

    def said(self, record: bytes) -> bytes:
        """What a record has of the values of which the sum has the one that was changed last."""
        starts: list[int] = []
        self._read(record, [], [], starts)
        starts.append(len(record))
        out = b""
        for how, place, _ in self._steps:
            if how in (LAST, TEXT):
                out += record[starts[place] : starts[place + 1]]
        return out

    def _alone(self, record: bytes, elapsed: int, counts: bool) -> bytes:
        """The sum of one record: most of it is copied."""
        self.again = -1
        fields: list[int] = []
        starts: list[int] = []
        self._read(record, fields, [], starts)
        starts.append(len(record))
        out = bytearray()
        for how, place, period in self._steps:
            if how == RATE:
                age, now, before = fields[place] & UINT32, fields[place + 1], fields[place + 2]
                age = (0 if age > OLDEST else age) + elapsed
                if age >= period:
                    age, now, before = age - period, 0, now
                if age >= period or not (now or before):
                    age = now = before = 0
                _write(out, age)
                _write(out, min(now, UINT32))
                _write(out, min(before, UINT32))
            elif how == STAMP:
                out += _UNSTAMPED
            elif how == NOTHING:
                out += b"\x00\x00\x00" if period else b"\x00"
            elif how == CONNECTIONS and not counts:
                out.append(0)
            elif how in (COUNTER, CONNECTIONS) and fields[place] > UINT32:
                out += encode(UINT32)
            else:
                out += record[starts[place] : starts[place + 1]]
        return bytes(out)

    def _read(
        self,
        record: bytes,
        fields: list[int],
        texts: list[bytes],
        starts: Optional[list[int]] = None,
    ) -> None:
        """Add the fields of a record to those that were read before, and where they start."""
        at = 0
        for is_text in self._texts:
            start = at
            if starts is not None:
                starts.append(start)
            value = record[at]
            at += 1
            if value >= 240:
                shift = 4
                while True:
                    byte = record[at]
                    at += 1
                    value += byte << shift
                    if byte < 128:
                        break
                    shift += 7
                value &= UINT64
            fields.append(value)
            if is_text:
                at += value
                texts.append(record[start:at])

    def _last_text(self, texts: list[bytes], changed: list[int]) -> bytes:
        """The text that was changed last, with its length; that there is none says nothing."""
        last, when = b"\x00", -1
        for number in range(len(texts)):
            if texts[number] != b"\x00" and changed[number] > when:
                last, when = texts[number], changed[number]
        return last

    def _add_rate(
        self,
        out: bytearray,
        fields: list[int],
        place: int,
        width: int,
        elapsed: list[int],
        period: int,
    ) -> None:
        ages: list[int] = []
        current: list[int] = []
        previous: list[int] = []
        for number in range(len(elapsed)):
            at = number * width + place
            now, before = fields[at + 1], fields[at + 2]
            if now or before:
                age = fields[at] & UINT32
                age = (0 if age > OLDEST else age) + elapsed[number]
                if age >= period:
                    age, now, before = age - period, 0, now
                if age < period and (now or before):
                    ages.append(age)
                    current.append(now)
                    previous.append(before)
        total = summed(ages, current, previous, period)
        again = again_in(ages, current, previous, total, period)
        if again >= 0 and (again < self.again or self.again < 0):
            self.again = again
        for value in total:
            _write(out, value)


def _write(out: bytearray, value: int) -> None:
    if value < 240:
        out.append(value)
    else:
        out += encode(value)

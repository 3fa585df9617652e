"""Frequency counters (doc/protocol.md, "Frequency counters"): the rate that one stands for, and how
one counts."""

from __future__ import annotations

from typing import Final

from peerproto.wire.datatypes import Frequency

_MOST: Final = 0xFFFFFFFF
"""HAProxy's counters have 32 bits."""


def rate(counter: Frequency, period: int) -> int:
    """Events over the last ``period`` ms, rounded down, as HAProxy reports them.

    The period before counts in the part of it that the last ``period`` ms
    still cover. With no event now and one at most before, that one is reported
    in full, so that very low rates do not flap. Over a period of 0 nothing happens.
    """
    age, current, previous = counter
    if age >= 2 * period:
        return 0
    if age >= period:
        age, current, previous = age - period, 0, current
    if current == 0 and previous <= 1:
        return previous
    return (previous * (period - age) + current * period) // period


def count(counter: Frequency, period: int, events: int) -> Frequency:
    """A counter of a period in ms after some more events happened now.

    As HAProxy does it: when the current period is over, another one begins where it ended; but
    now, if that one would be over, too, and then nothing is known of the one before.
    """
    age, current, previous = counter
    if age < period:
        return Frequency(age, min(current + events, _MOST), previous)
    age -= period
    if age < period:
        return Frequency(age, events, current)
    return Frequency(0, events, 0)

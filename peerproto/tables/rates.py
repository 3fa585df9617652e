"""The rate that a frequency counter stands for (doc/protocol.md, "Frequency counters")."""

from __future__ import annotations

from peerproto.wire.datatypes import Frequency


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

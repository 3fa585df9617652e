"""The acks of a peer over the last second."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final
from weakref import WeakKeyDictionary

from peerproto.tables.log import ChangeLog

RECENT: Final = 1_000
"""How long an ack is recent, in ms: a peer's change that was made before a third node had read
ours is expected to be here by then."""

_APART: Final = RECENT // 8
"""Acks that are nearer to each other than this (ms) count as one."""


_NONE: Final = (-2 * RECENT, 0)
"""What comes before all acks."""


class RecentAcks:
    """What a peer had acked at which time."""

    def __init__(self) -> None:
        self._acks: WeakKeyDictionary[ChangeLog, list[tuple[int, int]]] = WeakKeyDictionary()
        """By log: from which time on (ms) up to which number, in order."""

    def note(self, log: ChangeLog, number: int, now: int) -> None:
        """Note that changes up to a number are acked at ``now`` (ms)."""
        acks = self._acks.setdefault(log, [_NONE])
        if now - acks[-1][0] < _APART:
            acks[-1] = (acks[-1][0], number)
            return
        acks.append((now, number))
        del acks[: self._settled(acks, now)]

    def settled(self, log: ChangeLog, now: int) -> int:
        """The number up to which changes were acked more than `RECENT` ago; 0 for none."""
        acks = self._acks.get(log)
        return 0 if acks is None else acks[self._settled(acks, now)][1]

    @staticmethod
    def _settled(acks: list[tuple[int, int]], now: int) -> int:
        """The place of the latest ack that is not recent; the first one if all are."""
        return max(0, bisect_right(acks, (now - RECENT, 0)) - 1)

"""What a table needs as time goes by: one slice of it in a turn of the reactor.

Entries that have expired are removed, the memory of what was cleared is given back, and
what was stored under an earlier declaration is converted. A slice takes a few ms, and
tables take turns, so that it matters to nobody how large or how many they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Optional

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerproto.peering.node import Node
from peerproto.tables.batch import Cause
from peerproto.tables.table import StickTable

INTERVAL: Final = 0.2
"""Seconds between two looks for something to do. What is read is never expired."""


class Upkeep:
    """Of all tables of a node."""

    _log = Logger()

    def __init__(self, node: Node, clock: IReactorTime) -> None:
        self._node = node
        self._clock = clock
        self._slices = self._work()
        self._running = False
        self._next: Optional[IDelayedCall] = None

    def start(self) -> None:
        """Begin, with the first look at once."""
        self._running = True
        self._turn()

    def stop(self) -> None:
        """Leave everything as it is."""
        self._running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _turn(self) -> None:
        self._next = None
        try:
            delay = next(self._slices)
        except Exception:
            self._log.failure("upkeep of the tables failed; it goes on")
            self._slices = self._work()
            delay = INTERVAL
        if self._running:
            self._next = self._clock.callLater(delay, self._turn)

    def _work(self) -> Iterator[float]:
        """One slice after the other, of each table in turns: how many seconds to wait then."""
        while True:
            waiting = self._waiting()
            for table in waiting:
                if self._waits(table):
                    self._slice(table)
                    yield 0.0
            if not waiting:
                yield INTERVAL

    def _waiting(self) -> list[StickTable]:
        return [
            table
            for table in (*self._node.tables.values(), *self._node.removed)
            if self._waits(table)
        ]

    def _now(self) -> int:
        return int(self._clock.seconds() * 1000)

    def _waits(self, table: StickTable) -> bool:
        """Whether there is something to do for a table."""
        if table.discarding or table.converting:
            return True
        due = table.next_due()
        return due is not None and due <= self._now()

    def _slice(self, table: StickTable) -> None:
        node, now = self._node, self._now()
        if table in node.removed:
            table.discard()
            if not table.discarding:
                node.removed.remove(table)
        elif table.discarding:
            node.changed(table, table.discard(), Cause.CLEARED, now)
        elif table.converting:
            table.convert()
        else:
            node.changed(table, table.expire(now), Cause.EXPIRED, now)

"""What a table needs as time goes by: one slice of it in a turn of the reactor.

Entries that have expired are removed, the memory of what was cleared is given back, what
was stored under an earlier declaration is converted, a table that was made smaller gives
up what it has too many, and texts are forgotten that nothing uses. A slice takes a few ms, and
tables take turns, so that it matters to nobody how large or how many they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final, Optional

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerproto.connections.clock import milliseconds
from peerproto.peering.node import Node
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.rowstore import SLICE
from peerproto.tables.store import TableStore
from peerproto.tables.unused import forget_unused_texts
from peerproto.wire.sizes import LONGEST_UPDATE
from peerproto.wire.texts import TEXTS

INTERVAL: Final = 0.2
"""Seconds between two looks for something to do. What is read is never expired."""


FORGET_INTERVAL: Final = 60_000
"""Ms from one beginning to look for texts that nothing uses to the next, at least."""


class Upkeep:
    """Of all tables of a node."""

    _log = Logger()

    def __init__(
        self, node: Node, clock: IReactorTime, changed: Callable[[list[Changes]], None]
    ) -> None:
        """``changed`` is called with what happened in the tables."""
        self._node = node
        self._changed = changed
        self._clock = clock
        self._slices = self._work()
        self._forgetting: Optional[Iterator[None]] = None
        self._forget_again = 0
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
            for table in self._node.tables.stores():
                self._say_left_out(table)
            waiting = self._waiting()
            for table in waiting:
                for _ in self._slices_of(table):
                    yield 0.0
            if self._forget():
                yield 0.0
            elif not waiting:
                yield INTERVAL

    def _say_left_out(self, table: TableStore) -> None:
        """Say which entries could not be sent since this was said last."""
        left_out = self._node.tables.outgoing(table).left_out
        if not left_out:
            return
        key, size = max(left_out.items(), key=itemgetter(1))
        self._log.warn(
            "{count} entries of table {table} were not sent: read an update of {size} bytes,"
            " expected {most} at most; its key begins with {key!r}",
            count=len(left_out),
            table=table.name,
            size=size,
            most=LONGEST_UPDATE,
            key=key[:32],
        )
        left_out.clear()

    def _forget(self) -> bool:
        """Take a step of forgetting the texts that nothing uses: whether it was not the last."""
        if self._forgetting is None:
            if TEXTS.size < TEXTS.due_at or self._now() < self._forget_again:
                return False
            if TEXTS.refused:
                self._log.warn(
                    "{count} long server_keys were not taken: {size} bytes of them are in use",
                    count=TEXTS.refused,
                    size=TEXTS.size,
                )
                TEXTS.refused = 0
            self._forget_again = self._now() + FORGET_INTERVAL
            self._forgetting = forget_unused_texts()
        if next(self._forgetting, self) is self:
            self._forgetting = None
        return self._forgetting is not None

    def _waiting(self) -> list[TableStore]:
        return [
            table
            for table in (*self._node.tables.stores(), *self._node.tables.removed)
            if self._waits(table)
        ]

    def _now(self) -> int:
        return milliseconds(self._clock)

    def _waits(self, table: TableStore) -> bool:
        """Whether there is something to do for a table."""
        return bool(table.discarding or table.converting or table.excess or self._is_due(table))

    def _is_due(self, table: TableStore) -> bool:
        """Whether the time of some entries may have come."""
        due = table.next_due()
        return due is not None and due <= self._now()

    def _slices_of(self, table: TableStore) -> Iterator[None]:
        """A slice of each thing that there is to do for a table: none of them waits for the end
        of another, which peers can put off as long as they like."""
        node, now = self._node, self._now
        if table in node.tables.removed:
            self._changed([Changes(table, Cause.CLEARED, node.tables.discard(table), now())])
            yield
            return
        if table.discarding:
            self._changed([Changes(table, Cause.CLEARED, table.discard(), now())])
            yield
        if table.converting:
            table.convert()
            yield
        if table.excess:
            trashed = table.trash(min(table.excess, SLICE))
            self._changed([Changes(table, Cause.TRASHED, trashed, now())])
            yield
        if self._is_due(table):
            self._changed([Changes(table, Cause.EXPIRED, table.expire(now()), now())])
            yield

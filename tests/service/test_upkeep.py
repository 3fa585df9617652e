from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.connections.clock import milliseconds
from peerproto.service.upkeep import INTERVAL, Upkeep
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.rowstore import SLICE
from peerproto.tables.store import TableStore
from tests.support import make_node

LINE = "type integer size 1m expire 10s store gpc0"
OTHER = "type integer size 1m expire 10s store gpt0,gpc0"
MANY = 3 * SLICE


class CountingClock(Clock):
    """Counts what it is to call, and may have something to do each time."""

    asked = 0
    each_time: Optional[Callable[[], None]] = None

    def callLater(self, delay: float, *call: Any, **words: Any) -> Any:
        self.asked += 1
        if self.each_time is not None:
            self.each_time()
        return super().callLater(delay, *call, **words)


class UpkeepTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = CountingClock()
        self.told: list[tuple[int, Changes]] = []
        declarations = [Declaration.parse(name, LINE) for name in ("a", "b")]
        self.node = make_node(declarations)
        self.problem: Optional[Exception] = None
        self.stopping = False
        self.upkeep = Upkeep(self.node, self.clock, self.tell_all)

    def tell_all(self, batches: list[Changes]) -> None:
        for batch in batches:
            self.tell(batch)

    def tell(self, batch: Changes) -> None:
        self.told.append((self.clock.asked, batch))
        if self.stopping:
            self.upkeep.stop()
        if self.problem is not None:
            raise self.problem

    def fill(self, name: str, count: int = MANY) -> TableStore:
        table = self.node.tables[name]
        table.store(
            [(one.to_bytes(4, "big"), 5000, b"\x01") for one in range(count)],
            milliseconds(self.clock),
        )
        return table

    def turns(self) -> list[tuple[str, Cause, int]]:
        """What was told: of which table, why, and how many."""
        return [(one.table.name, one.cause, len(one)) for _, one in self.told]

    def test_tables_take_turns(self) -> None:
        """Of several tables one slice is expired in a turn, of each in its turn."""
        tables = [self.fill("a"), self.fill("b")]
        self.upkeep.start()
        self.clock.advance(6)
        self.assertEqual([table.used for table in tables], [0, 0])
        self.assertEqual(
            self.turns(), [("a", Cause.EXPIRED, SLICE), ("b", Cause.EXPIRED, SLICE)] * 3
        )

    def test_one_slice_a_turn(self) -> None:
        """What is left after a slice waits for another call of the reactor's."""
        self.fill("a")
        self.fill("b")
        self.upkeep.start()
        self.clock.advance(6)
        calls = [calls for calls, _ in self.told]
        self.assertEqual(calls, list(range(calls[0], calls[0] + 6)))

    def test_nothing_to_do(self) -> None:
        """Then it looks again after a while, and no sooner."""
        self.upkeep.start()
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), INTERVAL)

    def test_cleared(self) -> None:
        """What was cleared is told, and so is what is shared no longer; both are forgotten."""
        cleared, removed = self.fill("a"), self.fill("b")
        cleared.clear()
        self.node.remove_table("b")
        self.upkeep.start()
        self.clock.advance(INTERVAL)
        for name, table in (("a", cleared), ("b", removed)):
            told = [batch for _, batch in self.told if batch.table is table]
            self.assertEqual({(one.table.name, one.cause) for one in told}, {(name, Cause.CLEARED)})
            self.assertEqual(sum(map(len, told)), MANY)
            self.assertGreater(len(told), 1)
        self.assertEqual((cleared.discarding, removed.discarding), (False, False))
        self.assertEqual(self.node.tables.removed, [])

    def test_removed_without_entries(self) -> None:
        """A table that was empty leaves nothing to do."""
        self.node.remove_table("b")
        self.assertEqual(self.node.tables.removed, [])

    def test_converted(self) -> None:
        """A table that was declared anew is converted in passing."""
        table = self.fill("a")
        table.redeclare(Declaration.parse("a", OTHER))
        self.upkeep.start()
        self.clock.advance(INTERVAL)
        self.assertFalse(table.converting)

    def test_expires_meanwhile(self) -> None:
        """Entries expire, too, while a table is declared anew all the time."""
        table = self.fill("a")
        left: list[int] = []

        def declare_anew() -> None:
            if self.clock.asked < 50:
                expire = 20_000 + self.clock.asked % 2
                table.redeclare(attrs.evolve(table.declaration, expire=expire))
                left.append(table.used)

        self.clock.advance(6)
        self.clock.each_time = declare_anew
        self.upkeep.start()
        self.clock.advance(0)
        self.assertEqual(left[-1], 0)

    def test_made_smaller(self) -> None:
        """A table that was made smaller gives up what it has too many in slices, and tells it."""
        table = self.fill("a")
        table.redeclare(attrs.evolve(table.declaration, size=100))
        self.upkeep.start()
        self.clock.advance(INTERVAL)
        self.assertEqual(table.used, 100)
        self.assertEqual({cause for _, cause, _ in self.turns()}, {Cause.TRASHED})
        self.assertEqual([count for _, _, count in self.turns()], [SLICE, SLICE, SLICE - 100])

    def test_goes_on(self) -> None:
        """What fails is logged, and the rest is done all the same."""
        table = self.fill("a")
        self.problem = ValueError("of an observer")
        self.upkeep.start()
        self.clock.advance(6)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.problem = None
        self.clock.advance(INTERVAL)
        self.assertEqual(table.used, 0)

    def test_stopped(self) -> None:
        """It can be stopped while it works, and leaves no call behind."""
        self.fill("a")
        self.upkeep.start()
        self.stopping = True
        self.clock.advance(6)
        self.assertEqual(self.clock.getDelayedCalls(), [])

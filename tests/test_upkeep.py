from __future__ import annotations

from typing import Any, Optional

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.node import Node
from peerproto.peering.resync import Resync
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.table import SLICE, StickTable
from peerproto.upkeep import INTERVAL, Upkeep

LINE = "type integer size 1m expire 10s store gpc0"
OTHER = "type integer size 1m expire 10s store gpt0,gpc0"
MANY = 3 * SLICE


class CountingClock(Clock):
    """Counts what it is to call."""

    asked = 0

    def callLater(self, delay: float, *call: Any, **words: Any) -> Any:
        self.asked += 1
        return super().callLater(delay, *call, **words)


class UpkeepTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = CountingClock()
        self.told: list[tuple[int, Batch]] = []
        declarations = [Declaration.parse(name, LINE) for name in ("a", "b")]
        self.node = Node("us", Resync(self.clock), declarations, tell=self.tell)
        self.problem: Optional[Exception] = None
        self.upkeep = Upkeep(self.node, self.clock)

    def tell(self, batch: Batch) -> None:
        self.told.append((self.clock.asked, batch))
        if self.problem is not None:
            raise self.problem

    def fill(self, name: str, count: int = MANY) -> StickTable:
        table = self.node.tables[name]
        table.store([(one.to_bytes(4, "big"), 5000, b"\x01") for one in range(count)], 0)
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
        """What was cleared is told, what is shared no longer is not; both are forgotten."""
        cleared, removed = self.fill("a"), self.fill("b")
        cleared.clear()
        self.node.remove_table("b")
        self.upkeep.start()
        self.clock.advance(INTERVAL)
        self.assertEqual({(name, cause) for name, cause, _ in self.turns()}, {("a", Cause.CLEARED)})
        self.assertEqual(sum(count for _, _, count in self.turns()), MANY)
        self.assertEqual((cleared.discarding, removed.discarding), (False, False))
        self.assertEqual(self.node.removed, [])

    def test_removed_without_entries(self) -> None:
        """A table that was empty leaves nothing to do."""
        self.node.remove_table("b")
        self.assertEqual(self.node.removed, [])

    def test_converted(self) -> None:
        """A table that was declared anew is converted in passing."""
        table = self.fill("a")
        table.redeclare(Declaration.parse("a", OTHER))
        self.upkeep.start()
        self.clock.advance(INTERVAL)
        self.assertFalse(table.converting)

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
        self.node._tell = lambda batch: self.upkeep.stop()
        self.clock.advance(6)
        self.assertEqual(self.clock.getDelayedCalls(), [])

from __future__ import annotations

import time
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from peerproto.connections.clock import ORIGIN, TURN, Turn, make_monotonic, milliseconds
from peerproto.service.service import StickTableService


class WallClock(Clock):
    """As Twisted's reactor: its time is the wall clock's."""

    seconds: Any = staticmethod(time.time)


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.monotonic = 5.0
        self.patch(time, "monotonic", lambda: self.monotonic)

    def test_wall_clock(self) -> None:
        """Where a reactor goes by the wall clock, times are the monotonic clock's."""
        self.assertEqual(milliseconds(WallClock()), ORIGIN + 5000)
        service = StickTableService("us", reactor=WallClock())
        self.assertEqual(service.now(), ORIGIN + 5000)
        self.monotonic = 6.25
        self.assertEqual(service.now(), ORIGIN + 6250)

    def test_clock_of_a_test(self) -> None:
        """A clock that a test moves is its own."""
        clock = Clock()
        clock.advance(1.5)
        self.assertEqual(milliseconds(clock), ORIGIN + 1500)
        seconds = clock.seconds
        make_monotonic(clock)
        self.assertEqual(clock.seconds, seconds)

    def test_lives(self) -> None:
        """What is stored lives by the monotonic clock, though the reactor's own is another."""
        service = StickTableService(
            "us", tables={"t": "type integer size 1k expire 10s store gpc0"}, reactor=WallClock()
        )
        table = service.table("t")
        table.set(1, gpc0=1)
        self.monotonic += 9
        self.assertEqual(table[1].expires_in, 1000)
        self.monotonic += 1.1
        self.assertNotIn(1, table)

    def test_delayed_calls(self) -> None:
        """A reactor of the wall clock's is made to go by the monotonic one."""
        reactor: Any = MemoryReactor()
        reactor.seconds = time.time
        make_monotonic(reactor)
        self.assertEqual(reactor.seconds(), 5.0)
        self.assertEqual(milliseconds(reactor), ORIGIN + 5000)

    def test_turn(self) -> None:
        """A turn is over by the monotonic clock."""
        turn = Turn()
        self.assertFalse(turn())
        self.monotonic += TURN
        self.assertTrue(turn())

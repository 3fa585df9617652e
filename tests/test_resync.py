from __future__ import annotations

import random
from typing import cast

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.peer import Peer
from peerproto.peering.resync import Resync, ResyncState
from peerproto.peering.session import Session


@attrs.define(eq=False)
class Asked:
    """A session as far as the resync sees it."""

    peer: Peer
    asked: int = 0

    def ask_for_lesson(self) -> None:
        self.asked += 1


def session(name: str) -> Session:
    return cast(Session, Asked(Peer(name)))


def asked(one: Session) -> int:
    return cast(Asked, one).asked


class ResyncTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resync = Resync(self.clock, random.Random(1))
        self.done: list[str] = []
        self.resync.when_up_to_date().addCallback(self.done.append)
        self.a, self.b = session("a"), session("b")

    def test_nobody_there(self) -> None:
        """After 5 s with nobody to ask the node counts itself up to date, not before."""
        self.resync.start()
        self.clock.advance(4.9)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.clock.advance(0.1)
        self.assertIs(self.resync.state, ResyncState.UP_TO_DATE)
        self.assertEqual(self.done, ["no peer to learn from within 5 s"])

    def test_first_that_connects(self) -> None:
        """The first peer that connects is asked, and no other while it teaches."""
        self.resync.start()
        self.resync.connected(self.a)
        self.resync.connected(self.b)
        self.assertEqual((asked(self.a), asked(self.b)), (1, 0))
        self.clock.advance(3600)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.resync.finished(self.b)
        self.assertFalse(self.resync.up_to_date)
        self.resync.finished(self.a)
        self.assertEqual(self.done, ["finished by a"])

    def test_partial(self) -> None:
        """After partial another is asked, and the first one never again."""
        self.resync.start()
        self.resync.connected(self.a)
        self.resync.partial(self.a)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.clock.advance(4)
        self.resync.connected(self.b)
        self.assertEqual((asked(self.a), asked(self.b)), (1, 1))
        self.resync.partial(self.b)
        self.clock.advance(4.9)
        self.assertFalse(self.resync.up_to_date)
        self.clock.advance(0.1)
        self.assertTrue(self.resync.up_to_date)
        self.assertEqual((asked(self.a), asked(self.b)), (1, 1))

    def test_broken_lesson(self) -> None:
        """A session that ends in mid-lesson frees the place; the peer may be asked again."""
        self.resync.start()
        self.resync.connected(self.a)
        self.resync.disconnected(self.a)
        self.clock.advance(4)
        again = session("a")
        self.resync.connected(again)
        self.assertEqual(asked(again), 1)
        self.resync.connected(self.b)
        self.resync.disconnected(again)
        self.assertEqual(asked(self.b), 1)

    def test_others_come_and_go(self) -> None:
        """Sessions that do not teach us end without consequence."""
        self.resync.start()
        self.resync.connected(self.a)
        self.resync.connected(self.b)
        self.resync.disconnected(self.b)
        self.resync.partial(self.a)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.assertEqual(asked(self.b), 0)

    def test_afterwards(self) -> None:
        """Once up to date, nobody is asked, and waiting for it is over at once."""
        self.resync.start()
        self.clock.advance(5)
        self.resync.connected(self.a)
        self.assertEqual(asked(self.a), 0)
        self.resync.disconnected(self.a)
        self.assertTrue(self.resync.up_to_date)
        self.assertEqual(self.successResultOf(self.resync.when_up_to_date()), self.done[0])

    def test_stop(self) -> None:
        """A stopped node leaves no timer."""
        self.resync.start()
        self.resync.connected(self.a)
        self.resync.stop()
        self.resync.disconnected(self.a)
        self.assertEqual(self.clock.calls, [])

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
    expects: int = 0

    def ask_for_lesson(self) -> None:
        self.asked += 1

    def expect_lesson(self) -> None:
        self.expects += 1


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

    def old_process(self) -> Session:
        return cast(Session, Asked(Peer("us", local=True)))

    def test_old_process(self) -> None:
        """The old process is waited for, is not asked, and ends the resync when it finishes."""
        self.resync.start(expect_old=True)
        self.resync.connected(self.a)
        self.clock.advance(4.9)
        old = self.old_process()
        self.resync.connected(old)
        self.assertIs(self.resync.state, ResyncState.LEARNING_FROM_OLD)
        self.assertEqual((asked(self.a), asked(old), cast(Asked, old).expects), (0, 0, 1))
        self.clock.advance(3600)
        self.resync.finished(old)
        self.assertTrue(self.resync.up_to_date)

    def test_no_old_process(self) -> None:
        """After 5 s without an old process a remote peer is asked, or waited for."""
        self.resync.start(expect_old=True)
        self.resync.connected(self.a)
        self.clock.advance(5)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertEqual(asked(self.a), 1)

    def test_another_old_process(self) -> None:
        """After partial, or a broken session, there are 5 s more for another one."""
        self.resync.start(expect_old=True)
        for end in (self.resync.partial, self.resync.disconnected):
            self.clock.advance(4.9)
            old = self.old_process()
            self.resync.connected(old)
            end(old)
            self.assertIs(self.resync.state, ResyncState.EXPECTING_OLD)
        self.resync.partial(old)
        self.clock.advance(5)
        self.assertIs(self.resync.state, ResyncState.WAITING)

    def test_unexpected_old_process(self) -> None:
        """Who calls under our name when nobody is expected is no teacher of ours."""
        self.resync.start()
        old = self.old_process()
        self.resync.connected(old)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.resync.finished(old)
        self.resync.disconnected(old)
        self.assertFalse(self.resync.up_to_date)

    def test_stop(self) -> None:
        """A stopped node leaves no timer."""
        self.resync.start()
        self.resync.connected(self.a)
        self.resync.stop()
        self.resync.disconnected(self.a)
        self.assertEqual(self.clock.calls, [])

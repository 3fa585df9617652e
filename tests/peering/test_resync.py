from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.peering.states import ResyncState
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from tests.support import Asked, TimedResync, memory


def session(name: str) -> Session:
    return cast(Session, Asked(memory(name)))


def asked(one: Session) -> int:
    return cast(Asked, one).asked


class ResyncTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.timed = TimedResync()
        self.resync = self.timed.resync
        self.a, self.b = session("a"), session("b")

    def test_in_vain_is_of_a_session(self) -> None:
        """A peer whose lesson was of no use is asked again once it is there on a new session."""
        again = session("a")
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.partial, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.timed.do(self.resync.connected, again)
        self.assertEqual((asked(self.a), asked(again)), (1, 1))
        self.assertIs(self.resync.state, ResyncState.LEARNING)

    def test_a_debtor_of_whom_all_is_to_be_heard(self) -> None:
        """Where each peer is to be heard, one whose lesson broke off is asked when it is back, also
        if another lesson of it had come to its end before."""
        to_hear = [self.a.peer, self.b.peer]
        resync = Resync(Logger(), to_hear=lambda: to_hear)
        resync.start(0)
        resync.connected(self.a, 0)
        resync.partial(self.a, 0)
        resync.ask(self.a)
        resync.disconnected(self.a, 0)
        back = cast(Session, Asked(self.a.peer))
        resync.connected(back, 0)
        self.assertEqual(asked(back), 1)

    def test_nobody_there(self) -> None:
        """After 5 s with nobody to ask the node counts itself up to date, not before."""
        self.timed.do(self.resync.start)
        self.timed.advance(4.9)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.timed.advance(0.1)
        self.assertIs(self.resync.state, ResyncState.UP_TO_DATE)
        self.assertEqual(self.timed.done, ["no peer to learn from within 5 s"])

    def test_first_that_connects(self) -> None:
        """The first peer that connects is asked, and no other while it teaches."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.connected, self.b)
        self.assertEqual((asked(self.a), asked(self.b)), (1, 0))
        self.timed.advance(3600)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.timed.do(self.resync.finished, self.b)
        self.assertFalse(self.resync.up_to_date)
        self.timed.do(self.resync.finished, self.a)
        self.assertEqual(self.timed.done, ["finished by a"])

    def test_partial(self) -> None:
        """After partial another is asked, and the first one never again."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.partial, self.a)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.timed.advance(4)
        self.timed.do(self.resync.connected, self.b)
        self.assertEqual((asked(self.a), asked(self.b)), (1, 1))
        self.timed.do(self.resync.partial, self.b)
        self.timed.advance(4.9)
        self.assertFalse(self.resync.up_to_date)
        self.timed.advance(0.1)
        self.assertTrue(self.resync.up_to_date)
        self.assertEqual((asked(self.a), asked(self.b)), (1, 1))

    def test_broken_lesson(self) -> None:
        """A session that ends in mid-lesson frees the place; the peer may be asked again."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.advance(4)
        again = session("a")
        self.timed.do(self.resync.connected, again)
        self.assertEqual(asked(again), 1)
        self.timed.do(self.resync.connected, self.b)
        self.timed.do(self.resync.disconnected, again)
        self.assertEqual(asked(self.b), 1)

    def test_others_come_and_go(self) -> None:
        """Sessions that do not teach us end without consequence."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.connected, self.b)
        self.timed.do(self.resync.disconnected, self.b)
        self.timed.do(self.resync.partial, self.a)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.assertEqual(asked(self.b), 0)

    def test_afterwards(self) -> None:
        """Once up to date, nobody is asked."""
        self.timed.do(self.resync.start)
        self.timed.advance(5)
        self.timed.do(self.resync.connected, self.a)
        self.assertEqual(asked(self.a), 0)
        self.timed.do(self.resync.disconnected, self.a)
        self.assertTrue(self.resync.up_to_date)

    def old_process(self) -> Session:
        return cast(Session, Asked(memory("us", local=True)))

    def test_old_process(self) -> None:
        """The old process is waited for, is not asked, and ends the resync when it finishes."""
        self.timed.do(self.resync.start, expect_old=True)
        self.timed.do(self.resync.connected, self.a)
        self.timed.advance(4.9)
        old = self.old_process()
        self.timed.do(self.resync.connected, old)
        self.assertIs(self.resync.state, ResyncState.LEARNING_FROM_OLD)
        self.assertEqual((asked(self.a), asked(old), cast(Asked, old).expects), (0, 0, 1))
        self.timed.advance(3600)
        self.timed.do(self.resync.finished, old)
        self.assertTrue(self.resync.up_to_date)

    def test_no_old_process(self) -> None:
        """After 5 s without an old process a remote peer is asked, or waited for."""
        self.timed.do(self.resync.start, expect_old=True)
        self.timed.do(self.resync.connected, self.a)
        self.timed.advance(5)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertEqual(asked(self.a), 1)

    def test_another_old_process(self) -> None:
        """After partial, or a broken session, there are 5 s more for another one."""
        self.timed.do(self.resync.start, expect_old=True)
        for end in (self.resync.partial, self.resync.disconnected):
            self.timed.advance(4.9)
            old = self.old_process()
            self.timed.do(self.resync.connected, old)
            self.timed.do(end, old)
            self.assertIs(self.resync.state, ResyncState.EXPECTING_OLD)
        self.timed.do(self.resync.partial, old)
        self.timed.advance(5)
        self.assertIs(self.resync.state, ResyncState.WAITING)

    def test_unexpected_old_process(self) -> None:
        """Who calls under our name when nobody is expected is no teacher of ours."""
        self.timed.do(self.resync.start)
        old = self.old_process()
        self.timed.do(self.resync.connected, old)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.timed.do(self.resync.finished, old)
        self.timed.do(self.resync.disconnected, old)
        self.assertFalse(self.resync.up_to_date)

    def test_stop(self) -> None:
        """A stopped node waits for nothing."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.resync.stop()
        self.timed.do(self.resync.disconnected, self.a)
        self.assertIsNone(self.resync.deadline)
        self.assertEqual(self.timed.done, [])

    def test_the_only_teacher_breaks_off(self) -> None:
        """What a teacher has left to teach is missing: it is waited for longer than for
        somebody to ask, and asked when it comes."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.advance(14.9)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        again = self.another_session(self.a)
        self.timed.do(self.resync.connected, again)
        self.assertEqual(asked(again), 1)
        self.timed.do(self.resync.finished, again)
        self.assertEqual(self.timed.done, ["finished by a"])

    def test_a_teacher_that_broke_off_comes_late(self) -> None:
        """A node that waits no longer for the rest of a lesson says so, and asks for it still."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.advance(15)
        self.assertEqual(self.timed.done, ["a did not end a lesson within 15 s"])
        again = self.another_session(self.a)
        self.timed.do(self.resync.connected, again)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertEqual(asked(again), 1)

    def test_more_to_learn_while_a_lesson_is_owed(self) -> None:
        """A node that shares more than before waits for somebody to ask, however long ago
        somebody's lesson broke off."""
        more: list[Callable[[], None]] = [
            lambda: self.timed.do(self.resync.learn_again, "table t was added"),
            lambda: self.timed.do(self.resync.peer_added, self.b.peer),
        ]
        for comes in more:
            self.setUp()
            self.timed.do(self.resync.start)
            self.timed.do(self.resync.connected, self.a)
            self.timed.do(self.resync.disconnected, self.a)
            self.timed.advance(3600)
            self.assertTrue(self.resync.up_to_date)
            comes()
            self.timed.advance(14.9)
            self.assertIs(self.resync.state, ResyncState.WAITING)
            self.timed.do(self.resync.connected, self.b)
            self.assertEqual(asked(self.b), 1)

    def test_another_teacher_has_what_one_left_out(self) -> None:
        """Once a lesson is finished, nobody owes one any more."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.do(self.resync.connected, self.b)
        self.timed.do(self.resync.finished, self.b)
        again = self.another_session(self.a)
        self.timed.do(self.resync.connected, again)
        self.assertTrue(self.resync.up_to_date)
        self.assertEqual(asked(again), 0)

    def test_a_debtor_that_is_no_peer_any_more(self) -> None:
        """A peer that was removed cannot come back: nobody waits for it."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.peer_removed, self.a.peer)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.do(self.resync.peer_removed, self.a.peer)
        self.timed.do(self.resync.learn_again, "a table was added")
        self.timed.advance(5)
        self.assertTrue(self.resync.up_to_date)

    def test_a_teacher_that_is_removed(self) -> None:
        """A teacher that is no peer any more is not waited for longer than anybody."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.do(self.resync.peer_removed, self.a.peer)
        self.timed.advance(5)
        self.assertEqual(self.timed.done, ["no peer to learn from within 5 s"])

    def another_session(self, earlier: Session) -> Session:
        return cast(Session, Asked(earlier.peer))

    def test_another_table(self) -> None:
        """When a table comes to the node, peers are asked anew, those in vain before, too."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.partial, self.a)
        self.timed.advance(5)
        self.timed.do(self.resync.learn_again, "table t was added")
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertEqual(asked(self.a), 2)

    def test_other_tables_while_nobody_is_there(self) -> None:
        """Tables that come again and again do not keep a node waiting that has nobody to ask;
        who was asked in vain is asked for them at once."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.partial, self.a)
        self.timed.advance(4)
        self.timed.do(self.resync.learn_again, "table t was added")
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertEqual(asked(self.a), 2)
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.do(self.resync.peer_removed, self.a.peer)
        self.timed.advance(4)
        self.timed.do(self.resync.learn_again, "table u was added")
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.timed.advance(1)
        self.assertEqual(self.timed.done, ["no peer to learn from within 5 s"])

    def test_another_table_in_mid_lesson(self) -> None:
        """A lesson that began before the table came may lack it: another one is asked for."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.learn_again, "table t was added")
        self.assertEqual(asked(self.a), 1)
        self.timed.do(self.resync.finished, self.a)
        self.assertFalse(self.resync.up_to_date)
        self.assertEqual(asked(self.a), 2)
        self.timed.do(self.resync.finished, self.a)
        self.assertTrue(self.resync.up_to_date)

    def test_another_table_before_it_starts(self) -> None:
        """A node that was not started asks nobody."""
        self.timed.do(self.resync.learn_again, "table t was added")
        self.assertIsNone(self.resync.deadline)

    def test_alone_at_first(self) -> None:
        """A node that had nobody to learn from asks whoever comes later, if that one does not
        ask itself; and after a lesson to the end it asks no others."""
        self.timed.do(self.resync.start)
        self.timed.advance(5)
        self.timed.do(self.resync.connected, self.a)
        self.assertTrue(self.resync.up_to_date)
        self.assertEqual((asked(self.a), cast(Asked, self.a).asks), (0, 1))
        self.timed.do(self.resync.finished, self.a)
        self.timed.do(self.resync.connected, self.b)
        self.assertEqual(cast(Asked, self.b).asks, 0)

    def test_a_peer_that_was_heard(self) -> None:
        """A peer that taught what it had is not asked again when it comes back."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.partial, self.a)
        self.timed.advance(5)
        again = self.another_session(self.a)
        self.timed.do(self.resync.connected, again)
        self.assertEqual((asked(again), cast(Asked, again).asks), (0, 0))

    def test_an_adopted_table(self) -> None:
        """A peer whose table is shared outside of a lesson is asked for all that it has of it,
        unless the table was in a lesson, of a teacher or of its own."""
        table, other, third = (
            TableStore(Declaration.parse(name, "type ip size 1k")) for name in "tuv"
        )
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.connected, self.b)
        self.resync.newly_shared(self.b, table)
        cast(Asked, self.a).tables = (table,)
        self.timed.do(self.resync.finished, self.a)
        self.resync.newly_shared(self.b, table)
        self.assertEqual(cast(Asked, self.b).asks, 0)
        self.resync.newly_shared(self.b, other)
        self.assertEqual(cast(Asked, self.b).asks, 1)
        cast(Asked, self.b).tables = (other,)
        self.timed.do(self.resync.partial, self.b)
        self.resync.newly_shared(self.b, other)
        self.assertEqual(cast(Asked, self.b).asks, 1)
        self.timed.do(self.resync.learn_again, "a table was added")
        self.resync.newly_shared(self.b, third)
        cast(Asked, self.a).tables = ()
        self.timed.do(self.resync.finished, self.a)
        self.assertEqual((cast(Asked, self.a).asks, cast(Asked, self.b).asks), (0, 2))

    def test_a_table_adopted_in_a_lesson(self) -> None:
        """A table that a lesson brings is in the lesson."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        cast(Asked, self.a).learning = True
        self.resync.newly_shared(self.a, TableStore(Declaration.parse("t", "type ip size 1k")))
        self.timed.do(self.resync.finished, self.a)
        self.assertEqual(cast(Asked, self.a).asks, 0)

    def test_a_new_peer(self) -> None:
        """What a new peer has is not known here: it is asked, unless it asks itself."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.timed.do(self.resync.finished, self.a)
        self.timed.do(self.resync.peer_added, self.b.peer)
        self.assertTrue(self.resync.up_to_date)
        self.timed.do(self.resync.connected, self.b)
        self.assertEqual(cast(Asked, self.b).asks, 1)

    def test_a_new_peer_for_a_node_without_any(self) -> None:
        """A node without a session does not know what it has missed, once there is a peer."""
        self.timed.do(self.resync.start)
        self.timed.advance(5)
        self.timed.do(self.resync.peer_added, self.a.peer)
        self.assertIs(self.resync.state, ResyncState.WAITING)
        self.timed.do(self.resync.connected, self.a)
        self.assertEqual(asked(self.a), 1)

    def test_who_may_finish(self) -> None:
        """A lesson may end with finished if the node lacks nothing that it knows of."""
        self.timed.do(self.resync.start)
        self.assertFalse(self.resync.can_finish(self.a))
        self.timed.advance(5)
        self.assertTrue(self.resync.can_finish(self.a))
        self.timed.do(self.resync.connected, self.a)
        cast(Asked, self.a).lesson_ahead = True
        self.assertTrue(self.resync.can_finish(self.b), "it may begin by asking itself")
        cast(Asked, self.a).gives_lesson = True
        self.assertTrue(self.resync.can_finish(self.a))
        self.assertFalse(self.resync.can_finish(self.b))

    def test_no_lesson_ahead(self) -> None:
        """No lesson is ahead after the last one, in whatever way it ended."""
        self.timed.do(self.resync.start)
        self.timed.do(self.resync.connected, self.a)
        self.assertTrue(self.resync.lessons_ahead)
        self.timed.do(self.resync.finished, self.a)
        self.assertFalse(self.resync.lessons_ahead)
        self.timed.do(self.resync.connected, self.b)
        self.assertFalse(self.resync.lessons_ahead)
        self.resync.ask(self.b)
        self.assertTrue(self.resync.lessons_ahead)
        self.timed.do(self.resync.disconnected, self.b)
        self.assertFalse(self.resync.lessons_ahead)

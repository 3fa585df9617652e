"""What a node must not count as learnt, and what it must not take for missing."""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.session import READ_AT_ONCE, Session
from peerproto.peering.states import ResyncState
from peerproto.tables.declaration import Declaration
from peerproto.wire.messages import Ack, Control, EntryUpdate
from tests.peering.test_session import (
    HEARTBEAT,
    NAMES,
    REQUEST,
    SessionTestCase,
    key,
    update,
)
from tests.support import Asked, TimedResync, begin, memory

FINISHED = Control.RESYNC_FINISHED.encode()
PARTIAL = Control.RESYNC_PARTIAL.encode()


class LessonTests(SessionTestCase):
    """Lessons that this node is given."""

    def alone(self) -> None:
        """The node is up to date, since nobody was there, and a peer comes."""
        self.resync.start(0)
        self.node.wake(5000)
        self.resync.connected(self.session, 0)

    def learn(self) -> None:
        self.resync.start(0)
        self.resync.connected(self.session, 0)
        self.assertEqual(self.pull(), [Control.RESYNC_REQUEST])

    def give_up(self) -> None:
        self.learn()
        for second in range(20):
            self.take(self.session, HEARTBEAT, second * 1000)
            self.wake(self.session, second * 1000)

    def test_of_tables_that_are_not_shared(self) -> None:
        """A lesson goes on while the peer teaches tables that are not shared here."""
        self.node.adoption.learn_tables = False
        self.learn()
        self.take(self.session, NAMES.definition(9).encode())
        other = EntryUpdate(1, None, b"x", b"\x01\x00").encode(NAMES.layout.key_type)
        for second in range(30):
            self.take(self.session, other, second * 1000)
            self.wake(self.session, second * 1000)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertTrue(self.session.gives_lesson)

    def test_that_was_given_up(self) -> None:
        """A lesson of which nothing more comes ends its session: on another one, the peer is asked
        again, and what comes then is of that lesson alone."""
        self.give_up()
        self.assertEqual(self.session.ended_by, "nothing more came of its lesson")
        self.assertTrue(self.session.call_soon)
        again = self.again(21_000)
        self.assertEqual(self.node.out_of_step(self.peer), ["it is teaching us"])
        self.take(again, FINISHED, 21_000)
        self.assertTrue(self.resync.up_to_date)
        self.assertEqual(self.node.out_of_step(self.peer), [])

    def again(self, now: int) -> Session:
        """The peer is there on another session."""
        if self.session.ended_by:
            self.node.ended(self.session, self.session.ended_by, now)
        self.session = begin(self.node, now=now)
        self.resync.connected(self.session, now)
        return self.session

    def asks(self, now: int) -> int:
        """How often the peer is asked on this session, at this time."""
        self.wake(self.session, now)
        return self.pull(now).count(Control.RESYNC_REQUEST)

    def test_that_never_comes(self) -> None:
        """A peer that never gives a lesson is asked twice at once, then a minute after it came;
        meanwhile it is a peer like others, but for what it says of itself."""
        self.give_up()
        now = 21_000
        self.again(now)
        self.assertEqual(self.asks(now), 1)
        for second in range(20):
            self.take(self.session, HEARTBEAT, now + second * 1000)
            self.wake(self.session, now + second * 1000)
        self.assertTrue(self.session.over)
        now = 42_000
        self.again(now)
        self.node.wake(now + 20_000)
        self.assertTrue(self.resync.up_to_date)
        self.assertIn("them did not end a lesson", self.resync.reason)
        self.assertFalse(self.resync.can_finish(begin(self.node, "pupil")))
        said = " ".join(self.node.out_of_step(self.peer))
        self.assertIn("it is to be asked for a lesson", said)
        self.assertIn("it did not come to the end of the lesson that it was asked for", said)
        self.take(self.session, self.defined() + update(5, key(1), b"\x01"), now)
        self.assertIn(Ack(7, 5), self.pull(now))
        for second in range(60):
            self.take(self.session, HEARTBEAT, now + second * 1000)
            self.assertEqual(self.asks(now + second * 1000), 0)
        self.assertEqual(self.asks(now + 60_000), 1)
        self.take(self.session, FINISHED, now + 61_000)
        self.assertEqual(self.node.out_of_step(self.peer), [])
        self.assertEqual(self.resync.reason, "finished by them")
        self.assertTrue(self.resync.can_finish(begin(self.node, "other")))

    def test_that_another_one_gives(self) -> None:
        """What a peer owes is paid by another one that teaches to the end, also when the node
        counts itself up to date by then."""
        self.learn()
        self.node.ended(self.session, "it was killed", 1000)
        self.node.wake(20_000)
        self.assertIn("them did not end a lesson", self.resync.reason)
        other = begin(self.node, "other", now=20_000)
        self.resync.connected(other, 20_000)
        other.wake(21_000)
        self.assertTrue(other.gives_lesson)
        self.assertFalse(self.resync.can_finish(begin(self.node, "pupil")))
        self.take(other, FINISHED, 22_000)
        self.assertEqual(self.resync.reason, "finished by other")
        self.assertTrue(self.resync.can_finish(begin(self.node, "pupil")))
        self.again(23_000)
        self.assertFalse(self.session.lesson_ahead)

    def test_that_is_never_confirmed(self) -> None:
        """A peer that does not confirm a lesson within two minutes is cut off: on another session
        changes are sent to it again."""
        self.take(self.session, REQUEST)
        self.pull()
        for second in range(120):
            self.take(self.session, HEARTBEAT, second * 1000)
            self.wake(self.session, second * 1000)
        self.assertFalse(self.session.over)
        for second in range(120, 130):
            self.take(self.session, HEARTBEAT, second * 1000)
            self.wake(self.session, second * 1000)
        self.assertEqual(self.session.ended_by, "it did not confirm its lesson")

    def test_asked_for_in_mid_lesson(self) -> None:
        """Asked again in mid-lesson, a peer is asked when that is over: its end is of no other."""
        self.learn()
        self.session.ask_for_lesson()
        self.assertEqual(self.pull(), [])
        self.take(self.session, FINISHED)
        self.assertFalse(self.resync.up_to_date)
        self.assertEqual(self.pull(), [Control.RESYNC_CONFIRM, Control.RESYNC_REQUEST])
        self.take(self.session, FINISHED)
        self.assertTrue(self.resync.up_to_date)

    def test_asked_for_by_both(self) -> None:
        """Two nodes that ask each other at the same moment both learn."""
        self.alone()
        self.wake(self.session, 1000)
        self.take(self.session, REQUEST, 1000)
        said = self.pull(1000)
        self.assertIn(Control.RESYNC_REQUEST, said)
        self.assertIn(said[-1], (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL))

    def test_what_the_teacher_sent_before(self) -> None:
        """What a peer sent before its lesson is older than the lesson; what others sent is not."""
        self.alone()
        other = begin(self.node, "other")
        for one, number in ((self.session, 1), (other, 2)):
            self.take(one, self.defined() + update(number, key(number), b"\x01"))
        self.wake(self.session, 1000)
        self.assertTrue(self.session.learning)
        for number in (1, 2):
            self.take(self.session, update(9, key(number), b"\x07"), 1000)
        self.take(self.session, FINISHED, 1000)
        values = [self.rates.get(key(number), 1000) for number in (1, 2)]
        self.assertEqual([one and one["gpc0"] for one in values], [7, 1])

    def test_notes_of_what_is_gone(self) -> None:
        """What is noted of entries beside a lesson is bounded by the entries that there are."""
        small = Declaration.parse("small", "type integer size 100 expire 1m store gpc0")
        self.node.tables.add(small)
        self.learn()
        other = begin(self.node, "other")
        self.take(other, small.definition(3).encode())
        for start in range(0, 20_000, 500):
            numbers = range(start, start + 500)
            self.take(other, b"".join(update(one, key(one), b"\x01") for one in numbers))
        table = self.node.tables["small"]
        every = [key(number) for number in range(20_000)]
        noted = self.node.meanwhile.columns(table, every, self.session.peer)
        self.assertLess(len(noted), 2000)
        self.assertLessEqual({key for key, _ in table.scan()}, noted.keys())

    def test_that_trickles(self) -> None:
        """A lesson that takes long has to bring something; one that does may take its time."""
        for count, stalled in ((1, True), (20, False)):
            self.setUp()
            self.learn()
            self.take(self.session, self.defined())
            for period in range(30):
                now = period * 5000
                for number in range(count):
                    self.take(self.session, update(period, key(number), b"\x01"), now)
                self.wake(self.session, now)
                if period == 11:
                    self.assertFalse(self.session.over)
                if self.session.over:
                    break
            self.assertIs(self.session.over, stalled)

    def test_of_a_table_that_went_meanwhile(self) -> None:
        """A table that is gone when a lesson ends is asked for from nobody."""
        other = begin(self.node, "other")
        self.learn()
        self.resync.connected(other, 0)
        self.take(other, NAMES.definition(3).encode())
        self.node.remove_table("names")
        self.take(self.session, FINISHED)
        self.assertTrue(self.resync.up_to_date)
        self.assertIsNone(other.ask_at)


class DifferenceTests(SessionTestCase):
    """What is known to differ from one session to the next."""

    def test_until_it_is_defined(self) -> None:
        """A table that differs does so until the peer defines it otherwise, whatever sessions
        there are."""
        bad = Declaration.parse("rates", "type ip size 1k store gpc0")
        self.take(self.session, self.defined(bad))
        wrong = self.session.out_of_step()
        self.assertEqual(len(wrong), 1)
        self.session = self.connect()
        self.take(self.session, HEARTBEAT)
        self.assertEqual(self.session.out_of_step(), wrong)
        self.take(self.session, self.defined())
        self.assertEqual(self.session.out_of_step(), [])

    def test_until_a_whole_lesson(self) -> None:
        """A table that a whole lesson lacks is gone at the peer."""
        self.take(self.session, self.defined(Declaration.parse("rates", "type ip size 1k")))
        self.session = self.connect()
        self.session.ask_for_lesson()
        self.take(self.session, PARTIAL)
        self.assertEqual(len(self.session.differences), 1)
        self.session.ask_for_lesson()
        self.take(self.session, FINISHED)
        self.assertEqual(self.session.differences, {})


class SilenceTests(SessionTestCase):
    """Peers that are dead, and peers that are read in turns."""

    def test_busy_and_dead(self) -> None:
        """A peer that had always something to send owed no heartbeat: its silence is death."""
        for _ in range(3):
            self.session = self.connect()
            self.take(self.session, self.defined())
            for second in range(20):
                self.take(self.session, update(second, key(1), b"\x01"), second * 1000)
                self.wake(self.session, second * 1000)
            self.assertFalse(self.session.over)
            for second in range(20, 40):
                self.wake(self.session, second * 1000)
            self.assertTrue(self.session.over)

    def test_many_messages(self) -> None:
        """However short messages are, so many are read in a turn, and all in the end."""
        for message in (HEARTBEAT, FINISHED, Ack(1, 1).encode(), b"\x0a\x83\x01\x07"):
            self.session = self.connect()
            self.take(self.session, message * (3 * READ_AT_ONCE + 1))
            turns = 0
            while self.session.unread:
                self.read_on(self.session)
                turns += 1
            self.assertEqual(turns, 3)
            self.assertFalse(self.session.over)


class DebtTests(SynchronousTestCase):
    """Lessons beside that of the teacher."""

    def setUp(self) -> None:
        self.timed = TimedResync()
        self.resync = self.timed.resync
        self.a, self.b = (cast(Session, Asked(memory(name))) for name in "ab")
        self.timed.do(self.resync.start)
        self.timed.advance(5)
        self.assertTrue(self.resync.up_to_date)
        self.timed.do(self.resync.connected, self.a)
        self.assertEqual(cast(Asked, self.a).asks, 1)

    def test_broken_off(self) -> None:
        """Who was to be asked and left owes its lesson: no lesson is whole until it was heard,
        but one that it is given itself."""
        self.assertTrue(self.resync.can_finish(self.b))
        self.timed.do(self.resync.disconnected, self.a)
        self.assertTrue(self.resync.up_to_date)
        self.assertFalse(self.resync.can_finish(self.b))
        again = cast(Session, Asked(self.a.peer))
        self.timed.do(self.resync.connected, again)
        self.assertEqual(cast(Asked, again).asked, 1)
        self.timed.do(self.resync.finished, again)
        self.assertTrue(self.resync.can_finish(self.b))

    def test_of_a_peer_that_goes(self) -> None:
        """What a peer owes that is none any more is owed by nobody."""
        self.timed.do(self.resync.disconnected, self.a)
        self.timed.do(self.resync.peer_removed, self.a.peer)
        self.assertTrue(self.resync.can_finish(self.b))

    def test_of_a_peer_that_differed(self) -> None:
        """A peer whose table differed is asked when it comes back: by then it may not."""
        self.timed.do(self.resync.finished, self.a)
        self.timed.do(self.resync.disconnected, self.a)
        for differences, asks in (({}, 0), ({"t": "table t differs"}, 1)):
            again = cast(Session, Asked(self.a.peer))
            again.peer.differences.update(differences)
            self.timed.do(self.resync.connected, again)
            self.assertEqual(cast(Asked, again).asks, asks)
            self.timed.do(self.resync.finished, again)
            self.timed.do(self.resync.disconnected, again)

    def test_taught_itself(self) -> None:
        """A debtor may be given a whole lesson: what is missing is its own."""
        self.timed.do(self.resync.disconnected, self.a)
        again = cast(Session, Asked(self.a.peer))
        self.assertTrue(self.resync.can_finish(again))

    def test_broken_off_again_and_again(self) -> None:
        """A sole peer that breaks off each lesson does not keep the node waiting for ever; it
        owes its lesson still."""
        self.setUp()
        self.timed.do(self.resync.learn_again, "a table was added")
        while not self.resync.up_to_date and self.timed.now < 300_000:
            self.timed.advance(9)
            self.timed.do(self.resync.disconnected, self.a)
            self.timed.advance(1)
            self.a = cast(Session, Asked(self.a.peer))
            if not self.resync.up_to_date:
                self.timed.do(self.resync.connected, self.a)
        self.assertTrue(self.resync.up_to_date)
        self.assertTrue(60_000 <= self.timed.now < 90_000, self.timed.now)
        self.assertIn("a did not end a lesson within", self.resync.reason)
        self.assertFalse(self.resync.can_finish(self.b))

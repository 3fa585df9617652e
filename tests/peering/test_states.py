"""The tables of states, from which the diagrams are drawn: every input in every state."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.session import Session
from peerproto.peering.states import (
    RESYNC,
    SESSION,
    ResyncInput,
    ResyncState,
    SessionInput,
    SessionState,
    Step,
)
from peerproto.tables.declaration import Declaration
from peerproto.wire.messages import Control, ErrorMessage
from tests.support import Asked, TimedResync, begin, make_node, memory

RATES = Declaration.parse("rates", "type integer size 100k expire 10s store gpc0")
REQUEST = Control.RESYNC_REQUEST.encode()
CONFIRM = Control.RESYNC_CONFIRM.encode()


class SessionStatesTests(SynchronousTestCase):
    """Every input in every state of a session."""

    def session(self, state: SessionState, local: bool = False) -> Session:
        """A session in this state, with a peer that sends heartbeats."""
        node = make_node((RATES,))
        session = begin(node, "us") if local else begin(node)
        session.receive(Control.HEARTBEAT.encode(), 0)
        for number in range(5000):
            node.tables["rates"].set(number.to_bytes(4, "big"), {}, 0)
        if state in (SessionState.TEACHING, SessionState.AWAITING_CONFIRM):
            session.receive(REQUEST, 0)
            session.pull(1, 0)
        if state is SessionState.AWAITING_CONFIRM:
            self.end_lesson(session)
        if state is SessionState.ENDED:
            session.closed("it left")
        self.assertIs(session.state, state)
        return session

    def end_lesson(self, session: Session) -> None:
        while session.state is SessionState.TEACHING and session.wants_to_send:
            session.pull(1 << 16, 0)

    def silence(self, session: Session) -> None:
        for now in range(0, 20_000, 1000):
            session.wake(now)

    def beat(self, session: Session, seconds: int) -> None:
        """Nothing but heartbeats comes for so long."""
        for second in range(seconds):
            session.receive(Control.HEARTBEAT.encode(), second * 1000)
            session.wake(second * 1000)

    def no_lesson(self, session: Session) -> None:
        session.ask_for_lesson()
        self.beat(session, 20)

    def test_every_input_in_every_state(self) -> None:
        """The session takes every step of the table, and no other one."""
        inputs: dict[SessionInput, Callable[[Session], object]] = {
            SessionInput.REQUEST: lambda one: one.receive(REQUEST, 0),
            SessionInput.LAST_ENTRY: self.end_lesson,
            SessionInput.LAST_CONFIRM: lambda one: one.receive(CONFIRM, 0),
            SessionInput.NEW_PROCESS_CONFIRM: lambda one: one.receive(CONFIRM, 0),
            SessionInput.MALFORMED: lambda one: one.receive(b"\xff\x00", 0),
            SessionInput.TOO_LONG: lambda one: one.receive(b"\x0a\x80\xff\xff\xff\x7f", 0),
            SessionInput.ERROR: lambda one: one.receive(ErrorMessage.PROTOCOL.encode(), 0),
            SessionInput.SILENCE: self.silence,
            SessionInput.NO_LESSON: self.no_lesson,
            SessionInput.NO_CONFIRM: lambda one: self.beat(one, 130),
            SessionInput.NEWER_SESSION: lambda one: one.replaced(),
            SessionInput.CLOSED: lambda one: one.closed("it left"),
        }
        for state, on in product(SessionState, SessionInput):
            session = self.session(state, local=on is SessionInput.NEW_PROCESS_CONFIRM)
            inputs[on](session)
            step = SESSION.get((state, on))
            self.assertIs(session.state, state if step is None else step.to, f"{on} in {state}")


class ResyncStatesTests(SynchronousTestCase):
    """Every input in every state of the resync."""

    def setUp(self) -> None:
        self.timed = TimedResync()
        self.resync = self.timed.resync
        self.old = cast(Session, Asked(memory("us", local=True)))
        self.lb1 = cast(Session, Asked(memory("lb1")))

    @property
    def teacher(self) -> Session:
        return self.old if self.resync.taking_over else self.lb1

    def bring(self, state: ResyncState) -> None:
        """A resync in this state. In the last two a debtor is not there: it was asked, and left."""
        self.setUp()
        old = state in (ResyncState.EXPECTING_OLD, ResyncState.LEARNING_FROM_OLD)
        self.timed.do(self.resync.start, expect_old=old)
        if state is ResyncState.LEARNING_FROM_OLD:
            self.timed.do(self.resync.connected, self.old)
        elif state is not ResyncState.EXPECTING_OLD:
            self.timed.do(self.resync.connected, self.lb1)
        if state in (ResyncState.WAITING, ResyncState.UP_TO_DATE):
            self.timed.do(self.resync.disconnected, self.lb1)
        if state is ResyncState.UP_TO_DATE:
            self.timed.advance(15)
        self.assertIs(self.resync.state, state)

    def come_back(self) -> None:
        self.timed.do(self.resync.connected, cast(Session, Asked(self.lb1.peer)))

    def finish(self) -> None:
        self.timed.do(self.resync.finished, self.teacher)

    def finish_too_early(self) -> None:
        self.timed.do(self.resync.learn_again, "a table came")
        self.finish()

    def test_every_input_in_every_state(self) -> None:
        """The resync takes every step of the table, and no other one."""
        inputs: dict[ResyncInput, Callable[[], None]] = {
            ResyncInput.OLD_CALLS: lambda: self.timed.do(self.resync.connected, self.old),
            ResyncInput.TEACHER: lambda: self.timed.do(
                self.resync.connected, cast(Session, Asked(memory("another")))
            ),
            ResyncInput.FINISHED: self.finish,
            ResyncInput.FINISHED_TOO_EARLY: self.finish_too_early,
            ResyncInput.PARTIAL: lambda: self.timed.do(self.resync.partial, self.teacher),
            ResyncInput.LOST: lambda: self.timed.do(self.resync.disconnected, self.teacher),
            ResyncInput.TIME: lambda: self.timed.advance(15),
            ResyncInput.DEBTOR: self.come_back,
            ResyncInput.DEBTOR_REMOVED: lambda: self.timed.do(
                self.resync.peer_removed, self.lb1.peer
            ),
            ResyncInput.MORE: lambda: self.timed.do(self.resync.learn_again, "a table came"),
        }
        table = dict(RESYNC)
        # A debtor that connects is asked as any other peer is.
        table[ResyncState.WAITING, ResyncInput.DEBTOR] = RESYNC[
            ResyncState.WAITING, ResyncInput.TEACHER
        ]
        # Time runs on: nobody comes after the old process either.
        table[ResyncState.EXPECTING_OLD, ResyncInput.TIME] = Step(ResyncState.UP_TO_DATE)
        # The teacher is still there, and is asked again at once.
        table[ResyncState.LEARNING, ResyncInput.FINISHED_TOO_EARLY] = Step(ResyncState.LEARNING)
        # What comes before the lesson is finished has it asked for anew at once.
        table[ResyncState.UP_TO_DATE, ResyncInput.FINISHED_TOO_EARLY] = RESYNC[
            ResyncState.UP_TO_DATE, ResyncInput.MORE
        ]
        for state, on in product(ResyncState, ResyncInput):
            self.bring(state)
            inputs[on]()
            step = table.get((state, on))
            expected = state if step is None else step.to
            self.assertIs(self.resync.state, expected, f"{on} in {state}")

    def test_time(self) -> None:
        """Without an old process within 5 s, a peer is waited for."""
        self.bring(ResyncState.EXPECTING_OLD)
        self.timed.advance(5)
        self.assertIs(self.resync.state, RESYNC[ResyncState.EXPECTING_OLD, ResyncInput.TIME].to)

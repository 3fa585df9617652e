"""The resync of the node: from whom it learns what it has missed.

Specification, part III, from the learner's side; the session has the teacher's.
A node that takes over from an old process of its own name waits for that one
first (III a). Then, or at once where there is none, it asks one remote peer
after another (III b), until it was taught to the end by one that counted itself
up to date:

======================  ==================  ======================  ======================
in state                on                  to state                and
======================  ==================  ======================  ======================
``EXPECTING_OLD``       old process calls   ``LEARNING_FROM_OLD``
``EXPECTING_OLD``       5 s                 ``WAITING``
``LEARNING_FROM_OLD``   finished            ``UP_TO_DATE``
``LEARNING_FROM_OLD``   partial             ``EXPECTING_OLD``
``LEARNING_FROM_OLD``   its session ends    ``EXPECTING_OLD``
``WAITING``             a peer connects     ``LEARNING``            asks it
``WAITING``             5 s                 ``UP_TO_DATE``          (nobody is there)
``LEARNING``            finished            ``UP_TO_DATE``
``LEARNING``            partial             ``WAITING``             asks it no more
``LEARNING``            its session ends    ``WAITING``             may ask it again
======================  ==================  ======================  ======================

On the way to ``WAITING`` a connected peer is asked at once, if there is one that
may be, chosen at random. The 5 s belong to the state, and start again whenever
it is entered. A lesson has no time limit of its own. The old process teaches
without being asked.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

if TYPE_CHECKING:
    from peerproto.peering.session import Session

RESYNC_TIMEOUT: Final = 5.0
"""Seconds to wait for a peer that can be asked."""


class ResyncState(enum.Enum):
    EXPECTING_OLD = "waiting for the old process"
    LEARNING_FROM_OLD = "learning from the old process"
    WAITING = "waiting for a peer to learn from"
    LEARNING = "learning from a peer"
    UP_TO_DATE = "up to date"


_TAKING_OVER: Final = (ResyncState.EXPECTING_OLD, ResyncState.LEARNING_FROM_OLD)


class Resync:
    """Where the node stands; sessions tell it what happens to them."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, chance: Optional[random.Random] = None) -> None:
        self.clock = clock
        self._chance = chance or random.Random()
        self._timer: Optional[IDelayedCall] = None
        self._connected: list[Session] = []
        self._asked_in_vain: set[str] = set()
        self._teacher: Optional[Session] = None
        self._waiters: list[Deferred[str]] = []
        self.state = ResyncState.WAITING
        self.reason = "not started"

    @property
    def up_to_date(self) -> bool:
        return self.state is ResyncState.UP_TO_DATE

    @property
    def taking_over(self) -> bool:
        """Whether an old process has yet to teach us what it knows."""
        return self.state in _TAKING_OVER

    def start(self, expect_old: bool = False) -> None:
        """Begin: with ``expect_old`` an old process of our name is about to call."""
        self._asked_in_vain.clear()
        if expect_old:
            self._expect_old("started")
        else:
            self._wait("started")

    def stop(self) -> None:
        """The node ends: no timer stays behind, and sessions end without consequence."""
        self._stop_timer()
        self._teacher = None
        self._connected.clear()

    def when_up_to_date(self) -> Deferred[str]:
        """Fires, with the reason, when the node counts itself up to date."""
        waiter: Deferred[str] = Deferred()
        if self.up_to_date:
            waiter.callback(self.reason)
        else:
            self._waiters.append(waiter)
        return waiter

    # -- what happens ----------------------------------------------------

    def connected(self, session: Session) -> None:
        """A session was established."""
        if session.peer.local:
            if self.state is ResyncState.EXPECTING_OLD:
                self._teacher = session
                self._enter(ResyncState.LEARNING_FROM_OLD, "it called us")
                session.expect_lesson()
            return
        self._connected.append(session)
        if self.state is ResyncState.WAITING:
            self._ask_someone()

    def disconnected(self, session: Session) -> None:
        """A session ended."""
        if session in self._connected:
            self._connected.remove(session)
        if session is self._teacher:
            self._wait_again(f"the session with {session.peer.name} ended in mid-lesson")

    def finished(self, session: Session) -> None:
        """The lesson is over, and the teacher counts itself up to date."""
        if session is self._teacher:
            self._become_up_to_date(f"finished by {session.peer.name}")

    def partial(self, session: Session) -> None:
        """The lesson is over, but the teacher does not count itself up to date."""
        if session is self._teacher:
            self._asked_in_vain.add(session.peer.name)
            self._wait_again(f"{session.peer.name} is not up to date itself")

    # -- the states ------------------------------------------------------

    def _wait_again(self, reason: str) -> None:
        """A lesson was of no use: wait for another teacher of the same kind."""
        if self.state is ResyncState.LEARNING_FROM_OLD:
            self._expect_old(reason)
        else:
            self._wait(reason)

    def _expect_old(self, reason: str) -> None:
        self._enter(ResyncState.EXPECTING_OLD, reason)
        self._teacher = None
        self._start_timer(self._no_old_process)

    def _no_old_process(self) -> None:
        self._timer = None
        self._wait(f"no old process called within {RESYNC_TIMEOUT:g} s")

    def _wait(self, reason: str) -> None:
        self._enter(ResyncState.WAITING, reason)
        self._teacher = None
        self._start_timer(self._nobody_there)
        self._ask_someone()

    def _nobody_there(self) -> None:
        self._timer = None
        self._become_up_to_date(f"no peer to learn from within {RESYNC_TIMEOUT:g} s")

    def _ask_someone(self) -> None:
        available = [
            session for session in self._connected if session.peer.name not in self._asked_in_vain
        ]
        if available:
            self._teacher = self._chance.choice(available)
            self._enter(ResyncState.LEARNING, f"asked {self._teacher.peer.name}")
            self._teacher.ask_for_lesson()

    def _become_up_to_date(self, reason: str) -> None:
        self._enter(ResyncState.UP_TO_DATE, reason)
        self._teacher = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(reason)

    def _enter(self, state: ResyncState, reason: str) -> None:
        self._stop_timer()
        self.state, self.reason = state, reason
        self._log.info("resync: {state}: {reason}", state=state.value, reason=reason)

    def _start_timer(self, over: Callable[[], None]) -> None:
        self._timer = self.clock.callLater(RESYNC_TIMEOUT, over)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""The resync of the node: from whom it learns what it has missed.

Specification, part III b, from the learner's side; the session has the
teacher's. A node that starts asks one remote peer after another, until one
teaches it to the end and counted itself up to date:

==============  ==================  ==============  ===============================
in state        on                  to state        and
==============  ==================  ==============  ===============================
``WAITING``     a peer connects     ``LEARNING``    asks it
``WAITING``     5 s                 ``UP_TO_DATE``  (nobody there: what we have is it)
``LEARNING``    finished            ``UP_TO_DATE``
``LEARNING``    partial             ``WAITING``     does not ask this peer again
``LEARNING``    its session ends    ``WAITING``     may ask this peer again
==============  ==================  ==============  ===============================

On the way to ``WAITING`` another connected peer is asked at once, if there is
one that may be. The 5 s belong to ``WAITING``: they start again whenever it is
entered. A lesson has no time limit of its own.
"""

from __future__ import annotations

import enum
import random
from typing import TYPE_CHECKING, Final, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

if TYPE_CHECKING:
    from peerproto.peering.session import Session

RESYNC_TIMEOUT: Final = 5.0
"""Seconds to wait for a peer that can be asked."""


class ResyncState(enum.Enum):
    WAITING = "waiting for a peer to learn from"
    LEARNING = "learning from a peer"
    UP_TO_DATE = "up to date"


class Resync:
    """Where the node stands; sessions tell it what happens to them."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, chance: Optional[random.Random] = None) -> None:
        self._clock = clock
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

    def start(self) -> None:
        """Begin to wait for the first peer."""
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
        self._connected.append(session)
        if self.state is ResyncState.WAITING:
            self._ask_someone()

    def disconnected(self, session: Session) -> None:
        """A session ended."""
        if session in self._connected:
            self._connected.remove(session)
        if session is self._teacher:
            self._wait(f"the session with {session.peer.name} ended in mid-lesson")

    def finished(self, session: Session) -> None:
        """The lesson is over, and the teacher counts itself up to date."""
        if session is self._teacher:
            self._become_up_to_date(f"finished by {session.peer.name}")

    def partial(self, session: Session) -> None:
        """The lesson is over, but the teacher does not count itself up to date."""
        if session is self._teacher:
            self._asked_in_vain.add(session.peer.name)
            self._wait(f"{session.peer.name} is not up to date itself")

    # -- the states ------------------------------------------------------

    def _wait(self, reason: str) -> None:
        self._enter(ResyncState.WAITING, reason)
        self._teacher = None
        self._timer = self._clock.callLater(RESYNC_TIMEOUT, self._timed_out)
        self._ask_someone()

    def _timed_out(self) -> None:
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

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

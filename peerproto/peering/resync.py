"""The resync of the node: from whom it learns what it has missed.

The learner's side of doc/protocol.md, "Resync"; the session has the teacher's. Its states
are those of `RESYNC` in `peerproto.peering.states`. A node that takes over from an old process
of its own name waits for that one first. Then, or at once where there is none, it asks one
remote peer after another (doc/protocol.md, "Who asks"), until it was taught to the end by one
that counted itself up to date; where tables are shared per peer, by each of them.

On the way to ``WAITING`` a connected peer is asked at once, if there is one that may be, chosen
at random. The node waits for 5 s whenever that state is entered; for 15 s while there are
*debtors*: peers whose lesson broke off. What such a peer has and the node has not is known to
be missing, so it is given the time to come back, 60 s in all, and is asked whenever it comes
back later; but once two lessons in a row brought nothing, a minute later, so that it is a peer like
others meanwhile. A lesson has no time limit of its own, but it must go on. The old process teaches
without being asked.

A node that became up to date because nobody was there asks the peers that come later, too; and
so it asks a peer that is new to it, or that differed. If that one begins by asking for a
lesson, it is taught first. The node also asks a peer with which it shares a table from now on,
as one that it has adopted, if no teacher had that table: what the peer has learnt of it from
others is in a lesson alone. The node counts itself up to date meanwhile, but does not end a
lesson for others with *finished* until it has heard them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Optional
from weakref import WeakKeyDictionary, WeakSet

from peerproto.peering.boundedlog import BoundedLog, Log
from peerproto.peering.memory import PeerMemory
from peerproto.peering.session import ASKED_IN_VAIN, Session
from peerproto.peering.standing import Pupil
from peerproto.peering.states import RESYNC, ResyncInput, ResyncState
from peerproto.tables.store import TableStore

RESYNC_TIMEOUT: Final = 5_000
"""Time in ms to wait for a peer that can be asked."""

DEBT_TIMEOUT: Final = 15_000
"""Time in ms to wait for a peer whose lesson broke off: it is called three times in that time."""

LONGEST_DEBT: Final = 60_000
"""Time in ms after which peers whose lessons break off again and again are waited for no more."""


_TAKING_OVER: Final = (ResyncState.EXPECTING_OLD, ResyncState.LEARNING_FROM_OLD)
_LEARNING: Final = (ResyncState.LEARNING, ResyncState.LEARNING_FROM_OLD)


class Resync:
    """Where the node stands. The node tells it what happens to sessions and peers, at ``now``
    in ms, and calls `wake` when its `deadline` has come."""

    def __init__(
        self,
        log: Log,
        chance: Optional[random.Random] = None,
        to_hear: Callable[[], Sequence[PeerMemory]] = lambda: (),
    ) -> None:
        """``chance`` chooses whom to ask; ``to_hear`` tells the peers that all have to be heard,
        where what one of them has is known to no other."""
        self._chance = chance or random.Random()
        self._to_hear = to_hear
        self._heard_now: WeakSet[PeerMemory] = WeakSet()
        """Peers whose lesson came to its end since there was more to learn."""
        self._log = BoundedLog("the resync", log)
        self.deadline: Optional[int] = None
        """When (in ms) to call `wake`; ``None`` if nothing is waited for."""
        self._running = False
        self._connected: list[Session] = []
        self._teacher: Optional[Session] = None
        self._in_vain: WeakSet[Session] = WeakSet()
        """Sessions whose lesson was of no use: they are not asked again."""
        self._debtors: WeakSet[PeerMemory] = WeakSet()
        """Peers whose lesson broke off."""
        self._owed_since = 0
        """When (in ms) the node began to wait for them, while there are any."""
        self._heard: WeakKeyDictionary[PeerMemory, WeakSet[TableStore]] = WeakKeyDictionary()
        """Peers whose lesson came to its end, and the tables that were in it."""
        self._added: WeakSet[PeerMemory] = WeakSet()
        """Peers that are new to this node, and were not heard yet."""
        self._awaited: set[Session] = set()
        """Sessions that were asked, or are to be asked, and have not ended a lesson since."""
        self._taught: WeakSet[TableStore] = WeakSet()
        """Tables that were in a lesson of a peer that counts itself up to date."""
        self._newly_shared: WeakKeyDictionary[Session, WeakSet[TableStore]] = WeakKeyDictionary()
        """Tables that are shared on a session from now on, and were not in a lesson."""
        self._complete = False
        """Whether a peer that was up to date has taught this node to the end."""
        self._again: Optional[str] = None
        """Why one more lesson is needed when the present one is over."""
        self.state = ResyncState.WAITING
        self.reason = "not started"

    @property
    def up_to_date(self) -> bool:
        """Whether the node counts itself up to date, and learns from nobody."""
        return self.state is ResyncState.UP_TO_DATE

    @property
    def taking_over(self) -> bool:
        """Whether an old process has yet to teach us what it knows."""
        return self.state in _TAKING_OVER

    @property
    def lessons_ahead(self) -> bool:
        """Whether a lesson is awaited, or a peer is giving one."""
        if not self._running:
            return False
        return not self.up_to_date or bool(self._awaited)

    def can_finish(self, pupil: Pupil) -> bool:
        """Whether a lesson to this pupil may end with *finished*, as things stand now.

        That is if the node is up to date, learns from nobody but the pupil itself, and nobody
        else owes it the rest of a lesson: what is missing then is known to be missing.
        """
        if not self.up_to_date:
            return False
        if any(one.gives_lesson for one in self._connected if one is not pupil):
            return False
        return all(one is pupil.peer for one in self._debtors)

    def owes(self, peer: PeerMemory) -> bool:
        """Whether a lesson of a peer broke off, and nobody has taught what it has since."""
        return peer in self._debtors

    def heard(self, peer: PeerMemory, table: TableStore) -> bool:
        """Whether a table was in a lesson of a peer that came to its end."""
        return table in self._heard.get(peer, ())

    def start(self, now: int, expect_old: bool = False) -> None:
        """Begin: with ``expect_old`` an old process of our name is about to call."""
        self._running = True
        self._complete = False
        self._again = None
        self._forget_debts()
        for known in (self._added, self._in_vain, self._awaited, self._taught):
            known.clear()
        self._heard.clear()
        self._heard_now.clear()
        first = ResyncState.EXPECTING_OLD if expect_old else ResyncState.WAITING
        self._enter(first, "started", now)

    def stop(self) -> None:
        """The node ends: nothing is waited for, and sessions end without consequence."""
        self._running = False
        self.deadline = None
        self._teacher = None
        self._connected.clear()
        self._awaited.clear()

    def wake(self, now: int) -> None:
        """Time has passed: nobody may have come in it."""
        if self.deadline is None or now < self.deadline:
            return
        self._step(ResyncInput.TIME, self._who_did_not_come(now), now)

    # -- what happens to sessions ----------------------------------------

    def connected(self, session: Session, now: int) -> None:
        """A session was established."""
        if session.peer.local:
            if self._step(ResyncInput.OLD_CALLS, "it called us", now):
                self._teacher = session
                session.expect_lesson()
            return
        self._connected.append(session)
        if session.shares_wait:
            self._heard_now.discard(session.peer)
        if self.state is ResyncState.WAITING:
            self._ask_someone(now)
        owes = self.owes(session.peer)
        if owes and session.peer.given_up >= ASKED_IN_VAIN:
            self._ask_later(session)
        elif self.state is ResyncState.UP_TO_DATE and self._running:
            if owes:
                self._ask(session, ResyncInput.DEBTOR, now)
            elif self._is_news(session.peer):
                self._ask_later(session)

    def _is_news(self, peer: PeerMemory) -> bool:
        """Whether a peer that comes may have something that is not known here, or may have put
        right what was known to differ."""
        if peer in self._added or peer.differences or peer.not_taken:
            return True
        if peer in self._unheard():
            return True
        return not (self._complete or peer in self._heard)

    def ask(self, session: Session) -> None:
        """Ask a connected peer for a lesson, wherever the resync stands."""
        self._awaited.add(session)
        session.ask_for_lesson()

    def disconnected(self, session: Session, now: int) -> None:
        """A session ended."""
        if session in self._connected:
            self._connected.remove(session)
        if session in self._awaited and not session.peer.local:
            # It was asked, or was to be asked: what it has, and this node has not, is missing.
            self._owe(session.peer, now)
        self._awaited.discard(session)
        if session is self._teacher:
            why = f"the session with {session.peer.shown} ended in mid-lesson"
            self._step(ResyncInput.LOST, why, now)

    def finished(self, session: Session, now: int) -> None:
        """A lesson that was asked for is over, and the teacher counts itself up to date."""
        self._taught.update(session.defined)
        self._ended(session)
        if session is self._teacher or (self.up_to_date and not session.peer.local):
            self._finished(session, now)

    def partial(self, session: Session, now: int) -> None:
        """A lesson is over, but the teacher does not count itself up to date."""
        self._ended(session)
        self._in_vain.add(session)
        if session is self._teacher:
            self._step(ResyncInput.PARTIAL, f"{session.peer.shown} is not up to date itself", now)
        if session.shares_wait and self._to_hear() and session in self._connected:
            self._ask_later(session)

    def taught_in_part(self, session: Session) -> None:
        """A peer was taught what may lack some of what it had: it is to be asked once another one
        may have taught it the rest."""
        if session in self._connected and not session.lesson_ahead:
            self._heard_now.discard(session.peer)
            self._ask_later(session)

    def _ended(self, session: Session) -> None:
        """A lesson came to its end, in whichever way."""
        peer = session.peer
        self._heard.setdefault(peer, WeakSet()).update(session.defined)
        self._heard_now.add(peer)
        self._awaited.discard(session)
        self._added.discard(peer)
        self._debtors.discard(peer)

    # -- what happens to the node ----------------------------------------

    def learn_again(self, reason: str, now: int) -> None:
        """The node shares something that it did not share before: peers may have entries of it."""
        if not self._running:
            return
        if self.state in (*_LEARNING, ResyncState.EXPECTING_OLD):
            # The present lesson may be beyond that already.
            self._again = reason
            return
        self._in_vain.clear()
        if self.state is ResyncState.WAITING:
            # The time for which it waits goes on: whoever comes is asked for all tables anyway.
            self._ask_someone(now)
        else:
            self._begin_anew(reason, now)

    def newly_shared(self, session: Session, table: TableStore) -> None:
        """A table is shared with a peer from now on: more of it may be in a lesson of that peer,
        unless it was in one, or in one of a peer that counts itself up to date."""
        known = table in self._taught or table in self._heard.get(session.peer, ())
        if self._running and not known:
            self._newly_shared.setdefault(session, WeakSet()).add(table)
            if self.up_to_date:
                self._ask_for_newly_shared(None)

    def _ask_for_newly_shared(self, teacher: Optional[Session]) -> None:
        """Ask for the tables that are shared from now on, but for those that a teacher has, too."""
        for session, tables in list(self._newly_shared.items()):
            if session not in self._connected or session.lesson_ahead:
                continue
            if teacher is None or any(map(teacher.lacks, tables)):
                self._ask_later(session)
        self._newly_shared.clear()

    def _ask_later(self, session: Session) -> None:
        self._awaited.add(session)
        session.ask_later()

    def peer_added(self, peer: PeerMemory, now: int) -> None:
        """The node has one more peer: what that one has is not known here."""
        self._added.add(peer)
        if self._running and self.up_to_date and not self._connected:
            self._begin_anew(f"{peer.shown} was added", now)

    def peer_removed(self, peer: PeerMemory, now: int) -> None:
        """The node has a peer no longer, and waits for it no longer.

        Its session is over by then.
        """
        owed = peer in self._debtors
        self._debtors.discard(peer)
        self._added.discard(peer)
        self._heard.pop(peer, None)
        if owed:
            self._step(ResyncInput.DEBTOR_REMOVED, f"{peer.shown} is no peer any more", now)

    # -- the states ------------------------------------------------------

    def _begin_anew(self, reason: str, now: int) -> None:
        """There is more to learn than before: whoever owes a lesson has its whole time again."""
        self._owed_since = now
        self._heard_now.clear()
        self._step(ResyncInput.MORE, reason, now)

    def _owe(self, peer: PeerMemory, now: int) -> None:
        """A peer's lesson had no end."""
        if not self._debtors:
            self._owed_since = now
        self._debtors.add(peer)

    def _forget_debts(self) -> None:
        for peer in self._debtors:
            peer.given_up = 0
        self._debtors.clear()

    def _who_did_not_come(self, now: int) -> str:
        if self.state is ResyncState.EXPECTING_OLD:
            return f"no old process called within {RESYNC_TIMEOUT // 1000} s"
        if not self._debtors:
            silent = ", ".join(sorted(peer.shown for peer in self._unheard()))
            who = f"{silent} did not teach" if silent else "no peer to learn from"
            return f"{who} within {RESYNC_TIMEOUT // 1000} s"
        names = ", ".join(sorted(peer.shown for peer in self._debtors))
        return f"{names} did not end a lesson within {(now - self._owed_since) // 1000} s"

    def _unheard(self) -> list[PeerMemory]:
        """The peers that have to be heard, and were not."""
        return [peer for peer in self._to_hear() if peer not in self._heard_now]

    def _ask_someone(self, now: int) -> None:
        available = [
            session
            for session in self._connected
            if session not in self._in_vain and session.peer.given_up < ASKED_IN_VAIN
        ]
        if self._to_hear():
            unheard = self._unheard()
            available = [one for one in available if one.peer in unheard or self.owes(one.peer)]
        if available:
            self._ask(self._chance.choice(available), ResyncInput.TEACHER, now)

    def _ask(self, session: Session, on: ResyncInput, now: int) -> None:
        again = ", whose lesson broke off" if on is ResyncInput.DEBTOR else ""
        if self._step(on, f"asked {session.peer.shown}{again}", now):
            self._teacher = session
            self.ask(session)

    def _finished(self, teacher: Session, now: int) -> None:
        self._ask_for_newly_shared(teacher)
        self._complete = True
        if not self._to_hear():
            # What others owe, or have that is new, one that has everything has taught, too.
            self._forget_debts()
            self._added.clear()
        unheard = ", ".join(sorted(peer.shown for peer in self._unheard()))
        if self._again is None and unheard and not self.up_to_date:
            reason = f"finished by {teacher.peer.shown}, and not by {unheard}"
            self._step(ResyncInput.FINISHED_TOO_EARLY, reason, now)
        elif self._again is None:
            self._step(ResyncInput.FINISHED, f"finished by {teacher.peer.shown}", now)
        else:
            self._step(ResyncInput.FINISHED_TOO_EARLY, self._again, now)

    def _step(self, on: ResyncInput, reason: str, now: int) -> bool:
        """Go to the next state: whether there is one."""
        step = RESYNC.get((self.state, on))
        if step is None:
            return False
        self._enter(step.to, reason, now)
        return True

    def _enter(self, state: ResyncState, reason: str, now: int) -> None:
        self.state, self.reason = state, reason
        self.deadline = None
        self._log.info(now, "resync: {state}: {reason}", state=state.value, reason=reason)
        if state not in _LEARNING:
            self._teacher = None
        if state is ResyncState.EXPECTING_OLD:
            self.deadline = now + RESYNC_TIMEOUT
        elif state is ResyncState.WAITING:
            if self._again is not None:
                self._again = None
                self._in_vain.clear()
                self._heard_now.clear()
            self.deadline = now + RESYNC_TIMEOUT
            if self._debtors:
                # However often they come and break off again, that comes to an end.
                self.deadline = max(now, min(now + DEBT_TIMEOUT, self._owed_since + LONGEST_DEBT))
            self._ask_someone(now)

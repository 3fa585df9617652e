"""The states of a session and of the resync: from which to which, and on what.

The code looks its steps up here, and doc/states.md is drawn from here. What is not in a
table changes no state. Sources: doc/protocol.md, "Lessons", "Resync" and "Who asks".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Generic, Optional, TypeVar

import attrs


class SessionState(enum.Enum):
    """Where a session stands toward its peer. The values are the words that people read."""

    LIVE = "live"
    TEACHING = "teaching"
    AWAITING_CONFIRM = "awaiting confirm"
    ENDED = "ended"


class SessionInput(enum.Enum):
    """What happens to a session."""

    REQUEST = "a resync request"
    LAST_ENTRY = "the last entry"
    LAST_CONFIRM = "the last confirm"
    NEW_PROCESS_CONFIRM = "the new process confirms"
    MALFORMED = "a malformed message"
    TOO_LONG = "a message too long"
    ERROR = "an error message"
    SILENCE = "5 s without a byte"
    NO_LESSON = "nothing more of its lesson"
    NO_CONFIRM = "no confirm for 2 min"
    NEWER_SESSION = "a newer session"
    CLOSED = "the connection ends"


class ResyncState(enum.Enum):
    """Where the node stands as a learner. The values are the words that people read."""

    EXPECTING_OLD = "waiting for the old process"
    LEARNING_FROM_OLD = "learning from the old process"
    WAITING = "waiting for a peer to learn from"
    LEARNING = "learning from a peer"
    UP_TO_DATE = "up to date"


class ResyncInput(enum.Enum):
    """What happens to the resync."""

    OLD_CALLS = "the old process calls"
    TEACHER = "a peer can be asked"
    FINISHED = "finished"
    FINISHED_TOO_EARLY = "finished, but a table came"
    PARTIAL = "partial"
    LOST = "its session ends"
    TIME = "nobody in time"
    DEBTOR = "a debtor connects"
    DEBTOR_REMOVED = "a debtor is removed"
    MORE = "a table or a peer comes"


State = TypeVar("State", SessionState, ResyncState)


@attrs.frozen
class Step(Generic[State]):
    """The state to go to, and in words what is done on the way."""

    to: State
    action: Optional[str] = None


_S: Final = SessionState
_ENDS: Final[Mapping[SessionInput, Optional[str]]] = {
    SessionInput.MALFORMED: "sends error 1/0",
    SessionInput.TOO_LONG: "sends error 1/1",
    SessionInput.ERROR: None,
    SessionInput.SILENCE: None,
    SessionInput.NO_LESSON: "its peer is asked on the next one",
    SessionInput.NEWER_SESSION: None,
    SessionInput.CLOSED: None,
}
"""What ends a session in any state, and what is done then."""

SESSION: Final[Mapping[tuple[SessionState, SessionInput], Step[SessionState]]] = {
    (_S.LIVE, SessionInput.REQUEST): Step(_S.TEACHING, "begins a lesson"),
    (_S.TEACHING, SessionInput.REQUEST): Step(_S.TEACHING, "begins it again"),
    (_S.TEACHING, SessionInput.LAST_ENTRY): Step(_S.AWAITING_CONFIRM, "sends finished or partial"),
    (_S.AWAITING_CONFIRM, SessionInput.REQUEST): Step(_S.TEACHING, "begins it again"),
    (_S.AWAITING_CONFIRM, SessionInput.LAST_CONFIRM): Step(_S.LIVE, "what was taught is acked"),
    (_S.AWAITING_CONFIRM, SessionInput.NEW_PROCESS_CONFIRM): Step(
        _S.ENDED, "the old one's work is done"
    ),
    (_S.AWAITING_CONFIRM, SessionInput.NO_CONFIRM): Step(_S.ENDED),
} | {
    (state, on): Step(_S.ENDED, action)
    for state in (_S.LIVE, _S.TEACHING, _S.AWAITING_CONFIRM)
    for on, action in _ENDS.items()
}
"""Local changes are sent in ``LIVE`` alone; updates are taken in all states but the last."""

_R: Final = ResyncState

RESYNC: Final[Mapping[tuple[ResyncState, ResyncInput], Step[ResyncState]]] = {
    (_R.EXPECTING_OLD, ResyncInput.OLD_CALLS): Step(_R.LEARNING_FROM_OLD),
    (_R.EXPECTING_OLD, ResyncInput.TIME): Step(_R.WAITING),
    (_R.LEARNING_FROM_OLD, ResyncInput.FINISHED): Step(_R.UP_TO_DATE),
    (_R.LEARNING_FROM_OLD, ResyncInput.FINISHED_TOO_EARLY): Step(_R.WAITING),
    (_R.LEARNING_FROM_OLD, ResyncInput.PARTIAL): Step(_R.EXPECTING_OLD),
    (_R.LEARNING_FROM_OLD, ResyncInput.LOST): Step(_R.EXPECTING_OLD),
    (_R.WAITING, ResyncInput.TEACHER): Step(_R.LEARNING, "asks it"),
    (_R.WAITING, ResyncInput.DEBTOR_REMOVED): Step(_R.WAITING, "waits for the others"),
    (_R.WAITING, ResyncInput.TIME): Step(_R.UP_TO_DATE),
    (_R.LEARNING, ResyncInput.FINISHED): Step(_R.UP_TO_DATE),
    (_R.LEARNING, ResyncInput.FINISHED_TOO_EARLY): Step(_R.WAITING),
    (_R.LEARNING, ResyncInput.PARTIAL): Step(_R.WAITING, "asks it no more"),
    (_R.LEARNING, ResyncInput.LOST): Step(_R.WAITING, "asks another, or it again"),
    (_R.UP_TO_DATE, ResyncInput.DEBTOR): Step(_R.LEARNING, "asks it"),
    (_R.UP_TO_DATE, ResyncInput.FINISHED): Step(_R.UP_TO_DATE, "nobody owes a lesson any more"),
    (_R.UP_TO_DATE, ResyncInput.MORE): Step(_R.WAITING, "asks anew"),
}
"""Whenever ``WAITING`` is entered, a connected peer is asked at once, if one can be."""

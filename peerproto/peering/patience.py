"""How long a session waits for lessons: for more of the peer's, and for the confirm of ours."""

from __future__ import annotations

from typing import Final, Optional

from peerproto.peering.states import SessionInput

LONG_LESSON: Final = 60_000
"""Time in ms from which on a lesson has to bring something worth waiting for."""

LEAST_HEARD: Final = 20
"""Messages in each period that are worth it."""

CONFIRM_TIMEOUT: Final = 120_000
"""Time in ms for a peer to read a lesson to its end and to confirm it."""


class Patience:
    """What was heard of lessons so far; times are in ms."""

    def __init__(self, now: int) -> None:
        self._taught_at = now
        """When the last entry of our latest lesson was sent."""
        self._asked_at = now
        """When the peer was asked for its latest lesson."""
        self._heard_before = -1
        """The messages that the peer had sent when the present period began; -1 if it was asked in
        it."""

    def asked(self, now: int) -> None:
        """The peer was asked for a lesson."""
        self._heard_before = -1
        self._asked_at = now

    def taught(self, now: int) -> None:
        """A lesson of ours was sent to its end."""
        self._taught_at = now

    def ends(
        self, now: int, heard: int, learns: bool, awaits_confirm: bool
    ) -> Optional[tuple[SessionInput, str]]:
        """Why the session is to end, now that a period is over; ``None`` if it is not.

        That is so if nothing was received of the peer's lesson in a whole period, or next to
        nothing once it takes long; or if the peer does not confirm one of ours.

        :param heard: how many messages about tables the peer has sent.
        :param learns: whether the peer gives a lesson, all of which was read that has come.
        """
        before, self._heard_before = self._heard_before, heard
        least = LEAST_HEARD if now - self._asked_at > LONG_LESSON else 1
        if learns and before >= 0 and heard - before < least:
            return SessionInput.NO_LESSON, "nothing more came of its lesson"
        if awaits_confirm and now - self._taught_at > CONFIRM_TIMEOUT:
            return SessionInput.NO_CONFIRM, "it did not confirm its lesson"
        return None

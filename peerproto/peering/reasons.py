"""Reasons why a peer and this node do not have the same: words for people, kinds for machines."""

from __future__ import annotations

import enum


class Lack(enum.Enum):
    """The kinds of reasons. The values are words that stay the same from one version to the
    next."""

    NOT_CONNECTED = "not_connected"
    """There is no session."""
    TABLE_DIFFERS = "table_differs"
    """A table of the peer is not shared, since ours differs or there is none."""
    TOO_LONG = "too_long"
    """Something that it sent was too long to be taken."""
    LEARNING = "learning"
    """It is giving a lesson, or is to be asked for one."""
    TEACHING = "teaching"
    """It is being given a lesson, or has yet to confirm one."""
    BEHIND = "behind"
    """Changes have still to be sent to it, or acked by it."""
    LESSON_OPEN = "lesson_open"
    """It did not come to the end of a lesson that it was asked for."""


class Reason(str):
    """A reason in words, that knows its kind."""

    lack: Lack

    def __new__(cls, lack: Lack, words: str) -> Reason:
        reason = super().__new__(cls, words)
        reason.lack = lack
        return reason

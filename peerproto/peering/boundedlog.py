"""Log lines that others can cause, at a bounded rate: no peer can fill a disk with them."""

from __future__ import annotations

from typing import Final, Protocol

BURST: Final = 50
"""Lines that may follow each other at once."""

INTERVAL: Final = 1000
"""Time in ms after which one more line may be written."""


class Log(Protocol):
    """Where lines are written, as Twisted's ``Logger`` takes them: a format, and its values."""

    def debug(self, format: str, **values: object) -> None:
        """Write a line of use to developers."""

    def info(self, format: str, **values: object) -> None:
        """Write a line about the ordinary course of things."""

    def warn(self, format: str, **values: object) -> None:
        """Write a line about something that somebody may have to put right."""


class BoundedLog:
    """Writes lines about one peer, or about all strangers, and counts those that it leaves out."""

    def __init__(self, about: str, log: Log) -> None:
        """``about`` names in a line who causes the lines: ``peer lb1``."""
        self._about = about
        self._log = log
        self._left = BURST
        self._since = 0
        self._left_out = 0

    def debug(self, format: str, **values: object) -> None:
        """Write a line at level *debug*, which is off unless somebody has asked for it."""
        self._log.debug(format, **values)

    def info(self, now: int, format: str, **values: object) -> None:
        """Write a line at level *info*, if it may be written; ``now`` in ms."""
        if self._may_write(now):
            self._log.info(format, **values)

    def warn(self, now: int, format: str, **values: object) -> None:
        """Write a line at level *warn*, if it may be written; ``now`` in ms."""
        if self._may_write(now):
            self._log.warn(format, **values)

    def _may_write(self, now: int) -> bool:
        """Whether a line may be written; it is counted among those that are left out if not."""
        self.catch_up(now)
        if self._left > 0:
            self._left -= 1
            return True
        self._left_out += 1
        return False

    def catch_up(self, now: int) -> None:
        """Say how many lines were left out, once a line may be written again."""
        earned = (now - self._since) // INTERVAL
        if earned > 0:
            self._since += earned * INTERVAL
            self._left = min(BURST, self._left + earned)
        if self._left_out and self._left > 0:
            self._left -= 1
            self._log.warn(
                "{about}: {count} lines about it were left out",
                about=self._about,
                count=self._left_out,
            )
            self._left_out = 0

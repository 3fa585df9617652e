"""Channels: the changes of one table, read from one feed for all who follow it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Optional

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from peerproto import FeedOverrun, StickTableService
from peerproto.http.telling import Told

MOST_HELD: Final = 100_000
"""Changed keys of a table that wait to be told."""

AT_ONCE: Final = 50
"""Keys that are told in one step."""

HISTORY: Final = 20_000
"""Changed keys of a table that are remembered for those who come back."""

FLOOD_PAUSE: Final = 1.0
"""Seconds for which nothing is read after more keys have changed than are held."""

MOST_PAUSES: Final = 5
"""Pauses in a row, after which it is told that changes were lost, whether they go on or not."""


class Channel:
    """The changes of the tables of one name."""

    def __init__(
        self,
        service: StickTableService,
        name: str,
        number: Callable[[], int],
        now: Callable[[], float],
        wake: Callable[[], None],
        latest: int,
    ) -> None:
        """
        :param number: gives the number of what is told next.
        :param now: the time in s.
        :param wake: called when there is something to read.
        :param latest: the number of what was told last.
        """
        self.name = name
        self._feed = service.feed(tables=[name], most=MOST_HELD)
        self._number = number
        self._now = now
        self._wake = wake
        self.told: deque[Told] = deque()
        """What was told, as far as it is remembered."""
        self._told_keys = 0
        self.lost_up_to = latest
        """The number up to which it is not known any more what was told."""
        self._merged = 0
        self._pauses = 0
        self.paused_until: Optional[float] = None
        self.left_at: Optional[float] = None
        """When the last follower left; ``None`` as long as there is one."""
        self._hears = False
        self.listen()

    def listen(self) -> None:
        """Say when there is something to read, also after the service has stopped and started."""
        if not self._hears and not self._feed.is_closed:
            self._hears = True
            self._feed.wait().addCallbacks(self._heard, self._not_heard)

    def _heard(self, _: None) -> None:
        self._hears = False
        self._wake()

    def _not_heard(self, reason: Failure) -> None:
        self._hears = False
        reason.trap(CancelledError)

    @property
    def waits(self) -> bool:
        """Whether there is something to read now."""
        if self.paused_until is not None:
            return self._now() >= self.paused_until
        return bool(len(self._feed) or self._feed.overrun)

    def merged(self) -> int:
        """How many changes were folded into others since this was asked for last."""
        grown = self._feed.merged - self._merged
        self._merged = self._feed.merged
        return grown

    def take(self) -> Optional[list[Told]]:
        """Some of what has changed; ``None`` if changes were lost.

        That is said when no more keys change than are held, or after some seconds: whoever is told
        reads the whole table.
        """
        self.paused_until = None
        try:
            batches = self._feed.take(AT_ONCE)
        except FeedOverrun:
            self._pauses += 1
            if self._pauses <= MOST_PAUSES:
                self.paused_until = self._now() + FLOOD_PAUSE
                return []
        else:
            if not self._pauses:
                told = [Told.of(self._number(), batch) for batch in batches]
                self._remember(told)
                if not len(self._feed):
                    self.listen()
                return told
        self._pauses = 0
        self._forget()
        self.lost_up_to = self._number()
        self.listen()
        return None

    def _remember(self, told: list[Told]) -> None:
        self.told += told
        self._told_keys += sum(len(one.raw_keys) for one in told)
        while self._told_keys > HISTORY:
            oldest = self.told.popleft()
            self._told_keys -= len(oldest.raw_keys)
            self.lost_up_to = oldest.number

    def _forget(self) -> None:
        self.told.clear()
        self._told_keys = 0

    def close(self) -> None:
        """Read nothing more."""
        self._feed.close()

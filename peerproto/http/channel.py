"""Channels: the changes of one table, read from one feed for all who follow it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Optional

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from peerproto import Batch, FeedOverrun, StickTableService
from peerproto.http.telling import Told

MOST_HELD: Final = 20_000
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
        self._drained: Optional[Iterator[Batch]] = None
        """What was taken from the feed, and is still to be told."""
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
        return self._drained is not None or bool(len(self._feed) or self._feed.overrun)

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
        batch = None if self._drained is None else next(self._drained, None)
        try:
            if batch is None:
                self._drained = self._feed.drain(AT_ONCE)
                batch = next(self._drained, None)
        except FeedOverrun:
            self._drained = None
            self._pauses += 1
            if self._pauses <= MOST_PAUSES:
                self.paused_until = self._now() + FLOOD_PAUSE
                return []
        else:
            if not self._pauses:
                if batch is None:
                    self._drained = None
                    self.listen()
                    return []
                told = Told.of(self._number(), batch)
                self._remember(told)
                return [told]
        self._pauses = 0
        self._drained = None
        self._forget()
        self.lost_up_to = self._number()
        self.listen()
        return None

    def _remember(self, told: Told) -> None:
        self.told.append(told)
        self._told_keys += len(told.raw_keys)
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

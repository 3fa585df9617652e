"""Deferreds that wait for one thing to happen."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """All who wait for the same."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def wait(self) -> Deferred[T]:
        """Fires with what is told next; may be cancelled."""
        waiter: Deferred[T] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def tell(self, result: T) -> None:
        """It has happened."""
        for waiter in self._take():
            waiter.callback(result)

    def fail(self, reason: Failure) -> None:
        """It will not happen, for this reason."""
        for waiter in self._take():
            waiter.errback(reason)

    def cancel(self, why: str) -> None:
        """It will not happen, since something ends."""
        self.fail(Failure(CancelledError(why)))

    def _take(self) -> list[Deferred[T]]:
        waiting, self._waiting = self._waiting, []
        return waiting

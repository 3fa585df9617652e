"""Work that is done in turns with others', and whose result is waited for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Cooperator

from peerproto.connections.turns import Steps

T = TypeVar("T")


class Work:
    """All work of a service that somebody waits for."""

    def __init__(self, turns: Cooperator) -> None:
        """``turns`` shares the reactor among all that have much to do."""
        self._turns = turns
        self._waiting: dict[Deferred[Any], Steps] = {}

    def do(self, steps: Generator[None, None, T]) -> Deferred[T]:
        """Do steps, in turns with others; fires with their result, or fails with what they raise.

        To cancel it is to do no further step.
        """
        waiter: Deferred[T] = Deferred(lambda _: work.stop())

        def run() -> Generator[None, None, None]:
            result = yield from steps
            waiter.callback(result)

        def over(result: Any) -> Any:
            self._waiting.pop(waiter, None)
            return result

        work = self._waiting[waiter] = Steps(self._turns, run(), waiter.errback)
        waiter.addBoth(over)
        return waiter

    def cancel(self, why: str) -> None:
        """Do no further step of any work, and let all who wait for it know why."""
        waiting, self._waiting = self._waiting, {}
        for waiter, work in waiting.items():
            work.stop()
            waiter.errback(CancelledError(why))

"""A file that may be written in this moment: it counts once it stays the same for a while.

Whether it will be written on after that cannot be known. A file that is written beside the
old one and renamed into place is whole at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Optional, TypeVar, Union

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

T = TypeVar("T")

WHILE: Final = 0.5
"""Seconds for which it stays the same."""


class Steady(Generic[T]):
    """Reads something twice, and until both times are the same."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        path: str,
        read: Callable[[str], T],
        done: Callable[[Union[T, OSError]], object],
    ) -> None:
        """``done`` is called with what ``read`` gives for the path, or with its error."""
        self._clock = clock
        self._path = path
        self._read = read
        self._done = done
        self._next: Optional[IDelayedCall] = None
        self._said = False

    def begin(self) -> None:
        """Read now and again later. When that is under way, it takes in what is new."""
        if self._next is None:
            self._said = False
            self._wait(self._look())

    def stop(self) -> None:
        """Forget about it: ``done`` is not called any more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> Union[T, OSError]:
        try:
            return self._read(self._path)
        except OSError as problem:
            return problem

    def _wait(self, before: Union[T, OSError]) -> None:
        self._next = self._clock.callLater(WHILE, self._again, before)

    def _again(self, before: Union[T, OSError]) -> None:
        self._next = None
        now = self._look()
        if now == before or (isinstance(now, OSError) and isinstance(before, OSError)):
            self._done(now)
            return
        if not self._said:
            self._said = True
            self._log.info(
                "{path} is being written: it is read once it stays the same", path=self._path
            )
        self._wait(now)

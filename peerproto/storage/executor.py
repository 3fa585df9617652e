"""Where the file is read and written: in a thread that is not the reactor's."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Optional, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

_Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


class Executor(Protocol):
    """Does work elsewhere, one thing after the other."""

    def do(self, work: Callable[..., T], *about: Any) -> Deferred[T]:
        """Fires with what ``work`` returns, or fails with what it raises."""

    def stop(self) -> None:
        """Do nothing more, once all work that was given is done."""


class WriterThread:
    """A thread that does work, one thing after the other.

    It does not keep the process from ending: a disk may not answer.
    """

    def __init__(self, reactor: Any) -> None:
        """``reactor`` gets the results."""
        self._reactor = reactor
        self._jobs: SimpleQueue[Optional[_Job]] = SimpleQueue()
        self._thread: Optional[Thread] = None

    def do(self, work: Callable[..., T], *about: Any) -> Deferred[T]:
        """See `Executor`."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="peerproto storage", daemon=True)
            self._thread.start()
        done: Deferred[T] = Deferred()
        self._jobs.put((work, about, done))
        return done

    def stop(self) -> None:
        """See `Executor`."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, about, done = job
            try:
                result = work(*about)
            except BaseException:
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, result)

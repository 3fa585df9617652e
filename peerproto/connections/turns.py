"""Work that is done a step at a time, in turns with others'."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.task import Cooperator, TaskStopped
from twisted.python.failure import Failure


class Steps:
    """Steps that a ``Cooperator`` does, until there are no more or `stop` is called.

    `stop` may be called by a step itself. A ``CooperativeTask`` that is stopped by its own last
    step would end twice, and no other task of its ``Cooperator`` would go on after that.
    """

    def __init__(
        self,
        turns: Cooperator,
        steps: Iterator[None],
        failed: Callable[[Failure], None],
    ) -> None:
        """``failed`` is called with what a step has raised."""
        self._steps = steps
        self._stopped = self._inside = False
        self._task = turns.cooperate(self._run())
        self._failed = failed
        self._task.whenDone().addErrback(self._ended)

    def stop(self) -> None:
        """Do no further step."""
        if not self._stopped:
            self._stopped = True
            if not self._inside:
                self._task.stop()

    def _run(self) -> Iterator[None]:
        while not self._stopped:
            self._inside = True
            try:
                next(self._steps)
            except StopIteration:
                self._stopped = True
            finally:
                self._inside = False
            if not self._stopped:
                yield

    def _ended(self, reason: Failure) -> None:
        if not reason.check(TaskStopped):
            self._stopped = True
            self._failed(reason)

"""The end of a process that has not enough memory: one line, not a traceback for each thing
that fails from then on."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Final, Optional

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

STATUS: Final = 1

# Made ahead: then there is no memory for it.
_WORDS: Final = (
    b"peerproto: there is not enough memory, and what goes on without would be wrong: this"
    b" process ends; [limits] and the sizes in [tables] bound how much it needs\n"
)


def end_without_memory() -> None:
    """From now on a ``MemoryError`` that nobody answers, or that is logged, ends the process."""
    sys.excepthook = _uncaught
    globalLogPublisher.addObserver(_logged)


@provider(ILogObserver)
def _logged(event: LogEvent) -> None:
    # Twisted's older way to log, the reactor's own, has another word for it.
    failure = event.get("log_failure", event.get("failure"))
    if failure is not None and failure.check(MemoryError):
        _end()


def _uncaught(
    kind: type[BaseException], problem: BaseException, traceback: Optional[TracebackType]
) -> None:
    if issubclass(kind, MemoryError):
        _end()
    sys.__excepthook__(kind, problem, traceback)


def _end() -> None:
    os.write(2, _WORDS)
    os._exit(STATUS)

"""``twist`` with a reactor whose turns are timed: ``python -m bench.turning <file> <arguments>``.

A turn is what goes on between two waits for events: nothing else happens meanwhile.
On SIGUSR2 the durations since the last one are written to the file: of each turn the seconds that
went by, and those that it had of the processor.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Optional

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor


class TimedPoll:
    """An epoll object that remembers how long it was left alone."""

    def __init__(self, poll: select.epoll) -> None:
        self._poll = poll
        self._woken: Optional[tuple[float, float]] = None
        self.turns: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poll, name)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        if self._woken is not None:
            began, used = self._woken
            self.turns.append((time.perf_counter() - began, time.thread_time() - used))
        events = self._poll.poll(timeout, most)
        self._woken = time.perf_counter(), time.thread_time()
        return events


class TimedReactor(EPollReactor):
    """The reactor that Twisted takes on Linux, with `TimedPoll`."""

    def __init__(self) -> None:
        super().__init__()
        self.timed = self._poller = TimedPoll(self._poller)


def main(file: Path, arguments: list[str]) -> None:
    reactor = TimedReactor()
    installReactor(reactor)
    sys.argv = ["twist", *arguments]

    def write(*_: object) -> None:
        turns, reactor.timed.turns = reactor.timed.turns, []
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(turns))
        os.replace(unfinished, file)

    signal.signal(signal.SIGUSR2, write)
    from twisted.application.twist._twist import Twist

    Twist.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

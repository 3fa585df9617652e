"""What feeds cost a node that learns: three of them, that nobody reads, or that are read often."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from typing import Final

from twisted.internet.task import Clock

from bench.lesson import TABLE, lesson
from bench.peering import begin, receive
from peerproto import Feed, FeedOverrun, StickTableService

FEEDS: Final = 3
EVERY: Final = 0.1
"""Seconds after which they are read."""

_ROUNDS: Final = 3
_READ: Final = 65536
"""Bytes that Twisted reads at once."""


def feeding(entries: int) -> dict[str, float]:
    """How much more processor time it takes to learn, in percent: the median of some rounds."""
    seconds: dict[str, list[float]] = {"none": [], "unread": [], "read": []}
    for _ in range(_ROUNDS):
        for kind, taken in seconds.items():
            # In a process of its own: one that has used memory before is faster.
            command = (sys.executable, "-m", "bench.feeding", kind, str(entries))
            taken.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    longer = {
        kind: statistics.median(one / none for one, none in zip(taken, seconds["none"]))
        for kind, taken in seconds.items()
    }
    return {kind: 100 * (longer[kind] - 1) for kind in ("unread", "read")}


def _learn(entries: int, kind: str) -> float:
    """Seconds of processor time to learn a lesson."""
    recorded = b"".join(lesson(entries))
    service = StickTableService("us", tables=[TABLE], reactor=Clock())
    session = begin(service.node)
    feeds = [service.feed() for _ in range(FEEDS)] if kind != "none" else []
    seen: list[set[bytes]] = [set() for _ in feeds]
    in_reading = 0.0
    gc.collect()
    last = time.perf_counter()
    began = time.process_time()
    for start in range(0, len(recorded), _READ):
        receive(session, recorded[start : start + _READ], service.changed)
        if kind == "read" and time.perf_counter() - last > EVERY:
            in_reading += _read(feeds, seen)
            last = time.perf_counter()
    took = time.process_time() - began
    if kind == "read":
        _read(feeds, seen)
        assert all(len(one) == entries for one in seen)
    for feed in feeds:
        assert len(feed) <= feed.most
        if kind == "unread" and entries > feed.most:
            try:
                feed.take()
            except FeedOverrun:
                continue
            raise AssertionError("it must say that it dropped something")
    # What a reader does with what it has taken is its own.
    return took - in_reading


def _read(feeds: list[Feed], seen: list[set[bytes]]) -> float:
    """Take what there is: the seconds that a reader needs to note it."""
    noting = 0.0
    for feed, keys in zip(feeds, seen):
        batches = feed.take()
        began = time.process_time()
        for batch in batches:
            keys.update(batch.raw_keys)
        noting += time.process_time() - began
    return noting


if __name__ == "__main__":
    print(_learn(int(sys.argv[2]), sys.argv[1]))

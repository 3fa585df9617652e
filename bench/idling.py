"""``python -m bench.idling [keys]``: what many keys cost that nobody changes, with their sums too.

Two played peers teach a node, each a half of the keys. What they count stops then: once their rates
are over, nothing is to be done.
"""

from __future__ import annotations

import select
import sys
import tempfile
import time
from pathlib import Path

import attrs

from bench.aggregating import LINE, OUTPUT, SOURCE
from bench.learning import KINDS, places, rival, used
from bench.restarting import Teacher, taught
from testbed import Peerproto, wait
from testbed.waiting import ENDLESS

KEYS = 1_000_000
PEERS = 2

_SETTLING = 30
"""Seconds after which rates of 10 s are over, and all that they cost."""

_IDLE = 20
"""Seconds that are measured."""


@attrs.frozen
class Idle:
    """What a node costs."""

    processor: float
    """Processor time in s while it was idle."""
    memory: float
    """Bytes for each key, the sum included."""


def idling(kind: str, folder: Path, keys: int, sums: bool) -> Idle:
    """A node of one kind (of `KINDS`, without HAProxy) with so many keys, and with their ``sums``
    or without."""
    names = [f"feeder{number}" for number in range(PEERS)]
    mesh = places(folder, "hub", *names)
    hub = rival(kind, mesh["hub"], SOURCE.name, LINE)
    assert isinstance(hub, Peerproto)
    if sums:
        hub.more = f"[aggregate {SOURCE.name}]\nto = {OUTPUT.name}\n"
    half = keys // PEERS
    lessons = [taught(range(half * place, half * (place + 1))) for place in range(PEERS)]
    hub.start(list(mesh.values()))
    try:
        wait(hub.runtime.exists)
        empty = hub.memory()
        peers = [Teacher(hub, name, lesson) for name, lesson in zip(names, lessons)]
        table = OUTPUT.name if sums else SOURCE.name
        until = time.monotonic() + ENDLESS
        while used(hub, table) < half * PEERS:
            _play(peers, 0.5)
            if time.monotonic() > until:
                raise TimeoutError(f"{used(hub, table)} keys in table {table}")
        _play(peers, _SETTLING)
        before = hub.processor()
        _play(peers, _IDLE)
        return Idle(hub.processor() - before, (hub.memory() - empty) / (half * PEERS))
    finally:
        hub.kill()


def _play(peers: list[Teacher], seconds: float) -> None:
    """Let the peers teach, and say that they are there, for some time."""
    end = time.monotonic() + seconds
    beaten = 0.0
    by_number = {peer.socket.fileno(): peer for peer in peers}
    while (now := time.monotonic()) < end:
        if now > beaten + 1:
            beaten = now
            for peer in peers:
                peer.beat()
        writes = [number for number, peer in by_number.items() if peer.has_more]
        readable, writable, _ = select.select(by_number, writes, [], min(0.5, end - now))
        for number in readable:
            by_number[number].read()
        for number in writable:
            by_number[number].write()


def print_idling(keys: int = KEYS) -> None:
    """Print a table of both kinds."""
    print(f"| {keys:,} keys that nobody changes | processor, ms in {_IDLE} s | bytes a key |")
    print("| --- | --- | --- |")
    for kind in KINDS[1:]:
        for sums in (False, True):
            what = f"{kind}, {'with their sums' if sums else 'without sums'}"
            print(f"idling, {what}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pb") as folder:
                one = idling(kind, Path(folder), keys, sums)
            print(f"| {what} | {1000 * one.processor:.0f} | {one.memory:.0f} |", flush=True)


if __name__ == "__main__":
    print_idling(*map(int, sys.argv[1:]))

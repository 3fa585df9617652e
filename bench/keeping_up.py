"""How old changes become before they are written, at 50,000 of them a second: ``python -m
bench.keeping_up [seconds [changes a second]]``.

One peer sends changes of keys that come round after some seconds: hardly any falls on another one
that waits. Meanwhile a thread asks ``show storage`` for the age of the oldest change that is not
written: all that a crash would lose.
"""

from __future__ import annotations

import random
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Final

import attrs

from bench.learning import COMPILED_TREE, KINDS, places
from bench.lesson import LINES, TABLE, scattered
from bench.turns import Turns, timed, turns_of
from peerproto.wire import varint
from peerproto.wire.messages import EntryUpdate
from testbed import Peerproto, wait

KEYS: Final = 200_000
SECONDS: Final = 20.0
PROMISED: Final = 50_000
"""Changes a second up to which none is to wait for longer than the interval."""

_AT_ONCE: Final = 50
BEFORE: Final = 4.0
"""Seconds of the load that are not counted: until then all keys are new."""


@attrs.frozen
class Kept:
    """What one kind of peerproto needs."""

    p50_ms: float
    """Age of the oldest change that is not written."""
    p99_ms: float
    longest_ms: float
    reactor: float
    """Processor time of a node's first thread, in percent of a core."""
    writer: float
    """That of its other ones."""
    sent: float
    """Changes a second that each took."""
    turns: Turns
    """The longest of all nodes."""


class _Asking(Thread):
    """Asks nodes for the age until it is told to end."""

    def __init__(self, nodes: Sequence[Peerproto]) -> None:
        super().__init__(daemon=True)
        self._nodes = nodes
        self.over = Event()
        self.ages: list[int] = []

    def run(self) -> None:
        while not self.over.wait(0.02):
            for node in self._nodes:
                found = re.search(r"unwritten_ms=(\d+)", node.ask_now("show storage"))
                assert found is not None
                self.ages.append(int(found[1]))


def _bodies() -> list[tuple[bytes, bytes, bytes]]:
    """Changes in pieces of `_AT_ONCE`: the key and values of the first one, and the others as they
    travel."""
    chance = random.Random(1)
    pieces = []
    for begin in range(0, KEYS, _AT_ONCE):
        updates = []
        for number in range(begin, begin + _AT_ONCE):
            values = b"".join(varint.encode(chance.randrange(300)) for _ in range(6))
            updates.append((scattered(number).to_bytes(4, "big"), values))
        encoded = [
            EntryUpdate(None, 3_600_000, *one).encode(TABLE.layout.key_type) for one in updates[1:]
        ]
        pieces.append((*updates[0], b"".join(encoded)))
    return pieces


def _connect(node: Peerproto) -> socket.socket:
    """A connection with a node, as its peer ``feeder``."""
    connection = socket.create_connection(("127.0.0.1", node.port))
    connection.sendall(f"HAProxyS 2.1\n{node.name}\nfeeder 1 1\n".encode())
    assert connection.recv(4) == b"200\n"
    connection.sendall(TABLE.definition(1).encode())
    Thread(target=_drain, args=(connection,), daemon=True).start()
    return connection


def _drain(connection: socket.socket) -> None:
    """Read what nobody needs, until there is no more."""
    try:
        while connection.recv(65536):
            pass
    except OSError:
        return  # it was closed here


def _used(nodes: Sequence[Peerproto]) -> tuple[float, float]:
    """Seconds of the processor that the first threads of nodes have had, and that others have."""
    first = others = 0.0
    for node in nodes:
        for thread in Path(f"/proc/{node.pid}/task").iterdir():
            seconds = int((thread / "schedstat").read_text().split()[0]) / 1e9
            if int(thread.name) == node.pid:
                first += seconds
            else:
                others += seconds
    return first, others


def watched(nodes: Sequence[Peerproto], seconds: float, rate: int) -> Kept:
    """Send the same changes to all of some nodes, which are up to date, and watch them."""
    pieces = _bodies()
    asking = _Asking(nodes)
    connections = [_connect(node) for node in nodes]
    began, sent = time.perf_counter(), 0
    used = 0.0, 0.0
    while (passed := time.perf_counter() - began) < seconds + BEFORE:
        if passed >= BEFORE and not asking.is_alive():
            for node in nodes:
                turns_of(node)
            used = _used(nodes)
            asking.start()
        if sent > passed * rate:
            time.sleep(0.001)
            continue
        key, values, others = pieces[sent // _AT_ONCE % len(pieces)]
        first = EntryUpdate(sent + 1, 3_600_000, key, values).encode(TABLE.layout.key_type)
        for connection in connections:
            connection.sendall(first + others)
        sent += _AT_ONCE
    reactor, writer = (
        100 * (after - before) / seconds / len(nodes) for before, after in zip(used, _used(nodes))
    )
    asking.over.set()
    asking.join()
    turns = max(map(turns_of, nodes), key=lambda one: one.p999_ms)
    for connection in connections:
        connection.close()
    ages = sorted(asking.ages)
    count = len(ages)
    p50, p99 = ages[count // 2], ages[count * 99 // 100]
    return Kept(p50, p99, ages[-1], reactor, writer, sent / passed, turns)


def keeping_up(kind: str, folder: Path, seconds: float = SECONDS, rate: int = PROMISED) -> Kept:
    """Measure one of `KINDS`."""
    mesh = places(folder, "keeper", "feeder")
    node = timed(kind, mesh["keeper"], LINES[TABLE.name])
    assert isinstance(node, Peerproto)
    node.more = f"[storage]\npath = {folder / 'tables.db'}\n"
    node.start(list(mesh.values()))
    try:
        wait(node.runtime.exists)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        return watched([node], seconds, rate)
    finally:
        node.kill()


def print_keeping_up(seconds: float = SECONDS, rate: int = PROMISED) -> None:
    """A table of each kind that there is."""
    print(f"| {rate:,} changes a second, {seconds:g} s | | pure | compiled |")
    print("| --- | --- | --- | --- |")
    found: list[Kept] = []
    for kind in KINDS[1:] if COMPILED_TREE.exists() else ("pure",):
        print(f"keeping up, {kind}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="pb") as folder:
            found.append(keeping_up(kind, Path(folder), seconds, rate))
    print_kept(found)


def print_kept(found: Sequence[Kept]) -> None:
    """Rows of a table, with a column for each."""
    for what, unit, value in (
        ("the oldest change that is not written, median", "ms", lambda one: one.p50_ms),
        ("99 %", "ms", lambda one: one.p99_ms),
        ("longest", "ms", lambda one: one.longest_ms),
        ("changes taken", "a second", lambda one: one.sent),
        ("processor: the reactor's thread", "% of a core", lambda one: one.reactor),
        ("the writer's", "% of a core", lambda one: one.writer),
        ("turns of the reactor, 99.9 %", "ms", lambda one: one.turns.p999_ms),
        ("the longest", "ms", lambda one: one.turns.longest_ms),
    ):
        cells = " | ".join(f"{value(one):,.0f}" for one in found)
        print(f"| {what} | {unit} | {cells} |", flush=True)


if __name__ == "__main__":
    print_keeping_up(*map(int, sys.argv[1:]))

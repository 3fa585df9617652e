"""What clients of the stream of events cost a node that learns at full speed.

The node has entries. One peer changes some of them, or all, as fast as they are taken, first while
nobody follows the stream, then while `CLIENTS` do, one of which reads nothing.
``python -m bench.streaming [updates [rounds]]``
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import attrs

from bench.learning import COMPILED_TREE, KINDS, fill, places
from bench.lesson import LINES, TABLE, lesson
from bench.turns import Turns, timed, turns_of
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import Control
from testbed import Node, Peerproto, free_port, wait

CLIENTS: Final = 100
"""One of them reads nothing."""

CASES: Final = (
    (10_000, 10_000),
    (100_000, 100_000),
    (1_000_000, 10_000),
    (1_000_000, 1_000_000),
)
"""How many entries there are, and how many of them change again and again: as many as are held for
the stream, or far more."""

UPDATES: Final = 2_000_000
"""In each round."""

SLOWED: Final = 1.1
"""How many times as long learning may take with clients as without."""

LONGEST_TURN: Final = 20.0
"""Milliseconds that a turn of the reactor may take."""

_READ: Final = 65536


@attrs.frozen
class Cost:
    """What updates took while clients followed, beside the same without any."""

    seconds: float
    """How many times as long."""
    processor: float
    """How many times as much processor time."""
    updates_per_second: float
    """With clients."""
    grown: int
    """Bytes of memory that the node had more at most than before the first clients came."""
    events_per_second: float
    """That a client who reads was told, in the middle."""
    resets: float
    """How often that client was told to read the table anew, in a round."""
    turns: Turns
    """Those of the reactor with clients, of the round whose longest turn was longest."""
    turns_alone: Turns
    """The same without clients."""


class Feeder:
    """A peer that sends updates as fast as they are taken."""

    def __init__(self, node: Node, keys: int, before: int = 0) -> None:
        """``before`` are the updates that came from a peer of its name before."""
        definition, *updates, _ = FrameBuffer().feed(b"".join(lesson(keys)))
        self._definition = definition.encode()
        self._updates = b"".join(one.encode() for one in updates)
        self._node = node
        self._keys = keys
        self._socket = socket.create_connection(("127.0.0.1", node.port))
        self._socket.sendall(f"HAProxyS 2.1\n{node.name}\nfeeder 1 1\n".encode())
        assert self._socket.recv(4) == b"200\n"
        self._sent = before
        self._sending = threading.Lock()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        """A peer that says nothing for 5 s is taken for dead."""
        while True:
            time.sleep(1)
            with self._sending:
                try:
                    self._socket.sendall(Control.HEARTBEAT.encode())
                except OSError:
                    return  # the node has ended

    def send(self, times: int) -> float:
        """Send all updates so often: the seconds until they were taken."""
        began = time.perf_counter()
        with self._sending:
            for _ in range(times):
                rest = memoryview(self._definition + self._updates)
                while rest:
                    readable, writable, _ = select.select([self._socket], [self._socket], [], 1)
                    if readable and not self._socket.recv(_READ):
                        raise ConnectionError(f"{self._node.name} hung up")
                    if writable:
                        rest = rest[self._socket.send(rest[: 4 * _READ]) :]
        self._sent += times * self._keys
        wait(lambda: f"rx_updates={self._sent}\n" in self._node.ask_now("show peers feeder"))
        return time.perf_counter() - began


def follow(port: int) -> None:
    """Be all clients, until the standard input ends; print what each was told."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    poll = select.epoll()
    told = {one.fileno(): {"entry": 0, "reset": 0} for one in clients[1:]}
    by_number = {one.fileno(): one for one in clients}
    for one in clients:
        one.sendall(
            f"GET /v1/events?table={TABLE.name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert b"event: hello" in one.recv(_READ)
        one.setblocking(False)
    for number in told:
        poll.register(number, select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            if number == sys.stdin.fileno():
                print(json.dumps(list(told.values())), flush=True)
                return
            data = by_number[number].recv(_READ)
            if not data:
                raise ConnectionError("the node hung up")
            for name in told[number]:
                told[number][name] += data.count(f"event: {name}\n".encode())


def streaming(kind: str, present: int, keys: int, updates: int, rounds: int, folder: Path) -> Cost:
    """The cost for a node of one of `KINDS` that has ``present`` entries, of which ``keys``
    change."""
    times = max(1, updates // keys)
    mesh = places(folder, "subject", "feeder")
    recorded = b"".join(lesson(present))
    node = timed(kind, mesh["subject"], LINES[TABLE.name])
    assert isinstance(node, Peerproto)
    port = free_port()
    node.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\nevent-clients = {CLIENTS}\n"
    node.start(list(mesh.values()))
    seconds, processor, rates, told, resets = [], [], [], [], []
    turns: dict[str, list[Turns]] = {"alone": [], "followed": []}
    try:
        wait(node.runtime.exists)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        fill(node, TABLE.name, recorded, present)
        feeder = Feeder(node, keys, present)
        feeder.send(2 * times)
        node.forget_peak()
        before = node.memory()
        for _ in range(rounds):
            turns_of(node)
            used = node.processor()
            alone = feeder.send(times)
            used_alone = node.processor() - used
            turns["alone"].append(turns_of(node))
            clients = _Clients(port)
            turns_of(node)
            used = node.processor()
            took = feeder.send(times)
            processor.append((node.processor() - used) / used_alone)
            turns["followed"].append(turns_of(node))
            seconds.append(took / alone)
            rates.append(times * keys / took)
            seen = clients.end()
            told.append(statistics.median(one["entry"] for one in seen) / took)
            resets.append(statistics.median(one["reset"] for one in seen))
        grown = node.memory("VmHWM") - before
    finally:
        node.kill()
    middle = statistics.median
    followed, unfollowed = (
        max(turns[name], key=lambda one: one.longest_ms) for name in ("followed", "alone")
    )
    return Cost(
        middle(seconds),
        middle(processor),
        middle(rates),
        grown,
        middle(told),
        middle(resets),
        followed,
        unfollowed,
    )


class _Clients:
    """All clients, in a process of their own."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "bench.streaming", "follow", str(port)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> list[dict[str, int]]:
        """Leave: how many events of each kind each was told that reads."""
        found: Any = json.loads(self._process.communicate()[0])
        return list(found)


HEADS: Final = (
    "entries, and those that change",
    "seconds",
    "processor",
    "updates a second",
    "events a second for each client",
    "resets",
    "memory",
    "turns, ms: 99.9 %, longest, most of the processor",
    "the same without clients",
)


def print_streaming(updates: int = UPDATES, rounds: int = 5) -> None:
    """A line of a table for each kind that there is and each of `CASES`, then whether what is
    promised holds."""
    print(f"{CLIENTS} clients of the stream beside none, {rounds} rounds of {updates:,} updates:\n")
    print(f"| {' | '.join(HEADS)} |")
    print(f"{'| --- ' * len(HEADS)}|", flush=True)
    found: dict[str, Cost] = {}
    for kind in KINDS[1:] if COMPILED_TREE.exists() else ("pure",):
        for present, keys in CASES:
            what = f"{present:,}, of which {keys:,} change, {kind}"
            print(f"streaming, {what}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pb") as folder:
                found[what] = cost = streaming(kind, present, keys, updates, rounds, Path(folder))
            cells = (
                f"{cost.seconds:.2f}",
                f"{cost.processor:.2f}",
                f"{cost.updates_per_second:,.0f}",
                f"{cost.events_per_second:,.0f}",
                f"{cost.resets:g}",
                f"{cost.grown / 1e6:.1f} MB more",
                _shown(cost.turns),
                _shown(cost.turns_alone),
            )
            print(f"| {what} | {' | '.join(cells)} |", flush=True)
    print()
    for what, cost in found.items():
        _say(f"{what}: learning is slowed by less than a tenth", cost.seconds < SLOWED)
        _say(
            f"{what}: no turn of the reactor takes more than {LONGEST_TURN:g} ms",
            cost.turns.longest_ms <= LONGEST_TURN,
        )


def _shown(turns: Turns) -> str:
    figures = turns.p999_ms, turns.longest_ms, turns.longest_used_ms
    return ", ".join(f"{one:.1f}" for one in figures)


def _say(promise: str, holds: bool) -> None:
    print(f"{promise}: {'holds' if holds else 'DOES NOT HOLD'}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        follow(int(sys.argv[2]))
    else:
        print_streaming(*map(int, sys.argv[1:3]))

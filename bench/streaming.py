"""What clients of the stream of events cost a node that learns at full speed.

One peer sends updates as fast as they are taken, first while nobody follows the stream, then while
`CLIENTS` do, one of which reads nothing. ``python -m bench.streaming [updates [rounds]]``
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

from bench.learning import KINDS, places, rival
from bench.lesson import TABLE, lesson
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import Control
from testbed import Node, Peerproto, free_port, wait

CLIENTS: Final = 100
"""One of them reads nothing."""

KEYS: Final = (10_000, 100_000)
"""How many entries change again and again: as many as are held for the stream, and far more."""

UPDATES: Final = 2_000_000
"""In each round."""

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
    """Bytes of memory that the node had more at most."""
    events_per_second: float
    """That a client who reads was told, in the middle."""
    resets: float
    """How often that client was told to read the table anew, in a round."""
    longest_late_ms: float
    """How late the reactor was at most while clients followed."""


class Feeder:
    """A peer that sends updates as fast as they are taken."""

    def __init__(self, node: Node, keys: int) -> None:
        self._node = node
        self._keys = keys
        self._socket = socket.create_connection(("127.0.0.1", node.port))
        self._socket.sendall(f"HAProxyS 2.1\n{node.name}\nfeeder 1 1\n".encode())
        assert self._socket.recv(4) == b"200\n"
        definition, *updates, _ = FrameBuffer().feed(b"".join(lesson(keys)))
        self._definition = definition.encode()
        self._updates = b"".join(one.encode() for one in updates)
        self._sent = 0
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


def _late(port: int) -> float:
    """How late the reactor was at most in the last minute, in ms."""
    with socket.create_connection(("127.0.0.1", port)) as asking:
        asking.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        text = b"".join(iter(lambda: asking.recv(_READ), b"")).decode()
    return 1000 * float(text.partition("\npeerproto_reactor_longest_late_seconds ")[2].split()[0])


def streaming(kind: str, keys: int, updates: int, rounds: int, folder: Path) -> Cost:
    """The cost for a node of one of `KINDS` in which so many entries change."""
    times = max(1, updates // keys)
    mesh = places(folder, "subject", "feeder")
    node = rival(kind, mesh["subject"], TABLE.name)
    assert isinstance(node, Peerproto)
    port = free_port()
    node.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\nevent-clients = {CLIENTS}\n"
    node.start(list(mesh.values()))
    seconds, processor, rates, lates, told, resets = [], [], [], [], [], []
    try:
        wait(node.runtime.exists)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        feeder = Feeder(node, keys)
        feeder.send(2 * times)
        before = node.memory()
        for _ in range(rounds):
            used = node.processor()
            alone = feeder.send(times)
            used_alone = node.processor() - used
            clients = _Clients(port)
            used = node.processor()
            took = feeder.send(times)
            processor.append((node.processor() - used) / used_alone)
            seconds.append(took / alone)
            rates.append(times * keys / took)
            lates.append(_late(port))
            seen = clients.end()
            told.append(statistics.median(one["entry"] for one in seen) / took)
            resets.append(statistics.median(one["reset"] for one in seen))
        grown = node.memory("VmHWM") - before
    finally:
        node.kill()
    middle = statistics.median
    return Cost(
        middle(seconds),
        middle(processor),
        middle(rates),
        grown,
        middle(told),
        middle(resets),
        max(lates),
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


def main(updates: int = UPDATES, rounds: int = 5) -> None:
    for keys in KEYS:
        with tempfile.TemporaryDirectory(prefix="pb") as folder:
            cost = streaming(KINDS[1], keys, updates, rounds, Path(folder))
            print(f"{keys} entries: {json.dumps(attrs.asdict(cost))}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        follow(int(sys.argv[2]))
    else:
        numbers = [int(one) for one in sys.argv[1:3]]
        main(*numbers)

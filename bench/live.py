"""Live changes: ten peers change entries all the time, and note when each change is acked.

The lag of a change is the time from its sending to the arrival of the ack that
tells that it was taken, which HAProxy sends as peerproto does.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import Final

import attrs

from bench.learning import places, rival
from bench.lesson import TABLE
from peerproto.wire import varint
from peerproto.wire.frames import STICK_TABLE, FrameBuffer
from peerproto.wire.messages import Ack, Control, EntryUpdate, read_message
from testbed import Node, wait

PEERS: Final = 10
CHANGES: Final = 20_000
"""A second, from all peers together."""

_TICK: Final = 0.005
_AT_ONCE: Final = int(CHANGES * _TICK / PEERS)
_KEYS: Final = 100_000


@attrs.frozen
class Lag:
    """What one hub needed for the changes of all peers."""

    median_ms: float
    p99_ms: float
    longest_ms: float
    processor: float
    """Share of one core, in percent."""


class Feeder:
    """One peer, of which changes come."""

    def __init__(self, hub: Node, name: str) -> None:
        self.lags: list[float] = []
        """Seconds, one for each `_AT_ONCE` changes."""
        self._sent: deque[tuple[int, float]] = deque()
        self._id = 0
        self._frames = FrameBuffer()
        self.socket = socket.create_connection(("127.0.0.1", hub.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(f"HAProxyS 2.1\n{hub.name}\n{name} 1 1\n".encode())
        assert self.socket.recv(4) == b"200\n"
        self.socket.sendall(TABLE.definition(1).encode())

    @property
    def waiting(self) -> bool:
        """Whether acks are still to come."""
        return bool(self._sent)

    def send(self, chance: random.Random) -> None:
        """Change some entries."""
        changes = []
        for number in range(_AT_ONCE):
            self._id += 1
            key = chance.randrange(_KEYS).to_bytes(4, "big")
            values = b"".join(varint.encode(chance.randrange(300)) for _ in range(6))
            update = EntryUpdate(None if number else self._id, 3_600_000, key, values)
            changes.append(update.encode(TABLE.layout.key_type))
        self._sent.append((self._id, time.perf_counter()))
        self.socket.sendall(b"".join(changes))

    def receive(self) -> None:
        """Take acks; there is nothing to teach."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the hub hung up")
        now = time.perf_counter()
        for frame in self._frames.feed(data):
            message = read_message(frame)
            if message is Control.RESYNC_REQUEST:
                self.socket.sendall(Control.RESYNC_FINISHED.encode())
            elif frame.message_class == STICK_TABLE and isinstance(message, Ack):
                while self._sent and self._sent[0][0] <= message.update_id:
                    self.lags.append(now - self._sent.popleft()[1])


def live(kind: str, folder: Path, seconds: float) -> Lag:
    """How far behind a hub of one kind is."""
    names = [f"feeder{number}" for number in range(PEERS)]
    mesh = places(folder, "hub", *names)
    hub = rival(kind, mesh["hub"], TABLE.name)
    hub.start(list(mesh.values()))
    try:
        wait(hub.runtime.exists)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        return _drive(hub, [Feeder(hub, name) for name in names], seconds)
    finally:
        hub.kill()


def _drive(hub: Node, feeders: list[Feeder], seconds: float) -> Lag:
    chance = random.Random(1)
    by_number = {feeder.socket.fileno(): feeder for feeder in feeders}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    began = time.perf_counter()
    used = hub.processor()
    sent = 0
    ticks = int(seconds / _TICK) * len(feeders)
    while sent < ticks or any(feeder.waiting for feeder in feeders):
        now = time.perf_counter()
        if now > began + 2 * seconds + 10:
            raise TimeoutError("some changes were never acked")
        due = began + sent * _TICK / len(feeders)
        if sent < ticks and now >= due:
            feeders[sent % len(feeders)].send(chance)
            sent += 1
            continue
        for number, _ in poll.poll(max(0.0, due - now) if sent < ticks else 1):
            by_number[number].receive()
    used = hub.processor() - used
    lags = sorted(lag * 1000 for feeder in feeders for lag in feeder.lags)
    assert len(lags) == ticks
    return Lag(
        lags[len(lags) // 2],
        lags[len(lags) * 99 // 100],
        lags[-1],
        100 * used / (time.perf_counter() - began),
    )

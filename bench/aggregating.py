"""Aggregation: peers count, and one of them notes when the sum of what it sent arrives.

The lag of a change is the time from its sending by one peer to the arrival of the sum of its key
at another one. The peers are played by the benchmark, so what the two HAProxies take is not in it:
see `alternating` for that.
"""

from __future__ import annotations

import random
import select
import time
from pathlib import Path
from typing import Final

import attrs

from bench.learning import places, rival
from bench.live import PEERS, Feeder
from peerproto import Declaration
from peerproto.wire import varint
from peerproto.wire.frames import STICK_TABLE, TIMED_UPDATE
from peerproto.wire.messages import UPDATES, Control, EntryUpdate, read_message
from testbed import Peerproto, wait

LINE: Final = (
    "type ip size 1m expire 1h store gpc0,conn_cnt,http_req_cnt,http_req_rate(10s),bytes_out_cnt"
)
SOURCE: Final = Declaration.parse("counted", LINE)
OUTPUT: Final = Declaration.parse("counted.agg", LINE)
KEYS: Final = 100_000
LOADS: Final = (200, 20_000)
"""Changes a second, from all peers together."""

_TICK: Final = 0.005


@attrs.frozen
class SumLag:
    """How long sums were on their way, in ms."""

    median: float
    p95: float
    p99: float
    longest: float
    processor: float
    """Share of one core that the node took, in percent."""


class Counting(Feeder):
    """A peer that counts, and may look at the sums."""

    def __init__(self, hub: Peerproto, name: str) -> None:
        self.seen: list[float] = []
        """Seconds, for each sum that was waited for."""
        super().__init__(hub, name)
        self.socket.sendall(OUTPUT.definition(2).encode() + SOURCE.definition(1).encode())

    def count(self, chance: random.Random, changes: int, waited: dict[bytes, float]) -> None:
        """Send some changes, of which the sums are waited for."""
        messages = []
        now = time.perf_counter()
        for _ in range(changes):
            key = chance.randrange(KEYS).to_bytes(4, "big")
            values = b"".join(varint.encode(chance.randrange(1, 300)) for _ in range(7))
            messages.append(
                EntryUpdate(chance.randrange(1 << 30), None, key, values).encode(
                    SOURCE.layout.key_type
                )
            )
            waited.setdefault(key, now)
        self.socket.sendall(b"".join(messages))

    def look(self, waited: dict[bytes, float]) -> None:
        """Read sums, and note for how long they were waited for."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the hub hung up")
        now = time.perf_counter()
        for frame in self._frames.feed(data):
            if frame.message_class == STICK_TABLE and frame.message_type in UPDATES:
                at = 8 if frame.message_type == TIMED_UPDATE else 4
                since = waited.pop(frame.payload[at : at + 4], None)
                if since is not None:
                    self.seen.append(now - since)
            elif read_message(frame) is Control.RESYNC_REQUEST:
                self.socket.sendall(Control.RESYNC_FINISHED.encode())


def aggregating(kind: str, folder: Path, changes: int, seconds: float) -> SumLag:
    """How long sums take through a node of one kind (`KINDS`, without HAProxy)."""
    names = [f"feeder{number}" for number in range(PEERS)]
    mesh = places(folder, "hub", *names)
    hub = rival(kind, mesh["hub"], SOURCE.name, LINE)
    assert isinstance(hub, Peerproto)
    hub.more = f"[aggregate {SOURCE.name}]\nto = {OUTPUT.name}\n"
    hub.start(list(mesh.values()))
    try:
        wait(hub.runtime.exists)
        peers = [Counting(hub, name) for name in names]
        _drive(peers, {}, 8, 0)
        used = hub.processor()
        began = time.perf_counter()
        waited: dict[bytes, float] = {}
        _drive(peers, waited, seconds, changes)
        took = time.perf_counter() - began
        used = hub.processor() - used
        assert not waited, f"{len(waited)} sums never came"
    finally:
        hub.kill()
    seen = sorted(1000 * one for one in peers[0].seen)
    count = len(seen)
    return SumLag(
        seen[count // 2],
        seen[count * 95 // 100],
        seen[count * 99 // 100],
        seen[-1],
        100 * used / took,
    )


def _drive(peers: list[Counting], waited: dict[bytes, float], seconds: float, changes: int) -> None:
    """Let peers count for a time, so many changes a second, until all sums have come."""
    chance = random.Random(1)
    by_number = {peer.socket.fileno(): peer for peer in peers}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    began, ticks = time.perf_counter(), int(seconds / _TICK)
    tick, owed, beaten = 0, 0.0, began
    while tick < ticks or (waited and time.perf_counter() < began + seconds + 10):
        now = time.perf_counter()
        if now - beaten > 1:
            beaten = now
            for peer in peers:
                peer.socket.sendall(Control.HEARTBEAT.encode())
        due = began + tick * _TICK
        if tick < ticks and now >= due:
            tick += 1
            owed += changes * _TICK
            if owed >= 1:
                peers[1 + tick % (len(peers) - 1)].count(chance, int(owed), waited)
                owed -= int(owed)
            continue
        for number, _ in poll.poll(max(0.0, min(due - now, 0.1)) if tick < ticks else 0.1):
            peer = by_number[number]
            if peer is peers[0] or not changes:
                peer.look(waited)
            else:
                # One is enough to see them arrive.
                peer.socket.recv(1 << 18)
    poll.close()

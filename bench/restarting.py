"""``python -m bench.restarting``: a node that adds up is started anew, and ten peers teach it.

What counts is the time from the last byte of the last lesson to authority, to the first lease and
to the last sum. The peers are played by the benchmark.
"""

from __future__ import annotations

import select
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

import attrs

from bench.aggregating import KEYS, LINE, OUTPUT, SOURCE
from bench.learning import KINDS, places, rival
from bench.lesson import scattered
from bench.live import PEERS
from peerproto.wire import varint
from peerproto.wire.frames import STICK_TABLE, TIMED_UPDATE, FrameBuffer
from peerproto.wire.messages import (
    UPDATES,
    Control,
    EntryUpdate,
    TableDefinition,
    TableSwitch,
    read_message,
)
from testbed import Node, Peerproto, wait
from testbed.waiting import ENDLESS

LEASE = "counted.lease"


@attrs.frozen
class Restarted:
    """How long it took from the last byte of the last lesson, in seconds."""

    lessons: float
    """From the start of the process to there: so long were they."""
    authority: float
    """Until ``show aggregate`` says that the sums have authority."""
    lease: float
    """Until a peer has the first lease that vouches for all."""
    sums: float
    """Until it has the sum of each key."""
    processor: float
    """Processor time of the node until all of that was so."""


def taught(keys: range) -> bytes:
    """The lesson of a peer with these keys."""
    messages = [SOURCE.definition(1).encode()]
    for number in keys:
        key = scattered(number).to_bytes(4, "big")
        values = b"".join(varint.encode(1 + (number + place) % 300) for place in range(7))
        update = EntryUpdate(number + 1, 3_600_000, key, values)
        messages.append(update.encode(SOURCE.layout.key_type))
    messages.append(Control.RESYNC_FINISHED.encode())
    return b"".join(messages)


class Teacher:
    """A peer that teaches when it is asked, and drops what it hears."""

    def __init__(self, hub: Node, name: str, lesson: bytes) -> None:
        self._lesson = lesson
        self._rest = memoryview(b"")
        self.taught_at: Optional[float] = None
        """When the last byte of its lesson was written."""
        self._frames = FrameBuffer()
        self.socket = socket.create_connection(("127.0.0.1", hub.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(f"HAProxyS 2.1\n{hub.name}\n{name} 1 1\n".encode())
        assert self.socket.recv(4) == b"200\n"

    @property
    def has_more(self) -> bool:
        """Whether some of its lesson is to be written."""
        return len(self._rest) > 0

    def write(self) -> None:
        """Go on teaching."""
        self._rest = self._rest[self.socket.send(self._rest[:262144]) :]
        if not self._rest:
            self.taught_at = time.perf_counter()

    def beat(self) -> None:
        """Say that it is there, unless it is in the middle of something."""
        if not self._rest:
            self.socket.sendall(Control.HEARTBEAT.encode())

    def read(self) -> None:
        """Take what there is.

        :raises ConnectionError: the hub hung up.
        """
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the hub hung up")
        if self.taught_at is None:
            for frame in self._frames.feed(data):
                if read_message(frame) is Control.RESYNC_REQUEST:
                    self._rest = memoryview(self._lesson)


class Watching(Teacher):
    """One that counts sums, and looks for the lease."""

    def __init__(self, hub: Node, name: str, lesson: bytes) -> None:
        super().__init__(hub, name, lesson)
        self.keys: set[bytes] = set()
        """Keys of which it has the sum."""
        self.sums_at = 0.0
        """When it got the last one that was new."""
        self.leased_at: Optional[float] = None
        """When the first lease came that vouches for all."""
        self._tables: dict[int, TableDefinition] = {}
        self._table = ""

    def read(self) -> None:
        """See `Teacher`."""
        if self.taught_at is None:
            super().read()
            return
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the hub hung up")
        for frame in self._frames.feed(data):
            if frame.message_class != STICK_TABLE:
                continue
            if frame.message_type in UPDATES:
                self._update(frame.payload, 8 if frame.message_type == TIMED_UPDATE else 4)
                continue
            message = read_message(frame)
            if isinstance(message, TableDefinition):
                self._tables[message.id] = message
                self._table = message.name
            elif isinstance(message, TableSwitch):
                self._table = self._tables[message.id].name

    def _update(self, payload: bytes, key_at: int) -> None:
        if self._table == OUTPUT.name:
            key = payload[key_at : key_at + 4]
            if key not in self.keys:
                self.keys.add(key)
                self.sums_at = time.perf_counter()
        elif self._table == LEASE and self.leased_at is None:
            at = key_at + 16
            for _ in range(4):
                sources, at = varint.decode(payload, at)
            if sources == PEERS:
                self.leased_at = time.perf_counter()


def restarting(kind: str, folder: Path, shared: bool) -> Restarted:
    """How long a node of one kind (of `KINDS`, without HAProxy) takes.

    :param shared: whether each peer has all `KEYS`, or a part of its own.
    """
    names = [f"feeder{number}" for number in range(PEERS)]
    mesh = places(folder, "hub", *names)
    hub = rival(kind, mesh["hub"], SOURCE.name, LINE)
    assert isinstance(hub, Peerproto)
    hub.more = (
        f"[aggregate {SOURCE.name}]\nto = {OUTPUT.name}\nlease = {LEASE}\n"
        f"expect = {' '.join(names)}\nexpect-timeout = 60s\n"
    )
    part = KEYS // PEERS
    lessons = (
        [taught(range(KEYS))] * PEERS
        if shared
        else [taught(range(part * place, part * (place + 1))) for place in range(PEERS)]
    )
    began = time.perf_counter()
    hub.start(list(mesh.values()))
    try:
        wait(hub.runtime.exists)
        kinds = [Watching] + [Teacher] * (PEERS - 1)
        peers = [one(hub, name, text) for one, name, text in zip(kinds, names, lessons)]
        return _watch(hub, peers, began)
    finally:
        hub.kill()


def _watch(hub: Peerproto, peers: list[Teacher], began: float) -> Restarted:
    """Let the peers teach, until the sums are there."""
    watching = peers[0]
    assert isinstance(watching, Watching)
    by_number = {peer.socket.fileno(): peer for peer in peers}
    authority: Optional[float] = None
    processor = 0.0
    beaten = asked = began
    while authority is None or watching.leased_at is None or len(watching.keys) < KEYS:
        now = time.perf_counter()
        if now > began + ENDLESS:
            raise TimeoutError(f"{len(watching.keys)} sums came, authority {authority}")
        if now > beaten + 1:
            beaten = now
            for peer in peers:
                peer.beat()
        writes = [number for number, peer in by_number.items() if peer.has_more]
        readable, writable, _ = select.select(by_number, writes, [], 0.02)
        for number in readable:
            by_number[number].read()
        for number in writable:
            by_number[number].write()
        if writes and not any(peer.has_more for peer in peers):
            processor = hub.processor()
        if authority is None and now > asked + 0.05 and not writes:
            if "authority: yes" in hub.ask_now(f"show aggregate {SOURCE.name}"):
                authority = time.perf_counter()
            asked = time.perf_counter()
    last = max(peer.taught_at or 0.0 for peer in peers)
    return Restarted(
        last - began,
        authority - last,
        watching.leased_at - last,
        watching.sums_at - last,
        hub.processor() - processor,
    )


def print_restarting() -> None:
    """Print a table of both kinds."""
    print("| s after the last lesson | lessons took | authority | lease | last sum | processor |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shared in (False, True):
        for kind in KINDS[1:]:
            print(f"restarting, {'shared' if shared else 'apart'}, {kind}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pb") as folder:
                one = restarting(kind, Path(folder), shared)
            figures = one.lessons, one.authority, one.lease, one.sums, one.processor
            cells = " | ".join(f"{figure:.2f}" for figure in figures)
            whose = f"all of them from each of {PEERS} peers" if shared else f"from {PEERS} peers"
            print(f"| {KEYS:,} keys, {whose}, {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    print_restarting()

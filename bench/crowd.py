"""Ten peers in a process of their own that change entries at random, so many a second.

Nobody measures there: what comes back is read and dropped.
"""

from __future__ import annotations

import multiprocessing
import random
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.aggregating import KEYS, SOURCE
from bench.live import Feeder
from peerproto.wire import varint
from peerproto.wire.messages import Control, EntryUpdate
from testbed import Node

_TICK = 0.005


class Counter(Feeder):
    """One connection of one peer."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(node, name)
        self.socket.sendall(SOURCE.definition(1).encode())

    def drop(self) -> None:
        """Read what there is.

        :raises ConnectionError: the node hung up.
        """
        if not self.socket.recv(1 << 18):
            raise ConnectionError("a node hung up")


def changes(chance: random.Random, count: int) -> bytes:
    """Updates of entries at random, of all columns of `SOURCE`."""
    messages = []
    for _ in range(count):
        key = chance.randrange(KEYS).to_bytes(4, "big")
        values = b"".join(varint.encode(chance.randrange(1, 300)) for _ in range(7))
        update = EntryUpdate(chance.randrange(1 << 30), None, key, values)
        messages.append(update.encode(SOURCE.layout.key_type))
    return b"".join(messages)


def feed(nodes: Sequence[Node], names: Sequence[str], per_second: int) -> None:
    """Have peers of these names change entries at all these nodes, for ever."""
    chance = random.Random(2)
    peers = [[Counter(node, name) for node in nodes] for name in names]
    by_number = {one.socket.fileno(): one for peer in peers for one in peer}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    tick, owed, began = 0, 0.0, time.perf_counter()
    beaten, settled = began, began + 2
    while True:
        now = time.perf_counter()
        if now > beaten + 1:
            beaten = now
            for one in by_number.values():
                one.socket.sendall(Control.HEARTBEAT.encode())
        due = began + tick * _TICK
        if now >= due:
            tick += 1
            owed += per_second * _TICK if now > settled else 0.0
            if owed >= 1:
                data = changes(chance, int(owed))
                owed -= int(owed)
                for one in peers[tick % len(peers)]:
                    one.socket.sendall(data)
            continue
        for number, _ in poll.poll(due - now):
            if now > settled:
                by_number[number].drop()
            else:
                by_number[number].receive()


@contextmanager
def crowd(nodes: Sequence[Node], names: Sequence[str], per_second: int) -> Iterator[None]:
    """The same in a process of its own, as long as the context lasts."""
    process = multiprocessing.get_context("spawn").Process(
        target=feed, args=(nodes, names, per_second), daemon=True
    )
    process.start()
    try:
        yield
        if not process.is_alive():
            raise RuntimeError("the peers that feed have ended")
    finally:
        process.kill()
        process.join()

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
from typing import Any

from bench.aggregating import KEYS, SOURCE
from bench.live import Feeder
from peerproto.wire import varint
from peerproto.wire.messages import Control, EntryUpdate
from testbed import Node

_TICK = 0.005

_BATCHES = 1000
"""How many different batches of changes there are: they are made before they are sent, and sent
again and again."""


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


def feed(nodes: Sequence[Node], names: Sequence[str], per_second: int, begun: Any) -> None:
    """Have peers of these names change entries at all these nodes, for ever.

    :param begun: an event, which is set when changes begin.
    """
    chance = random.Random(2)
    at_once = round(per_second * _TICK)
    batches = [changes(chance, at_once) for _ in range(_BATCHES)] if at_once else []
    peers = [[Counter(node, name) for node in nodes] for name in names]
    by_number = {one.socket.fileno(): one for peer in peers for one in peer}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    tick, began = 0, time.perf_counter()
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
            if now > settled:
                begun.set()
            if batches and now > settled:
                for one in peers[tick % len(peers)]:
                    one.socket.sendall(batches[tick % len(batches)])
            continue
        for number, _ in poll.poll(due - now):
            if now > settled:
                by_number[number].drop()
            else:
                by_number[number].receive()


@contextmanager
def crowd(nodes: Sequence[Node], names: Sequence[str], per_second: int) -> Iterator[None]:
    """The same in a process of its own, as long as the context lasts."""
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=feed, args=(nodes, names, per_second, begun), daemon=True)
    process.start()
    try:
        if not begun.wait(60):
            raise TimeoutError("the peers that feed have not begun")
        yield
        if not process.is_alive():
            raise RuntimeError("the peers that feed have ended")
    finally:
        process.kill()
        process.join()

"""What an entry costs as entries, tables and peers become more: ``python -m bench.growth``.

A session alone learns from memory and teaches to a sink. What is plotted is the cost
of one entry, which is to stay the same. The process has had all the memory before: what
the kernel takes for new pages has nothing to do with how many entries there are, and is
measured apart (`bench.measure`).
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Final

import attrs

from bench.lesson import TABLE, lesson
from bench.measure import READ, storing
from bench.peering import begin, make_node, receive
from peerproto.connections.protocol import SLICE
from peerproto.peering.node import Node
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import Control

SIZES: Final = {
    "entries": (10_000, 100_000, 1_000_000, 4_000_000),
    "tables": (1, 4, 16, 64),
    "peers": (1, 10, 50),
}

_ALL: Final = 500_000
"""Entries where something else grows."""

_POOL: Final = 4096

KEEPS_MEMORY: Final = {
    "MALLOC_TRIM_THRESHOLD_": f"{1 << 36}",
    "MALLOC_MMAP_THRESHOLD_": f"{1 << 25}",
}
"""Environment in which the C library (glibc) gives next to no memory back to the kernel."""

_BLOCK: Final = 440
_ARENA: Final = 1 << 20


@attrs.frozen
class Cost:
    """Microseconds of an entry."""

    learn: float
    teach: float
    limit: float
    """Storing ready keys and values in a dict, in the same order, and nothing else."""


def reads(entries: int, table: int, first: int = 0) -> Iterator[bytes]:
    """What a peer sends of so many entries of a table, as it is read; keys in no order."""
    messages = [frame.encode() for frame in FrameBuffer().feed(b"".join(lesson(_POOL)))][1:-1]
    ends = [(one[:7], one[11:]) for one in messages if one[1] == 0x86]
    chance = random.Random(table)
    multiplier = chance.randrange(1, 1 << 32) | 1
    gathered = [attrs.evolve(TABLE, name=f"table{table}").definition(table).encode()]
    size = 0
    for number in range(first, first + entries):
        head, tail = ends[number % len(ends)]
        key = (number * multiplier & 0xFFFFFFFF).to_bytes(4, "big")
        gathered += (head, key, tail)
        size += len(head) + len(tail) + 4
        if size >= READ:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def have(size: int) -> list[bytes]:
    """Have had so many bytes of memory for small objects, and as many for large ones.

    Of the small ones Python gives back arenas that are free as a whole: the result
    keeps a little of each.
    """
    large = [bytearray(_ARENA) for _ in range(size // _ARENA)]
    small = [bytes(_BLOCK) for _ in range(size // _BLOCK)]
    del large
    return small[:: _ARENA // _BLOCK // 2]


def cost(entries: int, tables: int, peers: int, nodes: list[Node]) -> Cost:
    """Learn so many entries in all tables, of each peer its share; teach them to each peer.

    The node is added to ``nodes``, so that the next one gets fresh memory, too.
    """
    declarations = [attrs.evolve(TABLE, name=f"table{number}") for number in range(1, tables + 1)]
    node = make_node(declarations)
    nodes.append(node)
    sessions = [begin(node, f"peer{number}") for number in range(peers)]
    share = entries // tables // peers
    streams = [
        [data for table in range(1, tables + 1) for data in reads(share, table, number * share)]
        for number in range(peers)
    ]
    began = time.perf_counter()
    for turn in zip_longest(*streams, fillvalue=b""):
        for session, data in zip(sessions, turn):
            receive(session, data)
    learnt = time.perf_counter() - began
    count = sum(table.used for table in node.tables.values())
    assert count == share * tables * peers
    del streams
    for session in sessions:
        receive(session, Control.RESYNC_REQUEST.encode())
    began = time.perf_counter()
    pupils = list(sessions)
    while pupils:
        for session in pupils:
            session.pull(SLICE, 1000)
        pupils = [session for session in pupils if session.wants_to_send]
    taught = time.perf_counter() - began
    assert all(session.peer.counters.tx_updates == count for session in sessions)
    return Cost(1e6 * learnt / count, 1e6 * taught / count / peers, 1e6 * storing(count) / count)


def measured(what: str, size: int) -> Cost:
    """The cost where ``what`` is of this size; of little, the median of many."""
    entries = size if what == "entries" else _ALL
    if what == "peers":
        entries //= 5
    tables = size if what == "tables" else 1
    peers = size if what == "peers" else 1
    times = max(1, 200_000 // entries)
    nodes: list[Node] = []
    pinned = have(entries * times * 300)
    costs = [cost(entries, tables, peers, nodes) for _ in range(times)]
    del pinned
    return middle(costs)


def middle(costs: list[Cost]) -> Cost:
    """The medians."""
    return Cost(*(median(one) for one in zip(*map(attrs.astuple, costs))))


def plot(costs: dict[tuple[str, str, int], Cost], file: Path) -> None:
    """Draw costs by kind, by what grows and how much there is of it."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "growth"
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    axes = figure.subplots(1, len(SIZES), sharey=True)
    for one, (what, sizes) in zip(axes, SIZES.items()):
        for kind, colour in (("pure", "tab:blue"), ("compiled", "tab:orange")):
            for field, style in (("learn", "-"), ("teach", "--")):
                values = [getattr(costs[kind, what, size], field) for size in sizes]
                one.plot(sizes, values, style, marker="o", color=colour, label=f"{field}, {kind}")
        limits = [costs["pure", what, size].limit for size in sizes]
        one.plot(sizes, limits, ":", marker=".", color="gray", label="a dict alone")
        one.set_xscale("log")
        one.set_xticks(sizes, [_short(size) for size in sizes])
        one.minorticks_off()
        one.set_xlabel(what)
        one.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("us an entry")
    axes[0].set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(file, metadata={"Date": None})


def _short(size: int) -> str:
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            return f"{size // unit}{letter}"
    return str(size)


if __name__ == "__main__":
    json.dump(attrs.asdict(measured(sys.argv[1], int(sys.argv[2]))), sys.stdout)

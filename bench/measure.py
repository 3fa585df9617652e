"""One measurement in a process of its own: ``python -m bench.measure <what> <entries>``."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from twisted.internet.task import Clock

from bench.lesson import TABLE, lesson
from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.peering.protocol import SLICE
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.tables.batch import Batch, Cause
from peerproto.wire.messages import Control, EntryUpdate

READ = 65536
"""Bytes that Twisted reads at once."""


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Turns:
    """Remembers how long the longest of them took."""

    def __init__(self) -> None:
        self.longest = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.longest = max(self.longest, time.perf_counter() - self._began)


def learnt(
    entries: int, tell: Optional[Callable[[Batch], None]] = None, turns: Optional[Turns] = None
) -> tuple[Node, float, float]:
    """A node that has learnt a lesson: itself, seconds taken, and bytes an entry."""
    node = Node("us", Resync(Clock()), [TABLE], tell=tell)
    session = Session(node, Peer("them"), 1, 0)
    recorded = b"".join(lesson(entries))
    gc.collect()
    before = resident()
    turns = turns or Turns()
    began = time.perf_counter()
    for start in range(0, len(recorded), READ):
        with turns:
            session.receive(recorded[start : start + READ], 0)
    seconds = time.perf_counter() - began
    gc.collect()
    grown = resident() - before
    assert node.tables[TABLE.name].used == entries, session.ended_by
    return node, seconds, grown / entries


def learn(entries: int) -> dict[str, float]:
    """From memory into the table, by a session alone."""
    _, seconds, size = learnt(entries)
    return {"per_second": entries / seconds, "bytes_per_entry": size}


def observe(entries: int) -> dict[str, float]:
    """The same, with somebody who is told."""
    counted = 0

    def count(batch: Batch) -> None:
        nonlocal counted
        counted += len(batch)

    def read(batch: Batch) -> None:
        nonlocal counted
        for entry in batch.entries():
            value = entry["gpc0"]
            assert isinstance(value, int)
            counted += value

    return {
        "per_second": entries / learnt(entries, count)[1],
        "decoded_per_second": entries / learnt(entries, read)[1],
    }


def hostile(entries: int) -> dict[str, float]:
    """A peer that puts the separator of messages into each of its keys."""
    update = EntryUpdate(None, 60_000, b"\n\x86\n\x86", b"\x01\x02\x03\x04\x05\x06")
    ordinary = EntryUpdate(None, 60_000, b"\x0a\x00\x00\x01", b"\x01\x02\x03\x04\x05\x06")
    figures = []
    for one in (update, ordinary):
        session = Session(Node("us", Resync(Clock()), [TABLE]), Peer("them"), 1, 0)
        session.receive(TABLE.definition(1).encode(), 0)
        stream = one.encode(TABLE.layout.key_type) * entries
        began = time.perf_counter()
        for start in range(0, len(stream), READ):
            session.receive(stream[start : start + READ], 0)
        figures.append((time.perf_counter() - began) / len(stream) * 1e9)
        assert session.peer.counters.rx_updates == entries
    return {"ns_per_byte": figures[0], "ordinary_ns_per_byte": figures[1]}


def teach(entries: int) -> dict[str, float]:
    """From the table to a sink that takes everything at once, by a session alone."""
    node, _, _ = learnt(entries)
    session = Session(node, Peer("pupil"), 1, 0)
    session.receive(Control.RESYNC_REQUEST.encode(), 0)
    turns = Turns()
    began = time.perf_counter()
    while session.wants_to_send:
        with turns:
            session.pull(SLICE, 1000)
    return {
        "per_second": entries / (time.perf_counter() - began),
        "longest_slice_ms": turns.longest * 1000,
    }


def pauses(entries: int) -> dict[str, float]:
    """The longest single steps: what the reactor has to wait for."""
    learning, expiring, clearing = Turns(), Turns(), Turns()
    node, _, _ = learnt(entries, turns=learning)
    table = node.tables[TABLE.name]
    while (due := table.next_due()) is not None:
        with expiring:
            node.changed(table, table.expire(due), Cause.EXPIRED, due)
    assert not table.used
    del node, table
    node, _, _ = learnt(entries)
    table = node.tables[TABLE.name]
    with clearing:
        table.clear()
    while table.discarding:
        with clearing:
            node.changed(table, table.discard(), Cause.CLEARED, 0)
    return {
        "learn_ms": learning.longest * 1000,
        "expire_ms": expiring.longest * 1000,
        "clear_ms": clearing.longest * 1000,
    }


def limits(entries: int) -> dict[str, float]:
    """What cannot be beaten: storing alone, and reading alone."""
    keys = [(0x0A000000 + number).to_bytes(4, "big") for number in range(entries)]
    values = [b"stored" * 4 + key for key in keys]
    began = time.perf_counter()
    dict(zip(keys, values))
    storing = time.perf_counter() - began
    recorded = b"".join(lesson(entries))
    listening = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listening.getsockname()) as near:
        far, _ = listening.accept()
        threading.Thread(target=far.sendall, args=(recorded,), daemon=True).start()
        began = time.perf_counter()
        read = 0
        while read < len(recorded):
            read += len(near.recv(READ))
        reading = time.perf_counter() - began
    return {"dict_per_second": entries / storing, "loopback_per_second": entries / reading}


MEASUREMENTS: dict[str, Callable[[int], dict[str, float]]] = {
    "learn": learn,
    "observe": observe,
    "hostile": hostile,
    "teach": teach,
    "pauses": pauses,
    "limits": limits,
}

if __name__ == "__main__":
    json.dump(MEASUREMENTS[sys.argv[1]](int(sys.argv[2])), sys.stdout)

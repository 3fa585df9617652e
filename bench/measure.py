"""One measurement in a process of its own: ``python -m bench.measure <what> <entries>``."""

from __future__ import annotations

import gc
import json
import mmap
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import attrs

from bench.defining import definitions
from bench.feeding import feeding
from bench.lesson import TABLE, lesson, scattered
from bench.peering import begin, make_node, observed, receive
from peerproto.connections.protocol import SLICE
from peerproto.peering.node import Node
from peerproto.service.batch import Batch
from peerproto.tables.declaration import Declaration
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import Control, EntryUpdate, TableSwitch

OTHER = Declaration.parse(
    TABLE.name, "type ip size 4m expire 1h store gpt0,gpc0,conn_cnt,http_req_rate(10s)"
)
"""The same table declared otherwise."""

_AT_ONCE = 2800
"""Entries that come in one read."""

_PEERS = 50
_TABLES = 4

_MEMORY = 160
"""Bytes that an entry takes, or a little less."""

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
    entries: int,
    told: Optional[Callable[[Batch], None]] = None,
    turns: Optional[Turns] = None,
    declaration: Declaration = TABLE,
) -> tuple[Node, float, float]:
    """A node that has learnt a lesson: itself, seconds taken, and bytes an entry."""
    service = None if told is None else observed([declaration], told)
    node = make_node([declaration]) if service is None else service.node
    tell = None if service is None else service.changed
    session = begin(node, "them")
    recorded = b"".join(lesson(entries))
    gc.collect()
    before = resident()
    turns = turns or Turns()
    began = time.perf_counter()
    for start in range(0, len(recorded), READ):
        with turns:
            receive(session, recorded[start : start + READ], tell)
    seconds = time.perf_counter() - began
    gc.collect()
    grown = resident() - before
    assert node.tables[TABLE.name].used == entries, session.ended_by
    return node, seconds, grown / entries


def learn(entries: int) -> dict[str, float]:
    """From memory into the table, by a session alone."""
    _, seconds, size = learnt(entries)
    return {"per_second": entries / seconds, "bytes_per_entry": size}


def transcode(entries: int) -> dict[str, float]:
    """The same into a table that stores more and less than what the peer sends."""
    return {"per_second": entries / learnt(entries, declaration=OTHER)[1]}


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
    """Peers that make it hard, and the same updates from one that does not.

    A plain loop reads frame by frame. What is hard: the separator of messages in each
    key, one byte at a time, and another table for each update.
    """
    few = entries // 10
    *ordinary, _ = FrameBuffer().feed(b"".join(lesson(few)))
    updates = [frame.encode() for frame in ordinary[1:]]
    stuffed = EntryUpdate(None, 60_000, b"\n\x86\n\x86", b"\x01\x02\x03\x04\x05\x06")
    switches = [TableSwitch(1).encode(), TableSwitch(2).encode()]
    plain = b"".join(updates)
    return {
        "ordinary": per_byte(plain, few),
        "plain": per_byte(plain, few, by_frames=True),
        "separators": per_byte(stuffed.encode(TABLE.layout.key_type) * few, few),
        "bytes": per_byte(plain, few, at_once=1),
        "switches": per_byte(
            b"".join(switches[number % 2] + one for number, one in enumerate(updates)), few
        ),
    }


def per_byte(stream: bytes, updates: int, at_once: int = READ, by_frames: bool = False) -> float:
    """Nanoseconds that a session takes for each byte of some updates of its tables 1 and 2."""
    other = attrs.evolve(TABLE, name="other")
    session = begin(make_node([TABLE, other]))
    receive(session, other.definition(2).encode() + TABLE.definition(1).encode())
    if by_frames:
        session._receiver.read_run = lambda data, start, now: start  # type: ignore[method-assign]
    pieces = [stream[start : start + at_once] for start in range(0, len(stream), at_once)]
    began = time.perf_counter()
    for piece in pieces:
        session.receive(piece, 0)
        while session.unread:
            session.read_on(0)
    seconds = time.perf_counter() - began
    assert session.peer.counters.rx_updates == updates, session.ended_by
    return seconds / len(stream) * 1e9


def teach(entries: int) -> dict[str, float]:
    """From the table to a sink that takes everything at once, by a session alone."""
    node, _, _ = learnt(entries)
    session = begin(node, "pupil")
    receive(session, Control.RESYNC_REQUEST.encode())
    turns = Turns()
    gc.collect()
    before = most = resident()
    began = time.perf_counter()
    while session.wants_to_send:
        with turns:
            session.pull(SLICE, 1000)
        most = max(most, resident())
    return {
        "per_second": entries / (time.perf_counter() - began),
        "longest_slice_ms": turns.longest * 1000,
        "bytes_per_entry": (most - before) / entries,
    }


def give(_: int) -> dict[str, float]:
    """Changes of ours, to each of `_PEERS` peers that share `_TABLES` tables."""
    declarations = [attrs.evolve(TABLE, name=f"table{number}") for number in range(_TABLES)]
    node = make_node(declarations)
    sessions = [begin(node, f"peer{number}") for number in range(_PEERS)]
    table = node.tables["table0"]

    def given(changes: int, turns: int) -> float:
        """Microseconds for a peer and a turn with so many changes."""
        seconds = 0.0
        for turn in range(turns):
            for number in range(changes):
                table.set((turn * changes + number).to_bytes(4, "big"), {"gpc0": turn}, turn)
            began = time.perf_counter()
            for session in sessions:
                while session.wants_to_send:
                    session.pull(SLICE, turn)
            seconds += time.perf_counter() - began
        sent = {session.peer.counters.tx_updates for session in sessions}
        assert len(sent) == 1, sent
        return seconds / turns / len(sessions) * 1e6

    return {"one_us": given(1, 200), "hundred_us": given(100, 20)}


def pauses(entries: int) -> dict[str, float]:
    """The longest single steps: what the reactor has to wait for."""
    gc.freeze()  # as the daemon does: a full collection would fall into one of them
    learning, converting, expiring, clearing = Turns(), Turns(), Turns(), Turns()
    node, _, _ = learnt(entries, turns=learning)
    table = node.tables[TABLE.name]
    with converting:
        table.redeclare(OTHER)
    while table.converting:
        with converting:
            table.convert()
    while (due := table.next_due()) is not None:
        with expiring:
            table.expire(due)
    assert not table.used
    del node, table
    node, _, _ = learnt(entries)
    table = node.tables[TABLE.name]
    with clearing:
        table.clear()
    while table.discarding:
        with clearing:
            table.discard()
    return {
        "learn_ms": learning.longest * 1000,
        "convert_ms": converting.longest * 1000,
        "expire_ms": expiring.longest * 1000,
        "clear_ms": clearing.longest * 1000,
        "refuse_ms": one_read(attrs.evolve(TABLE, size=1000, nopurge=True), 1000) * 1000,
        "cross_ms": one_read(TABLE, READ) * 1000,
    }


def one_read(declaration: Declaration, changed: int) -> float:
    """Seconds that a full read of updates takes, after so many changes of ours at most that
    the peer has not acked: of the keys that it begins with."""
    definition, *updates, _ = FrameBuffer().feed(b"".join(lesson(READ // 20)))
    read = b"".join(frame.encode() for frame in updates)[:READ]
    keys = [EntryUpdate.decode(frame, TABLE.layout, ReceivingDictionary()).key for frame in updates]
    node = make_node([declaration])
    session = begin(node)
    receive(session, definition.encode())
    for key in keys[:changed]:
        node.tables[TABLE.name].set(key, {"gpc0": 1}, 0)
    while session.wants_to_send:
        session.pull(SLICE, 0)
    turns = Turns()
    with turns:
        receive(session, read)
    assert session.ended_by is None
    return turns.longest


def storing(entries: int) -> float:
    """Seconds for so many entries in a dict alone; keys in no order."""
    keys = [scattered(number).to_bytes(4, "big") for number in range(entries)]
    values = [bytes(24) + key for key in keys]
    stored: dict[bytes, bytes] = {}
    began = time.perf_counter()
    for start in range(0, entries, _AT_ONCE):
        stored.update(zip(keys[start : start + _AT_ONCE], values[start : start + _AT_ONCE]))
    return time.perf_counter() - began


def limits(entries: int) -> dict[str, float]:
    """What cannot be beaten: storing alone, reading alone, and getting memory alone."""
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
    with mmap.mmap(-1, entries * _MEMORY) as memory:
        began = time.perf_counter()
        for start in range(0, len(memory), mmap.PAGESIZE):
            memory[start] = 1
        getting = time.perf_counter() - began
    return {
        "dict_per_second": entries / storing(entries),
        "loopback_per_second": entries / reading,
        "pages_per_second": entries / getting,
    }


MEASUREMENTS: dict[str, Callable[[int], dict[str, float]]] = {
    "learn": learn,
    "transcode": transcode,
    "observe": observe,
    "feeding": feeding,
    "hostile": hostile,
    "definitions": lambda _: definitions(),
    "teach": teach,
    "give": give,
    "pauses": pauses,
    "limits": limits,
}

if __name__ == "__main__":
    json.dump(MEASUREMENTS[sys.argv[1]](int(sys.argv[2])), sys.stdout)

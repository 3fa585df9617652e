"""One measurement in a process of its own: ``python -m bench.measure <what> <entries>``."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, react

from bench.lesson import TABLE, lesson
from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.peering.protocol import SLICE
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.service import StickTableService
from peerproto.wire.messages import Control

READ = 65536
"""Bytes that Twisted reads at once."""


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def learnt(entries: int) -> tuple[Node, float, float]:
    """A node that has learnt a lesson: itself, seconds taken, and bytes an entry."""
    node = Node("us", Resync(Clock()), [TABLE])
    session = Session(node, Peer("them"), 1, 0)
    recorded = b"".join(lesson(entries))
    gc.collect()
    before = resident()
    began = time.perf_counter()
    for start in range(0, len(recorded), READ):
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


def teach(entries: int) -> dict[str, float]:
    """From the table to a sink that takes everything at once, by a session alone."""
    node, _, _ = learnt(entries)
    session = Session(node, Peer("pupil"), 1, 0)
    session.receive(Control.RESYNC_REQUEST.encode(), 0)
    sent = 0
    longest = 0.0
    began = time.perf_counter()
    while session.wants_to_send:
        slice_began = time.perf_counter()
        sent += len(session.pull(SLICE, 1000))
        longest = max(longest, time.perf_counter() - slice_began)
    seconds = time.perf_counter() - began
    return {
        "per_second": entries / seconds,
        "bytes_per_update": sent / entries,
        "longest_slice_ms": longest * 1000,
    }


class _Teacher(Protocol):
    """Plays a recorded lesson to whoever connects, from a thread of the kernel's pace."""

    def __init__(self, recorded: Path) -> None:
        self._recorded = recorded

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if data.startswith(b"HAProxyS"):
            transport.write(b"200\n")
            transport.write(self._recorded.read_bytes())


def learn_socket(entries: int) -> dict[str, float]:
    """Over a loopback TCP connection, by the whole service; the sender is another process."""
    recorded = Path(tempfile.mkdtemp()) / "lesson"
    with recorded.open("wb") as file:
        file.writelines(lesson(entries))
    reading, writing = os.pipe()
    if not (child := os.fork()):
        _serve(recorded, writing)
    os.close(writing)
    port = int(os.read(reading, 10))
    result: dict[str, float] = {}

    def main(reactor: Any) -> Deferred[None]:
        service = StickTableService(
            "us", {"them": f"tcp:127.0.0.1:{port}"}, [TABLE], reactor=reactor
        )
        began = time.perf_counter()

        def done(_: object) -> None:
            seconds = time.perf_counter() - began
            assert len(service.table(TABLE.name)) == entries
            result["per_second"] = entries / seconds

        service.startService()
        return service.when_up_to_date().addCallback(done)

    try:
        react(main)
    except SystemExit:
        pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        recorded.unlink()
        recorded.parent.rmdir()
    return result


def _serve(recorded: Path, announce: int) -> None:
    """The sender's process: it never returns."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    threading.Timer(600, os._exit, (1,)).start()
    port = reactor.listenTCP(
        0, Factory.forProtocol(lambda: _Teacher(recorded)), interface="127.0.0.1"
    )
    os.write(announce, str(port.getHost().port).encode())
    reactor.run()
    os._exit(0)


MEASUREMENTS: dict[str, Callable[[int], dict[str, float]]] = {
    "learn": learn,
    "learn-socket": learn_socket,
    "teach": teach,
}

if __name__ == "__main__":
    json.dump(MEASUREMENTS[sys.argv[1]](int(sys.argv[2])), sys.stdout)

"""HAProxy and peerproto at the same work: who learns how fast from whom.

Each learner starts empty beside a teacher that is full; what counts is the
time from the first entry that is visible on its runtime socket to the last, so
starting a process does not.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
from pathlib import Path

import attrs

from bench.lesson import LINES, lesson
from testbed import HAProxy, Node, Peerproto, wait
from testbed.waiting import ENDLESS

ROOT = Path(__file__).parent.parent

COMPILED_TREE = ROOT / "build" / "compiled"
"""Where ``make build/compiled`` installs the package with its modules compiled."""

KINDS = ("haproxy", "pure", "compiled")


def python_path(kind: str) -> str:
    """Where Python finds the package of this kind, and the benchmarks."""
    tree = COMPILED_TREE if kind == "compiled" else ROOT
    return f"{tree}:{ROOT}"


def rival(
    kind: str, node: Node, table: str, line: str = "", twist: tuple[str, ...] = ("twisted",)
) -> HAProxy | Peerproto:
    """A process of one of `KINDS` that holds one table, not yet started.

    ``node`` is its name, folder and port; ``line`` what follows ``stick-table``, as
    `LINES` has it unless told otherwise; ``twist`` the module that runs a peerproto.
    """
    line = line or LINES[table]
    if kind == "haproxy":
        backend = f"backend {table}\n    stick-table {line} peers mesh"
        return HAProxy(node.name, node.folder, node.port, tables=backend, section="", serves=False)
    return Peerproto(
        node.name,
        node.folder,
        node.port,
        declared=f"{table} = {line}",
        program=(sys.executable, "-m", *twist),
        environment={"PYTHONPATH": python_path(kind)},
    )


def places(folder: Path, *names: str) -> dict[str, Node]:
    """Nodes of these names, each on a port of its own."""
    return {name: Node(name, folder) for name in names}


def used(node: Node, table: str) -> int:
    """Entries of a table that are visible; 0 while nobody answers."""
    try:
        match = re.search(rf"table: {table},.*used:(\d+)", node.ask_now("show table"))
    except OSError:
        return 0
    return int(match[1]) if match else 0


def fill(node: Node, table: str, recorded: bytes, entries: int) -> None:
    """Play a lesson to a node, as a peer of the name ``feeder``, until it shows all entries."""
    with socket.socket() as feeder:
        while feeder.connect_ex(("127.0.0.1", node.port)):
            time.sleep(0.05)
        feeder.sendall(f"HAProxyS 2.1\n{node.name}\nfeeder 1 1\n".encode())
        assert feeder.recv(4) == b"200\n"
        rest = memoryview(recorded)
        while rest:
            readable, writable, _ = select.select([feeder], [feeder], [], 1)
            if readable and not feeder.recv(65536):
                raise ConnectionError(f"{node.name} hung up")
            if writable:
                rest = rest[feeder.send(rest[:262144]) :]
        wait(lambda: used(node, table) >= entries)


@attrs.frozen
class Learnt:
    """What one learner needed."""

    per_second: float
    """Entries, from the first visible to the last."""
    bytes_per_entry: float
    """Memory, beside what the empty process had."""
    processor_us: float
    """Processor time for each entry, in microseconds, starting included."""


def memory_when_empty(kind: str, table: str, folder: Path) -> int:
    """Bytes of memory of a process that has no entries."""
    alone = Node("alone", folder)
    node = rival(kind, alone, table)
    node.start([alone])
    try:
        wait(node.runtime.exists)
        time.sleep(1)
        return node.memory()
    finally:
        node.kill()


def learn(
    learner: HAProxy | Peerproto, peers: list[Node], table: str, entries: int, empty: int
) -> Learnt:
    """Start a learner beside a full teacher, and watch it.

    ``empty`` is what `memory_when_empty` says of its kind.
    """
    learner.start(peers)
    try:
        first = count = 0
        began = now = 0.0
        deadline = time.perf_counter() + ENDLESS
        while count < entries:
            count, now = used(learner, table), time.perf_counter()
            if now > deadline:
                raise TimeoutError(f"{learner.name} has {count} of {entries} entries")
            if count and not first:
                first, began = count, now
            time.sleep(0.005)
        if first == count:
            raise RuntimeError("all entries came at once: take more of them")
        time.sleep(0.5)
        return Learnt(
            (count - first) / (now - began),
            (learner.memory() - empty) / entries,
            learner.processor() / entries * 1e6,
        )
    finally:
        learner.kill()


def lessons(
    table: str,
    pairs: list[tuple[str, str]],
    entries: int,
    rounds: int,
    folder: Path,
    ascending: bool = False,
) -> dict[tuple[str, str], list[Learnt]]:
    """For each pair of teacher and learner (of `KINDS`), taken in turns: one result a round."""
    recorded = b"".join(lesson(entries, table, ascending=ascending))
    results: dict[tuple[str, str], list[Learnt]] = {pair: [] for pair in pairs}
    empty = {
        kind: memory_when_empty(kind, table, folder)
        for kind in dict.fromkeys(learner for _, learner in pairs)
    }
    meshes: dict[str, dict[str, Node]] = {}
    teachers: dict[str, HAProxy | Peerproto] = {}
    try:
        for kind in dict.fromkeys(teacher for teacher, _ in pairs):
            own_folder = folder / kind
            own_folder.mkdir()
            mesh = meshes[kind] = places(own_folder, "teacher", "learner", "feeder")
            teachers[kind] = rival(kind, mesh["teacher"], table)
            teachers[kind].start(list(mesh.values()))
            fill(teachers[kind], table, recorded, entries)
        time.sleep(6)  # by then they count themselves up to date, with nobody to ask
        for _ in range(rounds):
            for pair in pairs:
                mesh = meshes[pair[0]]
                learner = rival(pair[1], mesh["learner"], table)
                peers = list(mesh.values())
                results[pair].append(learn(learner, peers, table, entries, empty[pair[1]]))
    finally:
        for teacher in teachers.values():
            teacher.kill()
    return results

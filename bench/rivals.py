"""HAProxy and peerproto at the same work: who learns how fast from whom.

Each learner starts empty beside a teacher that is full; what counts is the
time from the first entry that is visible on its runtime socket to the last, so
starting a process does not.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from bench.lesson import LINES, lesson

ROOT = Path(__file__).parent.parent

COMPILED_TREE = ROOT / "build" / "compiled"
"""Where ``make build/compiled`` installs the package with its modules compiled."""

KINDS = ("haproxy", "pure", "compiled")

_ENDLESS = 600.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait(condition: Callable[[], bool]) -> None:
    """:raises TimeoutError: it did not come true."""
    deadline = time.perf_counter() + _ENDLESS
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def python_path(kind: str) -> str:
    """Where Python finds the package of this kind, and the benchmarks."""
    tree = COMPILED_TREE if kind == "compiled" else ROOT
    return f"{tree}:{ROOT}"


@attrs.frozen
class Rival:
    """A process that holds one table as a peer of others."""

    kind: str
    """One of `KINDS`."""
    name: str
    table: str
    folder: Path
    ports: dict[str, int]
    line: str = attrs.field()
    """What follows ``stick-table``."""
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    @line.default
    def _line(self) -> str:
        return LINES[self.table]

    @property
    def socket(self) -> Path:
        return self.folder / f"{self.name}.sock"

    def start(self) -> None:
        haproxy = self.kind == "haproxy"
        file = self.configure()
        command = ["haproxy", "-db", "-f", str(file)]
        environment = dict(os.environ)
        if not haproxy:
            command = [sys.executable, "-m", *self.twist(), "peers", "--config", str(file)]
            environment["PYTHONPATH"] = python_path(self.kind)
        with (self.folder / f"{self.name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)
            )

    def configure(self) -> Path:
        """Write its configuration: where it is."""
        haproxy = self.kind == "haproxy"
        file = self.folder / f"{self.name}.{'cfg' if haproxy else 'ini'}"
        file.write_text(self._haproxy_cfg() if haproxy else self._peers_ini())
        return file

    def twist(self) -> list[str]:
        """The module that runs the peer, and what it wants to know."""
        return ["twisted"]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()
        self.socket.unlink(missing_ok=True)

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(str(self.socket))
            runtime.sendall(command.encode() + b"\n")
            pieces = list(iter(lambda: runtime.recv(65536), b""))
        return b"".join(pieces).decode()

    def used(self) -> int:
        """Entries that are visible; 0 while nobody answers."""
        try:
            match = re.search(rf"table: {self.table},.*used:(\d+)", self.ask("show table"))
        except OSError:
            return 0
        return int(match[1]) if match else 0

    def resident(self) -> int:
        """Bytes of memory."""
        status = Path(f"/proc/{self.processes[-1].pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.processes[-1].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fill(self, recorded: bytes, entries: int) -> None:
        """Play a lesson to it, as a peer of the name ``feeder``."""
        with socket.socket() as feeder:
            while feeder.connect_ex(("127.0.0.1", self.ports[self.name])):
                time.sleep(0.05)
            feeder.sendall(f"HAProxyS 2.1\n{self.name}\nfeeder 1 1\n".encode())
            assert feeder.recv(4) == b"200\n"
            rest = memoryview(recorded)
            while rest:
                readable, writable, _ = select.select([feeder], [feeder], [], 1)
                if readable and not feeder.recv(65536):
                    raise ConnectionError(f"{self.name} hung up")
                if writable:
                    rest = rest[feeder.send(rest[:262144]) :]
            wait(lambda: self.used() >= entries)

    def _haproxy_cfg(self) -> str:
        peers = "\n".join(f"    peer {name} 127.0.0.1:{port}" for name, port in self.ports.items())
        return f"""\
global
    localpeer {self.name}
    stats socket {self.socket} mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
peers mesh
{peers}
backend {self.table}
    stick-table {self.line} peers mesh
"""

    def _peers_ini(self) -> str:
        peers = "\n".join(f"{name} = 127.0.0.1:{port}" for name, port in self.ports.items())
        return f"""\
[node]
localpeer = {self.name}
bind = 127.0.0.1:{self.ports[self.name]}
runtime = unix:{self.socket}:mode=600
[peers]
{peers}
[tables]
{self.table} = {self.line}
"""


@attrs.frozen
class Learnt:
    """What one learner needed."""

    per_second: float
    """Entries, from the first visible to the last."""
    bytes_per_entry: float
    """Memory, beside what the empty process had."""
    processor_us: float
    """Processor time for each entry, in microseconds, starting included."""


def resident_when_empty(kind: str, table: str, folder: Path) -> int:
    """Bytes of memory of a process that has no entries."""
    rival = Rival(kind, "alone", table, folder, {"alone": free_port()})
    rival.start()
    try:
        wait(rival.socket.exists)
        time.sleep(1)
        return rival.resident()
    finally:
        rival.stop()


def learn(learner: Rival, entries: int, empty: int) -> Learnt:
    """Start a learner beside a full teacher, and watch it.

    ``empty`` is what `resident_when_empty` says of its kind.
    """
    learner.start()
    try:
        first = used = 0
        began = now = 0.0
        deadline = time.perf_counter() + _ENDLESS
        while used < entries:
            used, now = learner.used(), time.perf_counter()
            if now > deadline:
                raise TimeoutError(f"{learner.kind} has {used} of {entries} entries")
            if used and not first:
                first, began = used, now
            time.sleep(0.005)
        if first == used:
            raise RuntimeError("all entries came at once: take more of them")
        time.sleep(0.5)
        return Learnt(
            (used - first) / (now - began),
            (learner.resident() - empty) / entries,
            learner.seconds() / entries * 1e6,
        )
    finally:
        learner.stop()


def lessons(
    table: str, pairs: list[tuple[str, str]], entries: int, rounds: int, folder: Path
) -> dict[tuple[str, str], list[Learnt]]:
    """For each pair of teacher and learner (of `KINDS`), taken in turns: one result a round."""
    recorded = b"".join(lesson(entries, table))
    results: dict[tuple[str, str], list[Learnt]] = {pair: [] for pair in pairs}
    empty = {
        kind: resident_when_empty(kind, table, folder)
        for kind in dict.fromkeys(learner for _, learner in pairs)
    }
    teachers: dict[str, Rival] = {}
    try:
        for kind in dict.fromkeys(teacher for teacher, _ in pairs):
            ports = {name: free_port() for name in ("teacher", "learner", "feeder")}
            own_folder = folder / kind
            own_folder.mkdir()
            teachers[kind] = Rival(kind, "teacher", table, own_folder, ports)
            teachers[kind].start()
            teachers[kind].fill(recorded, entries)
        time.sleep(6)  # by then they count themselves up to date, with nobody to ask
        for _ in range(rounds):
            for pair in pairs:
                teacher = teachers[pair[0]]
                learner = Rival(pair[1], "learner", table, teacher.folder, teacher.ports)
                results[pair].append(learn(learner, entries, empty[pair[1]]))
    finally:
        for teacher in teachers.values():
            teacher.stop()
    return results

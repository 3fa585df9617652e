"""Peers on UNIX sockets, as HAProxy's ``peer name /path`` has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from pytest_twisted import ensureDeferred

from testbed import Mesh, Peerproto, ended, until

from .test_bad_input import untouched

ROUNDS = 10

AT_ONCE = """
import os, sys
from peerproto.daemon.process import Daemon
from twisted.application.twist._twist import Twist
start = Daemon.startService
def start_at_once(self):
    open(f"ready.{os.getpid()}", "x").close()
    open("gate").close()
    os.unlink(f"ready.{os.getpid()}")
    start(self)
Daemon.startService = start_at_once
Twist.main(sys.argv)
"""
"""Runs ``twist``, which begins to listen when the other end of a pipe is opened."""


@ensureDeferred
async def test_both_directions(mesh: Mesh) -> None:
    """HAProxy and peerproto, each on a socket of its own, call each other and share tables."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    haproxy.place = str(mesh.folder / "lb1.peers")
    peer.place = str(mesh.folder / "peerproto.peers")
    mesh.start(haproxy)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    mesh.start(peer)  # it calls HAProxy
    await peer.in_step("lb1")
    await untouched(mesh, peer, 2)
    await haproxy.stop()
    mesh.start(haproxy)  # it calls peerproto, most often first, and is taught
    await haproxy.up()
    await peer.in_step("lb1")
    await untouched(mesh, peer, 3)


@ensureDeferred
async def test_two_at_once(mesh: Mesh) -> None:
    """Of two processes that start at once on the same paths, where a killed one left its sockets,
    one has them all, and its pid file, and the other ends with a clear word."""
    peer = mesh.peerproto()
    peer.place = str(mesh.folder / "peers")
    peer.program = (sys.executable, "-c", AT_ONCE)
    gate, pid_file = mesh.folder / "gate", mesh.folder / "pid"
    os.mkfifo(gate)
    for _ in range(ROUNDS):
        before = peer.log.read_text() if peer.log.exists() else ""
        processes = [started(peer, "--pid-file", str(pid_file)) for _ in range(2)]

        async def both_wait() -> bool:
            return len(list(mesh.folder.glob("ready.*"))) == 2

        await until(both_wait, "both have come as far as they can alone")
        with gate.open("wb"):
            winner, other = await one_of(processes)
        await has_the_socket(peer, winner.pid)
        assert other.returncode == 1
        said = peer.log.read_text().removeprefix(before)
        assert re.search(r"^peerproto: .*(somebody|another process begins to) listen", said, re.M)
        assert pid_file.read_text() == f"{winner.pid}\n"
        assert winner.poll() is None
        winner.kill()
        await ended(winner, "the winner")
    assert "Traceback" not in peer.log.read_text()
    left = {path.name for path in mesh.folder.iterdir()} - {"gate"}
    assert left == {"peers", "peerproto.sock", "peerproto.ini", "peerproto.log", "pid"}


def started(peer: Peerproto, *options: str) -> subprocess.Popen[bytes]:
    peer.start([], *options)
    assert peer.process is not None
    return peer.process


async def one_of(
    processes: list[subprocess.Popen[bytes]],
) -> list[subprocess.Popen[bytes]]:
    """Wait until one has ended: those that have not, and those that have."""

    async def has_ended() -> bool:
        return any(process.poll() is not None for process in processes)

    await until(has_ended, "one of them ends")
    return sorted(processes, key=lambda process: process.poll() is not None)


async def has_the_socket(peer: Peerproto, pid: int) -> None:
    async def answers() -> bool:
        return f"Pid: {pid}" in await peer.ask("show info")

    await until(answers, "the winner answers")

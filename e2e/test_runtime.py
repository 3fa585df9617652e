"""The runtime socket, asked by the programs that people ask it with.

`make test` asks for a table of 100,000 entries, `make long` for one of 1,000,000.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from peerproto import StickTableService
from testbed import Mesh, Peerproto, endlessly, reactor, until

ENTRIES = int(os.environ.get("ENTRIES", "100000"))
FEW = 20_000
DEAF = 20
"""Clients that read nothing."""

RATES = "type integer size 2m expire 1h store gpc0,http_req_rate(10s)"
IDS = "type integer size 2m store gpc0"


async def filled(mesh: Mesh, entries: int = FEW) -> Peerproto:
    """A peerproto that has learnt a table of so many entries."""
    peer = mesh.peerproto(declared=f"rates = {RATES}\nids = {IDS}")
    mesh.nodes.append(Peerproto("filler", mesh.folder))
    mesh.start(peer)
    service = StickTableService(
        "filler", {peer.name: f"tcp:127.0.0.1:{peer.port}"}, {"rates": RATES}, reactor=reactor
    )
    for key in range(entries):
        service.table("rates").set(key, gpc0=key % 100)
    service.startService()

    async def has_it_all() -> bool:
        return f"used:{entries}" in await peer.ask("show table")

    await until(has_it_all, "peerproto has it all", patience=900)
    await service.stopService()
    return peer


def piped(command: str, *program: str) -> str:
    """What a program prints that is given a command on its standard input."""
    done = subprocess.run(
        program, input=command, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), program
    return done.stdout


def unclosed(command: str, path: Path) -> str:
    """The answer to a client that never closes its side."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(600)
        client.connect(str(path))
        client.sendall(command.encode())
        return b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()


def clients(path: Path) -> list[tuple[str, ...]]:
    """The programs that close their sending side after a command."""
    return [("socat", "-", f"UNIX-CONNECT:{path}"), ("nc.openbsd", "-U", "-N", str(path))]


@ensureDeferred
async def test_whole_answers(mesh: Mesh) -> None:
    """socat, nc and a client that never closes print a whole table, while other clients do not
    read at all; and whoever asks for little meanwhile is answered."""
    peer = await filled(mesh, ENTRIES)
    deaf = [socket.socket(socket.AF_UNIX) for _ in range(DEAF)]
    stop: list[bool] = []

    async def ask(_: int) -> None:
        assert f"used:{ENTRIES}" in await peer.ask("show table")

    def check(answer: str, client: str) -> None:
        keys = re.findall(r"^0x[0-9a-f]+: key=(\d+) .* gpc0=(\d+) ", answer, re.MULTILINE)
        assert {int(key) for key, _ in keys} == set(range(ENTRIES)), client
        assert all(int(key) % 100 == int(value) for key, value in keys), client
        assert answer.count("\n") == ENTRIES + 2 and answer.endswith("\n\n"), client
        read[client] = len(keys)

    read: dict[str, int] = {}
    for one in deaf:
        one.connect(str(peer.runtime))
        one.sendall(b"prompt\n" + b"show table rates\n" * 1000)
    asking = Deferred.fromCoroutine(endlessly(ask, stop))
    try:
        for program in clients(peer.runtime):
            check(await deferToThread(piped, "show table rates\n", *program), program[0])
        check(await deferToThread(unclosed, "show table rates\n", peer.runtime), "unclosed")
    finally:
        stop.append(True)
        answered = await asking
        for one in deaf:
            one.close()
    print(
        f"counted: show table of {ENTRIES} entries beside {DEAF} clients that read nothing:"
        f" socat printed {read['socat']}, nc {read['nc.openbsd']}, a client that never closes"
        f" {read['unclosed']}; {answered} others were answered meanwhile"
    )


@ensureDeferred
async def test_all_commands_run(mesh: Mesh) -> None:
    """Every command of a line is done, with and without a newline behind it, and a long one
    to its end."""
    peer = await filled(mesh)
    for number, program in enumerate(clients(peer.runtime), 1):
        for newline in ("", "\n"):
            keys = [f"{number}{len(newline)}{key}" for key in range(10)]
            line = ";".join(f"set table ids key {key}" for key in keys) + newline
            assert await deferToThread(piped, line, *program) == "\n" * 10
            assert set(keys) <= (await peer.table("ids")).keys()
    line = "show table ids; clear table rates data.gpc0 lt 50; show table ids\n"
    # By itself socat waits half a second for a command that takes its time.
    program = ("socat", "-t", "60", "-", f"UNIX-CONNECT:{peer.runtime}")
    answer = await deferToThread(piped, line, *program)
    assert answer.count("# table: ids") == 2
    assert f"used:{FEW // 2}" in await peer.ask("show table")


@ensureDeferred
async def test_gone_at_once(mesh: Mesh) -> None:
    """A client that asks for changes and goes without waiting for an answer has them made."""
    peer = await filled(mesh)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(peer.runtime))
        client.sendall(b"clear table rates data.gpc0 lt 50;set table ids key 1\n")

    async def done() -> bool:
        tables = await peer.ask("show table")
        return f"used:{FEW // 2}" in tables and "ids, type: integer, size:2097152, used:1" in tables

    await until(done, "all is changed")

"""A process is replaced by another one without losing an entry, and without a gap."""

from __future__ import annotations

import os
import re
import signal
import struct
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from peerproto import StickTableService
from peerproto.tables.declaration import Declaration
from peerproto.testing.entries import write
from testbed import (
    Entry,
    HAProxy,
    Mesh,
    Node,
    Peerproto,
    RawPeer,
    converse,
    ended,
    endlessly,
    get,
    pause,
    reactor,
    until,
)

from .conftest import every_haproxy

ROUNDS = int(os.environ.get("RELOADS", "3"))
ENTRIES = 50_000
TABLES = {
    f"big{number}": f"type integer size 1m expire 1h store gpc0,gpc1,http_req_rate({number}0s)"
    for number in (1, 2, 3, 4)
}
HAPROXY_TABLES = "\n".join(
    f"backend {name}\n    stick-table {line} peers mesh" for name, line in TABLES.items()
)
LIVE = """
backend live
    stick-table type string len 32 size 1m expire 1h store http_req_cnt peers mesh
"""
LIVE_RULES = """\
    http-request track-sc0 path table live
    http-request return status 200
"""


@attrs.define
class Door:
    """Knocks at a port all the time."""

    port: int
    refused: int = 0

    async def knock(self, _: int) -> None:
        try:
            (await converse(self.port)).hang_up()
        except ConnectError:
            self.refused += 1


@ensureDeferred
async def test_soft_finish(mesh: Mesh) -> None:
    """Again and again, under live updates: every key, its latest value, and no gap."""
    haproxy = mesh.haproxy("lb1", tables=HAPROXY_TABLES + LIVE, frontend=LIVE_RULES)
    peer = mesh.peerproto()
    filler = Peerproto("filler", mesh.folder)
    mesh.nodes.append(filler)
    mesh.start(haproxy, peer)
    await haproxy.up()
    service = StickTableService(
        "filler", {peer.name: f"tcp:127.0.0.1:{peer.port}"}, TABLES, reactor=reactor
    )
    for name in TABLES:
        for key in range(ENTRIES):
            service.table(name).set(key, gpc0=key, gpc1=key % 7)
    service.startService()

    async def filled() -> bool:
        return (await peer.ask("show table")).count(f"used:{ENTRIES}") == 4

    await until(filled, "peerproto has it all", 300)
    # One that goes in the middle of its lesson owes the rest of it: no lesson is finished then.
    await peer.in_step("lb1", "filler")
    await service.stopService()
    await peer.in_step("lb1")

    stop: list[bool] = []
    door = Door(peer.port)

    async def visit(number: int) -> None:
        assert await get(haproxy.web, f"/visitor{number % 100}") == 200

    knocking = Deferred.fromCoroutine(endlessly(door.knock, stop))
    visiting = Deferred.fromCoroutine(endlessly(visit, stop))
    for number in range(ROUNDS):
        assert await peer.replace(mesh.nodes) == 0, number
        for name in TABLES:
            table = await peer.table(name)
            assert len(table) == ENTRIES
            assert all(
                (entry["gpc0"], entry["gpc1"]) == (int(key), int(key) % 7)
                for key, entry in table.items()
            ), name
    stop.append(True)
    visits, knocks = await visiting, await knocking
    assert visits > 100 and knocks > 500
    print(f"counted: {ROUNDS} hand-overs of {len(TABLES) * ENTRIES} entries, {knocks} connections")
    assert door.refused == 0, f"{door.refused} of {knocks} connections were refused"

    async def agree() -> bool:
        theirs, ours = await haproxy.table("live"), await peer.table("live")
        assert counts(theirs) == counts(ours)
        return sum(counts(ours).values()) == visits

    await until(agree, "HAProxy's counters and ours agree")
    assert "Traceback" not in peer.log.read_text()


def counts(table: dict[str, Entry]) -> dict[str, int]:
    return {key: int(entry["http_req_cnt"]) for key, entry in table.items()}


@ensureDeferred
async def test_nobody_takes_over(mesh: Mesh) -> None:
    """Told to stop softly with no new process there, it gives up after 5 s, with status 1."""
    peer = mesh.peerproto()
    mesh.start()
    await peer.in_step()
    began = reactor.seconds()
    assert await peer.stop(signal.SIGUSR1) == 1
    assert reactor.seconds() - began > 4.5
    assert "no new process took our tables over within 5 s" in peer.log.read_text()


@ensureDeferred
async def test_pid_file_and_old_process(mesh: Mesh) -> None:
    """The pid file holds the process's id while it runs; a new one without an old one ends."""
    peer = mesh.peerproto()
    pid_file = mesh.folder / "pid"
    peer.start([], "--pid-file", str(pid_file))
    await peer.in_step()
    assert peer.process is not None
    old = peer.process
    assert pid_file.read_text() == f"{old.pid}\n"
    peer.start([], "--pid-file", str(pid_file), "--soft-finish", str(old.pid))
    assert await ended(old, "the old process") == 0
    assert "nothing came from" not in peer.log.read_text(), "it was taught once"
    await peer.in_step()
    assert pid_file.read_text() == f"{peer.process.pid}\n"
    await peer.stop()
    assert not pid_file.exists()
    peer.start([], "--soft-finish", str(old.pid))
    assert peer.process is not None
    assert await ended(peer.process, "a process without an old one") == 1
    assert "No such process" in peer.log.read_text()


@every_haproxy
@ensureDeferred
async def test_from_haproxy(mesh: Mesh) -> None:
    """A HAProxy whose name we take over teaches us when it is soft-stopped."""
    await hand_over_across_kinds(mesh, old_is_haproxy=True)


@every_haproxy
@ensureDeferred
async def test_to_haproxy(mesh: Mesh) -> None:
    """A HAProxy started under our name learns from us on SIGUSR1."""
    await hand_over_across_kinds(mesh, old_is_haproxy=False)


async def hand_over_across_kinds(mesh: Mesh, old_is_haproxy: bool) -> None:
    haproxy = HAProxy("same", mesh.folder, tables=HAPROXY_TABLES)
    peer = Peerproto("same", mesh.folder, port=haproxy.port, declared=declared())
    # Two runtime sockets and logs, though one name.
    haproxy.alias, peer.alias = "same-haproxy", "same-peerproto"
    mesh.nodes += [haproxy, peer]
    # HAProxy hands nothing over in a peers section that has no remote peer.
    section: list[Node] = [haproxy, Node("absent", mesh.folder)]
    old, new = (haproxy, peer) if old_is_haproxy else (peer, haproxy)
    old.start(section)
    await old.up()
    if old is haproxy:
        # One that does not count itself up to date hands nothing over.
        await until(haproxy.counts_itself_up_to_date, "HAProxy is up to date")
    for key in range(200):
        await old.do(f"set table big1 key {key} data.gpc0 {key}")
    assert old.process is not None
    if new is peer:
        peer.start(section, "--soft-finish", str(old.process.pid))
    else:
        haproxy.start(section)
        await haproxy.up()
        old.send_signal(signal.SIGUSR1)
    status = await ended(old.process, "the old process")
    assert status == 0

    async def learnt() -> bool:
        table = await new.table("big1")
        return len(table) == 200 and all(entry["gpc0"] == int(key) for key, entry in table.items())

    await until(learnt, "the new process has it all")


def declared() -> str:
    return "\n".join(f"{name} = {line}" for name, line in TABLES.items())


@ensureDeferred
async def test_reload(mesh: Mesh) -> None:
    """SIGHUP: peers and tables come and go, sessions that stay are not touched, and a bad
    file changes nothing."""
    haproxy, other, peer = mesh.haproxy("lb1"), mesh.haproxy("lb2"), mesh.peerproto()
    haproxy.start(mesh.nodes)
    other.start(mesh.nodes)
    peer.declared = "mine = type ip size 1k store gpc0\nkept = type ip size 1k store gpc0"
    peer.start([haproxy])
    await haproxy.up()
    await other.up()
    await peer.in_step("lb1")
    await peer.do("set table kept key 192.0.2.1 data.gpc0 3")
    before = connections(await peer.ask("show peers lb1"))

    async def reload(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        assert peer.process is not None
        peer.process.send_signal(signal.SIGHUP)
        await until(condition, what)
        assert connections(await peer.ask("show peers lb1")) == before, what

    peer.declared = "more = type ip size 1k\nkept = type ip size 2k store gpc0,gpc1"
    peer.configure([haproxy, other])

    async def came() -> bool:
        tables = await peer.ask("show table")
        return "more," in tables and "mine," not in tables and "kept, type: ip, size:2048" in tables

    await reload("tables come and go", came)
    assert (await peer.table("kept"))["192.0.2.1"] == {
        **(await peer.table("kept"))["192.0.2.1"],
        "gpc0": 3,
        "gpc1": 0,
    }
    await peer.in_step("lb1", "lb2")

    peer.file.write_text("[node]\nnonsense\n")

    async def refused() -> bool:
        return "nothing is changed" in peer.log.read_text()

    await reload("a bad file is logged", refused)
    assert "id=lb2(remote,active)" in await peer.ask("show peers")

    peer.configure([haproxy])

    async def gone() -> bool:
        return "id=lb2" not in await peer.ask("show peers")

    await reload("a peer goes", gone)


def connections(report: str) -> str:
    return report.partition("new_conn=")[2].split()[0]


MANY = 400_000
"""Entries whose lesson takes HAProxy more than a moment."""

FREEZE = 11.0
"""Seconds: more than two periods without a byte."""

BIG = Declaration.parse("big1", TABLES["big1"])


@every_haproxy
@ensureDeferred
async def test_to_slow_haproxy(mesh: Mesh) -> None:
    """A HAProxy that takes over from us, and takes nothing for 11 s in mid-lesson, is not taken
    for dead: to a process of its own name HAProxy sends no heartbeat."""
    peer = Peerproto("same", mesh.folder, declared=declared())
    haproxy = HAProxy("same", mesh.folder, peer.port, tables=HAPROXY_TABLES, program=mesh.program)
    haproxy.alias, peer.alias = "same-haproxy", "same-peerproto"
    filler = Node("filler", mesh.folder)
    mesh.nodes += [haproxy, peer, filler]
    section: list[Node] = [haproxy, filler]
    peer.start(section)
    await peer.up()
    raw = await RawPeer.session(peer, "filler")
    raw.define(BIG)
    one = write(BIG.layout, 0, {"gpc0": 1}, 0)  # its id and key are from its 4th byte on
    raw.send(b"".join(one[:3] + struct.pack(">II", n, n) + one[11:] for n in range(MANY)))

    async def holds(node: Node, least: int, most: int = MANY) -> bool:
        sizes = re.search(r"# table: big1,.*used:(\d+)", await node.ask("show table"))
        return sizes is not None and least <= int(sizes[1]) <= most

    await until(partial(holds, peer, MANY), "peerproto has it all", 300)
    raw.hang_up()
    haproxy.start(section)
    await haproxy.up()
    old = peer.process
    assert old is not None
    old.send_signal(signal.SIGUSR1)
    await until(partial(holds, haproxy, 1, MANY - 1), "a lesson has begun")
    haproxy.send_signal(signal.SIGSTOP)
    await pause(FREEZE)
    assert old.poll() is None, "the old process waits for its pupil"
    haproxy.send_signal(signal.SIGCONT)
    await until(partial(holds, haproxy, MANY), "the new process has it all", 300)
    assert await ended(old, "the old process") == 0
    assert "nothing came from" not in peer.log.read_text(), "it was taught once"

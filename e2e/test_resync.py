"""The choice of a teacher among real HAProxies, some of which fail in mid-lesson."""

from __future__ import annotations

import random
import re
import signal

import attrs
from pytest_twisted import ensureDeferred

from peerproto import StickTableService
from testbed import BUFFER, HAProxy, Link, Mesh, Peerproto, free_port, reactor, until

from .conftest import every_haproxy

ENTRIES = 200_000
PART = 1_000_000
"""Bytes of the lesson that are carried: a fifth."""
BIG = "type integer size 1m expire 1h store gpc0,gpc1,conn_rate(10s),http_req_rate(10s)"
TABLES = f"backend big\n    stick-table {BIG} peers mesh\n"


async def two_full_haproxies(mesh: Mesh) -> tuple[HAProxy, HAProxy, Peerproto]:
    """Two HAProxies that have learnt the same 200,000 entries, and a peerproto not yet started,
    which they cannot call."""
    a, b = (mesh.haproxy(name, tables=TABLES, frontend="") for name in ("lb1", "lb2"))
    for haproxy in (a, b):
        # Else the rest of a lesson may be with the system already when its teacher fails.
        haproxy.send_buffer = BUFFER
    peer = mesh.peerproto()
    filler = Peerproto("filler", mesh.folder, port=free_port())
    mesh.nodes.append(filler)
    service = StickTableService(
        "filler",
        {node.name: f"tcp:127.0.0.1:{node.port}" for node in (a, b)},
        {"big": BIG},
        reactor=reactor,
    )
    table = service.table("big")
    for key in range(ENTRIES):
        table.set(key, gpc0=key)
    service.startService()
    away = attrs.evolve(peer, place=f"127.0.0.1:{free_port()}")
    for haproxy in (a, b):
        haproxy.start([a, b, away, filler])
        await haproxy.up()

        async def is_full(haproxy: HAProxy = haproxy) -> bool:
            return f"used:{ENTRIES}" in await haproxy.ask("show table")

        await until(is_full, f"{haproxy.name} has {ENTRIES} entries", 300)
    await service.stopService()
    for haproxy in (a, b):
        await until(haproxy.counts_itself_up_to_date, f"{haproxy.name} is up to date")
    return a, b, peer


async def learns_from_the_other(mesh: Mesh, how: signal.Signals) -> None:
    a, b, peer = await two_full_haproxies(mesh)
    # So much of a lesson comes, and the rest is not on its way yet.
    links = {
        one.name: Link(one.port, random.Random(1), calm=True, most_back=PART) for one in (a, b)
    }
    try:
        ways = [attrs.evolve(one, place=links[one.name].address) for one in (a, b)]
        peer.start([peer, *ways])

        async def teacher() -> str:
            size = re.search(r"# table: big,.*used:(\d+)", await peer.ask("show table"))
            assert size and int(size[1])
            report = await peer.ask("show peers")
            found = re.search(r"id=(\w+)\(remote,active\).*PROCESSING", report)
            assert found and links[found[1]].stalled_back
            return found[1]

        name = await until(teacher, "a lesson has begun")
        first, second = (a, b) if a.name == name else (b, a)
        first.send_signal(how)
        for link in links.values():
            link.most_back = None
            link.stall()

        async def finished() -> bool:
            answer = await peer.ask("show peers")
            assert f"resync=up_to_date (finished by {second.name})" in answer, answer
            return True

        await until(finished, f"{second.name} has taught it", 300)
        assert f"used:{ENTRIES}" in await peer.ask("show table")
        table = await peer.table("big")
        assert all(entry["gpc0"] == int(key) for key, entry in table.items())
        assert "ended in mid-lesson" in peer.log.read_text()
    finally:
        for link in links.values():
            link.stop()


@every_haproxy
@ensureDeferred
async def test_teacher_is_killed(mesh: Mesh) -> None:
    """The teacher is killed in mid-lesson: the other one is asked, and nothing is missing."""
    await learns_from_the_other(mesh, signal.SIGKILL)


@ensureDeferred
async def test_teacher_is_frozen(mesh: Mesh) -> None:
    """The teacher freezes in mid-lesson: it is dead after a while, and the other one is asked."""
    await learns_from_the_other(mesh, signal.SIGSTOP)


@ensureDeferred
async def test_no_remote_peer(mesh: Mesh) -> None:
    """With all remote peers gone, it is up to date after 5 s and not before; until then it
    teaches with partial."""
    peer = mesh.peerproto(declared=f"big = {BIG}")
    mesh.haproxy("lb1")
    began = reactor.seconds()
    mesh.start(peer)

    async def answers() -> str:
        return await peer.ask("show peers")

    assert "resync=waiting" in await until(answers, "it starts")
    pupil = StickTableService(
        "lb1", {peer.name: f"tcp:127.0.0.1:{peer.port}"}, {"big": BIG}, reactor=reactor
    )
    pupil.startService()
    try:

        async def was_taught() -> bool:
            return pupil.peers[peer.name].counters.confirm == 1

        await until(was_taught, "it teaches")
        assert "is not up to date itself" in pupil.resync.reason
        how = await pupil.when_up_to_date()
        assert how == "no peer to learn from within 5 s"
    finally:
        await pupil.stopService()
    await peer.in_step()
    assert reactor.seconds() - began >= 5

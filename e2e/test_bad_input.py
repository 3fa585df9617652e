"""What goes wrong is answered as documented, and nobody else notices."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectError

from peerproto.tables.declaration import Declaration
from peerproto.wire import varint
from peerproto.wire.messages import EntryUpdate
from testbed import TWIST, Link, Mesh, Peerproto, closed, converse, free_port, reactor, until

RATES = Declaration.parse("rates", "type ip size 1k expire 1m store gpc0,server_key")
HELLO = b"HAProxyS 2.1\npeerproto\nmallory 1 1\n"
DEFINED = RATES.definition(1).encode()

REFUSED = {
    b"GET / HTTP/1.1\r\n\r\n": b"501\n",
    b"HAProxyS 9.9\n": b"502\n",
    b"HAProxyS 2.1\nsomebody\n": b"503\n",
    b"HAProxyS 2.1\npeerproto\nmallory\n": b"501\n",
    b"HAProxyS 2.1\npeerproto\nnobody 1 1\n": b"504\n",
    b"HAProxyS 2.1\n" + b"x" * 3000: b"501\n",
}


def update(values: bytes) -> bytes:
    return EntryUpdate(1, None, b"\x0a\x00\x00\x01", values).encode(RATES.layout.key_type)


ENDED = {
    "a message of over 16384 bytes": (b"\x0a\x80" + varint.encode(16385), b"\x01\x01"),
    "a truncated integer": (DEFINED + update(b"\xf0\x80"), b"\x01\x00"),
    "a value past its message": (DEFINED + update(b""), b"\x01\x00"),
    "a dictionary id out of range": (DEFINED + update(b"\x00\x01\x00"), b"\x01\x00"),
    "a reserved class": (b"\xff\x00", b"\x01\x00"),
}


async def untouched(mesh: Mesh, peer: Peerproto, number: int) -> None:
    """It still serves its HAProxy, both ways, and has lost no entry."""
    await peer.do(f"set table t_never key {number} data.gpc0 {number}")
    (haproxy,) = (node for node in mesh.nodes if node.name == "lb1")

    async def arrived() -> bool:
        table = await haproxy.table("t_never")
        return len(table) == number and len(await peer.table("t_never")) == number

    await until(arrived, f"change {number} arrives at HAProxy, and all before it are there")
    await peer.in_step("lb1")


@ensureDeferred
async def test_hostile_peers(mesh: Mesh) -> None:
    """Each fault has its answer; the session with the HAProxy and the entries stay."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    mallory = Peerproto("mallory", mesh.folder)  # never started: the tests speak for it
    mesh.nodes.append(mallory)
    mesh.start(haproxy, peer)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    await peer.in_step("lb1")
    await untouched(mesh, peer, 2)
    new_connections = (await peer.ask("show peers lb1")).partition("new_conn=")[2].split()[0]
    number = 2

    for hello, status in REFUSED.items():
        conversation = await converse(peer.port)
        conversation.send(hello)
        assert await closed(conversation, hello) == status
        number += 1
        await untouched(mesh, peer, number)

    began = reactor.seconds()
    endless = await converse(peer.port)
    endless.send(b"HAProxyS 2.1\n")
    assert await closed(endless, "a hello that never ends") == b""
    assert reactor.seconds() - began >= 4.5

    for what, (data, answer) in ENDED.items():
        conversation = await converse(peer.port)
        conversation.send(HELLO + data)
        received = await closed(conversation, what)
        assert received.startswith(b"200\n\x00\x04"), what
        assert received.endswith(answer), what
        number += 1
        await untouched(mesh, peer, number)

    for command in ("show table nothing", "set table t_never key x", "nonsense", "x" * 20000):
        assert len(await peer.ask(command)) > 20
        number += 1
        await untouched(mesh, peer, number)

    answer_ = await peer.ask("show peers lb1")
    assert f"new_conn={new_connections} " in answer_, "the session with the HAProxy never ended"
    assert "Traceback" not in peer.log.read_text()


@ensureDeferred
async def test_flood(mesh: Mesh) -> None:
    """Hundreds of connections that say nothing: they are cut, said once, and a HAProxy that
    is in session, and one that calls meanwhile, notice nothing."""
    haproxy, late, peer = mesh.haproxy("lb1"), mesh.haproxy("lb2"), mesh.peerproto()
    peer.more = "[limits]\nhandshakes = 50\nconnections-per-address = 400\n"
    mesh.start(haproxy, peer)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    await peer.in_step("lb1")
    flood = []
    for _ in range(300):
        try:
            flood.append(await converse(peer.port))
        except ConnectError:  # closed at once
            continue
    assert len(flood) >= 50
    await untouched(mesh, peer, 2)
    for conversation in flood:
        assert await closed(conversation, "silence") == b""
    mesh.start(late)
    await late.up()
    await peer.in_step("lb1", "lb2")
    await untouched(mesh, peer, 3)
    log = peer.log.read_text()
    assert log.count("connections are closed at once: there are 50 open handshakes") == 1


@ensureDeferred
async def test_half_open(mesh: Mesh) -> None:
    """A connection whose other side has gone without a word is dropped when nothing came in
    a period of 5 s; it comes again when the way is free; a session with another peer goes on."""
    haproxy, far, peer = mesh.haproxy("lb1"), mesh.haproxy("lb2"), mesh.peerproto()
    link = Link(far.port, random.Random(1), calm=True)
    try:
        way = attrs.evolve(far, place=link.address)
        peer.start([haproxy, way, peer])
        haproxy.start([haproxy, peer])
        far.start([far, attrs.evolve(peer, place=f"127.0.0.1:{free_port()}")])  # calls nobody
        await haproxy.up()
        await haproxy.do("set table t_never key 1 data.gpc0 1")
        await peer.in_step("lb1", "lb2")
        link.hole = True

        async def dropped() -> bool:
            return "in_step=no: nothing came" in await peer.ask("show peers lb2")

        await until(dropped, "the session is dropped")
        await untouched(mesh, peer, 2)
        assert "no_hbt=0 " in await peer.ask("show peers lb1")
        link.cut()
        link.hole = False
        await peer.in_step("lb1", "lb2")
        assert "Traceback" not in peer.log.read_text()
    finally:
        link.stop()


@ensureDeferred
async def test_ten_thousand_tables(mesh: Mesh) -> None:
    """A peer that defines 10,000 tables gets as many as the limit says; that is said once."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    mesh.nodes.append(Peerproto("mallory", mesh.folder))
    peer.more = "[limits]\ntables-per-peer = 20\n"
    mesh.start(haproxy, peer)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    await peer.in_step("lb1")
    mallory = await converse(peer.port)
    mallory.send(HELLO)
    for number in range(10_000):
        table = Declaration.parse(f"m{number}", "type ip size 1k store gpc0")
        mallory.send(table.definition(number).encode())
    mallory.send(b"\x00\x04")

    async def said() -> bool:
        return "it defines more tables that are not shared" in await peer.ask("show peers mallory")

    await until(said, "show peers says it")
    assert (await peer.ask("show table")).count("# table: m") == 20
    assert peer.log.read_text().count("it defines more tables") == 1
    await untouched(mesh, peer, 2)
    mallory.hang_up()


def twist(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TWIST, "peers", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )


def test_configuration(tmp_path: Path) -> None:
    """A bad file ends `twist peers` with status 1 and one line; --check says of a good one
    that it is."""
    file = tmp_path / "peers.ini"
    for text, said in (
        ("[node]\nname = x\n", "peers.ini:2: read 'name = x', expected one of localpeer, bind,"),
        ("[peer]\n", "peers.ini:1: read '[peer]', expected one of [node], [peers], [tables]"),
        ("[tables]\nt = type ip size 1k store x\n", "peers.ini:2: read 'store x', expected one"),
    ):
        file.write_text(text)
        for more in ((), ("--check",)):
            done = twist("--config", "peers.ini", *more, cwd=tmp_path)
            assert done.returncode == 1
            assert done.stdout == ""
            assert done.stderr.startswith(said)
            assert done.stderr.count("\n") == 1
    file.write_text("[node]\nlocalpeer = me\n[peers]\nlb1 = 192.0.2.1:10000\n")
    done = twist("--config", "peers.ini", "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "peers.ini: good (localpeer me, 1 peers, 0 tables)\n"


@ensureDeferred
async def test_port_is_taken(mesh: Mesh) -> None:
    """A port that somebody else has ends `twist peers` with status 1 and one line."""
    first, second = mesh.peerproto(), mesh.peerproto("second")
    second.port = first.port
    first.start([])

    async def answers() -> str:
        return await first.ask("show info")

    await until(answers, "the first one starts")
    second.start([])

    async def ended() -> bool:
        return second.process is not None and second.process.poll() == 1

    await until(ended, "the second one ends")
    assert f"Couldn't listen on 127.0.0.1:{first.port}" in second.log.read_text()
    assert "Traceback" not in second.log.read_text()

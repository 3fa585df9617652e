"""TLS with HAProxies: who is believed is in session, and everybody else is told off once."""

from __future__ import annotations

import datetime

import trustme
from pytest_twisted import ensureDeferred

from testbed import Authority, HAProxy, Mesh, Peerproto, closed, converse, pause, until

from .test_bad_input import untouched

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def speak_tls(authority: Authority, haproxy: HAProxy, peer: Peerproto) -> None:
    haproxy.tls = authority.haproxy(authority.certificate(haproxy.name))
    peer.more = authority.section(authority.certificate(peer.name))


async def logged(peer: Peerproto, text: str) -> None:
    async def is_logged() -> bool:
        return text in peer.log.read_text()

    await until(is_logged, f"{peer.name} logs {text!r}")


@ensureDeferred
async def test_both_directions(mesh: Mesh) -> None:
    """Whichever side calls, both verify each other, and tables are taught and changed both
    ways; a certificate is replaced by SIGHUP; a session comes again after a cut."""
    authority = Authority(mesh.folder)
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    speak_tls(authority, haproxy, peer)
    mesh.start(haproxy)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    mesh.start(peer)
    await peer.in_step("lb1")
    await untouched(mesh, peer, 2)
    assert "there is no TLS" not in peer.log.read_text()

    # HAProxy starts empty and calls as soon as it is up: most often first.
    for round_ in range(3, 6):
        await haproxy.stop()
        mesh.start(haproxy)
        await haproxy.up()
        await peer.in_step("lb1")
        await untouched(mesh, peer, round_)


@ensureDeferred
async def test_between_ourselves(mesh: Mesh) -> None:
    """Two peerprotos speak TLS, and one hands over to a new process of its name."""
    authority = Authority(mesh.folder)
    one, other = mesh.peerproto("one", "t = type ip size 1k store gpc0"), mesh.peerproto("other")
    for peer in (one, other):
        peer.more = authority.section(authority.certificate(peer.name))
    mesh.start()
    await one.in_step("other")
    await one.do("set table t key 192.0.2.1 data.gpc0 1")

    async def learnt() -> bool:
        return len(await other.table("t")) == 1

    await until(learnt, "the entry arrives")
    old = one.process
    assert old is not None
    one.start(mesh.nodes, "--soft-finish", str(old.pid))

    async def replaced() -> bool:
        return old.poll() is not None

    await until(replaced, "the old process ends")
    assert old.returncode == 0
    await one.in_step("other")
    assert len(await one.table("t")) == 1


@ensureDeferred
async def test_wrong_certificates(mesh: Mesh) -> None:
    """HAProxies whose certificate has expired, is of another authority, is another peer's, or
    is missing, and whoever does not speak TLS, stay out, whichever side calls. It is logged
    once, however often they try; a good peer's session goes on."""
    authority = Authority(mesh.folder)
    good, peer = mesh.haproxy("lb1"), mesh.peerproto()
    expired, stranger, impostor, naked = (
        mesh.haproxy(name) for name in ("lb2", "lb3", "lb4", "lb5")
    )
    speak_tls(authority, good, peer)
    expired.tls = authority.haproxy(authority.certificate("lb2", not_after=PAST))
    stranger.tls = authority.haproxy(authority.certificate("lb3", trustme.CA()))
    impostor.tls = authority.haproxy(authority.certificate("lb1"))
    naked.tls = authority.haproxy(authority.certificate("lb5"))
    naked.calling_tls = f"ca-file {authority.ca_file} verify required"
    mesh.start(good, peer)
    await good.up()
    await good.do("set table t_never key 1 data.gpc0 1")
    await peer.in_step("lb1")
    await untouched(mesh, peer, 2)
    connections = (await peer.ask("show peers lb1")).partition("new_conn=")[2].split()[0]

    plain = await converse(peer.port)
    plain.send(b"HAProxyS 2.1\npeerproto\nlb1 1 1\n")
    assert b"200" not in await closed(plain, "a plain hello")
    mesh.start(expired, stranger, impostor, naked)
    said = (
        "is not believed: it has expired",
        "is not believed: its authority is not in our ca-file",
        "caller 127.0.0.1: TLS: its certificate is not for the name lb4",
        "peer lb4: TLS: its certificate is not for the name lb4",
        "caller 127.0.0.1: TLS: peer did not return a certificate",
    )
    for text in said:
        await logged(peer, text)
    await untouched(mesh, peer, 3)
    await pause(11)  # HAProxies, and we, try again every 5 s
    await untouched(mesh, peer, 4)
    for name in ("lb2", "lb3", "lb4"):
        assert "in_step=no" in await peer.ask(f"show peers {name}")
    log = peer.log.read_text()
    for text in said:
        assert log.count(text) <= 2, "once for the caller, once for the called"
    assert "Traceback" not in log
    assert f"new_conn={connections} " in await peer.ask("show peers lb1")

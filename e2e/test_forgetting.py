"""Entries that are forgotten at peerproto, beside real HAProxies that have them."""

from __future__ import annotations

import re
import signal

from pytest_twisted import ensureDeferred

from testbed import HAProxy, Mesh, Peerproto, get, until

from .conftest import every_haproxy

pytestmark = every_haproxy

TABLES = """\
backend rates
    stick-table type string len 32 size 1k expire 10m store gpc0,http_req_cnt,http_req_rate(5m) \
peers mesh
"""
RULES = """\
    http-request track-sc0 url_param(u) table rates
    http-request sc-inc-gpc0(0)
    http-request deny if { sc_get_gpc0(0) gt 3 }
    http-request return status 200
"""
MORE = "more = type ip size 1k"


async def shows(
    haproxy: HAProxy, peer: Peerproto, key: str, gpc0: int | None, here: int | None
) -> None:
    """Wait until HAProxy has this value, and peerproto that one; ``None`` for no entry."""

    async def both() -> bool:
        seen = []
        for node in (haproxy, peer):
            entry = (await node.table("rates")).get(key)
            seen.append(None if entry is None else entry["gpc0"])
        # HAProxy may have dropped what has the value 0.
        assert seen[0] == gpc0 or (gpc0 == 0 and seen[0] is None), seen
        assert seen[1] == here, seen
        return True

    await until(both, f"{key} is {gpc0} at HAProxy and {here} at peerproto")


async def confirmed(peer: Peerproto) -> int:
    """How many lessons peerproto has confirmed."""
    return sum(map(int, re.findall(r"\bconfirm=(\d+)", await peer.ask("show peers"))))


@ensureDeferred
async def test_forgotten(mesh: Mesh) -> None:
    """HAProxy's rules see zeros, and what it counts then is new."""
    haproxy, peer = mesh.haproxy("lb1", tables=TABLES, frontend=RULES), mesh.peerproto()
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    statuses = [await get(haproxy.web, "/?u=ann") for _ in range(5)]
    assert statuses == [200, 200, 200, 403, 403]
    await shows(haproxy, peer, "ann", 5, 5)
    await peer.do("forget table rates key ann")
    await shows(haproxy, peer, "ann", 0, None)
    entry = (await haproxy.table("rates")).get("ann")
    assert entry is None or (entry["http_req_cnt"], entry["http_req_rate"]) == (0, 0)
    assert await get(haproxy.web, "/?u=ann") == 200
    await shows(haproxy, peer, "ann", 1, 1)
    await peer.in_step("lb1")


@ensureDeferred
async def test_haproxy_was_away(mesh: Mesh) -> None:
    """A HAProxy that was frozen is told when it is back, and its lesson brings nothing back."""
    haproxy, peer = mesh.haproxy("lb1", tables=TABLES, frontend=RULES), mesh.peerproto()
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    for user in ("ann", "bob"):
        assert await get(haproxy.web, f"/?u={user}") == 200
        await shows(haproxy, peer, user, 1, 1)
    haproxy.send_signal(signal.SIGSTOP)

    async def is_away() -> bool:
        return "in_step=yes" not in await peer.ask("show peers")

    await until(is_away, "peerproto has no session with the frozen HAProxy")
    await peer.do("forget table rates key ann")
    haproxy.send_signal(signal.SIGCONT)
    await peer.in_step("lb1")
    await shows(haproxy, peer, "ann", 0, None)
    await shows(haproxy, peer, "bob", 1, 1)
    # What is shared anew is learnt from HAProxy, with all that it has.
    lessons = await confirmed(peer)
    peer.declared = MORE
    peer.configure(mesh.nodes)
    peer.send_signal(signal.SIGHUP)

    async def has_learnt() -> bool:
        return await confirmed(peer) > lessons

    await until(has_learnt, "HAProxy has given a lesson")
    assert "ann" not in await peer.table("rates")
    assert (await peer.table("rates"))["bob"]["gpc0"] == 1


@ensureDeferred
async def test_new_process(mesh: Mesh) -> None:
    """A HAProxy that has learnt it from another one, which was away, is told in its lesson."""
    a, b = (mesh.haproxy(name, tables=TABLES, frontend=RULES) for name in ("lb1", "lb2"))
    peer = mesh.peerproto()
    mesh.start()
    for haproxy in (a, b):
        await haproxy.up()
    await peer.in_step("lb1", "lb2")
    assert await get(a.web, "/?u=ann") == 200
    await shows(a, peer, "ann", 1, 1)
    await shows(b, peer, "ann", 1, 1)
    await b.stop(signal.SIGKILL)
    await peer.do("forget table rates key ann")
    await shows(a, peer, "ann", 0, None)
    mesh.start(b)
    await b.up()
    await peer.in_step("lb1", "lb2")
    await shows(b, peer, "ann", 0, None)

"""A take-over from a HAProxy in master-worker mode (``-W``, ``-Ws``), as systemd runs it."""

from __future__ import annotations

import re

import pytest
from pytest_twisted import ensureDeferred

from testbed import HAProxy, Mesh, Node, Peerproto, ended, until

from .conftest import every_haproxy
from .test_handover import HAPROXY_TABLES, declared

ENTRIES = 200


async def workers(master: Node) -> list[int]:
    """The ids of the workers that have not been replaced, as the master says."""
    there = (await master.ask("show proc\nquit")).partition("# old workers")[0]
    return [int(pid) for pid in re.findall(r"^(\d+)\s+worker\s", there, re.MULTILINE)]


async def running(mesh: Mesh, mode: str, reloads: int) -> tuple[HAProxy, Peerproto, list[int]]:
    """A HAProxy that was reloaded so often and has entries, a peerproto of its name that is not
    yet started, and the ids of the master and of its worker."""
    haproxy = HAProxy("same", mesh.folder, tables=HAPROXY_TABLES, program=mesh.program)
    peer = Peerproto("same", mesh.folder, port=haproxy.port, declared=declared())
    haproxy.alias, peer.alias = "same-haproxy", "same-peerproto"
    master = Node("master", mesh.folder)  # the master's own socket
    mesh.nodes += [haproxy, peer, Node("absent", mesh.folder)]
    haproxy.mode = (mode, "-S", str(master.runtime))
    haproxy.start([haproxy, mesh.nodes[-1]])

    async def has_worker() -> list[int]:
        return await workers(master)

    old = await until(has_worker, "the master has a worker")
    await haproxy.up()
    for _ in range(reloads):
        await master.tell("reload\nquit")  # it begins anew, and may have no time to answer

        async def has_another(old: list[int] = old) -> list[int]:
            new = await workers(master)
            return new if new != old else []

        old = await until(has_another, "the master has another worker")
    await until(haproxy.counts_itself_up_to_date, "HAProxy is up to date")
    for key in range(ENTRIES):
        await haproxy.do(f"set table big1 key {key} data.gpc0 {key}")
    return haproxy, peer, [haproxy.pid, *old]


async def takes_over(haproxy: HAProxy, peer: Peerproto, pid: int) -> None:
    """All is learnt from the process of this id, and the master ends well with its worker."""
    peer.start([haproxy, Node("absent", peer.folder)], "--soft-finish", str(pid))
    await peer.up()
    assert haproxy.process is not None
    assert await ended(haproxy.process, "the master") == 0

    async def learnt() -> bool:
        return "resync=up_to_date (finished by same)" in await peer.ask("show peers")

    await until(learnt, "the old process has taught it")
    table = await peer.table("big1")
    assert {int(key): entry["gpc0"] for key, entry in table.items()} == {
        key: key for key in range(ENTRIES)
    }
    assert "Traceback" not in peer.log.read_text()


@pytest.mark.parametrize("reloads", [0, 2])
@every_haproxy
@ensureDeferred
async def test_master(mesh: Mesh, reloads: int) -> None:
    """The id of a master, as it is in HAProxy's pid file, is one to take over from, whether it
    was reloaded or not."""
    haproxy, peer, (master, _) = await running(mesh, "-W", reloads)
    await takes_over(haproxy, peer, master)


@ensureDeferred
async def test_worker(mesh: Mesh) -> None:
    """So is the id of its worker, without which the master ends."""
    haproxy, peer, (_, worker) = await running(mesh, "-Ws", 1)
    await takes_over(haproxy, peer, worker)

"""What a change at peerproto does to the entry that a real HAProxy has."""

from __future__ import annotations

import random
import re

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import HAProxy, Link, Mesh, Peerproto, endlessly, free_port, get, pause, until

from .conftest import every_haproxy

pytestmark = every_haproxy

TABLES = """\
backend counted
    stick-table type ip size 1m expire 1h store gpt0,gpc0,http_req_cnt,gpc1 peers mesh
backend lasting
    stick-table type integer size 1m expire 1h store gpc0 peers mesh
backend brief
    stick-table type integer size 1m expire 1h store gpc0 peers mesh
backend arrays
    stick-table type integer size 1m expire 1h store gpt(2),gpc(3) peers mesh
backend stuck
    stick-table type string len 32 size 1m expire 1h store server_id,server_key,gpc0 peers mesh
    stick on url_param(u)
    server s1 127.0.0.1:{origin}
    server s2 127.0.0.1:{origin}
"""

RULES = """\
    http-request track-sc0 src table counted
    http-request sc-inc-gpc0(0)
    use_backend stuck
"""

DECLARED = """\
lasting = type integer size 1m store gpc0
brief = type integer size 1m expire 20s store gpc0
"""

HOUR = 3_600_000


async def together(mesh: Mesh) -> tuple[HAProxy, Peerproto]:
    """A HAProxy and a peerproto in step."""
    haproxy, peer = mesh.haproxy("lb1", TABLES, RULES), mesh.peerproto(declared=DECLARED)
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    return haproxy, peer


async def shows(haproxy: HAProxy, table: str, key: str, **values: object) -> dict[str, object]:
    """Wait until an entry has these values there: the entry."""

    async def has() -> dict[str, object]:
        entry: dict[str, object] = dict((await haproxy.table(table))[key])
        assert {name: entry[name] for name in values} == values, entry
        return entry

    entry: dict[str, object] = await until(has, f"{key} of {table} has {values} at {haproxy.name}")
    return entry


def life(entry: dict[str, object]) -> int:
    """How long an entry is to live, in ms."""
    assert isinstance(entry["exp"], int)
    return entry["exp"]


@ensureDeferred
async def test_counters_are_not_set_back(mesh: Mesh) -> None:
    """HAProxy counts requests of an entry while we set another value of it again and again."""
    haproxy, peer = await together(mesh)
    assert await get(haproxy.web) == 200
    stop: list[bool] = []
    done: list[int] = []

    async def change(number: int) -> None:
        await peer.do(f"set table counted key 127.0.0.1 data.gpt0 {number + 1}")
        done.append(number)

    changing = Deferred.fromCoroutine(endlessly(change, stop))
    requests = 1
    while requests < 100 or len(done) < 20:
        assert await get(haproxy.web) == 200
        requests += 1
    stop.append(True)
    times = await changing
    entry = await shows(haproxy, "counted", "127.0.0.1", gpt0=times)
    assert (entry["gpc0"], entry["http_req_cnt"]) == (requests, requests)

    async def agrees() -> bool:
        here = (await peer.table("counted"))["127.0.0.1"]
        return (here["gpt0"], here["gpc0"]) == (times, requests)

    await until(agrees, "peerproto has the same, though changes crossed")
    await peer.do("set table counted key 127.0.0.1 data.gpc0 7")
    await shows(haproxy, "counted", "127.0.0.1", gpt0=times, gpc0=7, http_req_cnt=requests)


@ensureDeferred
async def test_columns(mesh: Mesh) -> None:
    """Changes of different columns in a row arrive, an array as a whole, and an entry without
    any value, too; nothing else of an entry is touched."""
    haproxy, peer = await together(mesh)
    await haproxy.do("set table counted key 192.0.2.1 data.gpc0 1 data.gpc1 2 data.gpt0 3")
    for command in (
        "counted key 192.0.2.1 data.gpt0 30",
        "counted key 192.0.2.2",
        "counted key 192.0.2.1 data.gpc1 20",
        "arrays key 1 data.gpc[2] 5",
        "arrays key 1 data.gpt[0] 6",
        "counted key 192.0.2.3 data.gpt0 1 data.http_req_cnt 2",
        "arrays key 1 data.gpc[0] 7",
    ):
        await peer.do(f"set table {command}")
    await shows(haproxy, "arrays", "1", gpt0=6, gpt1=0, gpc0=7, gpc1=0, gpc2=5)
    await shows(haproxy, "counted", "192.0.2.1", gpc0=1, gpc1=20, gpt0=30)
    await shows(haproxy, "counted", "192.0.2.2", gpc0=0, gpc1=0, gpt0=0)
    await shows(haproxy, "counted", "192.0.2.3", gpt0=1, http_req_cnt=2)
    answer = await haproxy.ask("show peers")
    assert re.search(r"id=peerproto\((?:.*\n){1,3}?.* proto_err=0 ", answer), answer


@ensureDeferred
async def test_lives(mesh: Mesh) -> None:
    """What is set here lives as long as HAProxy's own table says, whatever is declared here."""
    haproxy, peer = await together(mesh)
    await haproxy.do("set table brief key 2 data.gpc0 1")
    await peer.do("set table lasting key 1 data.gpc0 5")
    await peer.do("set table brief key 1 data.gpc0 5")
    await peer.do("set table brief key 2 data.gpc0 5")
    for table, key in (("lasting", "1"), ("brief", "1"), ("brief", "2")):
        assert HOUR - 60_000 < life(await shows(haproxy, table, key, gpc0=5)) <= HOUR
    assert "expire differs: 3600000 ms there, 20000 ms here" in await peer.ask("show peers")
    await peer.in_step("lb1")


@ensureDeferred
async def test_life_of_a_late_change(mesh: Mesh) -> None:
    """A change that HAProxy gets late has lived before: what is left of its life is said."""
    haproxy, peer = mesh.haproxy("lb1", TABLES, RULES), mesh.peerproto(declared=DECLARED)
    link = Link(haproxy.port, random.Random(1), calm=True)
    nobody = attrs.evolve(peer, place=f"127.0.0.1:{free_port()}")
    try:
        haproxy.start([haproxy, nobody])
        await haproxy.up()
        peer.start([attrs.evolve(haproxy, place=link.address), peer])
        await haproxy.do("set table brief key 1 data.gpc0 1")
        await peer.in_step("lb1")

        async def known() -> bool:
            return "expire differs: 3600000" in await peer.ask("show peers")

        await until(known, "HAProxy has defined its table")
        link.target = free_port()
        link.cut()
        await peer.do("set table brief key 2 data.gpc0 5")
        await peer.do("set table lasting key 1 data.gpc0 5")
        await pause(1.5)
        link.target = haproxy.port
        late = life(await shows(haproxy, "brief", "2", gpc0=5))
        assert HOUR - 60_000 < late < HOUR - 1400
        await shows(haproxy, "lasting", "1", gpc0=5)
    finally:
        link.stop()


@ensureDeferred
async def test_cleared_text(mesh: Mesh) -> None:
    """A server that is taken from an entry here is taken from it at HAProxy, which forgets it
    and lets the next request go to any."""
    haproxy, peer = await together(mesh)
    assert await get(haproxy.web, "/?u=ann") == 200
    name = str((await haproxy.table("stuck"))["ann"]["server_key"])
    assert name in ("s1", "s2")

    async def learnt() -> bool:
        return (await peer.table("stuck"))["ann"]["server_key"] == name

    await until(learnt, "peerproto knows the server")
    await peer.do("set table stuck key ann data.server_key -")
    await shows(haproxy, "stuck", "ann", server_key="")
    await haproxy.do("set table stuck key ann data.gpc0 1")

    async def counted() -> bool:
        return (await peer.table("stuck"))["ann"]["gpc0"] == 1

    await until(counted, "HAProxy's change shows")
    assert (await peer.table("stuck"))["ann"]["server_key"] == "-"
    assert await get(haproxy.web, "/?u=ann") == 200
    assert (await haproxy.table("stuck"))["ann"]["server_key"] in ("s1", "s2")

"""HAProxy and peerproto are reloaded again and again, under requests.

`make test` does it three times with each HAProxy, `make long` thirty times.
"""

from __future__ import annotations

import os
from functools import partial

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from testbed import Entry, Mesh, Node, endlessly, get, until

from .conftest import every_haproxy

RELOADS = int(os.environ.get("RELOADS", "3"))
KEPT = 5_000
"""Entries that nobody changes."""

PATHS = 100

TABLES = """\
backend kept
    stick-table type integer size 1m expire 1h store gpc0,gpc1,http_req_rate(10s) peers mesh
backend live
    stick-table type string len 32 size 1m expire 1h store http_req_cnt peers mesh
"""
RULES = """\
    http-request track-sc0 path table live
    http-request return status 200
"""


@every_haproxy
@ensureDeferred
async def test_reloads(mesh: Mesh) -> None:
    """After each reload, whoever is told that it has learnt everything has all the entries that
    nobody changes; at the end all nodes have the same in all tables."""
    reloaded = mesh.haproxy("lb1", tables=TABLES, frontend=RULES)
    other = mesh.haproxy("lb2", tables=TABLES, frontend=RULES)
    peer = mesh.peerproto()
    nodes: list[Node] = [reloaded, other, peer]
    mesh.start()
    for node in nodes:
        await node.up()
    await peer.in_step("lb1", "lb2")
    for first in range(0, KEPT, 100):
        await peer.ask(
            "; ".join(
                f"set table kept key {key} data.gpc0 {key} data.gpc1 {key % 7}"
                for key in range(first, first + 100)
            )
        )
    for node in nodes:
        await until(partial(has_all, node), f"{node.name} has what nobody changes")

    visits = {"done": 0, "failed": 0}

    async def visit(number: int) -> None:
        try:
            await get((reloaded, other)[number % 2].web, f"/visitor{number % PATHS}")
            visits["done"] += 1
        except (IndexError, ConnectError):  # its process was just ending
            visits["failed"] += 1

    stop: list[bool] = []
    visiting = Deferred.fromCoroutine(endlessly(visit, stop))
    lacking = 0
    for _ in range(RELOADS):
        assert await reloaded.reload(mesh.nodes) == 0
        await until(reloaded.counts_itself_up_to_date, "the new HAProxy is up to date")
        lacking += not await has_all(reloaded)
        assert await peer.replace(mesh.nodes) == 0
        lacking += not await has_all(peer)
    stop.append(True)
    await visiting
    await peer.in_step("lb1", "lb2")

    async def agree() -> bool:
        first, *rest = [await content(node) for node in nodes]
        for node, tables in zip(nodes[1:], rest):
            for name in first:
                assert tables[name] == first[name], f"{name} at {node.name} and {nodes[0].name}"
        return True

    await until(agree, "all nodes have the same in all tables")
    counted = sum(int(one["http_req_cnt"]) for one in (await peer.table("live")).values())
    print(
        f"counted: HAProxy {mesh.program.branch}: {RELOADS} reloads of HAProxy and {RELOADS} of"
        f" peerproto under {visits['done']} requests ({visits['failed']} failed,"
        f" {counted} counted); {lacking} times somebody lacked an entry; all tables agree"
    )
    assert lacking == 0
    assert visits["done"] > 50 * RELOADS
    assert "Traceback" not in peer.log.read_text()


async def has_all(node: Node) -> bool:
    table = await node.table("kept")
    return len(table) == KEPT and all(
        (entry["gpc0"], entry["gpc1"]) == (int(key), int(key) % 7) for key, entry in table.items()
    )


async def content(node: Node) -> dict[str, dict[str, Entry]]:
    """All entries of all tables, without what depends on when it is read."""
    return {
        name: {
            key: {what: value for what, value in entry.items() if what in counters}
            for key, entry in (await node.table(name)).items()
        }
        for name, counters in (("kept", ("gpc0", "gpc1")), ("live", ("http_req_cnt",)))
    }

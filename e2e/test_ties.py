"""Peerprotos that set one column of one key at the same moment, beside a HAProxy."""

from __future__ import annotations

import re

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from testbed import HAProxy, Mesh, Peerproto, until

from .conftest import every_haproxy

pytestmark = every_haproxy

TABLES = """\
backend t
    stick-table type integer size 1m expire 1h store gpt0,gpc0 peers mesh
"""

DECLARED = "t = type integer size 1m expire 1h store gpt0,gpc0\n"

KEYS = 50


async def agree(*nodes: HAProxy | Peerproto) -> None:
    """Wait until all have the same of every key, and all say that they are in step."""

    async def is_so() -> bool:
        tables = [await node.table("t") for node in nodes]
        values = [{key: (one["gpt0"], one["gpc0"]) for key, one in t.items()} for t in tables]
        assert len(values[0]) == KEYS
        assert all(one == values[0] for one in values), values
        for node in nodes:
            if isinstance(node, Peerproto):
                await node.in_step(*(other.name for other in nodes if other is not node))
        return True

    await until(is_so, "all have the same")


async def set_all(node: HAProxy | Peerproto, column: str, value: int) -> None:
    """Set a column of all keys."""
    for key in range(KEYS):
        await node.do(f"set table t key {key} data.{column} {value}")


def sessions(text: str) -> list[str]:
    """What HAProxy says of how many sessions it had with its peers, and of their errors."""
    return re.findall(r"(?:new_conn|proto_err)=\d+", text)


async def set_at_once(value: int, *nodes: HAProxy | Peerproto) -> None:
    """Let nodes set the same column of all keys, each another value."""
    await gatherResults(
        Deferred.fromCoroutine(set_all(node, "gpc0", value + number))
        for number, node in enumerate(nodes, 1)
    )


@ensureDeferred
async def test_two_peerprotos(mesh: Mesh) -> None:
    """Two peerprotos set a column of many keys at once, again and again: they and a HAProxy
    agree, and that one goes on with the sessions that it has, though it is sent the mark by
    which peerprotos know each other."""
    one, two = mesh.peerproto("one", DECLARED), mesh.peerproto("two", DECLARED)
    haproxy = mesh.haproxy("lb1", TABLES, "")
    mesh.start()
    await haproxy.up()
    await one.in_step("lb1", "two")
    await two.in_step("lb1", "one")
    before = await haproxy.ask("show peers")
    assert sessions(before)
    for value in range(5):
        await set_at_once(10 * value, one, two)
        await agree(one, two, haproxy)
    assert sessions(before) == sessions(await haproxy.ask("show peers"))

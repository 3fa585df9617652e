"""HAProxies that do not know each other, a node that adds up what they count, and clients that know
what they did."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from testbed import Entry, HAProxy, Mesh, Peerproto, get, until

OF_EACH: Final = ("conn_cnt", "sess_cnt", "http_req_cnt")
"""What each request counts: it comes on a connection of its own."""

PATHS: Final = {
    "/": None,
    "/gpc0": "gpc0",
    "/gpc1": "gpc1",
    "/error": "http_err_cnt",
    "/fail": "http_fail_cnt",
}
"""What a request for a path counts beside that."""

BYTES: Final = ("bytes_in_cnt", "bytes_out_cnt")

COUNTERS: Final = (*OF_EACH, *filter(None, PATHS.values()), *BYTES)

RATES: Final = (
    "gpc0_rate",
    "gpc1_rate",
    "conn_rate",
    "sess_rate",
    "http_req_rate",
    "http_err_rate",
    "http_fail_rate",
    "bytes_in_rate",
    "bytes_out_rate",
)

LINE: Final = (
    "type string len 32 size 10k expire 10m store conn_cur,"
    f"{','.join(COUNTERS)},{','.join(f'{rate}(4s)' for rate in RATES)}"
)
TABLES: Final = f"""\
backend counted
    stick-table {LINE} peers mesh
backend counted.agg
    stick-table {LINE} peers mesh
backend counted.lease
    stick-table type ipv6 size 16 expire 2s store gpt(4) peers mesh
backend fails
    server s abns@fails-{{origin}}
frontend failing
    bind abns@fails-{{origin}}
    http-request return status 500
"""
RULES: Final = """\
    tcp-request session track-sc0 src table counted
    http-request sc-inc-gpc0(0) if { path /gpc0 }
    http-request sc-inc-gpc1(0) if { path /gpc1 }
    http-request deny deny_status 404 if { path /error }
    http-request set-var(txn.now) date(0,ms),and(4294967295)
    http-request set-var(txn.left) str(::),table_gpt(1,counted.lease),sub(txn.now),and(4294967295)
    http-request return status 204 if { path /fresh } { var(txn.left) -m int 1:1500 }
    http-request return status 200 if !{ path /fail }
    use_backend fails
"""

CLIENTS: Final = tuple(f"127.1.0.{number}" for number in range(1, 201))
"""Addresses that requests come from."""

Truth = Counter[tuple[str, str]]
"""How many requests each client made for each path."""


async def fleet(
    mesh: Mesh, more: str = "", expect: str = "lb1 lb2 lb3"
) -> tuple[Peerproto, list[HAProxy]]:
    """Three HAProxies and a peerproto that adds up."""
    mesh.tables, mesh.rules = TABLES, RULES
    more = f"[aggregate counted]\nto = counted.agg\nexpect = {expect}\n{more}"
    return await begin(mesh, f"counted = {LINE} recv-only", more)


async def begin(mesh: Mesh, declared: str, more: str) -> tuple[Peerproto, list[HAProxy]]:
    """Start three HAProxies with the tables of a mesh, and a peerproto that all of its aggregates
    have authority on."""
    hub = mesh.peerproto("hub", declared)
    hub.more = more
    haproxies = [mesh.haproxy(f"lb{number}") for number in (1, 2, 3)]
    hub.start(mesh.nodes)
    for one in haproxies:
        one.start([one, hub])
        await one.up()
    await has_authority(hub)
    return hub, haproxies


async def has_authority(hub: Peerproto) -> None:
    """Wait until all sums of a node have authority."""

    async def it_has() -> bool:
        answer = await hub.ask("show aggregate")
        assert "authority: yes" in answer and "authority: no" not in answer, answer
        return True

    await until(it_has, "the sums have authority")


async def visit(
    haproxies: Sequence[HAProxy],
    requests: int,
    chance: random.Random,
    clients: Sequence[str] = CLIENTS,
) -> Truth:
    """Requests of clients at random, one after the other."""
    made: Truth = Counter()
    for _ in range(requests):
        client, path = chance.choice(clients), chance.choice(list(PATHS))
        await get(chance.choice(haproxies).web, path, client)
        made[client, path] += 1
    return made


def requests(truth: Truth) -> Counter[str]:
    """How many requests each client made."""
    made: Counter[str] = Counter()
    for (client, _), times in truth.items():
        made[client] += times
    return made


def counted(truth: Truth) -> dict[str, Counter[str]]:
    """What must have been counted of each client."""
    values: dict[str, Counter[str]] = {}
    for (client, path), times in truth.items():
        for name in (*OF_EACH, PATHS[path]):
            if name is not None:
                values.setdefault(client, Counter())[name] += times
    return values


async def own(haproxies: Sequence[HAProxy]) -> list[dict[str, Entry]]:
    """What each HAProxy has counted itself."""
    return [await one.table("counted") for one in haproxies]


async def sums(haproxies: Sequence[HAProxy], clients: Collection[str]) -> dict[str, Entry]:
    """The sums of clients that each HAProxy has: of each counter, what all of them count.

    :raises AssertionError: they are not.
    """
    shares = await own(haproxies)
    found: dict[str, Entry] = {}
    for one in haproxies:
        found = await one.table("counted.agg")
        for client in clients:
            mine = [table[client] for table in shares if client in table]
            for name in COUNTERS:
                expected = sum(int(share[name]) for share in mine)
                assert found[client][name] == expected, (client, name, found[client], mine)
    return {client: found[client] for client in clients}


async def summed(haproxies: Sequence[HAProxy], clients: Collection[str]) -> dict[str, Entry]:
    """Wait until each HAProxy has, of each client, the sum of what each counts: the sums."""
    found: dict[str, Entry] = await until(
        partial(sums, haproxies, clients), "all HAProxies have the sums"
    )
    return found


async def all_agree(haproxies: Sequence[HAProxy], truth: Truth) -> None:
    """Wait until each HAProxy has the sum of what each counts, which is what the clients did; and
    see that each counter counts something."""
    values = counted(truth)
    known = [name for name in COUNTERS if name not in BYTES]

    async def they_do() -> dict[str, Entry]:
        found = await sums(haproxies, values)
        for client, expected in values.items():
            seen = {name: found[client][name] for name in known}
            assert seen == {name: expected[name] for name in known}, (client, seen, expected)
        return found

    found = await until(they_do, "all HAProxies have what the clients did")
    for name in COUNTERS:
        assert any(entry[name] for entry in found.values()), f"{name} is 0 everywhere"

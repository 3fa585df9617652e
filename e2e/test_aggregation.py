"""What HAProxies that do not know each other count, added up for all of them."""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Collection, Sequence

from pytest_twisted import ensureDeferred

from testbed import Entry, HAProxy, Mesh, Peerproto, get, pause, until

from .conftest import every_haproxy

pytestmark = every_haproxy

SAMPLES = int(os.environ.get("SAMPLES", "50"))
"""How often rates are read."""

COUNTERS = (
    "gpc0,gpc1,conn_cnt,sess_cnt,http_req_cnt,http_err_cnt,http_fail_cnt,bytes_in_cnt,bytes_out_cnt"
)
RATES = "gpc0_rate(4s),http_req_rate(4s),http_err_rate(4s),bytes_in_rate(4s),conn_rate(4s)"
LINE = f"type string len 32 size 10k expire 10m store {COUNTERS},conn_cur,{RATES}"
TABLES = f"""\
backend counted
    stick-table {LINE} peers mesh
backend counted.agg
    stick-table {LINE} peers mesh
backend counted.lease
    stick-table type ipv6 size 16 expire 2s store gpt(4) peers mesh
"""
RULES = """\
    http-request track-sc0 url_param(u) table counted
    http-request sc-inc-gpc0(0) if { path /gpc }
    acl too_many url_param(u),table_http_req_cnt(counted.agg) gt 30
    http-request deny deny_status 429 if too_many { path /limited }
    http-request return status 404 if { path /error }
    http-request set-var(txn.now) date(0,ms),and(4294967295)
    http-request set-var(txn.left) str(::),table_gpt(1,counted.lease),sub(txn.now),and(4294967295)
    http-request return status 204 if { path /fresh } { var(txn.left) -m int 1:1500 }
    http-request return status 200
"""


async def fleet(mesh: Mesh, more: str = "") -> tuple[Peerproto, list[HAProxy]]:
    """Three HAProxies and a peerproto that adds up."""
    mesh.tables, mesh.rules = TABLES, RULES
    hub = mesh.peerproto("hub", f"counted = {LINE} recv-only")
    hub.more = "[aggregate counted]\nto = counted.agg\nexpect = lb1 lb2 lb3\n" + more
    haproxies = [mesh.haproxy(f"lb{number}") for number in (1, 2, 3)]
    hub.start(mesh.nodes)
    for one in haproxies:
        one.start([one, hub])
        await one.up()
    await has_authority(hub)
    return hub, haproxies


async def has_authority(hub: Peerproto) -> None:
    async def it_has() -> bool:
        answer = await hub.ask("show aggregate counted")
        assert "authority: yes" in answer, answer
        return True

    await until(it_has, "the sum has authority")


async def own(haproxies: Sequence[HAProxy]) -> list[dict[str, Entry]]:
    return [await one.table("counted") for one in haproxies]


async def all_agree(haproxies: Sequence[HAProxy], truth: dict[str, int]) -> None:
    """Wait until each HAProxy has, of each client, the sum of what each counts: all requests."""
    assert await summed(haproxies, truth) == truth


async def summed(haproxies: Sequence[HAProxy], clients: Collection[str]) -> dict[str, int]:
    """Wait until each HAProxy has, of each client, the sum of what each counts: that of
    requests."""
    requests: dict[str, int] = {}

    async def is_so() -> bool:
        counted = await own(haproxies)
        for one in haproxies:
            sums = await one.table("counted.agg")
            for client in clients:
                shares = [table[client] for table in counted if client in table]
                requests[client] = int(sums[client]["http_req_cnt"])
                for name in COUNTERS.split(","):
                    expected = sum(int(share[name]) for share in shares)
                    assert sums[client][name] == expected, (client, name, sums[client], shares)
        return True

    await until(is_so, "all HAProxies have the sums")
    return requests


async def visit(
    haproxies: Sequence[HAProxy], requests: int, chance: random.Random, clients: int = 200
) -> Counter[str]:
    """Requests of clients at random; how many each made."""
    made: Counter[str] = Counter()
    for _ in range(requests):
        client = f"client{chance.randrange(clients)}"
        path = chance.choice(["/", "/gpc", "/error"])
        await get(chance.choice(haproxies).web, f"{path}?u={client}")
        made[client] += 1
    return made


@ensureDeferred
async def test_counters(mesh: Mesh) -> None:
    """Each counter of each client is the truth on each HAProxy; also after the node that adds up
    was killed, and after a HAProxy was."""
    hub, haproxies = await fleet(mesh)
    chance = random.Random(13)
    truth = await visit(haproxies, 600, chance)
    await all_agree(haproxies, truth)

    await hub.stop(signal.SIGKILL)
    truth += await visit(haproxies, 50, chance)
    hub.start(mesh.nodes)
    await has_authority(hub)
    await all_agree(haproxies, truth)

    victim = haproxies[1]
    await victim.stop(signal.SIGKILL)
    truth += await visit([haproxies[0], haproxies[2]], 50, chance)
    victim.start([victim, hub])
    await victim.up()
    await has_authority(hub)
    await all_agree(haproxies, truth)
    truth += await visit(haproxies, 50, chance)
    await all_agree(haproxies, truth)


async def rates_off(haproxies: Sequence[HAProxy], reader: HAProxy) -> float:
    """By how many events the sums that one has are off what all read themselves.

    :raises AssertionError: these are too many.
    """
    before = await own(haproxies)
    sums = await reader.table("counted.agg")
    after = await own(haproxies)
    worst = 0
    for client in sums:
        for name in ("http_req_rate", "gpc0_rate", "http_err_rate"):
            read = [
                sum(int(table[client][name]) for table in tables if client in table)
                for tables in (before, after)
            ]
            total = int(sums[client][name])
            off = max(min(read) - total, total - max(read), 0)
            assert off <= max(len(haproxies), max(read) / 100), (client, name, total, read)
            worst = max(worst, off)
    return worst


@ensureDeferred
async def test_rates(mesh: Mesh) -> None:
    """While the load rises, stands, falls and stops, the sum of rates is within as many events as
    there are HAProxies of what these read themselves, or 1 %."""
    _, haproxies = await fleet(mesh)
    chance = random.Random(14)
    worst = 0.0
    for sample in range(SAMPLES):
        load = min(sample, 15, max(0, 30 - sample)) if SAMPLES == 50 else 10
        await visit(haproxies, load, chance, clients=3)
        await pause(0.1)

        async def are_close(reader: HAProxy = haproxies[sample % 3]) -> bool:
            nonlocal worst
            worst = max(worst, await rates_off(haproxies, reader))
            return True

        await until(are_close, f"sample {sample}: the rates are close", 2)
    print(f"counted: {SAMPLES} samples of rates, off by {worst:g} events at most")


@ensureDeferred
async def test_limit(mesh: Mesh) -> None:
    """A client that is under the limit on each HAProxy and above it in all is denied on all, at
    most one request late."""
    _, haproxies = await fleet(mesh)
    for client in range(5):
        answers = []
        for number in range(36):
            answers.append(await get(haproxies[number % 3].web, f"/limited?u=c{client}"))
            await pause(0.02)
        late = answers[31:].count(200)
        assert answers[:30] == [200] * 30
        assert late <= 1, answers


def reload(hub: Peerproto) -> None:
    """Have it read its file again."""
    assert hub.process is not None
    hub.process.send_signal(signal.SIGHUP)


@ensureDeferred
async def test_sighup(mesh: Mesh) -> None:
    """An aggregate changes with SIGHUP, goes, and comes: sessions stay."""
    hub, haproxies = await fleet(mesh)
    truth = await visit(haproxies, 30, random.Random(15))
    await all_agree(haproxies, truth)
    made = re.findall(r"new_conn=\d+", await hub.ask("show peers"))
    aggregate, hub.more = hub.more, hub.more + "interval = 100ms\n"
    hub.configure(mesh.nodes)
    reload(hub)
    truth += await visit(haproxies, 30, random.Random(16))
    await all_agree(haproxies, truth)

    # From now on HAProxies take over each other's counts.
    hub.more = ""
    hub.configure(mesh.nodes)
    reload(hub)

    async def is_gone() -> bool:
        answer = await hub.ask("show aggregate")
        assert not answer.strip(), answer
        return True

    await until(is_gone, "there is no aggregate")
    hub.more = aggregate
    hub.configure(mesh.nodes)
    reload(hub)
    await has_authority(hub)
    for number, one in enumerate(haproxies * 5):
        await get(one.web, f"/?u=later{number // 3}")
    await all_agree(haproxies, {f"later{number}": 3 for number in range(5)})
    assert made == re.findall(r"new_conn=\d+", await hub.ask("show peers"))
    assert len(made) >= 3


@ensureDeferred
async def test_restart_under_load(mesh: Mesh) -> None:
    """A HAProxy that is killed and counts from 0 at once: the sums never go back, and have
    everything in the end but for what it counted before it was taught."""
    hub, haproxies = await fleet(mesh)
    chance = random.Random(17)
    truth = await visit(haproxies, 60, chance, clients=6)
    await all_agree(haproxies, truth)
    witness, victim = haproxies[0], haproxies[1]
    low = dict(truth)
    await victim.stop(signal.SIGKILL)
    victim.start([victim, hub])
    await victim.up()
    made = truth.copy()
    for _ in range(60):
        made += await visit([victim], 2, chance, clients=6)
        seen_by = await witness.table("counted.agg")
        for client, least in low.items():
            seen = int(seen_by[client]["http_req_cnt"])
            assert least <= seen <= made[client], (client, least, seen, made[client])
            low[client] = seen
        await pause(0.1)
    sums = await summed(haproxies, made)
    lost = {client: made[client] - seen for client, seen in sums.items()}
    print(f"counted: {sum(lost.values())} requests before it was taught are not in the sums")
    assert min(lost.values()) >= 0 and sum(lost.values()) < 20, lost
    assert (await hub.ask("show aggregate counted")).count(": in for") == 3


async def decide(haproxies: Sequence[HAProxy], by_the_sum: bool) -> None:
    """Wait until each HAProxy decides by the sum, or by its own counts."""
    expected = 204 if by_the_sum else 200

    async def all_do() -> bool:
        answers = [await get(one.web, "/fresh") for one in haproxies]
        assert answers == [expected] * len(answers), answers
        return True

    await until(all_do, f"HAProxies answer {expected}", 20)


async def stay_with_their_own(haproxies: Sequence[HAProxy], seconds: float) -> None:
    """See for a time that no HAProxy decides by the sum."""
    for _ in range(int(seconds / 0.1)):
        assert [await get(one.web, "/fresh") for one in haproxies] == [200] * len(haproxies)
        await pause(0.1)


@ensureDeferred
async def test_freshness(mesh: Mesh) -> None:
    """HAProxies decide by the sum as long as it is kept up: not when the node that adds up is
    killed, stopped or frozen, nor when a source is missed, until the grace is over."""
    hub, haproxies = await fleet(mesh, "lease = counted.lease\ngrace = 3s\n")
    await decide(haproxies, True)
    assert hub.process is not None
    hub.process.send_signal(signal.SIGSTOP)
    await pause(1.2)
    await stay_with_their_own(haproxies, 2)
    hub.process.send_signal(signal.SIGCONT)
    await decide(haproxies, True)

    for how in (signal.SIGKILL, signal.SIGTERM):
        await hub.stop(how)
        await pause(1.2)
        await stay_with_their_own(haproxies, 1)
        hub.start(mesh.nodes)
        await decide(haproxies, True)

    await haproxies[1].stop(signal.SIGKILL)
    others = [haproxies[0], haproxies[2]]
    await decide(others, False)
    await decide(others, True)
    assert "lb2: not connected" in await hub.ask("show aggregate counted")

"""What HAProxies that do not know each other count, added up for all of them."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Sequence

from pytest_twisted import ensureDeferred

from testbed import HAProxy, Mesh, Peerproto, get, pause, until

from .conftest import every_haproxy
from .summing import (
    CLIENTS,
    all_agree,
    fleet,
    has_authority,
    requests,
    summed,
    visit,
)

pytestmark = every_haproxy


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
    later = [f"127.2.0.{number}" for number in range(1, 21)]
    await all_agree(haproxies, await visit(haproxies, 100, random.Random(18), later))
    assert made == re.findall(r"new_conn=\d+", await hub.ask("show peers"))
    assert len(made) >= 3


@ensureDeferred
async def test_restart_under_load(mesh: Mesh) -> None:
    """A HAProxy that is killed and counts from 0 at once: the sums never go back, and have
    everything in the end but for what it counted before it was taught."""
    hub, haproxies = await fleet(mesh)
    chance = random.Random(17)
    few = CLIENTS[:6]
    truth = await visit(haproxies, 60, chance, few)
    await all_agree(haproxies, truth)
    witness, victim = haproxies[0], haproxies[1]
    low = dict(requests(truth))
    await victim.stop(signal.SIGKILL)
    victim.start([victim, hub])
    await victim.up()
    made = truth.copy()
    for _ in range(60):
        made += await visit([victim], 2, chance, few)
        seen_by = await witness.table("counted.agg")
        for client, least in low.items():
            seen, most = int(seen_by[client]["http_req_cnt"]), requests(made)[client]
            assert least <= seen <= most, (client, least, seen, most)
            low[client] = seen
        await pause(0.1)
    found = await summed(haproxies, few)
    lost = {
        client: number - int(found[client]["http_req_cnt"])
        for client, number in requests(made).items()
    }
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

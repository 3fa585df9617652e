"""Nodes that pass on what HAProxies say: one for twenty of them, and two that know each other."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from functools import partial

from pytest_twisted import ensureDeferred

from testbed import HAProxy, Mesh, Node, Peerproto, get, pause, programs, until

from .conftest import every_haproxy, oldest_and_newest
from .deciding import STEADY
from .test_sharing import RULES

FLEET = 20

READ = "was read again"
"""What a node logs when it has read its file with SIGHUP."""

LINE = "type string len 32 size 1k expire 10m store gpc0,http_req_cnt"
TABLES = f"""\
backend counted
    stick-table {LINE} peers mesh
"""
Said = dict[str, object]
"""By clients, how often they came."""


def fleet(mesh: Mesh, size: int) -> list[HAProxy]:
    mesh.tables, mesh.rules = TABLES, RULES
    return [mesh.haproxy(f"lb{number}") for number in range(1, size + 1)]


def relay(mesh: Mesh, name: str, hubs: str = "") -> Peerproto:
    hub = mesh.peerproto(name, f"counted = {LINE}")
    hub.more = "[relay]\ntables = counted\n" + (f"hubs = {hubs}\n" if hubs else "")
    return hub


async def start(hubs: Sequence[Peerproto], haproxies: Sequence[HAProxy]) -> None:
    """Start HAProxies that know the hubs, and not each other, and wait until all is learnt."""
    for hub in hubs:
        hub.start([*hubs, *haproxies])
    for one in haproxies:
        one.start([one, *hubs])
    for one in haproxies:
        # What it counts before that is overwritten when it is taught.
        await one.settled(*(hub.name for hub in hubs))
    for hub in hubs:
        others = [other for other in hubs if other is not hub]
        await hub.in_step(*(peer.name for peer in (*others, *haproxies)))


async def said(node: Node) -> Said:
    return {client: entry["gpc0"] for client, entry in (await node.table("counted")).items()}


async def all_say(nodes: Sequence[Node], expected: Said) -> None:
    """Wait until each node has this in its table."""

    async def they_do() -> bool:
        for node in nodes:
            seen = await said(node)
            assert seen == expected, (node.name, seen)
        return True

    await until(they_do, "all have what each has counted")


async def updates(hubs: Sequence[Peerproto]) -> list[tuple[str, int, int]]:
    """For each peer of each hub, how many updates were sent to it, and have come of it."""
    found = []
    for hub in hubs:
        report = await hub.ask("show peers")
        for peer in re.split(r"\n  (?=0x)", report)[1:]:
            (name,) = re.findall(r"id=([^(]+)\(", peer)
            (sent,) = re.findall(r"tx_updates=(\d+)", peer)
            (heard,) = re.findall(r"rx_updates=(\d+)", peer)
            found.append((f"{hub.name}: {name}", int(sent), int(heard)))
    return found


async def quiet(hubs: Sequence[Peerproto]) -> list[tuple[str, int, int]]:
    """Wait until no update goes anywhere any more: how many have."""

    async def at_rest() -> bool:
        before = await updates(hubs)
        # An update and its echo take a few ms each.
        await pause(1)
        now = await updates(hubs)
        assert now == before, [pair for pair in zip(before, now) if pair[0] != pair[1]]
        return True

    await until(at_rest, "the counters of updates stand still")
    return await updates(hubs)


@ensureDeferred
async def test_twenty(mesh: Mesh) -> None:
    """Twenty HAProxies that know a hub alone learn what each other counts, count on from each
    other, and are sent each change once; one that was killed learns it all."""
    *_, mesh.program = programs().values()
    haproxies, hub = fleet(mesh, FLEET), relay(mesh, "hub")
    await start([hub], haproxies)
    before = await quiet([hub])

    # Each has a client of its own; then one client goes round.
    for one in haproxies:
        assert await get(one.web, f"/?u=of-{one.name}") == 200
    expected: Said = {f"of-{one.name}": 1 for one in haproxies}
    await all_say([hub, *haproxies], expected)
    for times, one in enumerate(haproxies, 1):
        assert await get(one.web, "/?u=all") == 200
        expected["all"] = times
        await all_say([haproxies[times % FLEET]], expected)
    await all_say([hub, *haproxies], expected)

    made = 2 * FLEET
    for (who, sent_before, heard_before), (_, sent, heard) in zip(before, await quiet([hub])):
        # HAProxy sends an entry when a request begins and when it ends: twice at most.
        assert 2 <= heard - heard_before <= 4, (who, heard - heard_before)
        assert made - 2 <= sent - sent_before <= 2 * (made - 2), (who, sent - sent_before)

    victim = haproxies[FLEET // 2]
    victim.kill()
    victim.start([victim, hub])
    await all_say([victim], expected)
    await quiet([hub])


@every_haproxy
@ensureDeferred
async def test_two_hubs(mesh: Mesh) -> None:
    """HAProxies reach each other by two hubs that know each other: each entry comes to be the same
    everywhere, and no change comes back to where it has been, also if all change the same entry
    at once."""
    haproxies = fleet(mesh, 4)
    hubs = [relay(mesh, "hub1", hubs="hub2"), relay(mesh, "hub2", hubs="hub1")]
    await start(hubs, haproxies)
    before = await quiet(hubs)
    expected: Said = {}
    rounds = 5
    for number in range(rounds):
        for one in haproxies:
            assert await get(one.web, f"/?u=of-{one.name}") == 200
            expected[f"of-{one.name}"] = number + 1
        await all_say([*hubs, *haproxies], expected)
    made = rounds * len(haproxies)
    for (who, sent_before, heard_before), (_, sent, heard) in zip(before, await quiet(hubs)):
        # It is sent what the others have counted, and by the other way again at most.
        assert sent - sent_before <= 2 * made, (who, sent - sent_before)
        assert heard - heard_before <= 2 * made, (who, heard - heard_before)

    # Each of them takes its own change for the latest, or that of another one.
    for _ in range(rounds):
        for one in haproxies:
            await one.do("set table counted key all data.gpc0 7")
            await one.do(f"set table counted key torn data.gpc0 {one.name[2:]}")
    torn = {"1", "2", "3", "4"}
    await quiet(hubs)
    for node in (*hubs, *haproxies):
        seen = await said(node)
        assert str(seen.pop("torn")) in torn
        assert seen == {**expected, "all": 7}, node.name
    await haproxies[0].do("set table counted key torn data.gpc0 9")
    await all_say([*hubs, *haproxies], {**expected, "all": 7, "torn": 9})
    await quiet(hubs)


async def steady(hub: Peerproto) -> list[str]:
    """How many sessions there were with each peer; none has begun for some seconds. Nodes that were
    just started may call each other, and break off both calls.

    :raises AssertionError: one has.
    """
    before = re.findall(r"new_conn=\d+", await hub.ask("show peers"))
    await pause(STEADY)
    assert re.findall(r"new_conn=\d+", await hub.ask("show peers")) == before
    return before


@oldest_and_newest
@ensureDeferred
async def test_sighup(mesh: Mesh) -> None:
    """A relay comes, changes and goes with SIGHUP: what is passed on changes with it, and sessions
    stay."""
    haproxies, hub = fleet(mesh, 3), mesh.peerproto("hub", f"counted = {LINE}")
    await start([hub], haproxies)
    sessions = await until(partial(steady, hub), "no more sessions begin")
    a, b, c = haproxies

    async def reads(relay: str) -> None:
        """Have it read its file again, with this in it."""
        hub.more = relay
        hub.configure(mesh.nodes)
        read = hub.log.read_text().count(READ)
        hub.send_signal(signal.SIGHUP)

        async def has_read() -> bool:
            return hub.log.read_text().count(READ) > read

        await until(has_read, "the node has read its file")
        await hub.in_step(*(one.name for one in haproxies))

    async def comes_to(key: str, *others: Node) -> None:
        """Something is set at the first HAProxy, and comes to these alone."""
        await a.do(f"set table counted key {key} data.gpc0 1")

        async def has_come() -> bool:
            for one in (hub, *others):
                assert key in await said(one), one.name
            return True

        await until(has_come, f"{key} has come to {[one.name for one in others]}")
        await quiet([hub])
        for one in {b, c} - {*others}:
            assert key not in await said(one), one.name

    await comes_to("before")
    await reads("[relay]\ntables = counted\n")
    await comes_to("relayed", b, c)
    # Of two hubs neither is told what the other one says.
    await reads("[relay]\ntables = counted\nhubs = lb1 lb2\n")
    await comes_to("of-a-hub", c)
    await reads("[relay]\ntables = counted\nhubs = lb1 lb3\n")
    await comes_to("of-another-hub", b)
    await reads("")
    await comes_to("after")
    assert len(sessions) >= 3
    assert re.findall(r"new_conn=\d+", await hub.ask("show peers")) == sessions

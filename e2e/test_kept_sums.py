"""A node that adds up, with a file that keeps what its HAProxies have counted."""

from __future__ import annotations

import random
import signal
from collections import Counter

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import HAProxy, Mesh, pause, until

from .conftest import oldest_and_newest
from .summing import fleet, has_authority, requests, visit
from .test_storage import written


@oldest_and_newest
@ensureDeferred
async def test_kept_sums(mesh: Mesh) -> None:
    """A node is killed and starts anew while one of its HAProxies is gone: as soon as those that
    are there have taught it, it has authority, and the sums have what the one that is gone has
    counted. They never go back."""
    path = mesh.folder / "sums.db"
    more = f"[storage]\npath = {path}\ninterval = 100ms\n"
    hub, haproxies = await fleet(mesh, more, expect="lb1 lb2")
    chance = random.Random(29)
    truth = await visit(haproxies, 200, chance)
    *others, gone = haproxies

    async def are_true() -> bool:
        for one in others:
            sums = await one.table("counted.agg")
            assert {key: int(entry["http_req_cnt"]) for key, entry in sums.items()} == requests(
                truth
            )
        return True

    await until(are_true, "the sums are true")
    await gone.stop(signal.SIGKILL)
    await written(hub)

    back: list[str] = []
    stop: list[bool] = []
    watching = [Deferred.fromCoroutine(watch(one, stop, back)) for one in others]
    await hub.stop(signal.SIGKILL)
    truth += await visit(others, 50, chance)
    hub.start(mesh.nodes)
    await hub.up()
    await has_authority(hub)
    await until(are_true, "the sums are true again")
    truth += await visit(others, 50, chance)
    await until(are_true, "the sums go on")
    stop.append(True)
    for one in watching:
        await one
    assert not back, back
    shares = await hub.ask("show aggregate counted")
    assert "lb3: not connected" in shares, shares


async def watch(haproxy: HAProxy, stop: list[bool], back: list[str]) -> None:
    """Look at all sums of a HAProxy again and again, and note those that go back."""
    highest: Counter[str] = Counter()
    while not stop:
        for key, entry in (await haproxy.table("counted.agg")).items():
            value = int(entry["http_req_cnt"])
            if value < highest[key]:
                back.append(f"{key} at {haproxy.name}: {highest[key]}, then {value}")
            highest[key] = value
        await pause(0.02)

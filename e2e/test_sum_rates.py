"""Sums of rates, beside what the HAProxies read themselves."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence

from pytest_twisted import ensureDeferred

from testbed import Entry, HAProxy, Mesh, pause, until

from .conftest import every_haproxy
from .summing import CLIENTS, RATES, Truth, fleet, own, requests, visit

pytestmark = every_haproxy

SAMPLES = int(os.environ.get("SAMPLES", "50"))
"""How often rates are read."""

MOST = 20
"""Requests between two samples, while the load stands."""

FEW = (*CLIENTS[:1] * 5, *CLIENTS[1:3] * 2, *CLIENTS[3:20])
"""Clients, some of whom come more often than most others."""

LATE = 0.05
"""Seconds by which a sum may be late: an update tells how long ago a period began, and not how long
it has been under way itself, to the node and on to a HAProxy."""


def load(sample: int) -> int:
    """Requests before a sample: they become more, stay as many, become fewer, and stop."""
    part, along = divmod(4 * sample / SAMPLES, 1)
    return round((along, 1, 1 - along, 0)[int(part)] * MOST)


def read(tables: Sequence[dict[str, Entry]], client: str, name: str) -> int:
    """What HAProxies read of a client together."""
    return sum(int(table[client][name]) for table in tables if client in table)


def per_request(tables: Sequence[dict[str, Entry]], client: str, name: str) -> int:
    """What a request adds to a rate: 1, or its bytes."""
    if not name.startswith("bytes_"):
        return 1
    requests = read(tables, client, "http_req_cnt")
    return read(tables, client, name.replace("_rate", "_cnt")) // requests


async def has_come(reader: HAProxy, truth: Truth) -> None:
    """Wait until a HAProxy has the sum of all requests: what is under way is in no reading."""

    async def it_has() -> bool:
        found = await reader.table("counted.agg")
        for client, made in requests(truth).items():
            assert found[client]["http_req_cnt"] == made, (client, made, found[client])
        return True

    await until(it_has, f"{reader.name} has the sum of all requests")


@ensureDeferred
async def test_rates(mesh: Mesh) -> None:
    """While the load rises, stands, falls and is gone, each sum of rates is within as many events
    as there are HAProxies of what these read themselves, or 1 %: each of them rounds down what it
    reads. They read right before and right after the sum is read, and rates fall meanwhile. An
    event is a request, so that of bytes it is as many as a request has."""
    _, haproxies = await fleet(mesh)
    chance = random.Random(14)
    truth: Truth = Counter()
    off: Counter[str] = Counter()
    highest: Counter[str] = Counter()
    judged = 0
    for sample in range(SAMPLES):
        reader = haproxies[sample % 3]
        truth += await visit(haproxies, load(sample), chance, FEW)
        # Rates turn and fall for two periods when nobody comes any more.
        await pause(0.1 if load(sample) else 8.0 / (SAMPLES // 4))
        await has_come(reader, truth)
        before = await own(haproxies)
        await pause(LATE)
        sums = await reader.table("counted.agg")
        after = await own(haproxies)
        for client in requests(truth):
            for name in RATES:
                event = per_request(after, client, name)
                there = sorted(read(tables, client, name) for tables in (before, after))
                total = int(sums[client][name])
                wrong = max(there[0] - total, total - there[1], 0)
                assert wrong <= max(len(haproxies) * event, there[1] / 100), (
                    f"sample {sample}, {client}: {name} is {total}, and {there} by themselves"
                )
                off[name] = max(off[name], wrong)
                highest[name] = max(highest[name], total)
                judged += 1
    print(
        f"counted: HAProxy {mesh.program.branch}: {SAMPLES} samples, {judged} sums of rates:"
        f" off at most by {dict(off)} of up to {dict(highest)}"
    )
    for name in RATES:
        assert highest[name] > 0, f"{name} is 0 everywhere"

    async def all_are_0() -> bool:
        for one in haproxies:
            for client, entry in (await one.table("counted.agg")).items():
                assert not any(entry[name] for name in RATES), (one.name, client, entry)
        return True

    await until(all_are_0, "all sums of rates are 0")

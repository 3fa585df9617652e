"""Two nodes that add up for the same HAProxies, and know nothing of each other."""

from __future__ import annotations

import random
import signal

import attrs
from pytest_twisted import ensureDeferred

from testbed import Link, Mesh, Peerproto

from .conftest import oldest_and_newest
from .deciding import BOTH, FIRST, LINE, RULES, SECOND, TABLES, Deciding
from .test_aggregation import has_authority

BEHIND = 30
"""Requests of one client that sums may be behind: they come one after the other, and take some ms
each."""


class Pair(Deciding):
    """Three HAProxies, and two nodes that add up."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__([mesh.haproxy(f"lb{n}", TABLES, RULES) for n in (1, 2, 3)])
        self.hubs = [mesh.peerproto(f"agg{n}", f"counted = {LINE}") for n in BOTH]
        for number, hub in zip(BOTH, self.hubs):
            # Each has an output that the other one is not to take for a table of all.
            hub.settings = "learn-tables = no\n"
            hub.more = (
                f"[aggregate counted]\nto = counted.agg{number}\nlease = counted.lease{number}\n"
                "expect = lb1 lb2 lb3\ngrace = 3s\n"
            )
        # The second HAProxy and the first hub reach each other by these alone.
        self.links = [
            Link(one.port, random.Random(1), calm=True) for one in (self.hubs[0], self.haproxies[1])
        ]

    async def start(self) -> None:
        for hub in self.hubs:
            self.start_hub(hub)
        for one in self.haproxies:
            first = self.hubs[0]
            if one is self.haproxies[1]:
                first = attrs.evolve(first, place=self.links[0].address)
            one.start([one, first, self.hubs[1]])
            await one.up()
        for hub in self.hubs:
            await has_authority(hub)

    def start_hub(self, hub: Peerproto) -> None:
        peers = [*self.haproxies]
        if hub is self.hubs[0]:
            peers[1] = attrs.evolve(peers[1], place=self.links[1].address)
        hub.start([hub, *peers])


@oldest_and_newest
@ensureDeferred
async def test_pair(mesh: Mesh) -> None:
    """Either of two is killed or stopped under load, or loses a source: each request is decided by
    the sums of the other one, which are as good."""
    pair = Pair(mesh)
    first, second = pair.hubs
    await pair.start()
    pair.begin()
    try:
        await pair.steady()
        pair.asks = True
        for hub, other, how in ((first, SECOND, signal.SIGKILL), (second, FIRST, signal.SIGTERM)):
            await hub.stop(how)
            await pair.all_decide((other,), (other,), (other,))
            pair.start_hub(hub)
            await pair.steady()

        # The first one loses a source: without authority for the grace, and then with fewer.
        for link in pair.links:
            link.stop()
        await pair.all_decide((SECOND,), (SECOND,), (SECOND,))
        await pair.all_decide(BOTH, (SECOND,), BOTH)
    finally:
        for link in pair.links:
            link.cut()
    await pair.end()
    pair.show(mesh.program.branch)
    assert pair.behind <= BEHIND

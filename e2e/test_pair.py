"""Two nodes that add up for the same HAProxies, and know nothing of each other."""

from __future__ import annotations

import random
import signal

import attrs
from pytest_twisted import ensureDeferred

from testbed import Link, Mesh, Node, Peerproto, default

from .conftest import IS_LONG, oldest_and_newest
from .deciding import BOTH, FIRST, LINE, RULES, SECOND, TABLES, Deciding
from .summing import has_authority

CUT_OFF = 1
"""Which HAProxy a node loses."""


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
        # One HAProxy and each node reach each other by these alone.
        self.to_hubs = [self.link(hub) for hub in self.hubs]
        self.from_hubs = [self.link(self.haproxies[CUT_OFF]) for _ in self.hubs]

    @staticmethod
    def link(node: Node) -> Link:
        return Link(node.port, random.Random(1), calm=True)

    async def start(self) -> None:
        for hub in self.hubs:
            self.start_hub(hub)
        for place, one in enumerate(self.haproxies):
            hubs = self.hubs
            if place == CUT_OFF:
                hubs = [
                    attrs.evolve(hub, place=link.address)
                    for hub, link in zip(self.hubs, self.to_hubs)
                ]
            one.start([one, *hubs])
            await one.up()
        for hub in self.hubs:
            await has_authority(hub)

    def start_hub(self, hub: Peerproto) -> None:
        peers = [*self.haproxies]
        link = self.from_hubs[self.hubs.index(hub)]
        peers[CUT_OFF] = attrs.evolve(peers[CUT_OFF], place=link.address)
        hub.start([hub, *peers])

    async def mishaps(self, hub: Peerproto, other: tuple[int]) -> None:
        """A node is killed, stopped, and loses a source; it comes back each time.

        :param other: the node that is there.
        """
        for how in (signal.SIGKILL, signal.SIGTERM):
            self.mishap = f"{hub.name}: {how.name}"
            await hub.stop(how)
            await self.all_decide(other, other, other)
            self.start_hub(hub)
            await self.steady()

        self.mishap = f"{hub.name} loses a source"
        # It is without authority for the grace, and then has it with fewer sources.
        number = self.hubs.index(hub)
        links = (self.to_hubs[number], self.from_hubs[number])
        for link in links:
            link.refuse()
        await self.all_decide(other, other, other)
        await self.all_decide(BOTH, other, BOTH)
        for link in links:
            link.heal()
        await self.steady()

    async def end(self) -> None:
        try:
            await super().end()
        finally:
            for link in (*self.to_hubs, *self.from_hubs):
                link.stop()


@oldest_and_newest
@ensureDeferred
async def test_pair(mesh: Mesh) -> None:
    """Each of two is killed and stopped under load, and loses a source: each request is decided by
    the sums of the other one, which are as good, and never by less than before.

    ``make test`` does it to the one with one HAProxy, and to the other with another.
    """
    pair = Pair(mesh)
    first, second = pair.hubs
    is_default = mesh.program == default()
    await pair.start()
    pair.begin()
    try:
        await pair.steady()
        pair.asks = True
        if IS_LONG or is_default:
            await pair.mishaps(first, (SECOND,))
        if IS_LONG or not is_default:
            await pair.mishaps(second, (FIRST,))
    finally:
        await pair.end()
    pair.check("a pair", mesh.program.branch)

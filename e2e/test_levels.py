"""Two sites with a pair of nodes each, and a pair above, that count for all HAProxies."""

from __future__ import annotations

import random
import signal

import attrs
from pytest_twisted import ensureDeferred

from testbed import HAProxy, Link, Mesh, Peerproto, until

from .conftest import IS_LONG, oldest_and_newest
from .deciding import BOTH, FIRST, LINE, RULES, SECOND, TABLES, Deciding

SITES = ("east", "west")
GRACE = "grace = 3s\n"

HOWS = (signal.SIGKILL, signal.SIGTERM)


class Levels(Deciding):
    """Two HAProxies for each site, two nodes that add up for them, and two above."""

    def __init__(self, mesh: Mesh) -> None:
        self.at = {
            site: [mesh.haproxy(f"lb-{site}{n}", TABLES, RULES) for n in BOTH] for site in SITES
        }
        # A sum is published by a site, above, and by each site again: six processes have work with
        # each request, and none is to wait for the processor for as long as a lease holds.
        super().__init__([one for pair in self.at.values() for one in pair], levels=3, every=0.02)
        self.above = [self.node(mesh, f"up{n}") for n in BOTH]
        self.below = {
            site: [self.node(mesh, f"{site}{n}", f"counted = {LINE}") for n in BOTH]
            for site in SITES
        }
        pairs = " ".join("|".join(one.name for one in pair) for pair in self.below.values())
        for one in self.above:
            one.more = (
                "[aggregate counted.site]\nto = counted.global\nlease = counted.global.lease\n"
                f"from = {pairs}\nsource-lease = counted.site.lease\n{GRACE}"
            )
        for site, pair in self.below.items():
            haproxies = " ".join(one.name for one in self.at[site])
            for number, one in enumerate(pair, 1):
                one.more = (
                    "[aggregate counted]\nto = counted.site\nlease = counted.site.lease\n"
                    f"from = {haproxies}\n{GRACE}"
                    f"[aggregate counted.global]\nto = counted.agg{number}\n"
                    f"lease = counted.lease{number}\nfrom = up1|up2\n"
                    f"source-lease = counted.global.lease\n{GRACE}"
                )
        # The first HAProxy and the first node of its site reach each other by these alone.
        self.node_cut, self.haproxy_cut = self.below[SITES[0]][0], self.haproxies[0]
        self.to_node, self.to_haproxy = (
            Link(one.port, random.Random(1), calm=True) for one in (self.node_cut, self.haproxy_cut)
        )

    def node(self, mesh: Mesh, name: str, declared: str = "") -> Peerproto:
        node = mesh.peerproto(name)
        lines = (f"{table} = {LINE},gpt(1)" for table in ("counted.site", "counted.global"))
        node.declared = "\n".join((declared, *lines))
        node.settings = "learn-tables = no\n"
        return node

    @property
    def nodes(self) -> list[Peerproto]:
        """Those above first."""
        return [*self.above, *(one for pair in self.below.values() for one in pair)]

    def site(self, node: Peerproto) -> str:
        """Where it is; it is none of those above."""
        (site,) = (site for site, pair in self.below.items() if node in pair)
        return site

    def start_node(self, node: Peerproto) -> None:
        """Start a node that knows those above or below it, and its HAProxies."""
        if node in self.above:
            node.start([node, *(one for pair in self.below.values() for one in pair)])
            return
        haproxies: list[HAProxy] = list(self.at[self.site(node)])
        if node is self.node_cut:
            haproxies[0] = attrs.evolve(self.haproxy_cut, place=self.to_haproxy.address)
        node.start([node, *self.above, *haproxies])

    async def start(self) -> None:
        for node in self.nodes:
            self.start_node(node)
        for site, haproxies in self.at.items():
            for one in haproxies:
                nodes = list(self.below[site])
                if one is self.haproxy_cut:
                    nodes[0] = attrs.evolve(self.node_cut, place=self.to_node.address)
                one.start([one, *nodes])
        for one in self.haproxies:
            # What it counts before that is overwritten when it is taught.
            await until(one.counts_itself_up_to_date, f"{one.name} is up to date")
        await self.all_in()
        self.begin()
        await self.steady()
        self.asks = True

    async def end(self) -> None:
        try:
            await super().end()
        finally:
            for link in (self.to_node, self.to_haproxy):
                link.stop()

    async def all_in(self) -> None:
        """Wait until each node has all sources, one of each pair in reserve."""
        for node in self.nodes:
            is_above = node in self.above
            tables = {"counted.site": 2} if is_above else {"counted": 2, "counted.global": 1}
            for table, sources in tables.items():

                async def has_all(
                    node: Peerproto = node, table: str = table, sources: int = sources
                ) -> bool:
                    answer = await node.ask(f"show aggregate {table}")
                    assert "authority: yes" in answer and answer.count(": in for") == sources
                    assert answer.count(": in reserve") == (0 if table == "counted" else sources)
                    return True

                await until(has_all, f"{node.name} has all sources of {table}")

    async def lose(self, node: Peerproto, how: signal.Signals) -> None:
        """A node is killed or stopped, and comes back."""
        self.mishap = f"{node.name}: {how.name}"
        await node.stop(how)
        if node in self.above:
            # Its sites have the other one at once.
            await self.steady()
        else:
            site = self.site(node)
            other = (SECOND if node is self.below[site][0] else FIRST,)
            await self.all_decide(
                *(other if one in self.at[site] else BOTH for one in self.haproxies)
            )
        self.start_node(node)
        await self.all_in()
        await self.steady()

    async def cut_off(self) -> None:
        """A node of a site loses one of its HAProxies, and has it again."""
        self.mishap = "cut off"
        for link in (self.to_node, self.to_haproxy):
            link.refuse()
        _, *others = self.haproxies
        await self.all_decide((SECOND,), *[BOTH] * len(others))
        await self.grace_is_over()
        await self.all_decide((SECOND,), *[BOTH] * len(others))
        for link in (self.to_node, self.to_haproxy):
            link.heal()
        await self.all_in()
        await self.steady()

    async def grace_is_over(self) -> None:
        """Wait until the grace of the node that is cut off is over: from then on its sum has
        authority again, with fewer sources."""

        async def it_has() -> bool:
            answer = await self.node_cut.ask("show aggregate counted")
            assert "authority: yes" in answer and answer.count(": in for") == 1, answer
            return True

        await until(it_has, "the grace is over")


@oldest_and_newest
@ensureDeferred
async def test_two_levels(mesh: Mesh) -> None:
    """Each node of a site and each node above is killed and stopped under load, and one loses a
    HAProxy: each request is decided by the sum of all sites, and never by less than before.

    ``make test`` does it to some of them.
    """
    levels = Levels(mesh)
    await levels.start()
    every = [(node, how) for node in levels.nodes for how in HOWS]
    try:
        for node, how in every if IS_LONG else [every[0], every[5]]:
            await levels.lose(node, how)
        await levels.cut_off()
    finally:
        await levels.end()
    levels.check("two levels", mesh.program.branch)

"""Two sites with a pair of nodes each, and a pair above, that count for all HAProxies."""

from __future__ import annotations

import signal

from pytest_twisted import ensureDeferred

from testbed import Mesh, Peerproto, until

from .deciding import BOTH, LINE, RULES, SECOND, TABLES, Deciding

BEHIND = 30
"""Requests of one client that sums may be behind: each level takes its interval."""

SITES = ("east", "west")
GRACE = "grace = 3s\n"


class Levels(Deciding):
    """A HAProxy for each site, two nodes that add up for it, and two above."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__([mesh.haproxy(f"lb-{site}", TABLES, RULES) for site in SITES])
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
            for number, one in enumerate(pair, 1):
                one.more = (
                    "[aggregate counted]\nto = counted.site\nlease = counted.site.lease\n"
                    f"from = lb-{site}\n{GRACE}"
                    f"[aggregate counted.global]\nto = counted.agg{number}\n"
                    f"lease = counted.lease{number}\nfrom = up1|up2\n"
                    f"source-lease = counted.global.lease\n{GRACE}"
                )

    def node(self, mesh: Mesh, name: str, declared: str = "") -> Peerproto:
        node = mesh.peerproto(name)
        lines = (f"{table} = {LINE},gpt(1)" for table in ("counted.site", "counted.global"))
        node.declared = "\n".join((declared, *lines))
        node.settings = "learn-tables = no\n"
        return node

    def start_node(self, node: Peerproto) -> None:
        """Start a node that knows those above or below it, and its HAProxy."""
        if node in self.above:
            others = [one for pair in self.below.values() for one in pair]
            node.start([node, *others])
        else:
            (place,) = (n for n, site in enumerate(SITES) if node in self.below[site])
            node.start([node, *self.above, self.haproxies[place]])

    async def start(self) -> None:
        nodes = [*self.above, *(one for pair in self.below.values() for one in pair)]
        for one in nodes:
            self.start_node(one)
        for site, haproxy in zip(SITES, self.haproxies):
            haproxy.start([haproxy, *self.below[site]])
        for haproxy in self.haproxies:
            # What it counts before that is overwritten when it is taught.
            await until(haproxy.counts_itself_up_to_date, f"{haproxy.name} is up to date")


@ensureDeferred
async def test_two_levels(mesh: Mesh) -> None:
    """A node of a site and a node above are killed under load: each request is decided by the sum
    of all sites."""
    levels = Levels(mesh)
    await levels.start()
    levels.begin()
    await levels.steady()
    levels.asks = True
    up, east = levels.above[0], levels.below["east"][0]
    await up.stop(signal.SIGKILL)
    await levels.steady()
    levels.start_node(up)
    await levels.steady()
    await east.stop(signal.SIGKILL)
    await levels.all_decide((SECOND,), BOTH)
    levels.start_node(east)
    await levels.steady()
    await levels.end()
    levels.show(mesh.program.branch)
    assert levels.behind <= BEHIND

"""Nodes that add up, and HAProxies that count and read the sums, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Optional

import attrs

from peerproto.aggregation.lease import LINE as LEASE
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.service.service import StickTableService
from peerproto.testing import MemoryNetwork
from peerproto.testing.rawpeer import Acks
from tests.simulation.frequency import PERIOD
from tests.simulation.haproxy import COUNTED, RATE, Learns, Process

SHORT: Final = 6
"""Seconds that entries live that have a short life: longer than there is anything of a rate."""


def line_of(short_lived: bool, sums: bool) -> str:
    """How a table is declared that HAProxies count in, or have the sums in."""
    expire = f"{SHORT}s" if short_lived else "1h"
    columns = f"gpc0,{RATE}({PERIOD})"
    return f"type integer size 1k expire {expire} store {columns}{',gpt(1)' if sums else ''}"


ROOM: Final = 100
"""Bytes that wait in a connection."""


@attrs.frozen
class Plan:
    """What a node is to be."""

    rules: tuple[Rules, ...]
    below: tuple[str, ...]
    """The sources or nodes whose tables it adds up."""
    above: tuple[str, ...] = ()
    """The nodes that it gets the sum of all from; it calls these."""
    tables: tuple[str, ...] = (COUNTED,)
    """What it declares, but for leases."""


@attrs.frozen
class Reads:
    """Where a HAProxy reads sums."""

    node: str
    """Whose session the numbers are of."""
    sums: str
    lease: str


@attrs.frozen
class Layout:
    """Who is there, and who is connected with whom."""

    nodes: Mapping[str, Plan]
    reads: tuple[Reads, ...]
    nodes_of: Mapping[str, list[str]] = attrs.field(init=False)
    """By HAProxy, the nodes that it is connected with."""

    @nodes_of.default
    def _nodes_of(self) -> Mapping[str, list[str]]:
        every = {name for plan in self.nodes.values() for name in plan.below}
        return {
            source: [name for name, plan in self.nodes.items() if source in plan.below]
            for source in sorted(every - self.nodes.keys())
        }

    def has_read(self, source: str) -> list[Reads]:
        """Where a HAProxy reads."""
        return [one for one in self.reads if one.node in self.nodes_of[source]]

    def links(self) -> list[tuple[str, str]]:
        """All connections: nodes, and who is below them."""
        return [(name, below) for name, plan in self.nodes.items() for below in plan.below]


def _rules(sources: tuple[str, ...], source: str, to: str, lease: str, below: str = "") -> Rules:
    return Rules(source, to, sources, sources, grace=3000, lease=lease, source_lease=below or None)


def _one(*, number: int = 1, sources: tuple[str, ...] = ("a", "p", "z")) -> Plan:
    return Plan((_rules(sources, COUNTED, f"sum{number}", f"lease{number}"),), sources)


def _lower(*sources: str, number: int = 1) -> Plan:
    """A node of a site. Two of one site say the same, so each may be added up for both."""
    site = _rules(sources, COUNTED, "site", "site.lease")
    above = _rules(("u",), "global", f"sum{number}", f"lease{number}", "global.lease")
    return Plan((site, above), sources, ("u",), (COUNTED, "site", "global"))


_UPPER: Final = Plan(
    (_rules(("e", "w"), "site", "global", "global.lease", "site.lease"),),
    ("e", "w"),
    tables=("site",),
)

_UPPER_OF_PAIR: Final = Plan(
    (_rules(("e|f", "w"), "site", "global", "global.lease", "site.lease"),),
    ("e", "f", "w"),
    tables=("site",),
)

_FIRST: Final = Reads("m", "sum1", "lease1")

LAYOUTS: Final[Mapping[str, Layout]] = {
    "one": Layout({"m": _one()}, (_FIRST,)),
    "pair": Layout({"m": _one(), "q": _one(number=2)}, (_FIRST, Reads("q", "sum2", "lease2"))),
    "levels": Layout(
        {"u": _UPPER, "e": _lower("a", "p"), "w": _lower("z")},
        (Reads("e", "sum1", "lease1"), Reads("w", "sum1", "lease1")),
    ),
    "pair below": Layout(
        {
            "u": _UPPER_OF_PAIR,
            "e": _lower("a", "p"),
            "f": _lower("a", "p", number=2),
            "w": _lower("z"),
        },
        (
            Reads("e", "sum1", "lease1"),
            Reads("f", "sum2", "lease2"),
            Reads("w", "sum1", "lease1"),
        ),
    ),
}
"""By their names: a node with three sources, a pair, two sites below a node, and the same with a
pair at one of the sites. The names of nodes
come before and after those of others, since ties are settled by names."""


@attrs.define(eq=False)
class Node:
    """A node, from one process to the next."""

    name: str
    service: StickTableService
    aggregation: Aggregation

    def stop(self) -> None:
        """End the process, if it runs."""
        for part in (self.aggregation, self.service):
            if part.running:
                part.stopService()


@attrs.define(eq=False)
class Source:
    """A HAProxy, from one process to the next."""

    name: str
    process: Process
    old: Optional[Process] = None
    """The process before, as long as it runs."""


class Site(MemoryNetwork):
    """A layout that runs, with a wall clock for each host."""

    def __init__(
        self,
        layout: Layout,
        seed: int,
        *,
        calls: bool,
        lease_first: bool,
        contained: bool,
        short_lived: bool,
        began: Callable[[Source], None],
        moved: Callable[[], None],
    ) -> None:
        """
        :param calls: whether HAProxies call the nodes; if not, they are called.
        :param lease_first: whether the table of the lease is declared before all others.
        :param contained: whether each process of a HAProxy has the id 1, as in a container.
        :param short_lived: whether entries live for some seconds.
        :param began: told of each HAProxy that has a new process, before that starts.
        :param moved: told whenever something has happened.
        """
        super().__init__(seed, room=ROOM)
        self.layout = layout
        self.wall: dict[str, float] = {}
        """By host, by how many seconds its wall clock is wrong."""
        self.nodes: dict[str, Node] = {}
        self.lost: Callable[[str], None] = lambda node: None
        """Told of each node that has lost what it had."""
        self._calls = calls
        self._lease_first = lease_first
        self._contained = contained
        self.short_lived = short_lived
        self._began = began
        self._moved = moved
        self._ids = 100
        self.sources = {name: Source(name, self._process(name)) for name in layout.nodes_of}
        for source in self.sources.values():
            began(source)
            # So that it takes no time until all is up to date.
            source.process.start(Learns.NOBODY)
        for name in layout.nodes:
            self._begin_node(name)

    def wall_clock_of(self, host: str) -> float:
        """What the wall clock of a host shows, in seconds since the epoch."""
        return self.wall_clock() + self.wall.get(host, 0.0)

    def turn(self) -> bool:
        happened = super().turn()
        if happened:
            self._moved()
        return happened

    # -- nodes -----------------------------------------------------------

    def _begin_node(self, name: str, expect_old: bool = False) -> None:
        plan = self.layout.nodes[name]
        short = self.short_lived
        tables = {one: line_of(short, one in ("site", "global")) for one in plan.tables}
        if self._lease_first:
            leases = [one for rules in plan.rules for one in rules.made + rules.shared]
            tables = {one: LEASE for one in leases if "lease" in one} | tables
        calls = plan.above if self._calls else (*plan.above, *self._haproxies(plan))
        service = StickTableService(
            name,
            {other: self.client(other, name) for other in calls},
            tables,
            self.server(name),
            learn_tables=False,
            expect_old=expect_old,
            reactor=self.clock,
            chance=self.chance,
            wall_clock=lambda: self.wall_clock_of(name),
        )
        for other in plan.below:
            if other not in calls:
                service.expect_peer(other)
        aggregation = Aggregation(service, plan.rules, self.clock)
        self.nodes[name] = Node(name, service, aggregation)
        self.services[name] = service
        aggregation.startService()
        service.startService()

    def _haproxies(self, plan: Plan) -> list[str]:
        return [one for one in plan.below if one not in self.layout.nodes]

    def crash_node(self, name: str) -> None:
        """A node loses its memory, and starts again."""
        for connection in self.connections:
            if name in connection.names:
                connection.cut()
        self.nodes[name].stop()
        self.turn()
        self.lost(name)
        self._begin_node(name)

    def hand_over(self, name: str) -> None:
        """A new process of a node takes over from the old one."""
        old = self.nodes[name]
        self._begin_node(name, expect_old=True)
        done = old.service.stop_softly(self.client(name, name))
        taught: list[bool] = []
        done.addCallback(taught.append)
        for _ in range(300):
            if taught:
                break
            self.advance(0.1)
        old.stop()
        if taught != [True]:
            self.lost(name)

    def read_again(self, name: str, rules: tuple[Rules, ...]) -> None:
        """A node reads other rules with SIGHUP, in the order of `peerproto.daemon.process`."""
        aggregation = self.nodes[name].aggregation
        aggregation.leave(rules)
        aggregation.take(rules)

    def sessions(self) -> list[tuple[str, object]]:
        """Who is in a session with whom, with what is another one for another session."""
        return [
            (f"{name} {other}", (peer.established_at, peer.connected))
            for name, node in self.nodes.items()
            for other, peer in node.service.peers.items()
        ]

    # -- HAProxies -------------------------------------------------------

    def _process(self, name: str) -> Process:
        self._ids += 1
        tables = {COUNTED: line_of(self.short_lived, sums=False)}
        for reads in self.layout.has_read(name):
            sums = line_of(self.short_lived, sums=True)
            tables.update({reads.sums: sums, reads.lease: LEASE})
        return Process(
            name,
            1 if self._contained else self._ids,
            self,
            self.layout.nodes_of[name],
            tables,
            self._calls,
            self.chance.choice((Acks.RIGHT, Acks.SWAPPED)),
        )

    def restart(self, source: Source, seconds: float) -> None:
        """A HAProxy is killed, and starts again with nothing after some time."""
        for process in (source.process, source.old):
            if process is not None:
                process.kill()
        self.advance(seconds)
        source.old = None
        source.process = self._process(source.name)
        self._began(source)
        source.process.start()

    def reload(self, source: Source, freeze: bool) -> None:
        """A HAProxy gets a new process, which is taught by the old one, unless that freezes."""
        if source.old is not None:
            source.old.kill()
        source.old = source.process
        if freeze:
            source.old.freeze()
        source.process = self._process(source.name)
        self._began(source)
        source.process.start(Learns.OLD)
        if not freeze:
            source.old.stop_softly()

    def thaw(self, source: Source) -> None:
        """The old process of a HAProxy goes on, and learns that it is to end."""
        if source.old is not None and source.old.frozen:
            source.old.thaw()
            source.old.stop_softly()

    def stop(self) -> None:
        """End everything."""
        for source in self.sources.values():
            for process in (source.process, source.old):
                if process is not None:
                    process.kill()
        for node in self.nodes.values():
            node.stop()
        super().stop()

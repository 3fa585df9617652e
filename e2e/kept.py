"""What nodes have again of tables that outlived all processes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence

import attrs

from testbed import Entry, HAProxy, Mesh, Node, Peerproto, get
from testbed.terminal import peerproto

from .test_haproxy import at

LIFE = 2000
"""How much a remaining time may differ, in ms."""

EVENT = 1
"""How much a rate may differ."""


@attrs.frozen
class Counter:
    """A rate as a node had it: it sinks by a rule from then on."""

    began: int
    """When the current period began, in ms since the epoch."""
    current: int
    previous: int
    period: int

    def reading(self, when: float) -> int:
        """What HAProxy's ``read_freq_ctr_period`` says of it at a time, if nothing more happens."""
        current, previous = self.current, self.previous
        remaining = self.began + self.period - round(when * 1000)
        if remaining < 0:
            remaining += self.period
            current, previous = 0, current if remaining >= 0 else 0
        if not current and previous <= 1:
            return previous
        return (previous * remaining + current * self.period) // self.period


@attrs.frozen
class Kept:
    """What a node had in a table."""

    name: str
    entries: dict[str, Entry]
    ends: dict[str, int]
    """When entries end, in ms since the epoch; 0 if they do not."""
    rates: dict[str, dict[str, Counter]]

    @classmethod
    async def of(cls, peer: Peerproto, name: str) -> Kept:
        """What there is now."""
        entries = await peer.table(name)
        exported = await peerproto("export", name, "--node", str(peer.runtime))
        header, *lines = map(json.loads, exported.splitlines())
        periods = {one["name"]: one["period"] for one in header["table"]["columns"]}
        ends, rates = {}, {}
        for one in lines:
            key = re.sub("([ =])", r"\\\1", one["key"])
            ends[key] = one["expires"] or 0
            rates[key] = {
                column: Counter(value[0], value[1], value[2], periods[column])
                for column, value in one["values"].items()
                if isinstance(value, list)
            }
        assert ends.keys() == entries.keys(), name
        return cls(name, entries, ends, rates)

    async def is_had(self, node: Node) -> None:
        """See that a node has every entry, with what its values, its rates and its remaining time
        would have been."""
        begin = time.time()
        found = await node.table(at(node, self.name))
        end = time.time()
        assert found.keys() == self.entries.keys(), self.name
        for key, entry in self.entries.items():
            there = found[key]
            for name, value in entry.items():
                about = (node.name, self.name, key, name, value, there[name])
                if name == "exp":
                    self._check_life(key, int(there[name]), begin, end, about)
                elif name.endswith("_rate"):
                    counter = self.rates[key][name]
                    least, most = counter.reading(end) - EVENT, counter.reading(begin) + EVENT
                    assert least <= int(there[name]) <= most, (*about, counter, begin, end)
                elif "_cur" not in name:
                    assert there[name] == value, about

    def _check_life(self, key: str, left: int, begin: float, end: float, about: object) -> None:
        ends = self.ends[key]
        if ends:
            assert ends - 1000 * end - LIFE < left < ends - 1000 * begin + LIFE, about
        else:
            assert left == 0, about

    @property
    def sinking(self) -> int:
        """Rates that sink as time passes, and are not near 0 already."""
        return sum(
            counter.previous > 1 and counter.reading(time.time()) > 1
            for rates in self.rates.values()
            for counter in rates.values()
        )


async def come_back(
    mesh: Mesh, kept: Mapping[str, Kept], peer: Peerproto, haproxies: Sequence[HAProxy]
) -> None:
    """Start HAProxies, which learn from a peer: they have all, and send clients to the servers of
    before."""
    for one in haproxies:
        one.start(mesh.nodes)
        await one.up()
    await peer.in_step(*(one.name for one in haproxies))
    for one in haproxies:
        await one.settled()
        for table in kept.values():
            await table.is_had(one)
    servers = {key: entry["server_key"] for key, entry in kept["t_srv"].entries.items()}
    last = haproxies[-1]
    for user in range(1, 7):
        assert await get(last.web, f"/again?u=user{user}") == 200
    again = await last.table("t_srv")
    assert {key: entry["server_key"] for key, entry in again.items()} == servers

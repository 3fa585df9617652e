"""Two nodes that add up for the same HAProxies, and know nothing of each other."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import HAProxy, Link, Mesh, Peerproto, converse, endlessly, until

from .conftest import every_haproxy
from .test_aggregation import has_authority

FIRST, SECOND = 1, 2
"""Whose sums a HAProxy may decide by."""

BOTH = (FIRST, SECOND)

STEADY = 4.0
"""Seconds after which nobody calls any more."""

CLIENTS = 5
BEHIND = 30
"""Requests of one client that sums may be behind: they come one after the other, and take some ms
each."""

LINE = "type string len 32 size 10k expire 10m store http_req_cnt"
TABLES = "".join(
    f"""\
backend counted.agg{number}
    stick-table {LINE},gpt(1) peers mesh
backend counted.lease{number}
    stick-table type ipv6 size 16 expire 2s store gpt(4) peers mesh
"""
    for number in BOTH
)
RULES = "".join(
    [
        "    http-request track-sc0 url_param(u) table counted\n",
        "    http-request set-var(txn.now) date(0,ms),and(4294967295)\n",
        *(
            f"""\
    http-request set-var(txn.left{n}) str(::),table_gpt(1,counted.lease{n}),sub(txn.now),\
and(4294967295)
    http-request set-var(txn.number{n}) str(::),table_gpt(2,counted.lease{n})
    acl fresh{n} var(txn.left{n}) -m int 1:1500
    acl ours{n} url_param(u),table_gpt(0,counted.agg{n}),sub(txn.number{n}) -m int 0
    http-request set-var(txn.sum{n}) int(-1)
    http-request set-var(txn.sum{n}) url_param(u),table_http_req_cnt(counted.agg{n}) \
if fresh{n} ours{n}
"""
            for n in BOTH
        ),
        "    http-request return status 200 hdr sum1 %[var(txn.sum1)] hdr sum2 %[var(txn.sum2)]\n",
    ]
)


class Pair:
    """Three HAProxies, and two nodes that add up."""

    def __init__(self, mesh: Mesh) -> None:
        tables = f"backend counted\n    stick-table {LINE} peers mesh\n{TABLES}"
        self.haproxies = [mesh.haproxy(f"lb{n}", tables, RULES) for n in (1, 2, 3)]
        self.hubs = [mesh.peerproto(f"agg{n}", f"counted = {LINE}") for n in (1, 2)]
        for number, hub in enumerate(self.hubs, 1):
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
        self.chance = random.Random(20)
        self.made: Counter[str] = Counter()
        self.by: Counter[tuple[int, ...]] = Counter()
        """By whose sums was decided."""
        self.latest: list[tuple[int, ...]] = [(), (), ()]
        """By whose each HAProxy did so last."""
        self.behind = 0
        self.asks = False
        """Whether it is noted by what is decided."""

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
        peers: list[HAProxy] = list(self.haproxies)
        if hub is self.hubs[0]:
            peers[1] = attrs.evolve(peers[1], place=self.links[1].address)
        hub.start([hub, *peers])

    async def visit(self, _: int = 0) -> None:
        """A client comes to one of them."""
        place, client = self.chance.randrange(3), f"c{self.chance.randrange(CLIENTS)}"
        conversation = await converse(self.haproxies[place].web)
        before = self.made[client]
        self.made[client] += 1
        conversation.send(
            f"GET /?u={client} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        await conversation.closed
        fields = dict(
            line.split(": ")
            for line in conversation.received.decode().split("\r\n")
            if ": " in line
        )
        sums = {n: int(fields[f"sum{n}"]) for n in BOTH}
        by = tuple(n for n in BOTH if sums[n] >= 0)
        self.latest[place] = by
        if self.asks:
            self.by[by] += 1
            assert max(sums.values()) <= self.made[client], "sums are never ahead"
            if by:
                # A limit is reached as soon as either says so.
                self.behind = max(self.behind, before - max(sums.values()))

    async def all_decide_by(self, *who: int) -> None:
        async def they_do() -> bool:
            await self.visit()
            assert self.latest == [who] * 3, self.latest
            return True

        await until(they_do, f"HAProxies decide by {who}")

    async def steady(self) -> None:
        """Wait until all have decided by both for some seconds. A HAProxy and a node that has
        just been started may call each other, and break off both calls."""
        began = time.monotonic()

        async def is_steady() -> bool:
            nonlocal began
            if self.latest != [BOTH] * 3:
                began = time.monotonic()
            return time.monotonic() - began > STEADY

        await until(is_steady, "HAProxies keep deciding by both")

    def stop(self) -> None:
        for link in self.links:
            link.stop()


@every_haproxy
@ensureDeferred
async def test_pair(mesh: Mesh) -> None:
    """Either of two is killed or stopped under load, or loses a source: each request is decided by
    the sums of the other one, which are as good."""
    pair = Pair(mesh)
    first, second = pair.hubs
    stop: list[bool] = []
    try:
        await pair.start()
        await pair.all_decide_by(*BOTH)
        pair.asks = True
        visiting = Deferred.fromCoroutine(endlessly(pair.visit, stop))
        for hub, other, how in ((first, SECOND, signal.SIGKILL), (second, FIRST, signal.SIGTERM)):
            await pair.steady()
            await hub.stop(how)
            await pair.all_decide_by(other)
            pair.start_hub(hub)
            await has_authority(hub)
        await pair.steady()

        # The first one loses a source: without authority for the grace, and then with fewer.
        for link in pair.links:
            link.stop()
        await pair.all_decide_by(SECOND)
        await has_authority(first)

        async def others_have_both() -> bool:
            return pair.latest == [BOTH, (SECOND,), BOTH]

        await until(others_have_both, "the others decide by both")
        stop.append(True)
        await visiting
    finally:
        stop.append(True)
        pair.stop()
    print(
        f"counted: HAProxy {mesh.program.branch}: {pair.by[BOTH]} requests decided by both,"
        f" {pair.by[(FIRST,)]} and {pair.by[(SECOND,)]} by one, {pair.by[()]} by none;"
        f" sums were {pair.behind} requests behind at most"
    )
    assert pair.by[()] == 0
    assert pair.behind <= BEHIND

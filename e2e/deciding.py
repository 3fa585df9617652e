"""HAProxies that decide by the sums of either of two nodes, and clients that see how."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from testbed import HAProxy, endlessly, fields, until

FIRST, SECOND = 1, 2
"""Whose sums a HAProxy may decide by."""

BOTH = (FIRST, SECOND)

STEADY = 4.0
"""Seconds after which nobody calls any more."""

CLIENTS = 5

LINE = "type string len 32 size 10k expire 10m store http_req_cnt"


def tables_of(*numbers: object) -> str:
    """What is counted, and the output and the lease of nodes that add up, with these numbers."""
    return f"backend counted\n    stick-table {LINE} peers mesh\n" + "".join(
        f"""\
backend counted.agg{number}
    stick-table {LINE},gpt(1) peers mesh
backend counted.lease{number}
    stick-table type ipv6 size 16 expire 2s store gpt(4) peers mesh
"""
        for number in numbers
    )


TABLES = tables_of(*BOTH)

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


class Deciding:
    """HAProxies with these tables and rules, and how they decide."""

    def __init__(self, haproxies: Sequence[HAProxy]) -> None:
        self.haproxies = haproxies
        self.chance = random.Random(20)
        self.made: Counter[str] = Counter()
        """The requests of each client."""
        self.asks = False
        """Whether it is noted by whose sums is decided."""
        self.by: Counter[tuple[int, ...]] = Counter()
        """By whose sums was decided."""
        self._stop: list[bool] = []
        self._visiting: Deferred[int] = Deferred()
        self.latest: list[tuple[int, ...]] = [()] * len(haproxies)
        """By whose each HAProxy did so last."""
        self.behind = 0
        """How many requests the sums were behind at most."""

    def begin(self) -> None:
        """Have clients come all the time."""
        self._visiting = Deferred.fromCoroutine(endlessly(self.visit, self._stop))

    async def end(self) -> None:
        """No more clients come; what went wrong with one is raised."""
        self._stop.append(True)
        await self._visiting

    async def visit(self, _: int = 0) -> None:
        """A client comes to one of them."""
        place = self.chance.randrange(len(self.haproxies))
        client = f"c{self.chance.randrange(CLIENTS)}"
        before = self.made[client]
        self.made[client] += 1
        said = await fields(self.haproxies[place].web, f"/?u={client}")
        sums = {n: int(said[f"sum{n}"]) for n in BOTH}
        by = tuple(n for n in BOTH if sums[n] >= 0)
        self.latest[place] = by
        if self.asks:
            self.by[by] += 1
            assert max(sums.values()) <= self.made[client], "sums are never ahead"
            if by:
                # A limit is reached as soon as either says so.
                self.behind = max(self.behind, before - max(sums.values()))

    async def all_decide(self, *by: tuple[int, ...]) -> None:
        """Wait until each HAProxy has decided by these."""

        async def they_do() -> bool:
            await self._go_on()
            assert self.latest == [*by], self.latest
            return True

        await until(they_do, f"HAProxies decide by {by}")

    async def _go_on(self) -> None:
        if self._visiting.called:
            await self._visiting

    async def steady(self) -> None:
        """Wait until all have decided by both for some seconds. A HAProxy and a node that has
        just been started may call each other, and break off both calls."""
        began = time.monotonic()

        async def is_steady() -> bool:
            nonlocal began
            await self._go_on()
            if self.latest != [BOTH] * len(self.haproxies):
                began = time.monotonic()
            return time.monotonic() - began > STEADY

        await until(is_steady, "HAProxies keep deciding by both")

    def show(self, branch: str) -> None:
        """Say how was decided, and see that nothing was decided without a sum."""
        print(
            f"counted: HAProxy {branch}: {self.by[BOTH]} requests decided by both,"
            f" {self.by[(FIRST,)]} and {self.by[(SECOND,)]} by one, {self.by[()]} by none;"
            f" sums were {self.behind} requests behind at most"
        )
        assert self.by[()] == 0

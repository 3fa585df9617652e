"""HAProxies that decide by the sums of either of two nodes, and clients that see how."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from testbed import HAProxy, endlessly, fields, until

FIRST, SECOND = 1, 2
"""Whose sums a HAProxy may decide by."""

BOTH = (FIRST, SECOND)

STEADY = 4.0
"""Seconds after which nobody calls any more."""

CLIENTS = 5

INTERVAL = 0.02
"""Seconds in which a node publishes a key once."""

WAY = 0.25
"""Seconds that a change may take beside that: a node vouches for no sum of which a change waits for
longer. What waits that long at the one node of a pair does not wait at the other one as well."""

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
        "    http-request return status 200 hdr sum1 %[var(txn.sum1)] hdr sum2 %[var(txn.sum2)]"
        " hdr left1 %[var(txn.left1)] hdr left2 %[var(txn.left2)]\n",
    ]
)


class Deciding:
    """HAProxies with these tables and rules, and how they decide: by the greater of the sums that
    are fresh, since a limit is reached as soon as either says so."""

    def __init__(self, haproxies: Sequence[HAProxy], levels: int = 1, every: float = 0.002) -> None:
        """
        :param levels: how many times a sum is published on its way.
        :param every: seconds from one request to the next.
        """
        self.every = every
        self.haproxies = haproxies
        self.most = levels * (INTERVAL + WAY)
        """Seconds for which a request may be missing from what is decided by."""
        self.chance = random.Random(20)
        self.answered: defaultdict[str, list[float]] = defaultdict(list)
        """When (in seconds of the monotonic clock) each request of a client was answered."""
        self.asks = False
        """Whether it is noted by whose sums is decided."""
        self.by: Counter[tuple[int, ...]] = Counter()
        """By whose sums was decided."""
        self.mishap = "nothing"
        """What happens."""
        self.without: list[tuple[str, float, int, str, str]] = []
        """The requests that were decided without a sum: during which mishap, when, where, and how
        long each lease held, as that HAProxy reckons."""
        self._stop: list[bool] = []
        self._visiting: Deferred[int] = Deferred()
        self.latest: list[tuple[int, ...]] = [()] * len(haproxies)
        """By whose each HAProxy did so last."""
        self.lacked: list[float] = []
        """For how long (in seconds) what was decided by lacked a request that was answered."""
        self._highest: Counter[tuple[int, str]] = Counter()
        """The greatest number by which a HAProxy has decided of a client."""
        self.fell: list[tuple[int, int, str]] = []
        """By how many requests such a number was smaller than one before, how many that client had
        made within an interval, and during which mishap."""

    def begin(self) -> None:
        """Have clients come all the time."""
        self._visiting = Deferred.fromCoroutine(endlessly(self.visit, self._stop, self.every))

    async def end(self) -> None:
        """No more clients come; what went wrong with one is raised."""
        self._stop.append(True)
        await self._visiting

    async def visit(self, _: int = 0) -> None:
        """A client comes to one of them."""
        place = self.chance.randrange(len(self.haproxies))
        client = f"c{self.chance.randrange(CLIENTS)}"
        answered, began = self.answered[client], time.monotonic()
        said = await fields(self.haproxies[place].web, f"/?u={client}")
        sums = {n: int(said[f"sum{n}"]) for n in BOTH}
        by = tuple(n for n in BOTH if sums[n] >= 0)
        self.latest[place] = by
        if self.asks:
            self.by[by] += 1
            if not by:
                lefts = (said.get("left1", ""), said.get("left2", ""))
                self.without.append((self.mishap, began, place, *lefts))
            else:
                self._judge(place, client, max(sums.values()), began)
        answered.append(time.monotonic())

    def _judge(self, place: int, client: str, total: int, began: float) -> None:
        """Note what a number lacks by which a HAProxy decided of a client, and by how much it is
        smaller than the one before."""
        answered = self.answered[client]
        # The request itself may be counted already.
        assert total <= len(answered) + 1, "sums are never ahead"
        self.lacked.append(began - answered[total] if total < len(answered) else 0.0)
        fell = self._highest[place, client] - total
        if fell > 0:
            within = sum(began - when <= INTERVAL for when in answered)
            self.fell.append((fell, within, self.mishap))
        self._highest[place, client] = max(self._highest[place, client], total)

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

    def check(self, what: str, branch: str) -> None:
        """Say how was decided, and see that nothing was decided without a sum, by one that lacked
        anything for longer than it may, or by less than before but for what came in an interval."""
        lacked = sorted(self.lacked)
        print(
            f"counted: HAProxy {branch}: {what}: {self.by[BOTH]} requests decided by both,"
            f" {self.by[(FIRST,)]} and {self.by[(SECOND,)]} by one, {self.by[()]} by none; sums"
            f" lacked nothing older than {lacked[-1] * 1000:.0f} ms"
            f" ({lacked[len(lacked) * 99 // 100] * 1000:.0f} ms of 99 in 100), and fell"
            f" {len(self.fell)} times"
        )
        assert not self.without, self.without[:20]
        assert lacked[-1] <= self.most, lacked[-10:]
        assert all(fell <= requests for fell, requests, _ in self.fell), self.fell

"""HAProxies that tell by which sums they decide, and requests that know what these must have.

Each request counts a client at one HAProxy, and asks what that would decide of another client, who
comes to one HAProxy alone: so a sum tells which requests of that client it lacks, and the test
knows when each of them was answered.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Optional

import attrs
from twisted.internet.defer import Deferred

from testbed import Link, Mesh, Peerproto, endlessly, fields, free_port, until

from .deciding import LINE, tables_of
from .summing import has_authority

CLIENTS = 3
"""How many come to each HAProxy."""

BEHIND = 1.5
"""Seconds for which a request may be missing from a sum that counts as fresh. The lease was
written 1 s ago at most; then no change had waited for more than 250 ms beside its interval of
20 ms. The rest is for the way from the HAProxy that counts to the node, and on to the one that
decides."""

UNHEARD = 5.0
"""Seconds for which the same may be so of a source that was cut off without a word: the node misses
it after 4.5 s."""

WRAPS = 1 << 32
"""Time in ms after which the number of a lease begins again from 0."""

TABLES = tables_of("")
RULES = """\
    http-request track-sc0 url_param(u) table counted
    http-request set-var(txn.now) date(0,ms),and(4294967295)
    http-request set-var(txn.left) str(::),table_gpt(1,counted.lease),sub(txn.now),and(4294967295)
    http-request set-var(txn.number) str(::),table_gpt(2,counted.lease)
    http-request set-var(txn.sources) str(::),table_gpt(3,counted.lease)
    acl fresh var(txn.left) -m int 1:1500
    acl leased str(::),in_table(counted.lease)
    acl ours url_param(w),table_gpt(0,counted.agg),sub(txn.number) -m int 0
    http-request set-var(txn.sum) int(-1)
    http-request set-var(txn.timeless) int(-1)
    http-request set-var(txn.sum) url_param(w),table_http_req_cnt(counted.agg) if fresh ours
    http-request set-var(txn.timeless) url_param(w),table_http_req_cnt(counted.agg) if leased ours
    http-request return status 200 hdr now %[var(txn.now)] hdr sources %[var(txn.sources)] \
hdr sum %[var(txn.sum)] hdr timeless %[var(txn.timeless)]
"""


@attrs.frozen
class Decision:
    """What one HAProxy decided by."""

    began: float
    """When (in seconds since the epoch) the request was made."""
    answered: float
    """When it was answered."""
    place: int
    """Which HAProxy decided."""
    counted_at: int
    """Which one alone counts the client of which it decided."""
    now: float
    """What that HAProxy has for the time (in seconds since the epoch)."""
    sources: int
    """How many sources were in the sum, as the lease says."""
    lacked: Optional[float]
    """For how long (in seconds) the sum lacked a request that was answered, 0 for none; ``None``
    where it was decided without a sum."""
    would_have_lacked: Optional[float]
    """The same if it had looked whether there is a lease, and not at its time."""


class Witnesses:
    """Three HAProxies and the node that adds up. The last HAProxy reaches the node by a link alone.

    Only HAProxies call, at addresses that are right: where both sides do, sessions may end some
    seconds after they began, and HAProxies decide for themselves meanwhile.
    """

    def __init__(self, mesh: Mesh, seed: int = 31) -> None:
        self.mesh = mesh
        self.haproxies = [mesh.haproxy(f"lb{n}", TABLES, RULES) for n in (1, 2, 3)]
        self.hub: Peerproto = mesh.peerproto("hub", f"counted = {LINE}")
        self.hub.more = (
            "[aggregate counted]\nto = counted.agg\nlease = counted.lease\n"
            "expect = lb1 lb2 lb3\ngrace = 1s\n"
        )
        self.last = len(self.haproxies) - 1
        """The one with the link."""
        self.link = Link(self.hub.port, random.Random(1), calm=True)
        self.chance = random.Random(seed)
        self.answered: defaultdict[str, list[float]] = defaultdict(list)
        """When (in seconds since the epoch) each request of a client was answered."""
        self.decisions: list[Decision] = []
        self._stop: list[bool] = []
        self._visiting: Deferred[int] = Deferred()

    # -- from beginning to end ---------------------------------------------

    async def start(self) -> None:
        """Start all, and have clients come all the time."""
        self.start_hub()
        linked = attrs.evolve(self.hub, place=self.link.address)
        for place, one in enumerate(self.haproxies):
            one.start([one, linked if place == self.last else self.hub])
        for one in self.haproxies:
            await one.up()
        await has_authority(self.hub)
        self._visiting = Deferred.fromCoroutine(endlessly(self.visit, self._stop))
        await self.all_by_sums()

    def start_hub(self) -> None:
        """Start the node that adds up."""
        nowhere = f"127.0.0.1:{free_port()}"
        self.hub.start([self.hub, *(attrs.evolve(one, place=nowhere) for one in self.haproxies)])

    async def end(self) -> None:
        """No more clients come; what went wrong with one is raised."""
        self._stop.append(True)
        try:
            await self._visiting
        finally:
            self.link.stop()

    # -- requests ----------------------------------------------------------

    async def visit(self, _: int = 0) -> None:
        """A client comes to its HAProxy, which tells how it would decide of another one."""
        place, counted_at = (self.chance.randrange(len(self.haproxies)) for _ in range(2))
        client, other = (f"c{at}.{self.chance.randrange(CLIENTS)}" for at in (place, counted_at))
        began = time.time()
        said = await fields(self.haproxies[place].web, f"/?u={client}&w={other}")
        # What is counted while it is decided may be in the sum, or not.
        lacked, would_have_lacked = (
            self._lacked(other, int(said[name]), began, client == other)
            for name in ("sum", "timeless")
        )
        answered = time.time()
        self.answered[client].append(answered)
        self.decisions.append(
            Decision(
                began,
                answered,
                place,
                counted_at,
                _whole(int(said["now"]), began),
                int(said["sources"]),
                lacked,
                would_have_lacked,
            )
        )

    def _lacked(self, client: str, total: int, when: float, counts: bool) -> Optional[float]:
        """For how long a sum lacked a request that was answered before ``when``."""
        if total < 0:
            return None
        answered = self.answered[client]
        assert total <= len(answered) + counts, "sums are never ahead"
        return when - answered[total] if total < len(answered) else 0.0

    # -- what they decide by -----------------------------------------------

    async def all_by_sums(self, sources: Optional[int] = None) -> None:
        """Wait until all decide by sums of so many sources, of all unless told otherwise."""
        await self.decide(range(len(self.haproxies)), sources or len(self.haproxies))

    async def decide(self, places: Sequence[int], sources: int) -> None:
        """Wait until each of these HAProxies has decided some times in a row by sums of so many
        sources, 0 for without a sum."""
        after = time.time()

        async def they_do() -> bool:
            if self._visiting.called:
                await self._visiting
            for place in places:
                latest = [
                    0 if one.lacked is None else one.sources
                    for one in self.decisions[-300:]
                    if one.place == place and one.began > after
                ][-5:]
                assert latest == [sources] * 5, (place, latest)
            return True

        await until(they_do, f"HAProxies {places} decide by {sources} sources")

    def without_link(self) -> list[int]:
        """The HAProxies that nothing happens to."""
        return list(range(self.last))

    def of(self, *places: int, since: float = 0.0, until: float = 1e12) -> list[Decision]:
        """What these HAProxies decided between two times, in seconds since the epoch."""
        return [
            one
            for one in self.decisions
            if one.place in places and since < one.began and one.answered < until
        ]

    def check(self, may_be: Callable[[Decision], float]) -> tuple[int, float]:
        """See that no sum lacked anything for longer than it may: how many decisions were made by
        sums, and for how long one lacked something at most, in ms.

        :param may_be: says that for a decision, in seconds.
        """
        by_sums = [one for one in self.decisions if one.lacked is not None]
        stale = [one for one in by_sums if (one.lacked or 0.0) > may_be(one)]
        assert not stale, f"{len(stale)} decisions on sums that are not fresh: {stale[:3]}"
        bounded = [one.lacked or 0.0 for one in by_sums if may_be(one) <= BEHIND]
        return len(by_sums), max(bounded, default=0.0) * 1000

    def timeless_stale(self) -> int:
        """How many decisions would have been made by sums that are not fresh, if the time of the
        lease did not count."""
        return sum((one.would_have_lacked or 0.0) > BEHIND for one in self.decisions)

    def show(self, what: str, figures: dict[str, Any]) -> None:
        """Print a line for the summary of all tests."""
        words = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"counted: HAProxy {self.mesh.program.branch}: {what}: {words}")


def _whole(low: int, about: float) -> float:
    """The time (in seconds) of which the lowest 32 bits are known (in ms), from a time near it."""
    near = round(about * 1000)
    return (near + (low - near + WRAPS // 2) % WRAPS - WRAPS // 2) / 1000

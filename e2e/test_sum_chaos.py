"""HAProxies and the node that adds up are reloaded, killed and restarted at random, under requests.

`make test` does it once with each HAProxy, `make long` five times.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from testbed import HAProxy, Mesh, Peerproto, ended, endlessly, fields, pause, reactor, until

from .conftest import every_haproxy
from .deciding import LINE, tables_of
from .test_aggregation import has_authority

SEEDS = range(int(os.environ.get("CHAOS", "1")))
MISHAPS = 4
CLIENTS = 8

NOT_SENT = 0.3
"""Seconds before it is killed in which a HAProxy may have counted what it has not sent."""

TABLES = tables_of("")
RULES = """\
    http-request track-sc0 url_param(u) table counted
    http-request set-var(txn.sum) url_param(u),table_http_req_cnt(counted.agg)
    http-request return status 200 hdr sum %[var(txn.sum)]
"""


@attrs.frozen
class Visit:
    """A request that was answered."""

    when: float
    place: int
    client: str


class Chaos:
    """Three HAProxies, the node that adds up, and what is known to be counted."""

    def __init__(self, mesh: Mesh, seed: int) -> None:
        self.mesh = mesh
        self.chance = random.Random(seed)
        self.haproxies = [mesh.haproxy(f"lb{n}", TABLES, RULES) for n in (1, 2, 3)]
        self.hub: Peerproto = mesh.peerproto("hub", f"counted = {LINE}")
        self.hub.more = (
            "[aggregate counted]\nto = counted.agg\nexpect = lb1 lb2 lb3\nlease = counted.lease\n"
        )
        self.made: Counter[str] = Counter()
        """Requests, whether they were answered or not."""
        self.visits: list[Visit] = []
        self.may_be_lost: list[tuple[int, float, float]] = []
        """Where, from when and until when a request may be counted in vain: the HAProxy was killed,
        or had yet to be taught what it had."""
        self.happened: list[str] = []

    async def start(self) -> None:
        self.hub.start([self.hub, *self.haproxies])
        for one in self.haproxies:
            one.start([one, self.hub])
            await one.up()
        for one in self.haproxies:
            await until(one.counts_itself_up_to_date, f"{one.name} is up to date")
        await has_authority(self.hub)

    async def visit(self, _: int) -> None:
        place = self.chance.randrange(3)
        client = f"c{self.chance.randrange(CLIENTS)}"
        self.made[client] += 1
        try:
            said = await fields(self.haproxies[place].web, f"/?u={client}")
        except ConnectError:
            return
        if "sum" in said:
            assert int(said["sum"]) <= self.made[client], (client, said, self.happened)
            self.visits.append(Visit(reactor.seconds(), place, client))

    # -- mishaps -----------------------------------------------------------

    async def mishap(self) -> None:
        """Something happens to one of them; wait until everything is as it should be."""
        what = self.chance.choice([self.reload, self.kill, self.kill, self.kill_hub, self.replace])
        place = self.chance.randrange(3)
        self.happened.append(f"{what.__name__} {place}")
        began = reactor.seconds() - NOT_SENT
        await what(self.haproxies[place])
        one = self.haproxies[place]
        await until(one.counts_itself_up_to_date, f"{one.name} is up to date")
        self.may_be_lost.append((place, began, reactor.seconds()))
        await has_authority(self.hub)
        # What a HAProxy says waits until it is known to have got back what it had.
        await until(self.all_in, "all HAProxies are in")
        await pause(self.chance.random())

    async def all_in(self) -> bool:
        answer = await self.hub.ask("show aggregate counted")
        assert answer.count(": in for") == 3, answer
        return True

    async def reload(self, one: HAProxy) -> None:
        await one.reload([one, self.hub])

    async def kill(self, one: HAProxy) -> None:
        await one.stop(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        await pause(self.chance.random())
        one.start([one, self.hub])
        await one.up()

    async def kill_hub(self, _: HAProxy) -> None:
        await self.hub.stop(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        await pause(self.chance.random())
        self.hub.start([self.hub, *self.haproxies])

    async def replace(self, _: HAProxy) -> None:
        old = self.hub.process
        assert old is not None
        self.hub.start([self.hub, *self.haproxies], "--soft-finish", str(old.pid))
        assert await ended(old, "the old process of the hub") == 0

    # -- what must hold ----------------------------------------------------

    def least(self) -> Counter[str]:
        """What the sums must be at least."""
        return Counter(
            one.client
            for one in self.visits
            if not any(
                one.place == place and began <= one.when <= end
                for place, began, end in self.may_be_lost
            )
        )

    async def all_have_the_sums(self) -> bool:
        least = self.least()
        for one in self.haproxies:
            table = await one.table("counted.agg")
            for client in self.made:
                total = int(table[client]["http_req_cnt"])
                assert least[client] <= total <= self.made[client], (
                    one.name,
                    client,
                    least[client],
                    total,
                    self.made[client],
                    self.happened,
                )
        return True


@pytest.mark.parametrize("seed", SEEDS)
@every_haproxy
@ensureDeferred
async def test_mishaps(mesh: Mesh, seed: int) -> None:
    """Sums are never ahead of the truth; in the end they have everything but for what a HAProxy had
    not sent when it was killed, or had counted before it was taught what it had."""
    chaos = Chaos(mesh, seed * 7 + int(mesh.program.branch.replace(".", "")))
    await chaos.start()
    stop: list[bool] = []
    visiting = Deferred.fromCoroutine(endlessly(chaos.visit, stop))
    for _ in range(MISHAPS):
        await chaos.mishap()
    stop.append(True)
    await visiting
    await until(chaos.all_have_the_sums, "all HAProxies have the sums", 5)
    sums = await chaos.haproxies[0].table("counted.agg")
    lost = sum(chaos.made.values()) - sum(int(one["http_req_cnt"]) for one in sums.values())
    print(
        f"counted: HAProxy {mesh.program.branch}: {', '.join(chaos.happened)}: of"
        f" {len(chaos.visits)} requests {lost} are not in the sums,"
        f" {len(chaos.visits) - sum(chaos.least().values())} might have been lost"
    )
    assert "Traceback" not in chaos.hub.log.read_text()

"""HAProxies and the node that adds up are reloaded, killed and restarted at random, under requests.

`make test` does it once with each HAProxy, `make long` 20 times.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from testbed import HAProxy, Mesh, Peerproto, ended, endlessly, fields, pause, reactor, until

from .conftest import every_haproxy
from .deciding import LINE, tables_of
from .summing import has_authority

SEEDS = range(int(os.environ.get("CHAOS", "1")))
MISHAPS = 4
CLIENTS = 8

NOT_SENT = 0.3
"""Seconds before it is killed in which a HAProxy may have counted what it has not sent."""

SOON = 5.0
"""Seconds within which all HAProxies have the sums of what was counted."""

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
        self.began_anew: set[int] = set()
        """The HAProxies whose tables have begun anew, and are not taught yet."""
        self.highest: defaultdict[int, Counter[str]] = defaultdict(Counter)
        """The greatest sum of each client that each HAProxy has had."""
        self.longest = 0.0
        """Seconds after which all had the sums."""

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
            self.see(place, client, int(said["sum"]))
            self.visits.append(Visit(reactor.seconds(), place, client))

    def see(self, place: int, client: str, total: int) -> None:
        """See that a HAProxy has a sum that is not ahead, and does not go back."""
        assert total <= self.made[client], (place, client, total, self.made, self.happened)
        if place not in self.began_anew:
            before = self.highest[place][client]
            assert total >= before, (place, client, total, before, self.happened)
            self.highest[place][client] = total

    # -- mishaps -----------------------------------------------------------

    async def mishap(self) -> None:
        """Something happens to one of them; wait until everything is as it should be."""
        anew = self.chance.choice([self.reload, self.kill, self.kill, None, None])
        if anew is None:
            what = self.chance.choice([self.kill_hub, self.replace])
            self.happened.append(what.__name__)
            await what()
        else:
            place = self.chance.randrange(3)
            self.happened.append(f"{anew.__name__} {place}")
            await self.begin_anew(place, anew)
        await has_authority(self.hub)
        # What a HAProxy says waits until it is known to have got back what it had.
        await until(self.all_in, "all HAProxies are in")
        self.began_anew.clear()
        await self.all_have_the_sums()
        await pause(self.chance.random())

    async def begin_anew(self, place: int, how: Callable[[HAProxy], Awaitable[None]]) -> None:
        """A HAProxy loses its tables, until it is taught."""
        one, began = self.haproxies[place], reactor.seconds() - NOT_SENT
        self.began_anew.add(place)
        self.highest.pop(place, None)
        await how(one)
        await until(one.counts_itself_up_to_date, f"{one.name} is up to date")
        self.may_be_lost.append((place, began, reactor.seconds()))

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

    async def kill_hub(self) -> None:
        await self.hub.stop(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        await pause(self.chance.random())
        self.hub.start([self.hub, *self.haproxies])

    async def replace(self) -> None:
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

    async def all_have_the_sums(self) -> None:
        """Wait until each HAProxy has the sums of what was counted until now."""
        least, began = self.least(), reactor.seconds()

        async def they_have() -> bool:
            for one in self.haproxies:
                table = await one.table("counted.agg")
                for client, wanted in least.items():
                    total = int(table[client]["http_req_cnt"])
                    assert wanted <= total <= self.made[client], (
                        one.name,
                        client,
                        wanted,
                        total,
                        self.made[client],
                        self.happened,
                    )
            return True

        await until(they_have, "all HAProxies have the sums", SOON)
        self.longest = max(self.longest, reactor.seconds() - began)


@pytest.mark.parametrize("seed", SEEDS)
@every_haproxy
@ensureDeferred
async def test_mishaps(mesh: Mesh, seed: int) -> None:
    """Sums are never ahead of the truth, and go back nowhere; soon after each mishap they have
    everything but for what a HAProxy had not sent when it was killed, or had counted before it was
    taught what it had."""
    chaos = Chaos(mesh, seed * 7 + int(mesh.program.branch.replace(".", "")))
    await chaos.start()
    stop: list[bool] = []
    visiting = Deferred.fromCoroutine(endlessly(chaos.visit, stop))
    for _ in range(MISHAPS):
        await chaos.mishap()
    stop.append(True)
    await visiting
    await chaos.all_have_the_sums()
    sums = await chaos.haproxies[0].table("counted.agg")
    lost = sum(chaos.made.values()) - sum(int(one["http_req_cnt"]) for one in sums.values())
    print(
        f"counted: HAProxy {mesh.program.branch}: {', '.join(chaos.happened)}: of"
        f" {len(chaos.visits)} requests {lost} are not in the sums,"
        f" {len(chaos.visits) - sum(chaos.least().values())} might have been lost;"
        f" all had the sums within {chaos.longest:.1f} s"
    )
    assert "Traceback" not in chaos.hub.log.read_text()

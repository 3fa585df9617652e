"""HAProxies are reloaded, and their old processes teach the new ones sums that are older than what
these have from the node that adds up.

`make test` does it three times with each HAProxy, `make long` thirty times.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from subprocess import Popen

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import Mesh, Peerproto, ended, endlessly, free_port, get, pause, until

from .conftest import oldest_and_newest
from .deciding import LINE, tables_of
from .summing import has_authority

RELOADS = int(os.environ.get("RELOADS", "3"))
CLIENTS = 5_000
WATCHED = 50
"""Clients whose sums grow, and of which it is asked by what is decided."""

BY_THE_SUM, BY_ITSELF, OLD, WITHOUT_NUMBERS = 204, 200, 410, 409
"""How a HAProxy decides: by a sum that is old, or would do so if it did not compare numbers."""

TABLES = tables_of("")
RULES = f"""\
    http-request set-var(txn.now) date(0,ms),and(4294967295)
    http-request set-var(txn.left) str(::),table_gpt(1,counted.lease),sub(txn.now),and(4294967295)
    http-request set-var(txn.number) str(::),table_gpt(2,counted.lease)
    http-request set-var(txn.least) url_param(least)
    acl fresh var(txn.left) -m int 1:1500
    acl ours url_param(u),table_gpt(0,counted.agg),sub(txn.number) -m int 0
    acl old url_param(u),table_http_req_cnt(counted.agg),sub(txn.least) -m int lt 0
    http-request return status {OLD} if fresh ours old
    http-request return status {WITHOUT_NUMBERS} if fresh old
    http-request return status {BY_THE_SUM} if fresh ours
    http-request return status {BY_ITSELF}
"""


class Fleet:
    """A HAProxy that counts, one that is reloaded, and the node that adds up."""

    def __init__(self, mesh: Mesh) -> None:
        mesh.tables, mesh.rules = TABLES, RULES
        self.hub: Peerproto = mesh.peerproto("hub", f"counted = {LINE}")
        self.hub.more = "[aggregate counted]\nto = counted.agg\nlease = counted.lease\n"
        self.counts = mesh.haproxy("lb1")
        self.reloaded = mesh.haproxy("lb2")
        self.mesh = mesh
        self.counted: Counter[str] = Counter()
        """What the sums are to be, by client."""
        self.seen: Counter[str] = Counter()
        """By what it was decided at most."""
        self.decided: Counter[int] = Counter()

    async def start(self) -> None:
        self.hub.start(self.mesh.nodes)
        for one in (self.counts, self.reloaded):
            one.start([one, self.hub])
            await one.up()
        await has_authority(self.hub)
        await self.count(CLIENTS)

    async def count(self, clients: int) -> None:
        """Have the sums of some clients grow, and the HAProxy that is reloaded decide by that."""
        await self.grow(clients)
        await self.all_by_the_sum()

    async def grow(self, clients: int) -> None:
        names = [f"c{number}" for number in range(clients)]
        self.counted.update(names)
        commands = [
            f"set table counted key {name} data.http_req_cnt {self.counted[name]}" for name in names
        ]
        for first in range(0, clients, 100):
            await self.counts.ask("; ".join(commands[first : first + 100]))

    async def all_by_the_sum(self) -> None:
        async def they_are() -> bool:
            for name in [f"c{number}" for number in range(WATCHED)]:
                answer = await self.decision(name)
                assert answer == BY_THE_SUM, (name, answer)
            return True

        await until(they_are, "it decides by the sums", 20)

    async def decision(self, name: str) -> int:
        """How it decides now; sums are old that are below those by which it was decided before."""
        answer = await self.decides(name, self.counted[name])
        if answer == BY_THE_SUM:
            self.decided[answer] += 1
            self.seen[name] = self.counted[name]
        else:
            self.decided[await self.decides(name, self.seen[name])] += 1
        return answer

    async def decides(self, name: str, least: int) -> int:
        return await get(self.reloaded.web, f"/?u={name}&least={least}")

    async def ask(self, number: int) -> None:
        await self.decision(f"c{number * 7 % WATCHED}")

    async def ask_until_ended(self, old: Popen[bytes]) -> None:
        """Ask all the time, until an old process has ended and a little longer."""
        stop: list[bool] = []
        asking = Deferred.fromCoroutine(endlessly(self.ask, stop))
        await ended(old, "the old process")
        await pause(0.5)
        stop.append(True)
        await asking

    def say(self, what: str) -> None:
        print(
            f"counted: HAProxy {self.mesh.program.branch}: {what}:"
            f" {self.decided[BY_THE_SUM]} decisions by sums, {self.decided[BY_ITSELF]} without,"
            f" {self.decided[WITHOUT_NUMBERS]} that would have been by old sums but for the"
            f" numbers, {self.decided[OLD]} that were"
        )
        assert self.decided[OLD] == 0

    def new_process(self) -> None:
        """One that takes over from the old one, which keeps its port."""
        old = self.reloaded.process
        assert old is not None
        self.reloaded.web = free_port()
        self.reloaded.start([self.reloaded, self.hub], "-sf", str(old.pid))


@oldest_and_newest
@ensureDeferred
async def test_frozen(mesh: Mesh) -> None:
    """An old process is frozen, before it is told to finish or after, and resumed when the new one
    has newer sums: the new one never decides by the old ones, and by each of the new ones as soon
    as that changes."""
    fleet = Fleet(mesh)
    await fleet.start()
    chance = random.Random(19)
    for reload in range(RELOADS):
        old = fleet.reloaded.process
        assert old is not None
        if reload % 3:
            fleet.new_process()
            await pause(chance.random() * 0.2)
        old.send_signal(signal.SIGSTOP)
        if not reload % 3:
            fleet.new_process()
        # Not on its socket, where the old process might be asked.
        await until(lambda: get(fleet.reloaded.web, "/"), "the new process starts")
        await fleet.count(WATCHED)
        old.send_signal(signal.SIGCONT)
        await fleet.ask_until_ended(old)
        await fleet.count(WATCHED)
    fleet.say(f"{RELOADS} reloads with a frozen old process")
    assert fleet.decided[WITHOUT_NUMBERS] > 0


@oldest_and_newest
@ensureDeferred
async def test_reload(mesh: Mesh) -> None:
    """An old process ends as usual: the new one never decides by older sums, and by all that there
    are soon, also where nothing changes any more."""
    fleet = Fleet(mesh)
    await fleet.start()
    for _ in range(RELOADS):
        old = fleet.reloaded.process
        assert old is not None
        fleet.new_process()
        await until(lambda: get(fleet.reloaded.web, "/"), "the new process starts")
        await fleet.grow(WATCHED // 2)
        await fleet.ask_until_ended(old)
        await fleet.all_by_the_sum()
    fleet.say(f"{RELOADS} reloads")

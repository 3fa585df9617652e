"""Clients that are under a limit on each HAProxy, and over it in all."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from testbed import HAProxy, Mesh, Node, endlessly, get, pause, reactor

from .conftest import oldest_and_newest
from .summing import begin, own

pytestmark = oldest_and_newest

LIMIT = 130
BEYOND = 255
"""Requests of each client beyond that: on each HAProxy it stays under the limit."""

LATE = 0.01
"""The part of these that may be answered before the sum has come."""

HELD = 0.01
"""Seconds after which a process that has not answered counts as one that gets no turn on this
machine: no client comes before it does."""

WAYS = {"count": "http_req_cnt", "rate": "http_req_rate"}
"""What clients are limited by, each by the path that it asks for."""

# A client may take as long as it likes: what a rate counts does not fall meanwhile.
LINE = "type string len 32 size 10k expire 10m store http_req_cnt,http_req_rate(10m)"
TABLES = f"""\
backend counted
    stick-table {LINE} peers mesh
backend counted.agg
    stick-table {LINE} peers mesh
"""
RULES = "    http-request track-sc0 src table counted\n" + "".join(
    f"    http-request deny deny_status 429 if {{ path /{path} }}"
    f" {{ src,table_{column}(counted.agg) gt {LIMIT} }}\n"
    for path, column in WAYS.items()
)
RULES += "    http-request return status 200\n"


@attrs.define
class Turns:
    """Knows whether a process gets its turns on this machine: it is asked all the time."""

    node: Node
    stop: list[bool] = attrs.Factory(list)
    asked_at: float = math.inf
    """When it was asked what it has not answered yet."""
    held: float = 0
    """Seconds for which it got no turn."""

    async def ask(self, _: int) -> None:
        self.asked_at = reactor.seconds()
        await self.node.ask("show info")
        self.held += max(0, reactor.seconds() - self.asked_at - HELD)
        self.asked_at = math.inf

    @property
    def is_missed(self) -> bool:
        """Whether it gets none at present."""
        return bool(reactor.seconds() - self.asked_at > HELD)


@attrs.define
class Client:
    """Comes to one HAProxy after the other, without a pause, and notes what it is answered."""

    address: str
    way: str
    answers: list[int] = attrs.Factory(list)
    latest: dict[str, int] = attrs.Factory(dict)
    """What each HAProxy answered last."""

    async def come(self, haproxies: list[HAProxy], turns: list[Turns]) -> None:
        for number in range(LIMIT + 1 + BEYOND):
            while any(turn.is_missed for turn in turns):
                await pause(0.001)
            one = haproxies[number % len(haproxies)]
            answer = await get(one.web, f"/{self.way}", self.address)
            self.answers.append(answer)
            self.latest[one.name] = answer


@ensureDeferred
async def test_limits(mesh: Mesh) -> None:
    """Clients come at once, each under the limit on each HAProxy: none is denied up to the limit;
    beyond it at most one request in a hundred is answered, and in the end none anywhere."""
    mesh.tables, mesh.rules = TABLES, RULES
    more = "[aggregate counted]\nto = counted.agg\nexpect = lb1 lb2 lb3\n"
    hub, haproxies = await begin(mesh, f"counted = {LINE}", more)
    chance = random.Random(19)
    clients = [
        Client(f"127.1.{number}.{chance.randrange(1, 255)}", way)
        for number in range(8)
        for way in WAYS
    ]
    turns = [Turns(one) for one in (hub, *haproxies)]
    asking = [Deferred.fromCoroutine(endlessly(one.ask, one.stop, 0.005)) for one in turns]
    await gatherResults(
        Deferred.fromCoroutine(one.come(chance.sample(haproxies, 3), turns)) for one in clients
    )
    for turn in turns:
        turn.stop.append(True)
    await gatherResults(asking)
    late: dict[str, int] = defaultdict(int)
    for one in clients:
        # The sum that denies a request is above the limit before that has been counted.
        assert one.answers[:LIMIT] == [200] * LIMIT, one
        late[one.way] += one.answers[LIMIT + 1 :].count(200)
        assert set(one.latest.values()) == {429}, one
        assert len(one.latest) == 3
    for table in await own(haproxies):
        assert max(int(entry["http_req_cnt"]) for entry in table.values()) <= LIMIT
    beyond = BEYOND * len(clients) // len(WAYS)
    print(
        f"counted: HAProxy {mesh.program.branch}: of {beyond} requests beyond a limit each,"
        f" answered by mistake: {dict(late)};"
        f" processes got no turn for {sum(one.held for one in turns):.1f} s"
    )
    assert all(number <= beyond * LATE for number in late.values()), late

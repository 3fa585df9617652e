"""Three nodes under random traffic, cuts, delays and kills: when it stops, all say the same."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator

import attrs
import pytest
from pytest_twisted import ensureDeferred

from testbed import HAProxy, Link, Mesh, Node, Peerproto, pause, reactor, until

SEEDS = range(10)
SECONDS = 10.0
KEYS = 40
TABLES = {
    "one": "type integer size 100k expire 1h store gpc0,http_req_rate(10s)",
    "two": "type string len 32 size 100k expire 1h store gpc0,server_key",
}
HAPROXY_TABLES = "\n".join(
    f"backend {name}\n    stick-table {line} peers mesh" for name, line in TABLES.items()
)


@attrs.define
class Chaos:
    """Two HAProxies and a peerproto, and the links between them."""

    mesh: Mesh
    chance: random.Random
    nodes: list[Node] = attrs.Factory(list)
    links: dict[tuple[str, str], Link] = attrs.Factory(dict)
    down: set[Node] = attrs.Factory(set)
    """Those that may not answer: they were killed, and have not answered since."""

    def prepare(self) -> None:
        self.nodes = [
            self.mesh.haproxy("lb1", tables=HAPROXY_TABLES, frontend=""),
            self.mesh.haproxy("lb2", tables=HAPROXY_TABLES, frontend=""),
            self.mesh.peerproto(),
        ]
        for caller in self.nodes:
            for callee in self.nodes:
                if caller is not callee:
                    link = Link(callee.port, random.Random(self.chance.random()))
                    self.links[caller.name, callee.name] = link

    def start(self, node: Node) -> None:
        """Start a node that reaches the others over the links."""
        ways = [
            attrs.evolve(other, place=self.links[node.name, other.name].address)
            if other is not node
            else node
            for other in self.nodes
        ]
        assert isinstance(node, (HAProxy, Peerproto))
        node.start(ways)

    async def traffic(self) -> None:
        """A change at a random node, of one of its own keys: nobody else changes those."""
        node = self.chance.choice(self.nodes)
        if node.process is not None:
            await self.change(node, self.chance.randrange(KEYS))

    async def change(self, node: Node, number: int) -> None:
        value = self.chance.randrange(1000)
        own = self.nodes.index(node) * KEYS + number
        for command in (
            f"set table one key {own} data.gpc0 {value}",
            f"set table two key {node.name}-{number} data.gpc0 {value}",
        ):
            if not await self.ask(node, command):
                return

    async def ask(self, node: Node, command: str) -> bool:
        """Whether a node has answered; one that was not killed must."""
        try:
            await node.ask(command)
        except Exception:
            if node not in self.down:
                raise
            return False
        return True

    async def mishap(self) -> None:
        """Cut the sessions of a pair, or kill a node and start it again."""
        if self.chance.random() < 0.7:
            self.chance.choice(list(self.links.values())).cut()
        else:
            await self.kill(self.chance.choice(self.nodes), 1)

    async def kill(self, node: Node, most: float) -> None:
        """Kill a node and start it again, after at most so many seconds; wait until it answers."""
        self.down.add(node)
        await node.stop(signal.SIGKILL)
        await pause(self.chance.uniform(0, most))
        self.start(node)
        await node.up()
        self.down.discard(node)

    async def in_step(self) -> bool:
        """Whether all nodes have sessions with each other, and count themselves up to date.

        As long as a link is about to cut something, that is not worth much.
        """
        if not all(link.settled for link in self.links.values()):
            return False
        for node in self.nodes:
            report = await node.ask("show peers")
            if node.process is None or len(re.findall(r"last_status=ESTA", report)) < 2:
                return False
            if isinstance(node, Peerproto):
                if "resync=up_to_date" not in report or report.count("in_step=yes") < 2:
                    return False
            elif not re.search(r"flags=0x\w*[37bf] resync_timeout", report):
                return False
        return True

    async def content(self, node: Node) -> dict[str, dict[str, object]]:
        return {
            name: {key: entry["gpc0"] for key, entry in (await node.table(name)).items()}
            for name in TABLES
        }


@pytest.fixture
def chaos(mesh: Mesh, request: pytest.FixtureRequest) -> Iterator[Chaos]:
    made = Chaos(mesh, random.Random(request.param))
    made.prepare()
    yield made
    for link in made.links.values():
        link.stop()


@pytest.mark.parametrize("chaos", SEEDS, indirect=True)
@ensureDeferred
async def test_converges(chaos: Chaos) -> None:
    """After 10 s of mishaps, and one more change of every key, all three have the same.

    The last changes come when all are up to date. The protocol itself promises no more: what a
    node that is killed had told one peer and not the other is for nobody to pass on, and a lesson
    may bring back what was older than a change that came in the meantime.
    """
    for node in chaos.nodes:
        chaos.start(node)
        await node.up()
    end = reactor.seconds() + SECONDS
    next_mishap = reactor.seconds() + 2
    while reactor.seconds() < end:
        await chaos.traffic()
        if reactor.seconds() >= next_mishap:
            await chaos.mishap()
            next_mishap = reactor.seconds() + chaos.chance.uniform(0.2, 1.5)
    for link in chaos.links.values():
        link.calm = True
    await until(chaos.in_step, "all are connected and up to date")
    for node in chaos.nodes:
        for number in range(KEYS):
            await chaos.change(node, number)

    async def same() -> bool:
        contents = {node.name: await chaos.content(node) for node in chaos.nodes}
        for name in TABLES:
            tables = {node: content[name] for node, content in contents.items()}
            keys = set[str]().union(*tables.values())
            values = {key: {node: one.get(key) for node, one in tables.items()} for key in keys}
            differing = {key: of for key, of in values.items() if len(set(of.values())) > 1}
            assert not differing, f"{name}: {differing}"
            assert len(keys) == 3 * KEYS, f"{name}: {sorted(keys)}"
        return True

    await until(same, "all three have the same")
    assert "Traceback" not in chaos.nodes[2].log.read_text()

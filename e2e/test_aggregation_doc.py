"""The files in doc/aggregation.md, as they stand but for addresses, sockets and time limits."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import attrs
import pytest
from pytest_twisted import ensureDeferred

from peerproto.daemon.config import Config
from testbed import HAProxy, Mesh, Node, Peerproto, free_port, get, until

from .conftest import every_haproxy

TEXT = (Path(__file__).parent.parent / "doc" / "aggregation.md").read_text()

EACH = 34
"""Requests to each of three HAProxies: below 40 at each, and above 100 at all of them."""

REST = """\
global
    localpeer {name}
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
"""


def blocks(heading: str) -> list[str]:
    """The indented blocks under a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)
    return [re.sub(r"^    ", "", one, flags=re.MULTILINE).strip() + "\n" for one in found]


def block(heading: str, begin: str) -> str:
    """The one of them that begins so."""
    (found,) = [one for one in blocks(heading) if one.startswith(begin)]
    return found


@attrs.define
class Addresses:
    """Where those listen that the text has on other hosts."""

    here: dict[str, str] = attrs.Factory(dict)

    def __call__(self, text: str) -> str:
        def local(found: re.Match[str]) -> str:
            return self.here.setdefault(found[0], f"127.0.0.1:{free_port()}")

        return re.sub(r"192\.0\.2\.\d+:\d+", local, text)


class Documented:
    """Three HAProxies, and one or two nodes that add up."""

    def __init__(self, mesh: Mesh, haproxy_cfg: str, *inis: str) -> None:
        self.mesh = mesh
        self.local = Addresses()
        names = re.findall(r"^(lb\d) = (\S+)$", inis[0], re.MULTILINE)
        (peer,) = re.findall(r"^    peer lb1 .*$", haproxy_cfg, re.MULTILINE)
        self.haproxies = [
            self.haproxy(name, haproxy_cfg.replace(peer, f"    peer {name} {address}"))
            for name, address in names
        ]
        self.nodes = [self.node(text) for text in inis]

    def haproxy(self, name: str, text: str) -> HAProxy:
        node = self.mesh.haproxy(name)
        rest = REST.format(name=name, socket=node.runtime)
        bind = f"frontend web\n    bind 127.0.0.1:{node.web}\n"
        rules = "    http-request return status 200\n"
        node.file.write_text(rest + self.local(text).replace("frontend web\n", bind) + rules)
        return node

    def node(self, text: str) -> Peerproto:
        (name,) = re.findall(r"^localpeer = (\S+)$", text, re.MULTILINE)
        node = self.mesh.peerproto(name)
        runtime = f"[node]\nruntime = unix:{node.runtime}:mode=600\n"
        node.file.write_text(self.local(text).replace("[node]\n", runtime))
        return node

    def start(self) -> None:
        for node in self.nodes:
            options = ("--log-format=text", "peers", "--config", str(node.file))
            node.spawn(*node.program, *options)
        for one in self.haproxies:
            one.spawn(*one.program.command, *one.mode, "-f", str(one.file))

    async def visit(self) -> None:
        """A client comes to all of them, and is over the limit at none of them alone."""
        for one in (*self.haproxies, *self.nodes):
            await one.up()
        for one in self.haproxies:
            await until(one.counts_itself_up_to_date, f"{one.name} is up to date")
        for one in self.nodes:
            await until(partial(has_authority, one), f"{one.name} has authority")
        for one in self.haproxies:
            for _ in range(EACH):
                assert await get(one.web) == 200

    async def have(self, output: str) -> None:
        """Wait until all have the sum of what the client did."""
        for one in self.haproxies:

            async def has_it(one: HAProxy = one) -> bool:
                (entry,) = (await one.table(output)).values()
                return int(entry["http_req_cnt"]) >= len(self.haproxies) * EACH

            await until(has_it, f"{one.name} has the sum")

    async def decide(self, expected: int) -> None:
        assert [await get(one.web) for one in self.haproxies] == [expected] * 3

    async def over(self, *leases: str) -> None:
        """Wait until all leases are over everywhere."""
        for one in self.haproxies:
            for lease in leases:

                async def is_over(one: HAProxy = one, lease: str = lease) -> bool:
                    return not await one.table(lease)

                await until(is_over, f"{lease} is over at {one.name}")


async def has_authority(node: Node) -> bool:
    answer = await node.ask("show aggregate rates")
    assert "authority: yes" in answer and answer.count(": in for") == 3, answer
    return True


@ensureDeferred
async def test_fleet_of_three(mesh: Mesh) -> None:
    """A client that is over the limit at all of them together is denied by each."""
    fleet = Documented(
        mesh, block("A fleet of three", "peers mesh"), block("A fleet of three", "[node]")
    )
    fleet.start()
    await fleet.visit()
    await fleet.have("rates.agg")
    await fleet.decide(429)


@ensureDeferred
async def test_freshness(mesh: Mesh) -> None:
    """Once the node is gone, each decides by what it has counted itself."""
    peers, counted, _, _ = block("A fleet of three", "peers mesh").split("\n\n")
    ini = block("A fleet of three", "[node]") + "lease = rates.lease\n"
    fleet = Documented(mesh, f"{peers}\n{counted}\n{block('Freshness', 'backend rates.agg')}", ini)
    fleet.start()
    await fleet.visit()
    await fleet.have("rates.agg")
    await fleet.decide(429)
    await fleet.nodes[0].stop()
    await fleet.over("rates.lease")
    await fleet.decide(200)


@every_haproxy
@ensureDeferred
async def test_pair(mesh: Mesh) -> None:
    """The sums of one node are as good as those of both."""
    first = block("A pair", "[node]")
    second = re.sub(r"(agg|lease|192\.0\.2\.1)1\b", r"\g<1>2", first)
    fleet = Documented(mesh, block("A pair", "peers mesh"), first, second)
    fleet.start()
    await fleet.visit()
    for output in ("rates.agg1", "rates.agg2"):
        await fleet.have(output)
    await fleet.nodes[0].stop()
    await fleet.over("rates.lease1")
    await fleet.decide(429)
    await fleet.nodes[1].stop()
    await fleet.over("rates.lease2")
    await fleet.decide(200)


LEVELS = [one for one in blocks("Two levels") if one.startswith("[node]")]


@pytest.mark.parametrize("text", LEVELS, ids=["site", "above"])
def test_levels(text: str) -> None:
    """The files for two levels can be read."""
    config = Config.parse("peers.ini", text)
    assert all(one.lease and one.source_lease for one in config.aggregates[-1:])

"""The files in doc/aggregation.md, as they stand but for addresses, sockets and time limits."""

from __future__ import annotations

import re
import signal
import time
from functools import partial
from pathlib import Path

import attrs
import pytest
from pytest_twisted import ensureDeferred

from testbed import HAProxy, Mesh, Node, Peerproto, fields, free_port, get, programs, until

from .conftest import every_haproxy, oldest_and_newest

TEXT = (Path(__file__).parent.parent / "doc" / "aggregation.md").read_text()

LIMIT = 100
"""The sum up to which no request is denied."""

EACH = 34
"""Requests to each of three HAProxies or more: below 40 at each, and above 100 at all of them."""

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


def indented(heading: str, begin: str) -> str:
    """The same as lines of a section."""
    return "".join(f"    {line}\n" for line in block(heading, begin).splitlines())


@attrs.define
class Addresses:
    """Where those listen that the text has on other hosts."""

    here: dict[str, str] = attrs.Factory(dict)

    def __call__(self, text: str) -> str:
        """The text for this machine, and for one on which a test may take minutes: rates do not
        fall meanwhile."""

        def local(found: re.Match[str]) -> str:
            return self.here.setdefault(found[0], f"127.0.0.1:{free_port()}")

        return re.sub(r"192\.0\.2\.\d+:\d+", local, text.replace("_rate(10s)", "_rate(10m)"))


class Documented:
    """HAProxies, and the nodes that add up."""

    def __init__(self, mesh: Mesh, haproxy_cfg: str, *inis: str) -> None:
        self.mesh = mesh
        self.local = Addresses()
        self.haproxies: list[HAProxy] = []
        self.nodes = [self.node(text) for text in inis]
        self.add_haproxies(haproxy_cfg, inis[0])

    def add_haproxies(self, haproxy_cfg: str, ini: str) -> None:
        """Have those that a node knows. The text is that of one of them, ``lb1``."""
        (peer,) = re.findall(r"^    peer lb1 .*$", haproxy_cfg, re.MULTILINE)
        self.haproxies += [
            self.haproxy(name, haproxy_cfg.replace(peer, f"    peer {name} {address}"))
            for name, address in re.findall(r"^(lb\d) = (\S+)$", ini, re.MULTILINE)
        ]

    def haproxy(self, name: str, text: str) -> HAProxy:
        node = self.mesh.haproxy(name)
        rest = REST.format(name=name, socket=node.runtime)
        bind = f"frontend web\n    bind 127.0.0.1:{node.web}\n"
        rules = "    http-request return status 200 hdr rate %[var(txn.rate)]\n"
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
            self.start_haproxy(one)

    @staticmethod
    def start_haproxy(one: HAProxy) -> None:
        one.spawn(*one.program.command, *one.mode, "-f", str(one.file))

    async def visit(self) -> None:
        """A client comes to all of them, and is over the limit at none of them alone."""
        for one in (*self.haproxies, *self.nodes):
            await one.up()
        for one in self.haproxies:
            await until(one.counts_itself_up_to_date, f"{one.name} is up to date")
        for one in self.nodes:
            await until(partial(has_authority, one), f"{one.name} has authority")
        made = 0
        for one in self.haproxies:
            for _ in range(EACH):
                made += 1
                status = await get(one.web)
                # The sum may be there before the last of them.
                assert status == 200 or (status == 429 and made > LIMIT), made

    async def have(self, output: str) -> None:
        """Wait until all have the sum of what the client did, and the lease, if there is one."""
        lease = output.replace("agg", "lease")
        for one in self.haproxies:

            async def has_it(one: HAProxy = one) -> bool:
                (entry,) = (await one.table(output)).values()
                return int(entry["http_req_cnt"]) >= len(self.haproxies) * EACH

            async def has_lease(one: HAProxy = one) -> bool:
                return bool(await one.table(lease))

            await until(has_it, f"{one.name} has the sum")
            if f"backend {lease}\n" in one.file.read_text():
                await until(has_lease, f"{one.name} has the lease")

    async def decide(self, expected: int) -> None:
        assert [await get(one.web) for one in self.haproxies] == [expected] * len(self.haproxies)

    async def over(self, *leases: str) -> None:
        """Wait until all leases are over everywhere."""
        for one in self.haproxies:
            for lease in leases:

                async def is_over(one: HAProxy = one, lease: str = lease) -> bool:
                    return not await one.table(lease)

                await until(is_over, f"{lease} is over at {one.name}")


async def has_authority(node: Node) -> bool:
    answer = await node.ask("show aggregate")
    assert "authority: yes" in answer and "authority: no" not in answer, answer
    for missing in ("not connected", "has just come", "has not taught"):
        assert missing not in answer, answer
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
    cfg = block("A pair", "peers mesh") + indented("A pair", "http-request set-var(txn.sources1)")
    fleet = Documented(mesh, cfg, first, second)
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


can_be_told = pytest.mark.parametrize(
    "program",
    [
        pytest.param(one, id=branch)
        for branch, one in programs().items()
        if tuple(map(int, branch.split("."))) >= (3, 2)
    ],
)
"""Runs a test with each HAProxy whose runtime socket takes the elements of an array."""


@attrs.frozen
class Alone:
    """A HAProxy without nodes: the test writes what they would have said."""

    haproxy: HAProxy

    async def leases(self, table: str, sources: int, left: int = 900) -> None:
        """Have a lease that still holds for a time, in ms."""
        deadline = (round(time.time() * 1000) + left) % (1 << 32)
        values = f"data.gpt[0] 1 data.gpt[1] {deadline} data.gpt[2] 7 data.gpt[3] {sources}"
        await self.haproxy.ask(f"set table {table} key :: {values}")

    async def sums(self, table: str, rate: int, number: int = 7) -> None:
        """Have the sum of the client that the test is."""
        values = f"data.http_req_rate {rate} data.gpt[0] {number}"
        await self.haproxy.ask(f"set table {table} key 127.0.0.1 {values}")


async def alone(fleet: Documented) -> Alone:
    one = fleet.haproxies[0]
    fleet.start_haproxy(one)
    await one.up()
    return Alone(one)


@can_be_told
@ensureDeferred
async def test_one_of_a_pair(mesh: Mesh) -> None:
    """The fresh one is taken; of two, that with more sources; of two with as many, the first."""
    cfg = block("A pair", "peers mesh") + indented("A pair", "http-request set-var(txn.sources1)")
    one = await alone(Documented(mesh, cfg, block("A pair", "[node]")))
    await one.sums("rates.agg1", 11)
    await one.sums("rates.agg2", 22)
    for first, second, expected in ((3, 3, "11"), (3, 2, "11"), (2, 3, "22")):
        await one.leases("rates.lease1", first)
        await one.leases("rates.lease2", second)
        assert (await fields(one.haproxy.web))["rate"] == expected, (first, second)
    await one.leases("rates.lease2", 3, left=-1)
    assert (await fields(one.haproxy.web))["rate"] == "11"
    await one.leases("rates.lease1", 3, left=-1)
    assert not (await fields(one.haproxy.web)).get("rate")
    await one.leases("rates.lease2", 2)
    assert (await fields(one.haproxy.web))["rate"] == "22"
    await one.leases("rates.lease1", 3)
    await one.sums("rates.agg1", 11, number=6)
    await one.leases("rates.lease2", 2)
    assert (await fields(one.haproxy.web))["rate"] == "22"


@can_be_told
@ensureDeferred
async def test_skew(mesh: Mesh) -> None:
    """What is left of a lease is shown where it is much less than it should be, or more."""
    peers, counted, _, _ = block("A fleet of three", "peers mesh").split("\n\n")
    cfg = f"{peers}\n{counted}\n{block('Freshness', 'backend rates.agg')}"
    cfg += indented("Freshness", "http-after-response")
    one = await alone(Documented(mesh, cfg, block("A fleet of three", "[node]")))
    assert "x-lease-left" not in await fields(one.haproxy.web)
    for left, is_shown in ((900, False), (1900, True), (100, True)):
        await one.leases("rates.lease", 3, left)
        assert ("x-lease-left" in await fields(one.haproxy.web)) == is_shown, left


@oldest_and_newest
@ensureDeferred
async def test_two_levels(mesh: Mesh) -> None:
    """A client is over the limit at all sites together, and denied by each HAProxy of each; also by
    one node above alone."""
    site, above = (one for one in blocks("Two levels") if one.startswith("[node]"))
    cfg = block("Two levels", "peers mesh")
    second = re.sub(r"(localpeer = east|agg|lease|bind = 192\.0\.2\.3)1\b", r"\g<1>2", site)
    # The other site has the same files, with its own names and addresses.
    west = [
        ("east", "west"),
        *((f"192.0.2.3{n}:", f"192.0.2.3{n + 2}:") for n in (2, 1)),
        *((f"192.0.2.2{n}:", f"192.0.2.2{n + 2}:") for n in (2, 1)),
        *((f"lb{n}", f"lb{n + 2}") for n in (2, 1)),
    ]

    def moved(text: str) -> str:
        for here, there in west:
            text = text.replace(here, there)
        return text

    other = re.sub(r"(localpeer = up|bind = 192\.0\.2\.4)1\b", r"\g<1>2", above)
    nodes = (site, second, moved(site), moved(second), above, other)
    fleet = Documented(mesh, cfg, *nodes)
    fleet.add_haproxies(moved(cfg).replace("peer lb3", "peer lb1"), moved(site))
    fleet.start()
    await fleet.visit()
    for output in ("rates.agg1", "rates.agg2"):
        await fleet.have(output)
    await fleet.decide(429)
    *_, first, last = fleet.nodes
    await first.stop(signal.SIGKILL)
    await fleet.decide(429)
    await last.stop(signal.SIGKILL)
    await fleet.over("rates.lease1", "rates.lease2")
    await fleet.decide(200)

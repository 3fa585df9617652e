"""`make soak`: hours of mishaps in minutes, and nothing may grow.

Two HAProxies and a peerproto with changes, expiring entries, runtime commands, reloads, cut
sessions and killed HAProxies. Memory, file descriptors and waiting calls of peerproto are noted
all the while. Not collected by the usual run: `SOAK_SECONDS` (600) is how long it takes.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
from pathlib import Path

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import HAProxy, Mesh, Peerproto, endlessly, pause, reactor, until

from .test_chaos import Chaos

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SAMPLES = 120
VISITORS = 5000
"""Keys in use at a time; in 10 s all are others."""
CHANGES = 5
"""Changes of entries a turn, at one node after the other."""


@attrs.frozen
class Sample:
    """What the process holds at a moment."""

    resident: int
    """KiB."""
    descriptors: int
    tasks: int
    entries: int


async def sample(peer: Peerproto) -> Sample:
    info = dict(re.findall(r"(\w+): (\d+)$", await peer.ask("show info"), re.MULTILINE))
    return Sample(
        peer.memory() // 1024,
        len(list(Path(f"/proc/{peer.pid}/fd").iterdir())),
        int(info["Tasks"]),
        int(info["Entries"]),
    )


def typical(samples: list[Sample], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in samples))


class Soak(Chaos):
    """The mesh of the chaos test, for longer: peerproto itself is never killed."""

    async def mishap(self) -> None:
        if self.chance.random() < 0.8:
            self.chance.choice(list(self.links.values())).cut()
            return
        await self.kill(self.chance.choice(self.nodes[:2]), 2)

    async def visit(self) -> None:
        """Changes of entries, of which new ones come all the time, and old ones expire."""
        node = self.chance.choice(self.nodes)
        number = int(reactor.seconds() * VISITORS / 10) % (1 << 30)
        number += self.chance.randrange(VISITORS)
        commands = "; ".join(
            f"set table visitors key {number + more} data.gpc0 {number}" for more in range(CHANGES)
        )
        if not await self.ask(node, commands):
            await pause(0.01)


@ensureDeferred
async def test_soak(mesh: Mesh) -> None:
    """In the last quarter it holds what it held in the second: memory within a tenth and 4 MiB,
    descriptors and waiting calls within 10."""
    soak = Soak(mesh, random.Random(1))
    soak.prepare()
    visitors = "visitors = type integer size 100k expire 10s store gpc0,http_req_rate(10s)"
    peer = soak.nodes[2]
    assert isinstance(peer, Peerproto)
    peer.declared = visitors
    for node in soak.nodes[:2]:
        assert isinstance(node, HAProxy)
        node.tables += (
            visitors.replace("visitors = ", "\nbackend visitors\n    stick-table ")
            + " peers mesh\n"
        )
    for node in soak.nodes:
        soak.start(node)
        await node.up()
    samples: list[Sample] = []
    stop: list[bool] = []

    async def change(_: int) -> None:
        await soak.traffic()
        await soak.visit()

    async def disturb(_: int) -> None:
        await pause(soak.chance.uniform(0.5, 5))
        await soak.mishap()
        if soak.chance.random() < 0.1:
            assert peer.process is not None
            peer.process.send_signal(signal.SIGHUP)

    async def watch(_: int) -> None:
        await pause(SECONDS / SAMPLES)
        samples.append(await sample(peer))
        now = samples[-1]
        print(
            f"{len(samples) * SECONDS / SAMPLES:5.0f} s: {now.resident / 1024:6.1f} MiB resident,"
            f" {now.descriptors} descriptors, {now.tasks} tasks, {now.entries} entries",
            flush=True,
        )
        if len(samples) == SAMPLES:
            stop.append(True)

    try:
        running = [Deferred.fromCoroutine(endlessly(what, stop, 0)) for what in (change, disturb)]
        await endlessly(watch, stop, 0)
        changes, mishaps = [await one for one in running]
        print(f"{changes * (CHANGES + 2)} changes, {mishaps} mishaps in {SECONDS:g} s")
        for link in soak.links.values():
            link.calm = True
        await until(soak.in_step, "all are connected and up to date")
    finally:
        for link in soak.links.values():
            link.stop()
    assert "Traceback" not in peer.log.read_text()
    second, last = samples[SAMPLES // 4 : SAMPLES // 2], samples[-SAMPLES // 4 :]
    assert typical(last, "resident") <= typical(second, "resident") * 1.1 + 4096
    for name in ("descriptors", "tasks"):
        assert typical(last, name) <= typical(second, name) + 10, name

"""A hub of 50 peers: lessons for all at once, while live updates and heartbeats go on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from peerproto import Batch, Observer, StickTableService
from testbed import Mesh, Node, Peerproto, converse, endlessly, free_port, pause, reactor, until

PUPILS = 50
ENTRIES = 5_000
TABLES = {
    f"t{number}": "type integer size 1m expire 1h store gpc0,http_req_rate(10s)"
    for number in (1, 2, 3, 4)
}
LARGE = 400_000
"""Entries whose lesson does not fit the kernel's buffers."""

LIVE = {"live": "type integer size 100k expire 1h store gpc0"}


class Stopwatch(Observer):
    """When each change to the table ``live`` came."""

    def __init__(self) -> None:
        self.came: dict[object, float] = {}

    def table_changed(self, batch: Batch) -> None:
        if batch.table.name == "live":
            for key in batch.keys():
                self.came.setdefault(key, reactor.seconds())


@ensureDeferred
async def test_fifty_lessons_at_once(mesh: Mesh) -> None:
    """50 peers are taught 20,000 entries in 4 tables at once: 99 of 100 live updates arrive
    within a tenth of the time that this takes, no session dies, and each peer costs at most
    64 KiB, beside the order of the keys, which all lessons share: 16 bytes an entry."""
    declared = "\n".join(f"{name} = {line}" for name, line in {**TABLES, **LIVE}.items())
    peer = mesh.peerproto(declared=declared)
    others: list[Node] = [
        Peerproto(name, mesh.folder, port=free_port())
        for name in ["client", *(f"pupil{number}" for number in range(PUPILS))]
    ]
    peer.start(others)
    where = {peer.name: f"tcp:127.0.0.1:{peer.port}"}
    client = StickTableService("client", where, {**TABLES, **LIVE}, reactor=reactor)
    for name in TABLES:
        for key in range(ENTRIES):
            client.table(name).set(key, gpc0=key, http_req_rate=key % 100)
    stopwatch = Stopwatch()
    client.add_observer(stopwatch)
    client.startService()
    await peer.in_step("client")

    async def full() -> bool:
        return (await peer.ask("show table")).count(f"used:{ENTRIES}") == 4

    await until(full, "the hub is full")
    before = peer.memory("VmHWM")
    pupils = subprocess.Popen(
        [sys.executable, "-m", "e2e.hub_pupils", str(peer.port), str(PUPILS)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert pupils.stdout is not None
        stdout = pupils.stdout
        sent: dict[object, float] = {}
        stop: list[bool] = []

        async def change(key: int) -> None:
            sent[key] = reactor.seconds()
            await peer.do(f"set table live key {key} data.gpc0 1")

        changing = Deferred.fromCoroutine(endlessly(change, stop, every=0.01))

        async def all_taught() -> bool:
            # In step is nobody for long, while changes go out all the time.
            confirmed = re.findall(r"peer (pupil\d+) confirmed its lesson", peer.log.read_text())
            return len(set(confirmed)) == PUPILS

        await until(all_taught, "all are taught", 300)
        stop.append(True)
        assert await changing >= 100
        report = json.loads(stdout.readline())
        await pause(1)
        grown = peer.memory("VmHWM") - before
    finally:
        pupils.terminate()
        pupils.wait()
        await client.stopService()
    assert min(report["entries"]) >= 4 * ENTRIES
    assert report["reasons"] == ["finished by peerproto"]
    assert (report["dead"], report["sessions"]) == (0, PUPILS)
    assert sent.keys() <= stopwatch.came.keys()
    lags = sorted(stopwatch.came[key] - sent[key] for key in sent)
    assert lags[int(len(lags) * 0.99)] < report["seconds"] / 10, (report, lags[-10:])
    shared = 16 * len(TABLES) * ENTRIES
    assert grown <= PUPILS * 65536 + shared, (grown / PUPILS, report, len(sent), lags[-3:])
    print(f"{len(lags)} live updates, 99% within {lags[int(len(lags) * 0.99)] * 1000:.0f} ms;")
    print(f"{grown / PUPILS:.0f} bytes a peer; taught in {report['seconds']:.1f} s")


@ensureDeferred
async def test_slow_readers(mesh: Mesh) -> None:
    """Peers that ask for a lesson and read none of it cost a bounded buffer each; one that is
    silent as well is dead after a while; and the others notice nothing."""
    readers = 20
    haproxy = mesh.haproxy("lb1")
    peer = mesh.peerproto(declared=f"t1 = {TABLES['t1']}")
    names = [f"slow{number}" for number in range(readers)]
    mesh.nodes += [Peerproto(name, mesh.folder, port=free_port()) for name in names]
    mesh.start(haproxy, peer)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    await peer.in_step("lb1")
    filler = StickTableService(
        "slow0", {peer.name: f"tcp:127.0.0.1:{peer.port}"}, {"t1": TABLES["t1"]}, reactor=reactor
    )
    for key in range(LARGE):
        filler.table("t1").set(key, gpc0=key)
    filler.startService()

    async def full() -> bool:
        return f"used:{LARGE}" in await peer.ask("show table")

    await until(full, "it has something to teach")
    await filler.stopService()
    before = peer.memory("VmHWM")
    slow = []
    for name in names:
        conversation = await converse(peer.port)
        conversation.stop_reading()
        conversation.send(f"HAProxyS 2.1\npeerproto\n{name} 1 1\n".encode() + b"\x00\x00")
        slow.append(conversation)
    stop: list[bool] = []

    async def beat(_: int) -> None:
        for conversation in slow[1:]:
            conversation.send(b"\x00\x04")

    beating = Deferred.fromCoroutine(endlessly(beat, stop, every=1))
    number = 1

    async def silent_one_is_dead() -> bool:
        nonlocal number
        number += 1
        await peer.do(f"set table t_never key {number} data.gpc0 1")

        async def arrived() -> bool:
            return len(await haproxy.table("t_never")) == number

        await until(arrived, "a live update arrives at the HAProxy")
        return "no_hbt=1 " in await peer.ask("show peers slow0")

    await until(silent_one_is_dead, "the silent one is dead")
    report = await peer.ask("show peers")
    stop.append(True)
    await beating
    assert report.count("state=teaching") == readers - 1
    assert peer.memory("VmHWM") - before <= readers * 128 * 1024
    for conversation in slow:
        conversation.hang_up()

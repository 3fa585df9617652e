"""The wall clock is set while nodes run: of the process alone, by libfaketime."""

from __future__ import annotations

import os
import re
import signal
from datetime import datetime, timezone
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import Mesh, Node, Peerproto, endlessly, until

HOUR = 3600
LONG = 30 * 60 * 1000
"""How long the entries of the table live, in ms."""

TABLES = """\
backend long
    stick-table type integer size 1m expire 30m store gpc0 peers mesh
"""
DECLARED = """\
long = type integer size 1m expire 30m store gpc0
short = type integer size 1m expire 10s store gpc0
"""


def faked(node: Node) -> Path:
    """Have a process read its wall clock through a file: how many seconds it is ahead."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    ahead = node.folder / f"{node.alias}.ahead"
    node.environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(ahead),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return ahead


def step(ahead: Path, seconds: float) -> None:
    """Set the wall clock."""
    new = ahead.with_suffix(".new")
    new.write_text(f"{seconds:+}\n")
    os.replace(new, ahead)


def connections(report: str) -> str:
    return " ".join(re.findall(r"(?:new_conn|no_hbt|coll)=\d+", report))


def is_ahead(peer: Peerproto, seconds: int) -> bool:
    """Whether the log's last line is this far from now."""
    peer.send_signal(signal.SIGHUP)
    last = peer.log.read_text().splitlines()[-1]
    logged = datetime.strptime(last.split()[0], "%Y-%m-%dT%H:%M:%S%z")
    return abs((logged - datetime.now(timezone.utc)).total_seconds() - seconds) < 60


@ensureDeferred
async def test_steps(mesh: Mesh) -> None:
    """Steps of an hour in either direction, under changes from both sides: nothing expires
    early, nothing lives longer, and no session ends."""
    haproxy, peer = mesh.haproxy("lb1", tables=TABLES, frontend=""), mesh.peerproto()
    peer.declared = DECLARED
    ahead = faked(peer)
    step(ahead, 0)
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    before = connections(await peer.ask("show peers lb1"))
    stop: list[bool] = []

    async def change(number: int) -> None:
        await (peer, haproxy)[number % 2].do(f"set table long key {number + 10} data.gpc0 {number}")

    changing = Deferred.fromCoroutine(endlessly(change, stop, every=0.05))

    async def remaining(key: str) -> int:
        return int((await peer.table("long"))[key]["exp"])

    for number, seconds in enumerate((HOUR, 0, -HOUR, 0), 1):
        await peer.do(f"set table long key {number} data.gpc0 {number}")
        await peer.do(f"set table short key {number} data.gpc0 {number}")
        assert LONG - 60_000 < await remaining(str(number)) <= LONG
        step(ahead, seconds)

        async def sees_it(wanted: int = seconds) -> bool:
            return is_ahead(peer, wanted)

        await until(sees_it, "it sees the step")
        assert str(number) in await peer.table("short"), "it expired early"

        async def time_has_passed(key: str = str(number)) -> bool:
            left = await remaining(key)
            assert LONG - 120_000 < left <= LONG, left
            return left < LONG - 13_000

        await until(time_has_passed, "13 s pass")
        assert await peer.table("short") == {}, "it lives longer"
    stop.append(True)
    changes = await changing
    assert changes > 50

    async def agree() -> bool:
        theirs, ours = await haproxy.table("long"), await peer.table("long")
        assert {key: entry["gpc0"] for key, entry in ours.items()} == {
            key: entry["gpc0"] for key, entry in theirs.items()
        }
        return len(ours) == changes + 4

    await until(agree, "both have every change")
    assert connections(await peer.ask("show peers lb1")) == before
    assert "Traceback" not in peer.log.read_text()

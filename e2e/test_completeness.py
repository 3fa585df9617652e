"""A node that learns from a real HAProxy: what it has in the end, and when it says so."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import attrs
from pytest_twisted import ensureDeferred

from peerproto import Batch, Cause, Observer, StickTableService
from testbed import HAProxy, Link, Mesh, Peerproto, reactor, until

from .conftest import every_haproxy

ENTRIES = 100_000
BIG = "type integer size 1m expire 1h store gpc0,gpc1"
TABLES = f"backend big\n    stick-table {BIG} peers mesh\n"


@attrs.define
class AtFirst(Observer):
    """Does something when the first part of a lesson is there."""

    do: Callable[[], object]
    done: bool = False

    def table_changed(self, batch: Batch) -> None:
        if batch.cause is Cause.LEARNT and not self.done:
            self.done = True
            self.do()


async def full_haproxy(mesh: Mesh, *learners: str) -> HAProxy:
    """A HAProxy with 100,000 entries, whose other peers are these, and nowhere yet."""
    haproxy = mesh.haproxy("lb1", tables=TABLES, frontend="")
    for name in ("filler", *learners):
        mesh.nodes.append(Peerproto(name, mesh.folder))
    filler = StickTableService("filler", {"lb1": haproxy.address}, {"big": BIG}, reactor=reactor)
    for key in range(ENTRIES):
        filler.table("big").set(key, gpc0=1)
    filler.startService()
    mesh.start(haproxy)
    await haproxy.up()

    async def is_full() -> bool:
        return f"used:{ENTRIES}" in await haproxy.ask("show table")

    await until(is_full, f"it has {ENTRIES} entries", 300)
    await filler.stopService()
    return haproxy


@every_haproxy
@ensureDeferred
async def test_changes_while_it_learns(mesh: Mesh) -> None:
    """What is set before and during a lesson is there in the end, here and in HAProxy."""
    haproxy = await full_haproxy(mesh, "app")
    app = StickTableService("app", {"lb1": haproxy.address}, {"big": BIG}, reactor=reactor)
    table = app.table("big")
    before, meanwhile = range(0, ENTRIES, 100), range(1, ENTRIES, 100)

    def change(keys: range) -> None:
        for key in keys:
            table.set(key, gpc0=7)

    change(before)
    app.add_observer(AtFirst(lambda: change(meanwhile)))
    app.startService()
    try:
        await app.when_up_to_date()

        async def in_step() -> bool:
            return app.peers["lb1"].out_of_step() == []

        await until(in_step, "everything was sent")
        assert len(table) == ENTRIES
        for key in range(ENTRIES):
            assert table[key]["gpc0"] == (7 if key % 100 in (0, 1) else 1), key
        changed = len(before) + len(meanwhile)

        async def has_them() -> bool:
            answer = await haproxy.ask("show table big data.gpc0 eq 7")
            return answer.count("key=") == changed

        await until(has_them, "HAProxy has what was set")
    finally:
        await app.stopService()


@every_haproxy
@ensureDeferred
async def test_the_only_teacher_is_cut_off(mesh: Mesh) -> None:
    """A node is not up to date with a part of a table, but when it has learnt the rest."""
    haproxy = await full_haproxy(mesh, "app")
    link = Link(haproxy.port, random.Random(1), calm=True)
    app = StickTableService("app", {"lb1": link.address}, {"big": BIG}, reactor=reactor)
    app.add_observer(AtFirst(link.cut))
    app.startService()
    try:
        reason = await app.when_up_to_date()
        assert len(app.table("big")) == ENTRIES
        assert reason == "finished by lb1"
        assert app.peers["lb1"].counters.new_conn == 2
    finally:
        await app.stopService()
        link.stop()


@ensureDeferred
async def test_a_table_that_is_put_right(mesh: Mesh) -> None:
    """A declaration that is corrected by SIGHUP is shared on the running session, and learnt."""
    haproxy = await full_haproxy(mesh, "peerproto")
    (peer,) = (node for node in mesh.nodes if node.name == "peerproto")
    assert isinstance(peer, Peerproto)
    peer.declared = f"big = {BIG.replace('integer', 'string')}"
    peer.start([haproxy, peer])

    async def differs() -> bool:
        answer = await peer.ask("show peers")
        return "resync=up_to_date" in answer and "table big differs in key type" in answer

    await until(differs, "the difference is reported")
    peer.declared = f"big = {BIG}"
    peer.configure([haproxy, peer])
    assert peer.process is not None
    peer.process.send_signal(signal.SIGHUP)
    await peer.in_step("lb1")
    assert f"used:{ENTRIES}" in await peer.ask("show table")
    assert "finished by lb1" in await peer.ask("show peers")

"""What a real HAProxy is taught, while something happens to the table in mid-lesson."""

from __future__ import annotations

import random
import re
import signal
import struct

import attrs
from pytest_twisted import ensureDeferred

from peerproto.tables.declaration import Declaration
from peerproto.testing.entries import write
from testbed import HAProxy, Link, Mesh, Node, Peerproto, RawPeer, free_port, parse_table, until

from .conftest import every_haproxy

ENTRIES = 400_000
"""Their lesson takes more than a moment."""

PART = 1_000_000
"""Bytes of it that are carried before each reload: a tenth."""

LINE = "type integer size 1m expire 1h store {}"
COLUMNS = "gpc0,gpc1,http_req_rate(10s)"
TABLES = f"backend big\n    stick-table {LINE.format(COLUMNS)} peers mesh\n"
BIG = Declaration.parse("big", LINE.format(COLUMNS))
LATER = ["gpc0", "gpt0,gpc0,gpc1", "gpc0,http_req_cnt,http_req_rate(20s)", COLUMNS]
"""What the table stores after each reload, one more or one less than HAProxy's."""


async def filled(mesh: Mesh, haproxy: HAProxy) -> Peerproto:
    """A peerproto with a table for a HAProxy that calls it, and that it cannot call."""
    peer = mesh.peerproto(declared=f"big = {LINE.format(COLUMNS)}")
    peer.settings = "learn-columns = no"
    peer.start([peer, haproxy, Node("filler", mesh.folder)])
    await peer.up()
    raw = await RawPeer.session(peer, "filler")
    raw.define(BIG)
    one = write(BIG.layout, 0, {}, 0)  # its id, key and first two values are from its 4th byte on
    raw.send(
        b"".join(
            one[:3] + struct.pack(">IIBB", number, number, number % 200, number % 7) + one[13:]
            for number in range(ENTRIES)
        )
    )

    async def has_it_all() -> bool:
        return await used(peer) == ENTRIES

    await until(has_it_all, "peerproto has it all", 300)
    raw.hang_up()
    return peer


async def used(node: HAProxy | Peerproto) -> int:
    """How many entries a node has."""
    found = re.search(r"# table: big,.*used:(\d+)", await node.ask("show table"))
    assert found is not None
    return int(found[1])


@every_haproxy
@ensureDeferred
async def test_redeclared(mesh: Mesh) -> None:
    """The columns of a table change again and again in the middle of its lesson: every entry
    arrives, with what it had."""
    haproxy = mesh.haproxy("lb1", tables=TABLES, frontend="")
    away = attrs.evolve(haproxy, place=f"127.0.0.1:{free_port()}")
    peer = await filled(mesh, away)
    link = Link(peer.port, random.Random(1), calm=True, most_back=PART)
    try:
        haproxy.start([haproxy, attrs.evolve(peer, place=link.address)])
        await haproxy.up()
        for number, stored in enumerate(LATER):

            async def comes_to_a_halt(link: Link = link) -> bool:
                return link.stalled_back

            await until(comes_to_a_halt, "a part of the lesson was carried")
            peer.declared = f"big = {LINE.format(stored)}"
            peer.configure([peer, away])
            peer.send_signal(signal.SIGHUP)
            names = re.findall(r"\w+(?=,|\(|$)", stored)

            async def declared(names: list[str] = names) -> bool:
                entry = parse_table(await peer.ask("show table big key 1"))["1"]
                return entry.keys() - {"exp"} == set(names)

            await until(declared, f"it stores {stored}")
            assert "state=teaching" in await peer.ask("show peers lb1")
            link.most_back = PART if number + 1 < len(LATER) else None
            link.stall()

        async def has_it_all() -> bool:
            return await used(haproxy) == ENTRIES

        await until(has_it_all, "HAProxy has it all", 300)
        await peer.in_step("lb1")
        shown = re.findall(
            r"key=(\d+) .* gpc0=(\d+) .*gpc1=(\d+)", await haproxy.ask("show table big")
        )
        values = {int(key): (int(gpc0), int(gpc1)) for key, gpc0, gpc1 in shown}
        assert values.keys() == set(range(ENTRIES))
        assert all(
            gpc0 == key % 200 and gpc1 in (0, key % 7) for key, (gpc0, gpc1) in values.items()
        )
        await until(haproxy.counts_itself_up_to_date, "HAProxy is up to date")
        assert "Traceback" not in peer.log.read_text()
    finally:
        link.stop()

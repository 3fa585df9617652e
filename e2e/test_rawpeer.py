"""The scripted peer of `testbed`, against what it is for: HAProxies and peerproto."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from peerproto.tables.declaration import Declaration
from peerproto.wire.frames import Frame
from peerproto.wire.messages import Ack, Control, ErrorMessage, TableDefinition, TableSwitch
from testbed import (
    Acks,
    Mesh,
    Node,
    Peerproto,
    RawListener,
    RawPeer,
    Text,
    Update,
    programs,
    until,
)
from testbed.rawpeer import Heard

LINES = {
    "rates": "type ip size 1k expire 1h store gpc0,http_req_rate(10s)",
    "names": "type string len 32 size 1k expire 1h store server_id,gpt(2),server_key",
}
RATES, NAMES = (Declaration.parse(name, line) for name, line in LINES.items())
HAPROXY_TABLES = "\n".join(
    f"backend {name}\n    stick-table {line} peers mesh\n    server web1 192.0.2.1:80"
    for name, line in LINES.items()
)


@pytest.fixture(params=["peerproto", *programs()])
def node(mesh: Mesh, request: pytest.FixtureRequest) -> Node:
    """A peerproto, or a HAProxy of each branch, that knows a peer ``raw``; not yet started."""
    mesh.nodes.append(Node("raw", mesh.folder))
    if request.param == "peerproto":
        declared = "\n".join(f"{name} = {line}" for name, line in LINES.items())
        return mesh.peerproto("subject", declared)
    return mesh.haproxy("subject", HAPROXY_TABLES, "", programs()[request.param])


async def started(mesh: Mesh, node: Node) -> None:
    mesh.start(node)
    await node.up()


def is_update(table: str, key: object) -> object:
    return lambda one: isinstance(one, Update) and (one.table, str(one.key)) == (table, key)


async def has(node: Node, table: str, key: str, **values: object) -> None:
    """Wait until an entry has these values, as ``show table`` prints them."""

    async def has_them() -> bool:
        entry = (await node.table(table))[key]
        return {name: entry[name] for name in values} == values

    await until(has_them, f"{node.name} has {values} for {key}")


async def say_updates(raw: RawPeer, node: Node) -> None:
    """Every kind of update arrives, and is acked with our number of the table."""
    raw.define(RATES, 7)
    raw.update("192.0.2.1", {"gpc0": 5, "http_req_rate": (0, 40, 2)}, update_id=100)
    raw.update("192.0.2.2", {"gpc0": 6})
    raw.update("192.0.2.3", {"gpc0": 300}, update_id=110, expiry=1_000_000)
    raw.update("192.0.2.4", {"gpc0": 8}, expiry=2_000_000)
    await raw.hears(Ack(7, 111))
    for number, value in enumerate((5, 6, 300, 8), 1):
        await has(node, "rates", f"192.0.2.{number}", gpc0=value)
    table = await node.table("rates")
    lives = [int(table[f"192.0.2.{number}"]["exp"]) for number in (1, 2, 3, 4)]
    assert [round(life, -6) for life in lives] == [4_000_000, 4_000_000, 1_000_000, 2_000_000]

    raw.define(NAMES, 8)
    raw.update("ann", {"server_id": -1, "gpt": [1, 2], "server_key": Text(3, b"web1")}, 1)
    raw.update("bob", {"server_key": Text(3)})
    raw.say(TableSwitch(7))
    await raw.hears(Ack(8, 2))
    await has(node, "names", "ann", server_id=-1, gpt0=1, gpt1=2, server_key="web1")
    await has(node, "names", "bob", server_key="web1")


async def hear_updates(raw: RawPeer, node: Node) -> None:
    """What changes there is heard, decoded, with the table that it is of."""
    await node.do("set table rates key 198.51.100.1 data.gpc0 17")
    await node.do("set table names key carl data.server_id 4")
    heard = await raw.hears(lambda one: isinstance(one, Update) and one.key == "carl")
    assert isinstance(heard, Update)
    assert heard.table == "names" and heard.values["server_id"] == 4
    (change,) = (one for one in raw.updates if str(one.key) == "198.51.100.1")
    assert (change.table, change.values["gpc0"], change.with_id) == ("rates", 17, True)


async def hear_a_lesson(raw: RawPeer, node: Node) -> None:
    """A lesson is timed, has all entries, and ends."""
    begins = len(raw.heard)
    raw.say(Control.RESYNC_REQUEST)

    def is_over(one: Heard) -> bool:
        return one in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL)

    await raw.hears(is_over)
    taught = [one for one in raw.heard[begins:] if isinstance(one, Update)]
    assert all(one.expiry for one in taught)
    for name in LINES:
        there = {str(one.key) for one in taught if one.table == name}
        assert there == (await node.table(name)).keys(), name
    assert set(raw.texts.values()) == {b"web1"}


@ensureDeferred
async def test_as_caller(mesh: Mesh, node: Node) -> None:
    """It calls, defines, updates, is acked, hears changes and a lesson, and is told what was
    wrong when it sends that."""
    await started(mesh, node)
    raw = await RawPeer.session(node, "raw")
    await say_updates(raw, node)
    await hear_updates(raw, node)
    await hear_a_lesson(raw, node)
    definitions = {one.name: one for one in raw.heard if isinstance(one, TableDefinition)}
    assert definitions["names"].layout == NAMES.layout
    raw.send(Frame(10, 0x80, b"\x00").encode())
    assert (await raw.end())[-1] is ErrorMessage.PROTOCOL


@ensureDeferred
async def test_as_callee(mesh: Mesh, node: Node) -> None:
    """It is called, and everything goes as if it had called."""
    (place,) = (one for one in mesh.nodes if one.name == "raw")
    listener = RawListener("raw", place.port)
    try:
        await started(mesh, node)
        raw = await listener.session()
        assert raw.lines[:2] == ["HAProxyS 2.1", "raw"]
        assert raw.lines[2].startswith("subject ")
        await raw.hears(Control.RESYNC_REQUEST)
        await say_updates(raw, node)
        await hear_updates(raw, node)
        await hear_a_lesson(raw, node)
    finally:
        await listener.stop()


@ensureDeferred
async def test_refused_hellos(mesh: Mesh, node: Node) -> None:
    """A status is heard, and that the connection ends after it."""
    await started(mesh, node)
    for name, hello, status in (
        ("raw", b"GET / HTTP/1.1\r\n", "501"),
        ("raw", b"HAProxyS 3.0\n", "502"),
        ("raw", b"HAProxyS 2.1\nother\n", "503"),
        ("nobody", None, "504"),
    ):
        raw = await RawPeer.call(node, name, hello)
        assert await raw.end() == []
        assert raw.lines == [status]


@ensureDeferred
async def test_any_bytes_in_pieces(mesh: Mesh, node: Node) -> None:
    """Bytes go out as they are given: an unknown message is skipped, a heartbeat in two pieces
    is one."""
    await started(mesh, node)
    raw = await RawPeer.session(node, "raw")
    raw.beats = False
    raw.send(Frame(77, 0x99, b"from the future").encode() + b"\x00")
    raw.send(b"\x04")
    await say_updates(raw, node)
    assert not raw.closed.called


async def three_changes_at_once(raw: RawPeer, node: Node, first: int) -> list[Update]:
    """Change three entries in one turn: how they come."""
    commands = (f"set table rates key 203.0.113.{first + more} data.gpc0 1" for more in range(3))
    before = len(raw.updates)
    await node.ask("; ".join(commands))

    async def came() -> bool:
        return len(raw.updates) >= before + 3

    await until(came, "three changes come")
    return raw.updates[before:]


@ensureDeferred
async def test_wrong_acks(mesh: Mesh, node: Node) -> None:
    """It acks an update without id in the wrong byte order, if HAProxy sends one; peerproto sends
    all with their ids, and takes the acks. In a lesson it acks nothing."""
    await started(mesh, node)
    raw = await RawPeer.session(node, "raw")
    raw.acks = Acks.SWAPPED
    changes = await three_changes_at_once(raw, node, 1)
    if changes[-1].with_id:
        assert raw.acked[-1].update_id == changes[-1].id
    else:
        assert raw.acked[-1].update_id > 0xFFFF
    if isinstance(node, Peerproto):
        assert all(one.with_id for one in changes)

        async def all_acked() -> bool:
            return "in_step=yes" in await node.ask("show peers raw")

        raw.replies = Control.RESYNC_FINISHED
        await until(all_acked, "all changes are acked")
    acked = list(raw.acked)
    raw.say(Control.RESYNC_REQUEST)
    end = await raw.hears(lambda one: one in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL))
    # HAProxy does not know by the wrong acks what has come, and sends it again after the lesson.
    again = raw.heard[raw.heard.index(end) + 1 :]
    assert raw.acked == acked or any(isinstance(one, Update) for one in again)


@ensureDeferred
async def test_silence(mesh: Mesh, node: Node) -> None:
    """Without heartbeats it is left after 5 to 10 s."""
    await started(mesh, node)
    raw = await RawPeer.session(node, "raw")
    raw.beats = raw.confirms = False
    raw.replies = None
    await raw.end()
    assert Control.HEARTBEAT in raw.heard

"""Texts of the dictionary as HAProxy really sends them: ids that it has never defined included."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from peerproto.tables.declaration import Declaration
from testbed import HAProxy, Mesh, Node, RawPeer, Text, until

from .conftest import every_haproxy

LINE = "type string len 128 size 10k expire 1h store server_id,server_key"
TABLE = Declaration.parse("names", LINE)
TABLES = f"backend names\n    stick-table {LINE} peers mesh\n"
ENTRIES = 1_500
SERVERS = 128
"""As many as there are ids: of more, HAProxy refers to texts by ids that still mean others."""


def key(number: int) -> str:
    """Long keys: then a lesson fills HAProxy's buffer in the middle of a message."""
    return f"{number:04}".ljust(120, "x")


def server(number: int) -> bytes:
    return b"server-%03d" % (number % SERVERS)


async def fill(haproxy: HAProxy) -> None:
    """Give it entries of many servers, as a peer of the name ``filler`` that it learns from."""
    filler = await RawPeer.session(haproxy, "filler")
    filler.define(TABLE)
    for number in range(ENTRIES):
        text = Text(1 + number % SERVERS, server(number))
        filler.update(key(number), {"server_id": number, "server_key": text}, number + 1)

    async def is_full() -> bool:
        return len(await haproxy.table("names")) == ENTRIES

    await until(is_full, "HAProxy has all entries")
    filler.hang_up()


@every_haproxy
@ensureDeferred
async def test_all_are_learnt(mesh: Mesh) -> None:
    """All entries of a HAProxy with as many servers as ids are learnt in one session, whether it
    has said which text an id stands for or not; no text is another entry's."""
    haproxy, peer = mesh.haproxy("lb1", TABLES, ""), mesh.peerproto()
    mesh.nodes += [Node("filler", mesh.folder), Node("raw", mesh.folder)]
    mesh.start(haproxy)
    await haproxy.up()
    await fill(haproxy)
    mesh.start(peer)

    async def all_learnt() -> bool:
        return len(await peer.table("names")) == ENTRIES

    await until(all_learnt, "all entries are learnt")
    await peer.in_step("lb1")
    assert "dictionary" not in peer.log.read_text(), "a session ended for a text"
    ours = await peer.table("names")
    for number in range(ENTRIES):
        entry = ours[key(number)]
        assert entry["server_id"] == number
        assert entry["server_key"] in (server(number).decode(), "-")
    print(sum(entry["server_key"] == "-" for entry in ours.values()), "entries without their text")


@ensureDeferred
async def test_what_says_nothing(mesh: Mesh) -> None:
    """An id that was never defined, and a value of 0, leave the text as it was; the session stays,
    and so does what came in the same updates."""
    peer = mesh.peerproto(declared=f"names = {LINE}")
    mesh.nodes.append(Node("raw", mesh.folder))
    mesh.start(peer)
    await peer.up()
    raw = await RawPeer.session(peer, "raw")
    raw.define(TABLE)
    raw.update("ann", {"server_id": 1, "server_key": Text(1, b"web1")}, 1)
    raw.update("ann", {"server_id": 2, "server_key": Text(5)})
    raw.update("bob", {"server_id": 3, "server_key": Text(5)})
    raw.update("carl", {"server_id": 4, "server_key": Text(1)})
    raw.update("carl", {"server_id": 5, "server_key": None})

    async def all_are_there() -> bool:
        table = await peer.table("names")
        said = {key: (one["server_id"], one["server_key"]) for key, one in table.items()}
        assert said == {"ann": (2, "web1"), "bob": (3, "-"), "carl": (5, "web1")}, said
        return True

    await until(all_are_there, "all values are there")
    assert not raw.closed.called

"""What some HAProxy could not take, beside real ones."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from peerproto.tables.declaration import Declaration
from peerproto.wire.messages import Ack
from peerproto.wire.sizes import LONGEST_UPDATE
from testbed import Mesh, Node, Program, RawPeer, Text, until

from .conftest import every_haproxy

LINES = {
    "long": f"type binary len {LONGEST_UPDATE - 1} size 1k expire 1h store gpc0",
    "rates": "type integer size 1k expire 1h store gpc0",
    "names": "type string len 32 size 1k expire 1h store server_key",
}
LONG, RATES, NAMES = (Declaration.parse(name, line) for name, line in LINES.items())
ENTRIES = 100


def backends(program: Program) -> str:
    """The tables in a haproxy.cfg, but for one that this HAProxy refuses: from 3.2 on it looks
    at the length itself."""
    refuses = tuple(map(int, program.branch.split("."))) >= (3, 2)
    return "\n".join(
        f"backend {name}\n    stick-table {line} peers mesh"
        for name, line in LINES.items()
        if not (refuses and name == "long")
    )


@every_haproxy
@ensureDeferred
async def test_what_cannot_be_sent_on(mesh: Mesh, program: Program) -> None:
    """One entry that is too long with an id and an expiry keeps no HAProxy from the others, and
    is not taken; nor is a text that some crash at when they teach it."""
    haproxy = mesh.haproxy("lb1", backends(program), "", program)
    peer = mesh.peerproto(declared="\n".join(f"{name} = {line}" for name, line in LINES.items()))
    mesh.nodes.append(Node("raw", mesh.folder))
    mesh.start(peer)
    await peer.up()
    raw = await RawPeer.session(peer, "raw")
    raw.define(LONG, 1)
    raw.update(b"x", {"gpc0": 1})
    raw.define(NAMES, 2)
    raw.update("ann", {"server_key": Text(1, b"x" * 2000)})
    raw.update("bob", {"server_key": Text(1)})
    raw.update("joe", {"server_key": Text(2, b"y" * 1000)})
    raw.define(RATES, 3)
    for number in range(ENTRIES):
        raw.update(number, {"gpc0": number})
    await raw.hears(Ack(3, ENTRIES))
    said = await peer.ask("show peers")
    assert f"an update of table long was not taken: read {LONGEST_UPDATE + 8} bytes" in said
    assert "a server_key of table names was not taken: read 2000 bytes" in said
    raw.hang_up()
    mesh.start(haproxy)

    async def has_all() -> bool:
        return len(await haproxy.table("rates")) == ENTRIES

    await until(has_all, "HAProxy has all that is behind it")
    names = await haproxy.table("names")
    assert {key: entry["server_key"] for key, entry in names.items()} == {
        "ann": "-",
        "bob": "-",
        "joe": "y" * 1000,
    }
    assert not await haproxy.table("long")


@every_haproxy
@ensureDeferred
async def test_texts_that_are_not_said(mesh: Mesh, program: Program) -> None:
    """A node and a HAProxy that hear the same agree on texts: said, not said, never sent, empty."""
    haproxy = mesh.haproxy("lb1", backends(program), "", program)
    peer = mesh.peerproto(declared="\n".join(f"{name} = {line}" for name, line in LINES.items()))
    mesh.nodes.append(Node("raw", mesh.folder))
    mesh.start(haproxy)
    await haproxy.up()
    # Not connected with each other: what one has the other does not get from it.
    peer.start([peer, mesh.nodes[-1]])
    await peer.up()
    for node in (haproxy, peer):
        raw = await RawPeer.session(node, "raw")
        raw.define(NAMES, 1)
        for key, text in (
            ("a", Text(1, b"web1")),
            ("b", Text(1)),
            ("c", Text(1)),
            ("d", Text(1)),
            ("a", None),
            ("b", Text(99)),
            ("c", Text(2, b"")),
            ("d", Text(2)),
            ("new", None),
            ("other", Text(98)),
            ("nul", Text(3, b"web2\x00web3")),
        ):
            raw.update(key, {"server_key": text})
        await raw.hears(Ack(1, 11))
        texts = {key: entry["server_key"] for key, entry in (await node.table("names")).items()}
        nothing = {None, "", "-"}
        assert texts.pop("c") in nothing and texts.pop("d") in nothing, texts
        assert texts == {"a": "web1", "b": "web1", "new": "-", "other": "-", "nul": "web2"}
        raw.hang_up()

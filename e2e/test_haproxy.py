"""The main job against a real HAProxy, seen through its runtime socket and ours."""

from __future__ import annotations

import re
import signal

from pytest_twisted import ensureDeferred

from testbed import Entry, HAProxy, Mesh, Node, Peerproto, get, pause, until

from .conftest import every_haproxy

pytestmark = every_haproxy

TABLES = ["t_ip", "t_ip6", "t_str", "t_bin", "t_arr", "t_never", "t_srv", "/inpeers"]
UNTIMED = 10_000
"""Milliseconds: the life of an entry begins anew where HAProxy's live update of it arrives."""

RATES_AND_EXPIRY = re.compile(r"_rate$|^exp$")


def at(node: Node, table: str) -> str:
    """What a node calls a table: HAProxy has its own word for those in a peers section."""
    return "mesh/inpeers" if table == "/inpeers" and isinstance(node, HAProxy) else table


async def fill(haproxy: HAProxy) -> None:
    """Something in every table and every data type, by commands and by requests."""
    for user in range(1, 7):
        assert await get(haproxy.web, f"/path{user}?u=user{user}") == 200
    assert await get(haproxy.web, "/path1?u=user1") == 200
    for command in (
        "t_ip key 192.0.2.7 data.server_id -1 data.gpt0 240 data.gpc0 4294967295"
        " data.conn_cnt 2287 data.sess_cnt 2288 data.http_req_cnt 264431"
        " data.http_err_cnt 264432 data.bytes_in_cnt 33818863 data.bytes_out_cnt 4328786160"
        " data.gpc1 33818864 data.http_fail_cnt 239",
        "t_ip key 255.255.255.255 data.gpc0_rate 1000 data.conn_rate 20 data.sess_rate 3"
        " data.http_req_rate 40 data.http_err_rate 5 data.bytes_in_rate 600 data.gpc1_rate 7"
        " data.bytes_out_rate 80 data.http_fail_rate 9 data.bytes_in_cnt 9223372036854775807",
        "t_ip6 key 2001:db8::1 data.gpc0 7 data.bytes_out_cnt 1234567890123",
        "t_ip6 key ::",
        "t_str key short data.gpc0 2 data.http_req_rate 120",
        "t_str key exactly-thirty-two-characters-xx",
        "t_str key a\\ b=c\\\\d",
        "t_arr key /set",
        "t_never key 4294967295 data.gpc0 1",
        f"{at(haproxy, '/inpeers')} key 1 data.gpc0 1 data.gpt0 2 data.gpc1 3",
    ):
        await haproxy.do(f"set table {command}")


def without_time(table: dict[str, Entry]) -> dict[str, Entry]:
    return {
        key: {name: value for name, value in entry.items() if not RATES_AND_EXPIRY.search(name)}
        for key, entry in table.items()
    }


async def same_content(one: Node, other: Node) -> None:
    """Wait until both say the same of all tables, rates and expiry included."""
    for name in TABLES:

        async def agrees(name: str = name) -> bool:
            here = await one.table(at(one, name))
            there = await other.table(at(other, name))
            later = await one.table(at(one, name))
            assert without_time(here) == without_time(there) == without_time(later)
            for key, entry in here.items():
                assert abs(int(entry["exp"]) - int(there[key]["exp"])) <= UNTIMED
                for value in entry:
                    if value.endswith("_rate"):
                        # Rates sink: what is read between two times is between them.
                        assert int(later[key][value]) - 1 <= int(there[key][value])
                        assert int(there[key][value]) <= int(entry[value]) + 1
            return True

        await until(agrees, f"{name} is the same at {one.name} and {other.name}")


def every_value_was_used(tables: dict[str, dict[str, Entry]]) -> None:
    """No comparison of zeros: each data type has a value somewhere."""
    seen: dict[str, set[object]] = {}
    for table in tables.values():
        for entry in table.values():
            for name, value in entry.items():
                seen.setdefault(name, set()).add(value)
    idle = {name for name, values in seen.items() if values <= {0, "-"}}
    # Nothing is connected when the tables are read.
    assert idle <= {"conn_cur", "gpt0", "gpt2", "gpt3", "gpc1", "gpc1_rate"}, idle


@ensureDeferred
async def test_learning(mesh: Mesh) -> None:
    """Everything in a HAProxy's tables shows at peerproto, which adopts them all."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    mesh.start(haproxy)
    await haproxy.up()
    await fill(haproxy)
    mesh.start(peer)
    await peer.in_step("lb1")
    await same_content(haproxy, peer)
    tables = {name: await peer.table(name) for name in TABLES}
    assert all(tables.values())
    every_value_was_used(tables)
    assert tables["t_srv"]["user2"]["server_key"] in ("s1", "s2-with-a-longer-name")


@ensureDeferred
async def test_teaching(mesh: Mesh) -> None:
    """A fills peerproto and ends; B starts empty and learns it all from peerproto."""
    a, b, peer = mesh.haproxy("lb1"), mesh.haproxy("lb2"), mesh.peerproto()
    mesh.start(a, peer)
    await a.up()
    await peer.in_step("lb1")
    await fill(a)
    await same_content(a, peer)
    said = {name: without_time(await a.table(at(a, name))) for name in TABLES}
    await a.stop(signal.SIGKILL)
    mesh.start(b)
    await b.up()
    await same_content(peer, b)
    for name in TABLES:
        assert without_time(await b.table(at(b, name))) == said[name]


@ensureDeferred
async def test_live(mesh: Mesh) -> None:
    """Changes at either side show at the other, while other tables stay as they are."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    assert await get(haproxy.web, "/one?u=ann") == 200
    await same_content(haproxy, peer)
    before = {name: without_time(await haproxy.table(at(haproxy, name))) for name in TABLES}

    await peer.do("set table t_str key from-here data.gpc0 5 data.http_req_rate 60")
    await peer.do("set table t_srv key bob data.server_key s1 data.server_id 1")
    await peer.do("set table t_arr key /here data.gpt[3] 4 data.gpc1 2 data.gpc_rate[1] 9")
    await peer.do("set table t_bin key 6465616462656566 data.gpc0 1")
    await same_content(haproxy, peer)
    assert (await haproxy.table("t_str"))["from-here"]["gpc0"] == 5
    assert (await haproxy.table("t_srv"))["bob"]["server_key"] == "s1"
    assert (await haproxy.table("t_arr"))["/here"]["gpt3"] == 4
    for name in ("t_ip", "t_ip6", "t_never", "/inpeers"):
        assert without_time(await haproxy.table(at(haproxy, name))) == before[name]

    seen = (await peer.table("t_ip"))["127.0.0.1"]["http_req_cnt"]
    assert await get(haproxy.web, "/one?u=ann") == 200

    async def arrived() -> bool:
        return (await peer.table("t_ip"))["127.0.0.1"]["http_req_cnt"] == int(seen) + 1

    await until(arrived, "a request shows at peerproto")
    await haproxy.do(f"set table {at(haproxy, '/inpeers')} key 5 data.gpc0 6")
    await same_content(haproxy, peer)


async def counters(nodes: list[Node]) -> dict[str, list[str]]:
    """Every update counter that the nodes report."""
    return {
        node.name: re.findall(
            r"\b(?:last_pushed|last_get|last_acked|update|localupdate|[rt]x_updates)=\d+",
            await node.ask("show peers"),
        )
        for node in nodes
    }


@ensureDeferred
async def test_nothing_echoes(mesh: Mesh) -> None:
    """Two HAProxies and peerproto in one mesh: after the traffic, all counters stand still."""
    a, b, peer = mesh.haproxy("lb1"), mesh.haproxy("lb2"), mesh.peerproto()
    nodes: list[Node] = [a, b, peer]
    mesh.start()
    for haproxy in (a, b):
        await haproxy.up()
    await a.settled("lb2", "peerproto")
    await b.settled("lb1", "peerproto")
    await peer.in_step("lb1", "lb2")
    for number in range(20):
        await get((a, b)[number % 2].web, f"/path{number}?u=user{number}")
        await peer.do(f"set table t_never key {number} data.gpc0 {number}")

        # Else two HAProxies may count on the same value at once, and each keeps the other's.
        # A HAProxy sends all its counters again when a request has ended (conn_cur sinks then),
        # also where the ones that it had sent before were read after that.
        async def arrived(counted: int = number + 1) -> bool:
            entries = [(await node.table("t_ip"))["127.0.0.1"] for node in nodes]
            seen = [(entry["http_req_cnt"], entry["conn_cur"]) for entry in entries]
            assert seen == [(counted, 0)] * len(nodes), seen
            return await a.sent_all() and await b.sent_all()

        await until(arrived, f"request {number} shows everywhere")
    await same_content(a, peer)
    await same_content(b, peer)

    async def stand_still() -> bool:
        before = await counters(nodes)
        await pause(2)
        return await counters(nodes) == before

    await until(stand_still, "the counters come to rest")
    rest = await counters(nodes)
    await pause(7)  # more than a heartbeat and a reconnect
    assert await counters(nodes) == rest
    updates = [int(one.partition("=")[2]) for one in rest["peerproto"] if "tx_updates" in one]
    # Its own 20 changes to each of two peers, and lessons of empty tables.
    assert updates == [20, 20]


@ensureDeferred
async def test_restarts(mesh: Mesh) -> None:
    """A HAProxy that restarts, and a peerproto that restarts, are back in step by themselves."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    await fill(haproxy)
    await peer.do("set table t_never key 77 data.gpc0 7")
    await same_content(haproxy, peer)
    said = {name: without_time(await peer.table(name)) for name in TABLES}

    await haproxy.stop(signal.SIGKILL)
    mesh.start(haproxy)
    await haproxy.up()
    await same_content(haproxy, peer)
    await back_in_step(haproxy, peer, said, 1)

    assert await peer.stop() in (0, -signal.SIGTERM)  # `twist` ends by the signal that stopped it
    mesh.start(peer)
    await peer.in_step("lb1")
    await back_in_step(haproxy, peer, said, 2)

    await peer.stop(signal.SIGKILL)
    mesh.start(peer)
    await peer.in_step("lb1")
    await back_in_step(haproxy, peer, said, 3)


async def back_in_step(
    haproxy: HAProxy, peer: Peerproto, said: dict[str, dict[str, Entry]], number: int
) -> None:
    """Nothing was lost, and changes go both ways again."""
    await same_content(haproxy, peer)
    for name in TABLES:
        assert without_time(await peer.table(name)) == said[name]
    await peer.do(f"set table t_never key {1000 + number} data.gpc0 {number}")
    await haproxy.do(f"set table t_never key {2000 + number} data.gpc0 {number}")
    await same_content(haproxy, peer)
    for name in ("t_never",):
        said[name] = without_time(await peer.table(name))


@ensureDeferred
async def test_reasons_in_words(mesh: Mesh) -> None:
    """show peers says why a peer is not in step: refused, or a table that differs."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto(declared="t_ip = type ip size 1k")
    stranger = Peerproto("stranger", mesh.folder)
    other = mesh.peerproto("other", declared="t_str = type string len 9 size 1k store gpc0")
    mesh.start(haproxy, peer)
    await haproxy.up()
    # From then on it has HAProxy's tables, and adopts none of the other one.
    await peer.in_step("lb1")
    mesh.start(other)
    stranger.start([haproxy])
    mesh.nodes.append(stranger)
    await haproxy.do("set table t_str key x data.gpc0 1")

    async def says(node: Node, words: str) -> bool:
        return words in await node.ask("show peers")

    await until(lambda: says(stranger, "refused us with 504"), "the stranger is refused")
    await until(
        lambda: says(other, "table t_str differs in key length: 33 there, 10 here"),
        "the length differs",
    )
    await peer.in_step("lb1")

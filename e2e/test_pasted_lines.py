"""Lines pasted from a haproxy.cfg: a HAProxy that restarts gets back all that it had."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from pytest_twisted import ensureDeferred

from testbed import Entry, Mesh, Node, get, until
from testbed.programs import Program

from .conftest import every_haproxy
from .test_lines import LATER, LINES, taken_by

BACKENDS = """\
backend t_stick
    stick-table type string len 32 size 1m expire 1h peers mesh
    stick on url_param(u)
    server s1 127.0.0.1:{origin}
    server s2-with-a-longer-name 127.0.0.1:{origin}
backend t_srvkey
    stick-table type string size 1m expire 1h srvkey addr peers mesh
    stick on url_param(u)
    server s1 127.0.0.1:{origin}
    server s2 localhost:{origin}
backend t_first
    stick-table type string len 20 size 1m expire 1h store gpc0 peers mesh
    stick store-request url_param(u)
    server s1 127.0.0.1:{origin}
backend t_track
    stick-table type ip size 1m expire 1h store http_req_cnt,http_req_rate(1h),conn_cur peers mesh
backend t_arrays
    stick-table type string len 64 size 1m expire 1h store gpt(4),gpc(3) store\
 gpc_rate(2,1h) peers mesh
backend t_noted
    stick-table type "binary" len 8 nopurge size 1k store gpc0,gpc1_rate(1h), peers mesh # by hand
"""
"""What HAProxy 2.6 takes. For ``stick on`` it stores more than the line says."""

LATER_BACKENDS = {
    "ipv4": """\
backend t_ipv4
    stick-table type ipv4 size 1k expire 1h store gpc0 peers mesh
""",
    "write-to": """\
backend t_sum
    stick-table type ip size 1k expire 1h store gpc0,http_req_cnt peers mesh
backend t_written
    stick-table type ip size 1k expire 1h write-to t_sum store gpc0,http_req_cnt peers mesh
""",
    "brates-factor": """\
backend t_blocks
    stick-table type ip size 1k expire 1h peers mesh brates-factor 16\
 store bytes_out_rate(1h),bytes_out_cnt
""",
    "glitch_cnt": """\
backend t_glitches
    stick-table type ip size 1k expire 1h store glitch_cnt,glitch_rate(1h) recv-only peers mesh
""",
}
"""By a word of them: what only later versions take."""

RULES = """\
    http-request track-sc0 src table t_track
    http-request track-sc1 path table t_arrays
    http-request sc-set-gpt(2,1) 7
    http-request sc-inc-gpc(0,1)
    http-request sc-inc-gpc(2,1)
    http-request track-sc2 base32+src table t_noted
    http-request sc-inc-gpc0(2)
    http-request sc-inc-gpc1(2)
    use_backend t_srvkey if { path_beg /srvkey }
    use_backend t_first if { path_beg /first }
    use_backend t_stick
"""

SET = [
    "t_ipv4 key 192.0.2.1 data.gpc0 1",
    "t_sum key 192.0.2.1 data.gpc0 2 data.http_req_cnt 3",
    "t_written key 192.0.2.1 data.gpc0 4 data.http_req_cnt 5",
    "t_blocks key 192.0.2.1 data.bytes_out_rate 100 data.bytes_out_cnt 1600",
    "t_glitches key 192.0.2.1 data.glitch_cnt 3 data.glitch_rate 3",
    "mesh/inpeers key 1 data.gpc0 1 data.gpt0 2 data.gpc1 3",
]

Tables = dict[str, dict[str, Entry]]


def backends(program: Program, folder: Path) -> str:
    """The backends that this HAProxy takes."""
    later = [
        text
        for word, text in LATER_BACKENDS.items()
        if taken_by(program, [LATER[word]], folder) and taken_by(program, lines(text), folder)
    ]
    return BACKENDS + "".join(later)


def lines(text: str) -> list[str]:
    return re.findall(r"^ *stick-table (.*)", text, re.MULTILINE)


async def contents(node: Node, names: dict[str, str]) -> Tables:
    """All tables of a node, by our names of them, without what passes with time."""
    return {
        ours: {
            key: {name: value for name, value in entry.items() if name != "exp"}
            for key, entry in (await node.table(theirs)).items()
        }
        for ours, theirs in names.items()
    }


@every_haproxy
@ensureDeferred
async def test_restart(mesh: Mesh, program: Program) -> None:
    """A line for each backend and no more: a killed HAProxy learns all that it had from us."""
    text = backends(program, mesh.folder)
    names = re.findall(r"^backend (\w+)", text, re.MULTILINE)
    haproxy = mesh.haproxy("lb1", tables=text, frontend=RULES, program=program)
    inpeers = re.findall(r"table inpeers (.*)", haproxy.section)
    pasted = dict(zip(["/inpeers", *names], [*inpeers, *lines(text)]))
    peer = mesh.peerproto(declared="\n".join(f"{name} = {line}" for name, line in pasted.items()))
    peer.settings = "learn-tables = no"
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    for user in range(4):
        for path in ("stick", "srvkey", "first"):
            assert await get(haproxy.web, f"/{path}?u=user{user}") == 200
    for command in SET:
        if command.split()[0] in ("mesh/inpeers", *names):
            await haproxy.do(f"set table {command}")

    ours = {name: name for name in pasted}
    theirs = {**ours, "/inpeers": "mesh/inpeers"}

    async def at_rest() -> Tables:
        found = await contents(haproxy, theirs)
        assert all(entry["conn_cur"] == 0 for entry in found["t_track"].values())
        return found

    had: Tables = await until(at_rest, "no connection is counted")
    assert all(had.values()), {name for name, entries in had.items() if not entries}
    assert {str(one["server_key"]) for one in had["t_stick"].values()} == {
        "s1",
        "s2-with-a-longer-name",
    }

    async def all_here() -> bool:
        assert await contents(peer, ours) == had
        return True

    await until(all_here, "all shows at peerproto")
    assert "notes=" not in await peer.ask("show peers")

    await haproxy.stop(signal.SIGKILL)
    mesh.start(haproxy)
    await haproxy.up()

    async def all_back() -> bool:
        assert await contents(haproxy, theirs) == had
        return True

    await until(all_back, "all is back at the HAProxy")


@every_haproxy
@ensureDeferred
async def test_same_tables(mesh: Mesh, program: Program) -> None:
    """Whatever a HAProxy takes is read here as there: it announces the same key and data types."""
    unfit = re.compile(r"write-to|peers|len \d{5}")
    tried = [one for one in LINES.splitlines() if not unfit.search(one) and "${" not in one]
    taken = taken_by(program, tried, mesh.folder)
    tables = "".join(
        f"backend b{number}\n    stick-table peers mesh {line}\n"
        for number, line in enumerate(sorted(taken))
    )
    haproxy = mesh.haproxy("lb1", tables=tables, frontend="")
    haproxy.section = ""
    declared = "\n".join(f"b{number} = {line}" for number, line in enumerate(sorted(taken)))
    peer = mesh.peerproto(declared=declared)
    peer.settings = "learn-tables = no\nlearn-columns = no"
    mesh.start()
    await haproxy.up()

    async def all_shared() -> bool:
        answer = await peer.ask("show peers")
        return len(re.findall(r"remote_id=[1-9]", answer)) == len(taken)

    await until(all_shared, "all tables are shared")
    await peer.in_step("lb1")
    answer = await peer.ask("show peers")
    assert "notes=" not in answer


@ensureDeferred
async def test_keeping_to_the_line(mesh: Mesh) -> None:
    """With learn-columns off, what the line does not say is not kept, which show peers says."""
    haproxy = mesh.haproxy("lb1", tables=BACKENDS, frontend=RULES)
    line = "type string len 32 size 1m expire 1h"
    peer = mesh.peerproto(declared=f"t_stick = {line}")
    peer.settings = "learn-columns = no"
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    assert await get(haproxy.web, "/stick?u=ann") == 200

    async def learnt() -> bool:
        return set((await peer.table("t_stick"))["ann"]) == {"exp"}

    await until(learnt, "the key shows without its server")
    await peer.in_step("lb1")
    assert (
        "notes=table t_stick: server_id is not kept here; table t_stick: server_key is not kept"
        in await peer.ask("show peers")
    )

"""Tables out of real nodes and into them: `peerproto export`, `import` and `copy`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread

from e2e.conftest import every_haproxy
from peerproto import Key, StickTableService
from peerproto.runtime.protocol import runtime_service
from peerproto.service.spelling import written
from testbed import Entry, HAProxy, Mesh, Peerproto, free_port, reactor, until
from testbed.terminal import PROGRAM, environment, peerproto

ENTRIES = int(os.environ.get("ENTRIES", "30000"))
"""Entries of the large table: `make long` has a million."""

TOKEN = "a-token-of-writers"

COLUMNS = (
    "server_id,gpt0,gpc0,gpc0_rate(1h),conn_cnt,conn_rate(1h),sess_cnt,sess_rate(1h),http_req_cnt,"
    "http_req_rate(1h),http_err_cnt,http_err_rate(1h),bytes_in_cnt,bytes_in_rate(1h),bytes_out_cnt,"
    "bytes_out_rate(1h),gpc1,gpc1_rate(1h)"
)
"""Of periods that are long enough for a reading to be the same a moment later."""

TABLES = {
    "ips": f"type ip size 1k expire 1h store {COLUMNS}",
    "sixes": "type ipv6 size 1k expire 1h store gpc0",
    "ints": "type integer size 1k expire 1h store gpc0,bytes_out_cnt",
    "texts": "type string len 40 size 1k expire 1h store gpc0,server_id,server_key",
    "arrays": "type string len 40 size 1k expire 1h store gpt(2),gpc(3),gpc_rate(2,1h)",
}

BINARY = "type binary len 4 size 1k expire 1h store gpc0,gpc0_rate(1h)"

BACKENDS = "".join(
    f"backend {name}\n    stick-table {line} peers mesh\n"
    for name, line in {**TABLES, "hashes": BINARY}.items()
)

ODD = ("/plain", "/a b;c\\d", "/'\"=#$<<", "/\udcff\udcfe\x01\t", "/ä", "\\x41", "-", "<<")
"""Keys that are hard to type."""


ENTRIES_OF: dict[str, list[dict[str, Any]]] = {
    "ips": [
        {
            "key": f"192.0.2.{number}",
            "values": {
                name.partition("(")[0]: 10 * number + place
                for place, name in enumerate(COLUMNS.split(","))
            },
        }
        for number in range(3)
    ],
    "sixes": [
        {"key": key, "values": {"gpc0": 4294967295}}
        for key in ("::", "::ffff:192.0.2.1", "2001:db8::1")
    ],
    "ints": [
        {"key": "0", "values": {"bytes_out_cnt": (1 << 63) - 1}},
        {"key": "4294967295", "values": {"bytes_out_cnt": (1 << 53) + 1}},
    ],
    "texts": [
        {"key": written(key), "values": {"gpc0": number, "server_key": f"s{number}"}}
        for number, key in enumerate(ODD)
    ],
    "arrays": [
        {
            "key": written(key),
            "values": {"gpt1": number, "gpc0": number, "gpc2": 7, "gpc1_rate": number},
        }
        for number, key in enumerate(ODD)
    ],
    "hashes": [{"key": "00FF0A7F", "values": {"gpc0": 9, "gpc0_rate": 5}}],
}

IDS = "type integer size 2m expire 1h store gpc0,http_req_rate(10s)"

ROOM = 65_536
"""KiB that many entries may take more than few: Parquet is written 5,000 rows at a time."""


@attrs.frozen
class Site:
    """A node with entries, a HAProxy that has them, and the options that lead to the node."""

    node: Peerproto
    haproxy: HAProxy
    ways: dict[str, list[str]]


async def filled(mesh: Mesh) -> Site:
    """A node with entries of all types, which a HAProxy has too."""
    port = free_port()
    token = mesh.folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    declared = "\n".join(f"{name} = {line}" for name, line in {**TABLES, "hashes": BINARY}.items())
    node = mesh.peerproto(declared=declared)
    node.more = f"""\
[storage]
path = {mesh.folder}/tables.db
interval = 50ms
[http]
bind = tcp:{port}:interface=127.0.0.1
token-file = {token}
allow-writes = yes
"""
    haproxy = mesh.haproxy("lb1", tables=BACKENDS, frontend="")
    mesh.start()
    await node.in_step("lb1")
    await haproxy.up()
    for name, entries in ENTRIES_OF.items():
        path = mesh.folder / f"{name}.in"
        path.write_text("".join(json.dumps(one) + "\n" for one in entries))
        await peerproto("import", str(path), "--table", name, "--node", str(node.runtime))

    async def has_all() -> bool:
        counts = [len(await haproxy.table(name)) for name in ENTRIES_OF]
        return counts == [len(one) for one in ENTRIES_OF.values()]

    await until(has_all, "the HAProxy has all entries")
    return Site(
        node,
        haproxy,
        {
            "runtime": ["--node", str(node.runtime)],
            "http": ["--node", f"http://127.0.0.1:{port}", "--token-file", str(token)],
        },
    )


async def export(*words: str, status: int = 0) -> str:
    """What an export says beside what it writes."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, "export", *words],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=300,
            check=False,
        )

    done = await deferToThread(run)
    assert done.returncode == status, (words, done.returncode, done.stderr)
    return done.stderr


async def feed(haproxy: HAProxy, path: Path) -> bytes:
    """Say what a file has on a HAProxy's socket, as with socat: what it answers."""

    def run() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(haproxy.runtime))
            connection.sendall(b"prompt\n" + path.read_bytes() + b"quit\n")
            answer = b""
            while some := connection.recv(65536):
                answer += some
            return answer

    return await deferToThread(run)


def still(table: dict[str, Entry]) -> dict[str, Entry]:
    """Entries without their lives."""
    return {
        key: {name: value for name, value in entry.items() if name != "exp"}
        for key, entry in table.items()
    }


@every_haproxy
@ensureDeferred
async def test_haproxy_lines(mesh: Mesh) -> None:
    """A fresh HAProxy that is fed with the lines says in `show table` what the one at the source
    says, but for what is told: texts, and on older ones all but the first elements of arrays."""
    site = await filled(mesh)
    fresh = mesh.haproxy("fresh", tables=BACKENDS.replace(" peers mesh", ""), frontend="")
    mesh.start(fresh)
    await fresh.up()
    branch = fresh.program.branch
    by_index = tuple(map(int, branch.split("."))) >= (3, 2)
    for name in TABLES:
        path = mesh.folder / f"{name}.txt"
        words = ("--node", str(site.node.runtime), "--for", branch, "-o", str(path))
        said = await export(name, "--format", "haproxy", *words)
        answer = await feed(fresh, path)
        assert not answer.replace(b">", b"").strip(), answer
        there, here = still(await site.haproxy.table(name)), still(await fresh.table(name))
        assert "HAProxy's socket sets no life" in said
        if name == "texts":
            assert "server_key: HAProxy's socket sets no texts" in said
            for entry in there.values():
                entry["server_key"] = "-"
        if name == "arrays" and not by_index:
            assert "gpc2: HAProxy before 3.2 sets the first element" in said
            for entry in there.values():
                entry.update(dict.fromkeys(("gpt1", "gpc1", "gpc2", "gpc1_rate"), 0))
        assert here == there, (name, said)
        lives = [entry["exp"] for entry in (await fresh.table(name)).values()]
        assert all(3_500_000 < int(one) <= 3_600_000 for one in lives)
    said = await export("hashes", "--format", "haproxy", *site.ways["runtime"], status=1)
    assert "has binary keys" in said
    refused = await fresh.ask("set table hashes key 00FF0A7F data.gpc0 1")
    assert "not supported" in refused, "this HAProxy sets binary keys: say so in doc/export.md"


def assert_near(one: Path, other: Path) -> None:
    """See that two exports are the same, but for the rounding of times: the time of a file is read
    from the wall clock at another moment than that of the node."""
    for mine, theirs in zip(one.open(), other.open(), strict=True):
        numbers = [list(map(int, re.findall(r"\d{13}", line))) for line in (mine, theirs)]
        assert re.sub(r"\d{13}", "", mine) == re.sub(r"\d{13}", "", theirs)
        assert all(abs(first - second) <= 2 for first, second in zip(*numbers, strict=True))


@ensureDeferred
async def test_same_again(mesh: Mesh) -> None:
    """From a node by both ways: the same, and from its file while it runs, but for 2 ms. Into
    another node and out of that: the same again, for every table and format; and a HAProxy of that
    has it all."""
    site = await filled(mesh)
    other = mesh.peerproto("other", declared=site.node.declared)
    other_haproxy = mesh.haproxy("lb2", tables=BACKENDS, frontend="")
    other.start([other, other_haproxy])
    other_haproxy.start([other, other_haproxy])
    await other.in_step("lb2")
    path, again = mesh.folder / "out", mesh.folder / "again"

    async def all_is_written() -> bool:
        return "unwritten_keys=0 " in await site.node.ask("show storage")

    await until(all_is_written, "the file has all")
    for name, entries in ENTRIES_OF.items():
        for form in ("json", "csv", "parquet") if name in ("ips", "texts") else ("json",):
            words = (name, "--format", form, "-o", str(path))
            await export(*words, "--sort", *site.ways["runtime"])
            data = path.read_bytes()
            await export(*words, "--sort", *site.ways["http"])
            assert path.read_bytes() == data, (name, form)
            await other.ask(f"clear table {name}")
            said = await peerproto("import", str(path), "--node", str(other.runtime))
            count = len(entries)
            assert said == f"{count} {'entry' if count == 1 else 'entries'} taken\n"
            words = (name, "--format", form, "-o", str(again))
            await export(*words, "--sort", "--node", str(other.runtime))
            assert again.read_bytes() == data, (name, form)
        await export(name, "-o", str(path), "--sort", *site.ways["runtime"])
        await export(name, "-o", str(again), "--file", f"{mesh.folder}/tables.db")
        assert_near(again, path)
        there = await site.haproxy.table(name)

        async def has_it(name: str = name, there: dict[str, Entry] = there) -> bool:
            return still(await other_haproxy.table(name)) == still(there)

        await until(has_it, f"the other HAProxy has {name}")
        for key, entry in (await other_haproxy.table(name)).items():
            assert abs(int(entry["exp"]) - int((await site.haproxy.table(name))[key]["exp"])) < 2000


@ensureDeferred
async def test_copy(mesh: Mesh) -> None:
    """A table goes from a node to another one over HTTP, and from its file into another file."""
    site = await filled(mesh)
    other = mesh.peerproto("other", declared=site.node.declared)
    other.start([other])
    await other.up()
    path, again = mesh.folder / "out", mesh.folder / "again"
    copy = mesh.folder / "copy.db"
    for name, entries in ENTRIES_OF.items():
        many = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} taken\n"
        words = ("copy", name, *site.ways["http"])
        assert await peerproto(*words, "--to", str(other.runtime)) == many
        assert await peerproto(*words, "--to-file", str(copy)) == many
        await export(name, "--sort", "-o", str(path), *site.ways["http"])
        await export(name, "--sort", "-o", str(again), "--node", str(other.runtime))
        assert again.read_bytes() == path.read_bytes()
        await export(name, "--file", str(copy), "-o", str(again))
        assert again.read_bytes() == path.read_bytes()
    words = ("copy", "ips", *site.ways["http"], "--to-file", f"{mesh.folder}/tables.db")
    assert "no node has open" in await peerproto(*words, status=1)


@ensureDeferred
async def test_goes_while_it_is_read(mesh: Mesh) -> None:
    """A node that dies while it is read leaves no file that passes for a whole one."""
    site = await filled(mesh)
    path = mesh.folder / "out"
    site.node.kill()
    said = await export("ips", "-o", str(path), *site.ways["runtime"], status=3)
    assert str(site.node.runtime) in said
    assert not path.exists()


MEASURED = """
import atexit, re, sys

def tell():
    with open("/proc/self/status") as status:
        found = re.search(r"VmHWM:\\s+(\\d+) kB", status.read())
    with open(sys.argv[1], "w") as file:
        file.write(found[1])

atexit.register(tell)
from peerproto.terminal.program import program
program.main(sys.argv[2:])
"""
"""The program; at its end it writes into a file how much memory (KiB) it had at most. (What the
system says of a process that has ended includes that of the one by which it was started.)"""


def most_memory(folder: Path, *words: str) -> int:
    """Run the program: the memory (KiB) that it held at most."""
    file = folder / "memory"
    command = [sys.executable, "-c", MEASURED, str(file), *words]
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, timeout=900, check=True)
    return int(file.read_text())


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
@ensureDeferred
async def test_bounded_memory(mesh: Mesh, form: str) -> None:
    """Of however many entries, some are in memory at a time."""
    service = StickTableService("big", tables={"ids": IDS, "few": IDS}, reactor=reactor)
    socket_path = mesh.folder / "big.sock"
    runtime = runtime_service(service, serverFromString(reactor, f"unix:{socket_path}"), reactor)
    service.startService()
    runtime.startService()
    try:
        for begin in range(0, ENTRIES, 1000):
            some: dict[Key, dict[str, int]] = {
                one: {"gpc0": one} for one in range(begin, min(ENTRIES, begin + 1000))
            }
            service.table("ids").update(some)
            await service.turn()
        service.table("few").update({one: {"gpc0": one} for one in range(1000)})
        path, few = mesh.folder / "ids", mesh.folder / "few"
        node, kind = ("--node", str(socket_path)), ("--format", form)

        async def most(*words: str) -> int:
            return await deferToThread(most_memory, mesh.folder, *words, *node)

        least = await most("export", "few", *kind, "-o", str(few))
        largest = await most("export", "ids", *kind, "-o", str(path))
        least_in = await most("import", str(few))
        service.table("ids").clear()
        largest_in = await most("import", str(path))
        assert len(service.table("ids")) == ENTRIES
        few_said, all_said = f"1,000 out {least}, in {least_in}", f"out {largest}, in {largest_in}"
        print(f"counted: KiB at most for {form}: {few_said}; {ENTRIES:,} {all_said}")
        assert largest - least < ROOM and largest_in - least_in < ROOM
    finally:
        await runtime.stopService()
        await service.stopService()

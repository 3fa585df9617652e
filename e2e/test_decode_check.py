"""decode and check beside real HAProxies: sessions that were recorded, and files that they read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from peerproto.tables.declaration import Declaration
from peerproto.testing import entries
from testbed import Authority, HAProxy, Link, Mesh, Node, Peerproto, Program, until
from testbed.conversation import get

from .conftest import every_haproxy, oldest_and_newest

CONFIGS = Path(__file__).parent.parent / "tests" / "terminal" / "configs"

REFUSED = {"mistakes": (), "newer": ("3.2",), "shards": ("2.8", "3.0", "3.2")}
"""Configurations that a HAProxy refuses, but for those of these branches."""


def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command of peerproto, as a process."""
    return subprocess.run(
        [sys.executable, "-m", f"peerproto.terminal.{command}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def decoded(path: Path) -> list[dict[str, Any]]:
    """What decode tells of a recording of which nothing is wrong."""
    done = run("decoding", "--json", path)
    assert (done.returncode, done.stderr) == (0, ""), done
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    odd = ("odd", "breaks", "missing", "skipped", "unread", "unknown")
    assert [one for one in lines if one["message"] in odd] == []
    return lines


async def talk(mesh: Mesh, haproxy: HAProxy, peer: Peerproto) -> None:
    """Start both, have each learn from the other, and change entries at both sides."""
    peer.declared = "set_here = type string len 20 size 1k expire 1h store gpc0,server_key"
    mesh.start(haproxy)
    await haproxy.up()
    for number in range(3):
        assert await get(haproxy.web, f"/first{number}?u=ann") == 200
    mesh.start(peer)
    await peer.in_step(haproxy.name)
    for number in range(3):
        assert await get(haproxy.web, f"/later{number}?u=bob") == 200
    await haproxy.do("set table t_never key 7 data.gpc0 70")
    await peer.ask("set table t_never key 8 data.gpc0 80")

    async def arrived() -> bool:
        assert (await peer.table("t_never"))["7"]["gpc0"] == 70
        assert (await haproxy.table("t_never"))["8"]["gpc0"] == 80
        assert len(await peer.table("t_arr")) == 6
        return True

    await until(arrived, "changes have come to the other side")
    await peer.in_step(haproxy.name)


async def check_said(lines: list[dict[str, Any]], haproxy: HAProxy) -> None:
    """All entries of a HAProxy were said by it, with the values that it has now."""
    said = {
        (one["table"], one["key"]): one["values"]
        for one in lines
        if one["message"].endswith("update")
    }
    seen = 0
    for name in ("t_never", "t_arr", "t_srv", "t_bin", "t_str"):
        for key, entry in (await haproxy.table(name)).items():
            values = said[name, key]
            for column, value in values.items():
                if isinstance(value, dict) and "text" in value:
                    assert value["text"] == entry[column]
                elif not isinstance(value, dict):
                    assert value == entry[column], (name, key, column)
                seen += 1
    assert seen > 20


@oldest_and_newest
@ensureDeferred
async def test_raw_bytes(mesh: Mesh) -> None:
    """What a link has carried, each side for itself, is told from the hello on: all definitions,
    all entries with the values that the HAProxy shows, and nothing is wrong with it."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    there = Link(haproxy.port, random.Random(1), calm=True, records=True)
    back = Link(peer.port, random.Random(1), calm=True, records=True)
    haproxy_at, peer_at = there.address, back.address
    try:
        far = Node("peerproto", mesh.folder, place=peer_at)
        haproxy.start([haproxy, far])
        await haproxy.up()
        mesh_of_peer = [Node("lb1", mesh.folder, place=haproxy_at), peer]
        peer.start(mesh_of_peer)
        for number in range(3):
            assert await get(haproxy.web, f"/x{number}?u=ann") == 200
        await haproxy.do("set table t_never key 7 data.gpc0 70")

        async def arrived() -> bool:
            return (await peer.table("t_never"))["7"]["gpc0"] == 70

        await until(arrived, "a change has come")
        await peer.in_step("lb1")
        recorded = there.recorded() + back.recorded()
        heard: list[dict[str, Any]] = []
        for number, both in enumerate(recorded):
            for side, data in zip(("caller", "callee"), both):
                if not data:
                    continue
                path = mesh.folder / f"{number}-{side}.bin"
                path.write_bytes(data)
                lines = decoded(path)
                assert lines[0]["message"] == ("hello" if side == "caller" else "status")
                by_haproxy = (side == "caller") == (number >= len(there.recorded()))
                heard += lines if by_haproxy else []
        await check_said(heard, haproxy)
    finally:
        there.stop()
        back.stop()


@oldest_and_newest
@pytest.mark.parametrize("interface", ["lo", "any"])
@ensureDeferred
async def test_tcpdump(mesh: Mesh, interface: str) -> None:
    """What tcpdump records is told, both sides of each connection, on the loopback as on all."""
    if os.geteuid() != 0:
        pytest.skip("tcpdump records for root alone")
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    path = mesh.folder / "session.pcap"
    ports = f"port {haproxy.port} or port {peer.port}"
    log = (mesh.folder / "tcpdump.log").open("wb")
    dump = subprocess.Popen(
        ["tcpdump", "-i", interface, "-Z", "root", "-U", "-w", str(path), ports], stderr=log
    )
    try:

        async def records() -> bool:
            return path.exists() and path.stat().st_size >= 24

        await until(records, "tcpdump records")
        await talk(mesh, haproxy, peer)
        await haproxy.stop(signal.SIGKILL)
        await peer.stop()

        async def closed() -> bool:
            text = run("decoding", path).stdout
            assert "t_never id=" in text
            return "reset by" in text or "closed by" in text

        await until(closed, "the end of the session is recorded")
    finally:
        dump.send_signal(signal.SIGINT)
        dump.wait()
        log.close()
    lines = decoded(path)
    updates = {
        (one["table"], one["key"]): one for one in lines if one["message"].endswith("update")
    }
    assert updates["t_never", "7"]["values"] == {"gpc0": 70}
    assert updates["t_never", "8"]["values"] == {"gpc0": 80}
    texts = {one["values"]["server_key"]["text"] for (t, _), one in updates.items() if t == "t_srv"}
    assert texts & {"s1", "s2-with-a-longer-name"}
    assert "first seen 20" in next(one for one in lines if one["message"] == "connection")["text"]
    counts = [one for one in lines if one["message"] == "ack"]
    assert counts and all("table" in one for one in counts)


@every_haproxy
@ensureDeferred
async def test_printed_file(mesh: Mesh) -> None:
    """A node that has the printed peers.ini and nothing else has all tables from its start, joins
    the HAProxy and gets in step with it; the file fits, also by check's own account."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    haproxy.configure(mesh.nodes)
    printed = run("checking", haproxy.file)
    assert (printed.returncode, printed.stderr) == (0, ""), printed
    peer.file.write_text(
        printed.stdout.replace(
            "[node]\n",
            f"[node]\nruntime = unix:{peer.runtime}:mode=600\n"
            "learn-tables = no\nlearn-columns = no\n",
        )
    )
    compared = run("checking", haproxy.file, "--peers-ini", peer.file)
    assert (compared.returncode, compared.stderr) == (0, ""), compared

    mesh.start(haproxy)
    await haproxy.up()
    for number in range(3):
        assert await get(haproxy.web, f"/x{number}?u=ann") == 200
    await haproxy.do("set table mesh/inpeers key 5 data.gpt0 50")
    peer.spawn(*peer.program, "--log-format=text", "peers", "--config", str(peer.file))
    await peer.in_step("lb1")
    answer = await peer.ask("show peers")
    assert "notes=" not in answer and "differences=" not in answer, answer
    assert (await peer.table("/inpeers"))["5"]["gpt0"] == 50
    for name in ("t_ip", "t_arr", "t_srv", "t_bin"):
        assert (await peer.table(name)).keys() == (await haproxy.table(name)).keys()
    assert (await peer.table("t_srv"))["ann"]["server_key"] in ("s1", "s2-with-a-longer-name")


@every_haproxy
def test_configurations(program: Program, tmp_path: Path) -> None:
    """HAProxy itself takes the configurations that the unit tests have, but for the mistakes, and
    those with words that it does not know."""
    folder = tmp_path / "configs"
    shutil.copytree(CONFIGS, folder)
    certificates = folder / "mycerts"
    certificates.mkdir()
    authority = Authority(certificates)
    shutil.copy(authority.certificate("haproxy1"), certificates / "pem")
    shutil.copy(authority.ca_file, certificates / "ca")
    for path in sorted(folder.glob("*.cfg")):
        done = subprocess.run(
            [*program.command, "-c", "-f", path.name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        taken_by = REFUSED.get(path.stem)
        good = taken_by is None or program.branch in taken_by
        assert (done.returncode == 0) == good, (path.name, done.stderr)


def test_progress(tmp_path: Path) -> None:
    """A file that takes longer than a second shows how far it is, at a terminal; a short one does
    not, and what is written is the same."""
    table = Declaration.parse("t", "type string len 20 size 1k store gpc0")
    head = b"200\n" + table.definition(1).encode()
    entry = entries.write(table.layout, "a key", {"gpc0": 1}, 1)
    shown = []
    for count in (1, 150_000):
        path = tmp_path / "session.bin"
        path.write_bytes(head + entry * count)
        ours, theirs = os.openpty()
        with (tmp_path / "out").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "peerproto.terminal.decoding", str(path)],
                stdout=out,
                stderr=theirs,
            )
        os.close(theirs)
        seen = b""
        # At the end of a terminal, Linux gives an error.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 4096):
                seen += piece
        os.close(ours)
        assert process.wait() == 0
        assert (tmp_path / "out").read_bytes().count(b"\n") == count + 2
        shown.append(b"%" in seen)
    assert shown == [False, True]

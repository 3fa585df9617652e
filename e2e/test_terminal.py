"""The program `peerproto` with a real node and real HAProxies behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from peerproto import StickTableService
from testbed import HAProxy, Mesh, Peerproto, free_port, get, reactor, until, write_token
from testbed.terminal import PROGRAM, Terminal, environment, peerproto

ENTRIES = int(os.environ.get("ENTRIES", "100000"))
"""Entries of the large table: `make long` has a million."""

TOKEN = "a-token-of-writers"
TABLES = """\
backend rates
    stick-table type ip size 1m expire 10m store gpc0,http_req_rate(10s) peers mesh
backend paths
    stick-table type string len 32 size 1m expire 10m store http_req_cnt peers mesh
"""
RULES = """\
    http-request track-sc0 src table rates
    http-request track-sc1 path,url_dec table paths
    http-request deny if { sc_get_gpc0(0) gt 0 }
    http-request return status 200
"""
IDS = "type integer size 2m store gpc0,http_req_cnt"


@attrs.frozen
class Site:
    """A node, two HAProxies, and the options that lead to the node by each way."""

    node: Peerproto
    haproxies: tuple[HAProxy, HAProxy]
    ways: dict[str, list[str]]


async def site(mesh: Mesh, unix: bool = False) -> Site:
    """All in step."""
    folder = mesh.folder
    token = write_token(folder / "token", TOKEN)
    port = free_port()
    listens = f"unix:{folder}/http.sock:mode=600" if unix else f"tcp:{port}:interface=127.0.0.1"
    place = f"http+unix:{folder}/http.sock" if unix else f"http://127.0.0.1:{port}"
    node = mesh.peerproto(declared=f"ids = {IDS}")
    node.more = f"""\
[http]
bind = {listens}
token-file = {token}
allow-writes = yes
[aggregate rates]
to = rates.agg
expect = lb1 lb2
"""
    a, b = (mesh.haproxy(name, tables=TABLES, frontend=RULES) for name in ("lb1", "lb2"))
    mesh.start()
    await node.in_step("lb1", "lb2")
    ways = {
        "runtime": ["--node", str(node.runtime)],
        "http": ["--node", place, "--token-file", str(token)],
    }
    return Site(node, (a, b), ways)


_MOVES = (
    *("expires_in", "uptime", "handshake_ago", "counters", "lag", "update_id", "waiting"),
    *("pushed", "taken", "got", "acked", "http_req_rate"),
)
"""What is another moment later."""


def still(value: Any) -> Any:
    """What the program said, without what moves."""
    if isinstance(value, dict):
        return {name: still(one) for name, one in value.items() if name not in _MOVES}
    if isinstance(value, list):
        return sorted(map(still, value), key=json.dumps)
    return value


def read(text: str) -> Any:
    """One document, or lines of them."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


COMMANDS = (
    ["tables"],
    ["show", "rates"],
    ["show", "rates", "--key", "127.0.0.1", "--peer", "lb1"],
    ["show", "paths"],
    ["show", "paths", "--top", "2", "--by", "http_req_cnt"],
    ["show", "paths", "--prefix", "/pl", "--filter", "http_req_cnt > 0"],
    ["show", "rates", "--network", "127.0.0.0/8", "--peer", "lb2"],
    ["peers"],
    ["peers", "lb1"],
    ["aggregates"],
    ["node"],
    ["set", "ids", "7", "gpc0=3"],
    ["forget", "ids", "9"],
)
SOME_COMMANDS = (["tables"], ["show", "paths"], ["set", "ids", "7", "gpc0=3"])


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@ensureDeferred
async def test_same_by_each_way(mesh: Mesh, unix: bool) -> None:
    """Each command says the same in JSON over the runtime socket and over HTTP."""
    here = await site(mesh, unix)
    for one in here.haproxies:
        for path in ("/a%0Ab", "/%1B[31m", "/..", "/plain"):
            await get(one.web, path)

    async def counted() -> bool:
        said = await peerproto("show", "paths", "--json", *here.ways["runtime"])
        return len(said.splitlines()) == 4

    await until(counted, "all paths are there")
    # The one way over HTTP differs from the other one by how it connects.
    for words in SOME_COMMANDS if unix else COMMANDS:
        said = {
            way: still(read(await peerproto(*words, "--json", *options)))
            for way, options in here.ways.items()
        }
        assert said["runtime"] == said["http"], words
        assert said["http"], words
    for options in here.ways.values():
        table = await peerproto("aggregates", *options)
        assert "lb1 in, lb2 in" in table, table
        assert "did you mean 'rates'" in await peerproto("show", "rats", *options, status=1)
        shown = await peerproto("show", "paths", *options)
        keys = [line.split()[0] for line in shown.splitlines()[1:]]
        assert len(keys) == 4 and shown.replace("\n", "").isprintable()
        for key in keys:
            await peerproto("show", "paths", "--key", key, *options)


@ensureDeferred
async def test_changes(mesh: Mesh) -> None:
    """What is set, counted and forgotten by either way is so at the HAProxies."""
    here = await site(mesh)
    a, b = here.haproxies
    for options in here.ways.values():
        await peerproto("set", "paths", "/x", "http_req_cnt=40", *options)
        await peerproto("count", "paths", "/x", "http_req_cnt=2", *options)

        async def are(number: int, one: HAProxy) -> bool:
            return (await one.table("paths")).get("/x", {}).get("http_req_cnt", 0) == number

        for one in (a, b):
            await until(partial(are, 42, one), f"{one.name} has it")
        chosen = ("--filter", "http_req_cnt > 41", "--yes")
        assert await peerproto("forget", "paths", *chosen, *options) == "1 entry forgotten\n"
        for one in (a, b):
            await until(partial(are, 0, one), f"{one.name} has forgotten it")
    for name in ("rates", "rates.agg"):
        # Of these the one is shared per peer, and the other is the node's own.
        words = ("set", name, "127.0.0.1", "gpc0=1")
        no = [await peerproto(*words, *options, status=1) for options in here.ways.values()]
        assert no[0] == no[1], no


class Watching:
    """A `watch` that runs."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._out, self._err = folder / "watch.out", folder / "watch.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*PROGRAM, "watch", *words], stdout=out, stderr=err, env=environment()
            )

    async def has(self, holds: Callable[[Any], bool]) -> None:
        """See that there was a change of which something holds."""
        changes = [json.loads(one) for one in self._out.read_text().splitlines()]
        assert any(map(holds, changes)), (changes, self._err.read_text())

    async def interrupt(self) -> str:
        """Press Ctrl-C: what it said beside the changes."""
        self.process.send_signal(signal.SIGINT)
        status = await deferToThread(self.process.wait, 60)
        assert status == 130, (status, self._err.read_text())
        return self._err.read_text()


@pytest.mark.parametrize("way", ["runtime", "http"])
@ensureDeferred
async def test_watch(mesh: Mesh, way: str) -> None:
    """What happens at a HAProxy is told, also after the node was started anew; and Ctrl-C ends it
    without a traceback."""
    here = await site(mesh)
    web, node = here.haproxies[0].web, here.node
    watching = Watching(mesh.folder, "paths", "--json", *here.ways[way])

    async def told(phase: str) -> None:
        """Until the watch has begun, what happens is not told."""
        numbers = iter(range(1_000_000))

        async def visited() -> bool:
            await get(web, f"/{phase}-{next(numbers)}")
            await watching.has(lambda change: change["key"].startswith(f"/{phase}-"))
            return True

        await until(visited, f"the watch tells what happens {phase} the restart")

    try:
        await told("before")
        await node.stop()
        node.start(mesh.nodes)
        await node.in_step("lb1", "lb2")
        await told("after")
        said = await watching.interrupt()
    finally:
        if watching.process.poll() is None:
            watching.process.kill()
    assert "Traceback" not in said and said.count("\n") >= 1, said


async def filled(mesh: Mesh, entries: int) -> Peerproto:
    """A node whose table `ids` has so many entries."""
    node = mesh.peerproto(declared=f"ids = {IDS}")
    mesh.nodes.append(Peerproto("filler", mesh.folder))
    mesh.start(node)
    service = StickTableService(
        "filler", {node.name: f"tcp:127.0.0.1:{node.port}"}, {"ids": IDS}, reactor=reactor
    )
    for key in range(entries):
        service.table("ids").set(key, gpc0=key)
    service.startService()

    async def has_it_all() -> bool:
        return f"used:{entries}" in await node.ask("show table")

    await until(has_it_all, "the node has it all", patience=900)
    await service.stopService()
    return node


@ensureDeferred
async def test_large_table(mesh: Mesh) -> None:
    """A large table is printed without being held in memory, its highest values come from the node,
    and a reader that has enough ends it quietly."""
    node = await filled(mesh, ENTRIES)
    where = ["--node", str(node.runtime)]

    def run(*words: str) -> tuple[int, int]:
        """How many lines are printed, and how much memory (MB) that takes."""
        code = (
            "import sys, resource, subprocess\n"
            "done = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
            "lines = sum(1 for _ in done.stdout)\n"
            "assert done.wait() == 0\n"
            "print(lines, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)\n"
        )
        command = [sys.executable, "-c", code, *PROGRAM, *words, *where]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), check=True, timeout=600
        )
        lines, memory = map(int, done.stdout.split())
        return lines, memory

    _, least = await deferToThread(run, "tables")
    lines, most = await deferToThread(run, "show", "ids")
    assert lines == ENTRIES + 1
    assert most < least + 20, (least, most)
    top = await peerproto("show", "ids", "--top", "3", "--json", *where)
    expected = [ENTRIES - 1, ENTRIES - 2, ENTRIES - 3]
    assert [one["values"]["gpc0"] for one in read(top)] == expected
    pipe = f"set -o pipefail; {' '.join(PROGRAM)} show ids --node {node.runtime} | head -2"
    done = await deferToThread(
        lambda: subprocess.run(
            ["bash", "-c", pipe], capture_output=True, text=True, env=environment(), check=False
        )
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (141, "", 2)
    print(f"counted: show of {ENTRIES} entries took {most} MB, that of the tables {least} MB")
    terminal = Terminal(mesh.folder)
    terminal.start(PEERPROTO_NODE=str(node.runtime))
    try:
        began = time.monotonic()
        terminal.type("peerproto top ids")
        terminal.press("Enter")
        await terminal.shows("the highest entry", lambda text: f" {ENTRIES - 1} " in text)
        took = time.monotonic() - began
        await node.ask(f"set table ids key 7 data.gpc0 {ENTRIES}")
        changed = time.monotonic()
        await terminal.shows("a higher one", lambda text: f" {ENTRIES} " in text)
        later = time.monotonic() - changed
    finally:
        terminal.end()
    print(
        f"counted: top of {ENTRIES} entries was there after {took:.1f} s, and what changed"
        f" {later:.1f} s later"
    )


@ensureDeferred
async def test_forgetting_is_asked_for(mesh: Mesh) -> None:
    """Who says no to forgetting many entries has them still."""
    here = await site(mesh)
    await get(here.haproxies[0].web, "/index")
    terminal = Terminal(mesh.folder)
    terminal.start(PEERPROTO_NODE=str(here.node.runtime))
    try:
        terminal.type("peerproto forget paths --filter 'http_req_cnt > 0'; echo status $?")
        terminal.press("Enter")
        await terminal.shows("a question", lambda text: "Forget 1 entry of 'paths'" in text)
        terminal.type("n")
        terminal.press("Enter")
        await terminal.shows("the end", lambda text: "status 130" in text)
        assert "/index" in await here.node.ask("show table paths")
    finally:
        terminal.end()


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=["80x24", "200x60"])
@ensureDeferred
async def test_top(mesh: Mesh, size: tuple[int, int]) -> None:
    """The live screen in a real terminal: it shows what comes to the HAProxies, blocks there and
    lets in again, outlives the node's restart, and fits."""
    here = await site(mesh)
    a, b = here.haproxies
    wide = size[0] > 100
    for number in range(30):
        await get(a.web, f"/{number}")
    terminal = Terminal(mesh.folder, *size)
    terminal.start(PEERPROTO_NODE=str(here.node.runtime))

    async def says(*texts: str) -> str:
        return await terminal.shows(
            f"the screen has {texts}", lambda screen: all(one in screen for one in texts)
        )

    try:
        terminal.type("peerproto top rates.agg; echo it ended: $?")
        terminal.press("Enter")
        screen = await says("http_req_rate ▼", "127.0.0.1", "ready", "q Quit")
        lines = screen.rstrip("\n").split("\n")
        assert len(lines) == size[1] and "q Quit" in lines[-1], screen
        assert max(map(len, lines)) <= size[0], screen
        assert ("Peers" in screen) and (("lb1" in screen) == wide), screen
        terminal.press("b")
        await says("The node itself writes this table")
        terminal.press("1")
        await says("▸ rates.agg", "paths")
        terminal.press("q")
        await says("it ended: 0")
        terminal.type("clear; peerproto top paths; echo it ended: $?")
        terminal.press("Enter")
        await says("http_req_cnt ▼", "30 entries" if not wide else "Entries of paths")
        terminal.press("/")
        await says("Filter:")
        terminal.type("/2")
        await terminal.shows(
            "paths that begin so", lambda text: "/29 " in text and not re.search("/[013-9]+ ", text)
        )
        terminal.press("Enter")
        await until(partial(closed, terminal), "the filter was taken")
        await here.node.stop()
        await says("Asking again", "as it was", "/29")
        here.node.start(mesh.nodes)
        await here.node.in_step("lb1", "lb2")
        await terminal.shows("an answer", lambda text: "Asking again" not in text)
        await says("/29")
        await get(b.web, "/27-new")
        await says("/27-new")
        terminal.press("?")
        await says("Esc closes this", "undo the last block")
        terminal.press("Escape")
        await terminal.shows("no help", lambda text: "Esc closes this" not in text)
        terminal.press("q")
        await says("it ended: 0")
    finally:
        terminal.end()


@pytest.mark.parametrize("way", ["runtime", "http"])
@ensureDeferred
async def test_top_of_a_node_that_stands_still(mesh: Mesh, way: str) -> None:
    """In a small window entries are seen, it is said that no answer comes, and the program ends
    without one."""
    here = await site(mesh)
    await get(here.haproxies[0].web, "/")
    terminal = Terminal(mesh.folder, 20, 5)
    terminal.start()
    try:
        terminal.type(f"clear; peerproto top rates {' '.join(here.ways[way])}; echo ended: $?")
        terminal.press("Enter")
        await terminal.shows("an entry", lambda text: "127.0.0.1" in text)
        here.node.send_signal(signal.SIGSTOP)
        await terminal.shows("what is wrong", lambda text: "No answer for" in text)
        assert "127.0.0.1" in terminal.screen()
        began = time.monotonic()
        terminal.press("q")
        await terminal.shows("the end", lambda text: "ended: 0" in text)
        assert time.monotonic() - began < 20
    finally:
        here.node.send_signal(signal.SIGCONT)
        terminal.end()


async def closed(terminal: Terminal) -> bool:
    """Whether keys are no letters of a filter any more: the last line has them all."""
    return "q Quit" in terminal.screen().rstrip("\n").split("\n")[-1]


BLOCKED = """\
backend blocked
    stick-table type ip size 1m expire 10m store gpc0 peers mesh
frontend other
    bind 127.0.0.1:{port}
    http-request track-sc0 src table blocked
    http-request deny if {{{{ sc_get_gpc0(0) gt 0 }}}}
    http-request return status 200
"""


@ensureDeferred
async def test_top_blocks(mesh: Mesh) -> None:
    """One key blocks a client at a HAProxy, after a question, and another one lets it in again."""
    port = free_port()
    node = mesh.peerproto()
    haproxy = mesh.haproxy("lb1", tables=BLOCKED.format(port=port), frontend="")
    mesh.start()
    await node.in_step("lb1")
    assert await get(port) == 200
    terminal = Terminal(mesh.folder)
    terminal.start(PEERPROTO_NODE=str(node.runtime))

    async def answers(status: int) -> bool:
        return await get(port) == status

    try:
        terminal.type("peerproto top blocked")
        terminal.press("Enter")
        await terminal.shows("the client", lambda text: "127.0.0.1" in text)
        terminal.press("b")
        await terminal.shows("a question", lambda text: "Set a value on all HAProxies?" in text)
        assert await get(port) == 200
        terminal.press("Enter")
        await until(partial(answers, 403), f"{haproxy.name} denies")
        await terminal.shows("it is said", lambda text: "u undoes it" in text)
        terminal.press("u")
        await until(partial(answers, 200), f"{haproxy.name} lets the client in again")
    finally:
        terminal.end()

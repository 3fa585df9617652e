"""How long the turns of the reactor are while a whole process works on a large table."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from pathlib import Path

import attrs

from bench.learning import fill, places, rival, used
from bench.lesson import LINES, TABLE, lesson
from testbed import HAProxy, Node, Peerproto, free_port, wait


@attrs.frozen
class Turns:
    """Those of one kind of work."""

    count: int
    p999_ms: float
    longest_ms: float
    longest_used_ms: float
    """Of the processor, in the turn that had most of it."""


def timed(kind: str, node: Node, line: str) -> HAProxy | Peerproto:
    """A peerproto of which `turns_of` knows the turns."""
    return rival(kind, node, TABLE.name, line, ("bench.turning", str(_file(node))))


def _file(node: Node) -> Path:
    return node.folder / f"{node.name}.turns"


def turns_of(node: Node) -> Turns:
    """The turns of a `timed` process since the last call."""
    file = _file(node)
    file.unlink(missing_ok=True)
    node.send_signal(signal.SIGUSR2)
    wait(file.exists)
    found = json.loads(file.read_text())
    turns = sorted(1000 * float(took) for took, _ in found)
    used = max(1000 * float(used) for _, used in found)
    return Turns(len(turns), turns[len(turns) * 999 // 1000], turns[-1], used)


def ask(port: int, query: str, times: int) -> None:
    """Get a page of the entries over HTTP, so often."""
    for _ in range(times):
        url = f"http://127.0.0.1:{port}/v1/tables/{TABLE.name}/entries?{query}"
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200
            answer.read()


def http_turns(node: Node, port: int) -> dict[str, Turns]:
    """The turns in which pages are looked for, and all entries sorted."""
    result = {}
    ask(port, "filter=data.gpc0+gt+4000000000", 50)
    result["HTTP, pages without a hit"] = turns_of(node)
    ask(port, "sort=-http_req_cnt&limit=100", 3)
    result["HTTP, sorted by a counter"] = turns_of(node)
    return result


def turns(kind: str, entries: int, folder: Path) -> dict[str, Turns]:
    """By what it does: the turns of a process of this kind."""
    mesh = places(folder, "source", "subject", "pupil", "feeder")
    peers = list(mesh.values())
    source = rival("haproxy", mesh["source"], TABLE.name)
    subject = timed(kind, mesh["subject"], LINES[TABLE.name])
    port = free_port()
    assert isinstance(subject, Peerproto)
    subject.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\n"
    pupil = rival("haproxy", mesh["pupil"], TABLE.name)
    line = LINES[TABLE.name].replace("expire 1h", "expire 10s")
    forgetful = timed(kind, mesh["subject"], line)

    def has(node: Node, count: int) -> None:
        wait(lambda: used(node, TABLE.name) == count)

    result = {}
    try:
        source.start(peers)
        fill(source, TABLE.name, b"".join(lesson(entries)), entries)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        forgetful.start(peers)
        has(forgetful, entries)
        turns_of(forgetful)
        has(forgetful, 0)
        result["expire"] = turns_of(forgetful)
        forgetful.kill()
        subject.start(peers)
        has(subject, entries)
        result["learn"] = turns_of(subject)
        source.kill()
        pupil.start(peers)
        has(pupil, entries)
        result["teach"] = turns_of(subject)
        assert subject.ask_now(f"show table {TABLE.name}").count("key=") == entries
        result["list"] = turns_of(subject)
        result |= http_turns(subject, port)
        line = LINES[TABLE.name].replace("conn_cnt", "gpt0")
        timed(kind, mesh["subject"], line).configure(peers)
        subject.send_signal(signal.SIGHUP)
        time.sleep(6)  # entries are converted in slices
        result["declare anew"] = turns_of(subject)
        assert "gpt0=0" in subject.ask_now(f"show table {TABLE.name} data.gpt0 eq 0")
        turns_of(subject)
        subject.ask_now(f"clear table {TABLE.name} data.gpc0 lt 2")
        result["clear by value"] = turns_of(subject)
        assert 0 < used(subject, TABLE.name) < entries
        subject.ask_now(f"clear table {TABLE.name}")
        time.sleep(3)  # what was cleared is given back in slices
        result["clear"] = turns_of(subject)
    finally:
        for node in (source, subject, pupil, forgetful):
            node.kill()
    return result

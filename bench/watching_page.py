"""What the dashboard costs: a node that learns, and the browser.

The node has a million entries. First a peer sends updates as fast as they are taken, in turns with
nobody watching and with the page open; then so many a second as a busy fleet does, and what the
browser's processes use is measured. ``python -m bench.watching_page [entries [rounds [kind]]]``
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect, sync_playwright

from bench.learning import KINDS, fill, places, rival
from bench.lesson import TABLE, lesson, scattered
from bench.streaming import Feeder
from peerproto.wire import varint
from peerproto.wire.messages import Control, EntryUpdate
from testbed import Peerproto, free_port, wait
from testbed.browser import launch

ENTRIES: Final = 1_000_000

KEYS: Final = 100_000
"""Entries that the peer updates that sends as fast as it can."""

UPDATES: Final = 5_000_000
"""In each half of a round."""

CHANGES: Final = 5_000
"""A second."""

WATCHED: Final = 60.0
"""Seconds in which the browser's processes are measured."""

_AT_ONCE: Final = 100

SORTING: Final = 60_000
"""Ms that the first sight of the entries may take."""


@attrs.frozen
class Cost:
    """What the page costs."""

    seconds: float
    """How many times as long the node took to learn with the page open."""
    processor: float
    """How many times as much processor time it took for that."""
    browser_percent: float
    """Of a core, all of the browser's processes together."""
    node_percent: float
    """Of a core, the node meanwhile."""
    renderer_mb: float
    """Resident memory of the page's process at the end, in MB: with what it shares with others."""
    renderer_own_mb: float
    """The same, where what is shared is divided by those who share it."""
    heap_mb: float
    """What the page's scripts hold, in MB."""


class Changer:
    """A peer that changes entries at random, so many a second."""

    def __init__(self, node: Peerproto, entries: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", node.port))
        self._socket.sendall(f"HAProxyS 2.1\n{node.name}\nchanger 1 1\n".encode())
        assert self._socket.recv(4) == b"200\n"
        self._socket.sendall(TABLE.definition(1).encode())
        self._batches = list(_batches(entries))
        self.stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while self._socket.recv(1 << 16):
                pass
        except OSError:
            return  # it was closed here

    def _run(self) -> None:
        began = time.monotonic()
        while not self.stop.is_set():
            due = int((time.monotonic() - began) * CHANGES)
            while self.sent < due:
                self._socket.sendall(self._batches[self.sent // _AT_ONCE % len(self._batches)])
                self.sent += _AT_ONCE
            if self.sent % CHANGES == 0:
                self._socket.sendall(Control.HEARTBEAT.encode())
            time.sleep(0.01)

    def end(self) -> None:
        """Change nothing more."""
        self.stop.set()
        self._thread.join()
        self._socket.close()


def _batches(entries: int) -> Iterator[bytes]:
    """Changes of entries that are there, of which few are visited often."""
    chance = random.Random(7)
    for _ in range(1000):
        messages = []
        for _ in range(_AT_ONCE):
            key = scattered(chance.randrange(entries)).to_bytes(4, "big")
            rate = int(chance.paretovariate(0.9)) % 100_000
            numbers = (chance.randrange(2), rate, rate, 0, rate, rate)
            values = b"".join(map(varint.encode, numbers))
            update = EntryUpdate(chance.randrange(1 << 30), None, key, values)
            messages.append(update.encode(TABLE.layout.key_type))
        yield b"".join(messages)


def processes_of(root: int) -> list[int]:
    """The ids of a process and of all that it has started."""
    parents: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(place.name)] = int(fields[1])
    found = [root]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def chromiums() -> dict[int, str]:
    """The command lines of the browser's processes, by their ids."""
    found = {}
    for one in processes_of(os.getpid()):
        try:
            line = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "chromium" in line.split(" ")[0]:
            found[one] = line
    return found


def processor(process: int) -> float:
    """Seconds of processor time that a process has used; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> tuple[float, float]:
    """Resident memory of a process in MB: with all that is shared, and with its part of that."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    return found["Rss"], found["Pss"]


def opened(chromium: Chromium, port: int) -> Page:
    """The page, with entries in it."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"http://127.0.0.1:{port}/")
    expect(page.locator("#link-state")).to_have_text("✓ Live", timeout=SORTING)
    page.locator("table.entries tbody tr").nth(24).wait_for(timeout=SORTING)
    return page


def watching(kind: str, entries: int, rounds: int, folder: Path) -> Cost:
    """The cost for a node of one of `KINDS` with so many entries."""
    mesh = places(folder, "subject", "feeder", "changer")
    node = rival(kind, mesh["subject"], TABLE.name)
    assert isinstance(node, Peerproto)
    port = free_port()
    node.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\n"
    node.start(list(mesh.values()))
    try:
        wait(node.runtime.exists)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        fill(node, TABLE.name, b"".join(lesson(entries)), entries)
        feeder = Feeder(node, KEYS, entries)
        times = UPDATES // KEYS
        with sync_playwright() as playwright:
            chromium = launch(playwright)
            ratios, processors = [], []
            for _ in range(rounds):
                used = node.processor()
                alone = feeder.send(times)
                used_alone = node.processor() - used
                page = opened(chromium, port)
                used = node.processor()
                watched = feeder.send(times)
                used_watched = node.processor() - used
                processors.append(used_watched / used_alone)
                print(
                    f"alone {alone:.2f} s ({used_alone:.2f} s of the processor), watched"
                    f" {watched:.2f} s ({used_watched:.2f} s)",
                    file=sys.stderr,
                )
                ratios.append(watched / alone)
                page.close()
            changer = Changer(node, entries)
            page = opened(chromium, port)
            page.wait_for_timeout(5000)  # until it has begun
            before = {one: processor(one) for one in chromiums()}
            used = node.processor()
            began = time.monotonic()
            page.wait_for_timeout(1000 * WATCHED)
            took = time.monotonic() - began
            used = node.processor() - used
            browser = sum(processor(one) - before.get(one, 0.0) for one in chromiums())
            renderers = [one for one, line in chromiums().items() if "--type=renderer" in line]
            resident, own = max(memory(one) for one in renderers)
            heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
            print(page.locator("#entries-note").inner_text(), file=sys.stderr)
            changer.end()
            chromium.close()
    finally:
        node.kill()
    share = 100 / took
    return Cost(
        statistics.median(ratios),
        statistics.median(processors),
        browser * share,
        used * share,
        resident,
        own,
        heap,
    )


def main(entries: int = ENTRIES, rounds: int = 3, kind: str = KINDS[1]) -> None:
    with tempfile.TemporaryDirectory(prefix="pb") as folder:
        cost = watching(kind, entries, rounds, Path(folder))
        print(json.dumps(attrs.asdict(cost)), flush=True)


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:3]]
    size, times = (*numbers, *(ENTRIES, 3)[len(numbers) :])
    main(size, times, *sys.argv[3:4])

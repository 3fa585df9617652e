"""The file of [storage] after power cuts: what a node writes is recorded once, and a disk is made
as it may be found after a cut at many moments. Each is opened by the code that loads the tables.

`make test` makes 100 cuts, `make long` 1,000.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Optional

import attrs
import pytest
from pytest_twisted import ensureDeferred

from peerproto.storage.database import Database
from testbed import Mesh, Peerproto, until, wait
from testbed.powercut import Call, Disk, calls, is_over, recorded

CUTS = int(os.environ.get("CUTS", "100"))
INTERVAL = 0.1
"""Seconds between two writes of the node."""

KEYS = 300
SECONDS = 6.0
LINE = "type string len 32 size 10k expire 1h store gpc0,http_req_rate(10s)"


@attrs.define
class History:
    """What was set, and when that was answered."""

    made: dict[str, list[tuple[float, int]]] = attrs.Factory(dict)
    """By key the values, each with the seconds since the epoch."""

    def set(self, key: str, value: int) -> None:
        """A value was set just now."""
        self.made.setdefault(key, []).append((time.time(), value))

    def least(self, key: str, when: float) -> int:
        """The value that was set last before a time; 0 if none was."""
        values = self.made[key]
        place = bisect_right(values, (when, 1 << 62))
        return values[place - 1][1] if place else 0


async def recorded_node(mesh: Mesh, folder: Path, seconds: float) -> tuple[list[Call], History]:
    """A node under load: what it wrote in a folder, and what was set in it."""
    trace = mesh.folder / "trace"
    peer: Peerproto = mesh.peerproto("node", f"counted = {LINE}")
    peer.more = f"[storage]\npath = {folder}/tables.db\ninterval = {INTERVAL * 1000:.0f}ms\n"
    peer.program = (*recorded(trace), *peer.program)
    peer.start([])
    await peer.up()
    chance, history, value = random.Random(7), History(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value += 1
        keys = [f"key{chance.randrange(KEYS)}" for _ in range(20)]
        commands = [f"set table counted key {key} data.gpc0 {value}" for key in keys]
        answer = await peer.ask("; ".join(commands))
        assert not answer.strip(), answer
        for key in keys:
            history.set(key, value)
    await peer.stop()

    async def is_whole() -> bool:
        return is_over(trace)

    await until(is_whole, "all is recorded")
    return calls(trace, folder), history


def found(made: list[Call], cut: int, chance: random.Random, folder: Path) -> Path:
    """The file of a disk after a cut: its path."""
    disk = Disk()
    for call in made[:cut]:
        disk.do(call)
    folder.mkdir()
    for name, content in disk.found(chance).items():
        (folder / Path(name).name).write_bytes(content)
    return folder / "tables.db"


def loaded(path: Path) -> Optional[dict[str, int]]:
    """What a node loads from a file; ``None`` if there is no table in it yet.

    :raises BrokenFile: it is damaged.
    """
    database = Database(str(path))
    try:
        now = database.open(round(time.time() * 1000))
        if "counted" not in database.tables:
            return None
        rows: dict[str, int] = {}
        after = None
        while True:
            some = database.read("counted", after, 1000, now.node, 0)
            assert some.bad == 0, "rows that are not as they were written"
            for record in some:
                entry = record.entry(now.node)
                rows[str(entry.key)] = entry.number("gpc0")
            after = some.after
            if after is None:
                return rows
    finally:
        database.close()


@ensureDeferred
async def test_power_cuts(mesh: Mesh, tmp_path: Path) -> None:
    """After each cut the file opens. It has no value that was not set, and of no key an older one
    than a second and an interval before the cut."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made, history = await recorded_node(mesh, folder, SECONDS)
    names = Counter(call.name for call in made)
    assert names["sync"] > SECONDS / INTERVAL / 2, names
    chance = random.Random(11)
    lost, late = 0, 0.0
    for number in range(CUTS):
        cut = chance.randrange(1, len(made) + 1)
        when = made[cut - 1].when
        path = found(made, cut, random.Random(number), tmp_path / f"cut{number}")
        rows = loaded(path) or {}
        for key, values in history.made.items():
            value = rows.get(key, 0)
            assert not value or value in {one for _, one in values}, (number, key, value)
            promised = history.least(key, when - 1 - INTERVAL)
            assert value >= promised, (number, key, value, promised)
            newer = [at for at, one in values if one > value and at <= when]
            if newer:
                lost += 1
                late = max(late, when - newer[0])
        assert set(rows) <= set(history.made), number
    print(
        f"counted: {CUTS} power cuts among {len(made)} calls ({dict(names)}): all opened; the"
        f" oldest change that was lost was {1000 * late:.0f} ms old, {lost} values were older ones"
    )


PROGRAM = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA journal_mode = WAL")
database.execute(f"PRAGMA synchronous = {sys.argv[2]}")
with database:
    database.execute("CREATE TABLE rows (key INTEGER PRIMARY KEY, value INTEGER)")
for turn in range(30):
    with database:
        database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)",
            [(key, turn) for key in range(400)])
    if turn % 10 == 9:
        database.execute("PRAGMA wal_checkpoint")
"""


@pytest.mark.parametrize(("synchronous", "fails"), [("FULL", False), ("OFF", True)])
def test_cuts_can_be_seen(tmp_path: Path, synchronous: str, fails: bool) -> None:
    """A program that syncs nothing is caught: files are damaged, or lack what was written long
    before; one that syncs as it should is not."""
    folder, trace = tmp_path / "disk", tmp_path / "trace"
    folder.mkdir()
    subprocess.run(
        [*recorded(trace), sys.executable, "-c", PROGRAM, folder / "tables.db", synchronous],
        check=True,
    )
    wait(lambda: is_over(trace))
    made = calls(trace, folder)
    good = 0
    for number in range(50):
        chance = random.Random(number)
        path = found(made, len(made), chance, tmp_path / f"cut{number}")
        try:
            database = sqlite3.connect(path)
            (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
            values = database.execute("SELECT DISTINCT value FROM rows").fetchall()
            good += verdict == "ok" and values == [(29,)]
            database.close()
        except sqlite3.DatabaseError:
            pass
    assert (good < 50) == fails, good

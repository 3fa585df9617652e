"""Files that are not as they were written."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

from peerproto.storage.database import Database
from tests.storage.stored import StorageTestCase

PLACES = int(os.environ.get("DAMAGES", "20"))
"""So many random places, for each kind of damage."""

LINE = "type integer size 1m expire 1h store gpc0,server_key,http_req_rate(1m)"
ENTRIES = 3000


class DamageTests(StorageTestCase):
    def setUp(self) -> None:
        super().setUp()
        here = self.node({"t": LINE, "u": LINE})
        for name in ("t", "u"):
            here.table(name).update(
                {n: {"gpc0": n, "server_key": f"server {n}" * 3} for n in range(ENTRIES)}
            )
        self.stop(here)
        self.whole = Path(self.path).read_bytes()
        self.chance = random.Random(7)

    def begin(self, damaged: bytes) -> int:
        """Start a node with a damaged file: how many entries it has. None is one that was not
        made, the damaged file is still there, and what changes now is kept."""
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder / "tables.db"
        path.write_bytes(damaged)
        here = self.node({"t": LINE, "u": LINE}, path=str(path))
        self.flushLoggedErrors()
        count = 0
        for name in ("t", "u"):
            for entry in here.table(name):
                self.assertEqual(
                    (entry["gpc0"], entry["server_key"]), (entry.key, f"server {entry.key!r}" * 3)
                )
                count += 1
        aside = [one for one in folder.iterdir() if ".broken-" in one.name]
        if self.keeper.figures.aside is not None:
            self.assertIn(damaged, [one.read_bytes() for one in aside])
        else:
            self.assertEqual(aside, [])
        if self.keeper.figures.refused is None:
            here.table("t").set(1_000_000, gpc0=1)
            self.stop(here)
            again = self.node({"t": LINE, "u": LINE}, path=str(path))
            self.assertEqual(again.table("t")[1_000_000]["gpc0"], 1)
            self.assertEqual(sum(map(len, again.tables)), count + 1)
            self.stop(again)
        else:
            self.assertEqual(path.read_bytes(), damaged)
            self.stop(here)
        shutil.rmtree(folder)
        return count

    def test_whole(self) -> None:
        """A file that is as it was has all entries."""
        self.assertEqual(self.begin(self.whole), 2 * ENTRIES)

    def test_flipped(self) -> None:
        """A byte that has changed anywhere costs a few entries at most, but for one in the first
        page or in one of the few pages that lead to others."""
        counts = []
        for _ in range(PLACES):
            at = self.chance.randrange(len(self.whole))
            flipped = bytes((self.whole[at] ^ self.chance.randrange(1, 256),))
            counts.append(self.begin(self.whole[:at] + flipped + self.whole[at + 1 :]))
        self.assertGreater(sorted(counts)[len(counts) // 4], 2 * ENTRIES - 200)

    def test_zeros(self) -> None:
        """A page that was never written does not cost the others."""
        counts = []
        for _ in range(PLACES):
            at = self.chance.randrange(len(self.whole) // 4096) * 4096
            counts.append(self.begin(self.whole[:at] + bytes(4096) + self.whole[at + 4096 :]))
        self.assertGreater(sorted(counts)[len(counts) // 4], 2 * ENTRIES - 400)

    def test_cut(self) -> None:
        """A file that was cut anywhere is set aside, and the node goes on."""
        for _ in range(PLACES):
            self.begin(self.whole[: self.chance.randrange(len(self.whole))])

    def test_nothing_sensible(self) -> None:
        """A file of random bytes is set aside."""
        self.assertEqual(self.begin(self.chance.randbytes(10_000)), 0)

    def test_damaged_while_it_runs(self) -> None:
        """If the file is damaged under a node that runs, all it has goes into a new one."""
        here = self.node({"t": LINE, "u": LINE})
        self.network.advance(2)
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("PRAGMA writable_schema = ON")
        other.execute("DELETE FROM sqlite_master WHERE name = 't'")
        other.execute("PRAGMA schema_version = 1000")
        other.close()
        here.table("t").set(1_000_000, gpc0=1)
        self.network.advance(10)
        self.flushLoggedErrors()
        self.assertIsNotNone(self.keeper.figures.aside)
        self.assertTrue(self.keeper.writes)
        self.stop(here)
        database = Database(self.path)
        database.open(0)
        self.assertEqual(database.count(), {"t": ENTRIES + 1, "u": ENTRIES})
        database.close()

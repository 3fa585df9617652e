"""Faults that meet each other: of files, of settings, of tables that come and go."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

from peerproto import Declaration, StickTableService
from peerproto.storage.config import StorageSettings
from peerproto.storage.errors import StorageError
from tests.storage.stored import AtOnce, StorageTestCase

GPC0 = "type string len 64 size 1m expire 10m store gpc0"
INTEGERS = "type integer size 1m expire 10m store gpc0"
KEPT = "select key_text, gpc0 from t"


class SettingsTests(StorageTestCase):
    def test_not_kept_any_more(self) -> None:
        """What waits of a table that is not kept any more waits no longer."""
        here = self.node({"t": GPC0, "u": GPC0}, kept=("u",))
        self.network.advance(1.1)
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        here.table("u").set("a", gpc0=1)
        self.network.advance(1.1)
        self.keeper.take(StorageSettings("ignored", 1000, ("t",)))
        here.table("t").set("b", gpc0=2)
        other.close()
        self.network.advance(3)
        self.assertEqual(self.rows(KEPT), [("b", 2)])
        self.assertEqual((self.keeper.waiting, self.keeper.age()), (0, 0))

    def test_kept_again_before_it_is_loaded(self) -> None:
        """A table that is named again before the file has let it go is loaded, and what changed in
        the node meanwhile stays, there and in the file."""
        here = self.node({"t": GPC0})
        for key in ("a", "b", "c"):
            here.table("t").set(key, gpc0=1)
        self.stop(here)
        here = self.node({"t": GPC0}, kept=("u",), takes_over=True)
        table = here.table("t")
        table.set("b", gpc0=2)
        table.set("c", gpc0=2)
        table.remove("c")
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        self.network.advance(1.1)
        self.keeper.take(StorageSettings("ignored", 1000, ("*",)))
        other.close()
        self.network.advance(3)
        self.assertEqual({entry.key: entry["gpc0"] for entry in table}, {"a": 1, "b": 2})
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])

    def test_same_file_by_two_names(self) -> None:
        """A second node that comes to the file by another name of it is refused, too."""
        link = self.mktemp()
        os.symlink(os.path.abspath(self.path), link)
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        other = self.node({"t": GPC0}, name="other", path=link)
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.stop(other)
        self.stop(here)


class StopTests(StorageTestCase):
    def test_stopped_while_it_loads_late(self) -> None:
        """A service that stops while it loads beside serving touches the file no more."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.stop(here)
        self.executor = AtOnce()
        self.executor.held = True
        here = self.node({"t": GPC0}, takes_over=True)
        self.network.advance(0.2)
        stopping = here.stopService()
        self.network.settle()
        self.executor.let()
        self.network.settle()
        self.successResultOf(stopping)
        transactions = self.keeper.figures.transactions
        self.network.advance(5)
        self.assertEqual(self.keeper.figures.transactions, transactions)
        self.assertEqual(self.keeper.figures.state, "stopped")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stopped_while_it_cannot_load(self) -> None:
        """The same where the file cannot be opened."""
        self.stop(self.node({"t": GPC0}))
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        self.addCleanup(other.close)
        self.executor = AtOnce()
        here = self.node({"t": GPC0}, takes_over=True)
        self.executor.held = True
        self.network.advance(1.2)
        stopping = here.stopService()
        self.network.settle()
        self.executor.let()
        self.network.settle()
        self.successResultOf(stopping)
        other.close()
        self.network.advance(5)
        self.assertEqual(self.keeper.figures.state, "stopped")

    def test_damaged_at_the_end(self) -> None:
        """If the file turns out to be damaged by the last write, what is left is written into a
        new one."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(2)
        here.table("t").set("b", gpc0=2)
        damage(self.path)
        stopping = here.stopService()
        self.network.advance(2)
        self.successResultOf(stopping)
        self.flushLoggedErrors()
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])

    def test_locked_at_the_end(self) -> None:
        """It is tried again to write what is left, as long as there is time."""
        here = self.node({"t": GPC0})
        self.network.advance(1.1)
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        here.table("t").set("a", gpc0=1)
        stopping = here.stopService()
        self.network.settle()
        self.assertNoResult(stopping)
        other.close()
        self.network.advance(2)
        self.successResultOf(stopping)
        self.assertEqual(self.rows(KEPT), [("a", 1)])


def damage(path: str, table: str = "t") -> None:
    """Have SQLite find a file damaged."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA writable_schema = ON")
    other.execute("DELETE FROM sqlite_master WHERE name = ?", (table,))
    other.execute("PRAGMA schema_version = 1000")
    other.close()


class DamageTests(StorageTestCase):
    def test_no_catalogue(self) -> None:
        """Where even the list of tables is damaged, all that the node has is in the new file."""
        here = self.node({"t": GPC0, "u": GPC0})
        for name in ("t", "u"):
            here.table(name).set("a", gpc0=1)
        self.network.advance(2)
        damage(self.path, "peerproto_tables")
        damage(self.path, "t")
        here.table("t").set("b", gpc0=2)
        self.network.advance(5)
        self.flushLoggedErrors()
        self.assertTrue(self.keeper.writes)
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])
        self.assertEqual(self.rows("select key_text, gpc0 from u"), [("a", 1)])
        self.assertIsNotNone(self.keeper.figures.aside)

    def test_lost_table_comes(self) -> None:
        """A table that the node had not, and that is lost with the file, can come."""
        here = self.node({"t": GPC0, "u": GPC0})
        here.table("u").set("a", gpc0=1)
        self.stop(here)
        here = self.node({"t": GPC0})
        self.network.advance(2)
        damage(self.path, "peerproto_tables")
        damage(self.path, "t")
        here.table("t").set("b", gpc0=2)
        self.network.advance(5)
        table = here.add_table(Declaration.parse("u", GPC0))
        table.set("c", gpc0=3)
        self.network.advance(5)
        self.flushLoggedErrors()
        self.assertEqual(self.rows("select key_text, gpc0 from u"), [("c", 3)])

    def test_no_new_file(self) -> None:
        """If there can be no new file, the damaged one keeps its name; all is written when there
        can be one."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(2)
        damage(self.path)
        here.table("t").set("b", gpc0=2)
        full = sqlite3.OperationalError("database or disk is full")
        with patch("peerproto.storage.database.Database.open", side_effect=full):
            self.network.advance(5)
            self.assertIn("full", str(self.keeper.figures.trouble))
            self.assertTrue(os.path.exists(self.path))
            self.assertEqual(list(Path(self.path).parent.glob("*.broken-*")), [])
        self.network.advance(5)
        self.flushLoggedErrors()
        self.assertIsNone(self.keeper.figures.trouble)
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])

    def test_removed(self) -> None:
        """If somebody removes the file of a node that runs, all is written into a new one."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(2)
        for end in ("", "-wal", "-shm"):
            os.unlink(self.path + end)
        here.table("t").set("b", gpc0=2)
        self.network.advance(5)
        self.flushLoggedErrors()
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])

    def test_replaced(self) -> None:
        """The same if somebody puts another file there, which is set aside."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.stop(here)
        old = Path(self.path).read_bytes()
        here = self.node({"t": GPC0})
        here.table("t").set("b", gpc0=2)
        here.table("t").remove("a")
        self.network.advance(2)
        Path(f"{self.path}.backup").write_bytes(old)
        os.rename(f"{self.path}.backup", self.path)
        os.unlink(f"{self.path}-wal")
        here.table("t").set("c", gpc0=3)
        self.network.advance(5)
        self.flushLoggedErrors()
        self.assertEqual(sorted(self.rows(KEPT)), [("b", 2), ("c", 3)])
        self.assertTrue(os.path.exists(str(self.keeper.figures.aside)))

    def test_copied(self) -> None:
        """A copy of the file in its place, as of a file system that numbers its files anew, is
        written on, and has all."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(2)
        for end in ("", "-wal"):
            shutil.copy(self.path + end, f"{self.path}.copy{end}")
            os.rename(f"{self.path}.copy{end}", self.path + end)
        os.unlink(f"{self.path}-shm")
        here.table("t").set("b", gpc0=2)
        self.network.advance(3)
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])
        self.assertIsNone(self.keeper.figures.aside)

    def test_seen_by_nobody_who_loads(self) -> None:
        """Damage that does not show while rows are loaded is found before anything is written: the
        file is set aside, all rows are saved, and the node has them."""
        for change in ("set", "stop"):
            here = self.node({"t": GPC0})
            for number in range(100):
                here.table("t").set(f"k{number}", gpc0=number)
            self.stop(here)
            # The number of free pages: there is none.
            with open(self.path, "r+b") as file:
                file.seek(36)
                file.write((7).to_bytes(4, "big"))
            here = self.node({"t": GPC0})
            self.assertEqual(len(here.table("t")), 100)
            self.assertIsNone(self.keeper.figures.aside)
            if change == "set":
                here.table("t").set("k1", gpc0=1000)
                self.network.advance(2.1)
                self.assertIn(("k1", 1000), self.rows(KEPT))
            self.stop(here)
            self.assertIsNotNone(self.keeper.figures.aside)
            self.assertEqual(len(self.rows(KEPT)), 100)
            self.assertEqual(self.rows("pragma quick_check"), [("ok",)])
            os.unlink(self.path)

    def test_seen_late_and_no_other_file(self) -> None:
        """If there can be no other file then, that is told, and is tried again."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.stop(here)
        with open(self.path, "r+b") as file:
            file.seek(36)
            file.write((7).to_bytes(4, "big"))
        here = self.node({"t": GPC0})
        problem = StorageError("file", "it", "another one")
        with patch("peerproto.storage.place.begin_anew", side_effect=problem):
            self.network.advance(1.1)
            self.assertEqual(self.keeper.figures.trouble, str(problem))
        self.network.advance(3)
        self.assertIsNone(self.keeper.figures.trouble)
        self.assertIsNotNone(self.keeper.figures.aside)
        self.assertEqual(self.rows(KEPT), [("a", 1)])

    def test_unexpected(self) -> None:
        """A failure that nobody thought of is told, and it is tried again."""
        here = self.node({"t": GPC0})
        self.network.advance(2)
        here.table("t").set("a", gpc0=1)
        with patch("peerproto.storage.database.Database.write", side_effect=ZeroDivisionError):
            self.network.advance(5)
            self.assertFalse(self.keeper.writes)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.network.advance(3)
        self.assertTrue(self.keeper.writes)
        self.assertEqual(self.rows(KEPT), [("a", 1)])

    def test_unexpected_at_first(self) -> None:
        """One while the file is opened or loaded at the start is told, once; the node serves
        without what is kept, what it says of storage says so, and it is tried again."""
        self.stop(self.with_entry("a"))
        for method in ("open", "read"):
            with patch(
                f"peerproto.storage.database.Database.{method}", side_effect=ZeroDivisionError
            ):
                here = self.node({"t": GPC0})
                self.network.advance(1)
                here.table("t").set(method, gpc0=2)
                part = here.parts["storage"]
                status = part.status()
                self.assertIsNotNone(here.address())
                self.assertEqual(status["state"], "cannot open the file yet", method)
                self.assertEqual(status["trouble"], "ZeroDivisionError()")
                self.network.advance(5)
                metrics = {one.name: one.value for one in part.metrics()}
                self.assertEqual(metrics["peerproto_storage_writes"], 0)
                self.assertGreaterEqual(metrics["peerproto_storage_failures_total"], 5)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.network.advance(3)
            status = part.status()
            self.assertEqual((status["state"], status["trouble"]), ("keeps", None))
            self.assertIn("a", here.table("t"))
            self.stop(here)
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("open", 2), ("read", 2)])

    def test_unexpected_at_first_and_stopped(self) -> None:
        """A node that stops while such a start is to be tried again tries it no more."""
        with patch("peerproto.storage.database.Database.open", side_effect=ZeroDivisionError):
            here = self.node({"t": GPC0})
            self.stop(here)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.keeper.figures.state, "stopped")
        self.assertIsNone(self.network.clock.next_call())

    def with_entry(self, key: str) -> StickTableService:
        """A node with an entry."""
        here = self.node({"t": GPC0})
        here.table("t").set(key, gpc0=1)
        return here


class LoadingTests(StorageTestCase):
    def late(self, line: str, **more: object) -> None:
        """A node that begins to load while it serves, and that waits for the disk."""
        self.executor = AtOnce()
        self.executor.held = True
        self.here = self.node({"t": line}, takes_over=True, **more)  # type: ignore[arg-type]
        self.network.advance(0.3)

    def kept(self, count: int = 5) -> None:
        """A file with entries."""
        here = self.node({"t": INTEGERS})
        here.table("t").update({n: {"gpc0": 1} for n in range(count)})
        self.stop(here)

    def test_declared_anew(self) -> None:
        """A table that is declared with another data type while it is loaded has all."""
        self.kept()
        self.late(INTEGERS)
        self.here.declare_table(Declaration.parse("t", INTEGERS + ",gpc1"))
        self.executor.let()
        self.network.advance(4)
        self.assertEqual(
            [(e.key, e["gpc0"]) for e in self.here.table("t")], [(n, 1) for n in range(5)]
        )
        self.assertEqual(len(self.rows("select key_text, gpc0, gpc1 from t")), 5)

    def test_other_keys(self) -> None:
        """One whose keys are of another type by then begins anew."""
        self.kept()
        self.late(INTEGERS)
        self.here.declare_table(Declaration.parse("t", GPC0))
        self.here.table("t").set("a", gpc0=7)
        self.executor.let()
        self.network.advance(4)
        self.assertEqual([(e.key, e["gpc0"]) for e in self.here.table("t")], [("a", 7)])
        self.assertEqual(self.rows(KEPT), [("a", 7)])

    def test_goes_and_comes(self) -> None:
        """One that goes and comes back while it is loaded is loaded into what came."""
        self.kept()
        self.late(INTEGERS)
        self.here.remove_table("t")
        table = self.here.add_table(Declaration.parse("t", INTEGERS))
        table.set(1, gpc0=9)
        self.executor.let()
        self.network.advance(4)
        found = {entry.key: entry["gpc0"] for entry in table}
        self.assertEqual(found, {0: 1, 1: 9, 2: 1, 3: 1, 4: 1})
        self.assertEqual({int(key): one for key, one in self.rows(KEPT)}, found)

    def test_cleared_among_many(self) -> None:
        """What is cleared before the file is free does not come back, however much changes."""
        self.kept()
        self.executor = AtOnce()
        self.executor.held = True
        here = self.node({"t": INTEGERS}, takes_over=True, most=1000)
        self.network.advance(0.3)
        table = here.table("t")
        table.set(3, gpc0=1)
        table.remove(3)
        table.update({n: {"gpc0": 2} for n in range(10, 2000)})
        self.executor.let()
        self.network.advance(4)
        self.assertNotIn(3, table)
        self.assertEqual(self.rows("select count(*) from t where key_text = '3'"), [(0,)])


class LockTests(StorageTestCase):
    def fails(self, number: int) -> Any:
        """Nothing can be opened."""
        return patch("os.open", side_effect=OSError(number, os.strerror(number)))

    def test_full_at_the_start(self) -> None:
        """A disk that has no room for the lock file when a node starts is one that is full: the
        node serves, and loads when there is room."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.stop(here)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            with self.fails(number):
                here = self.node({"t": GPC0})
                self.assertIsNotNone(here.address())
                self.assertIsNone(here.parts.not_ready() or None)
                self.network.advance(3)
                self.assertIn(os.strerror(number), str(self.keeper.figures.trouble))
            self.network.advance(2)
            self.assertTrue(self.keeper.writes)
            self.assertIn("a", here.table("t"))
            self.stop(here)

    def test_no_file_there(self) -> None:
        """A path where no file can be is refused."""
        with self.fails(errno.EACCES):
            self.node({"t": GPC0})
        (problem,) = self.flushLoggedErrors(StorageError)
        self.assertIn("Permission denied", str(problem.value))


class TransactionTests(StorageTestCase):
    def test_goes_and_comes(self) -> None:
        """A table that goes and comes back while it is written is another table."""
        here = self.node({"t": INTEGERS})
        self.network.advance(1.1)
        here.table("t").update({n: {"gpc0": 1} for n in range(10)})
        self.executor.held = True
        self.network.advance(1.1)
        here.remove_table("t")
        here.add_table(Declaration.parse("t", INTEGERS)).set(3, gpc0=2)
        self.executor.let()
        self.network.advance(4)
        self.assertEqual(self.rows(KEPT), [("3", 2)])

    def test_goes_while_it_is_declared(self) -> None:
        """The same with one that is declared by the transaction that is under way, and fails."""
        here = self.node({"t": INTEGERS})
        self.network.advance(1.1)
        first = here.add_table(Declaration.parse("u", INTEGERS))
        first.set(1, gpc0=1)
        self.executor.held = True
        self.network.advance(1.1)
        here.remove_table("u")
        here.add_table(Declaration.parse("u", GPC0)).set("x", gpc0=2)
        self.executor.let()
        self.network.advance(4)
        self.assertEqual(self.rows("select key_text, gpc0 from u"), [("x", 2)])

    def test_clock_steps(self) -> None:
        """A step of the wall clock while a transaction is under way makes no time pass."""
        here = self.node({"t": INTEGERS})
        here.table("t").set(1, gpc0=1, expires_in=500_000)
        self.executor.held = True
        self.network.advance(1.1)
        self.network.step_wall_clock(3600)
        self.executor.let()
        self.network.advance(1.1)
        left = here.table("t")[1].expires_in
        self.stop(here)
        again = self.node({"t": INTEGERS}).table("t")[1].expires_in
        assert left is not None and again is not None
        self.assertLess(abs(left - again), 1000)

"""A node whose tables outlive it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from peerproto import Declaration, Entry, Frequency, StickTableService
from peerproto.storage.config import StorageSettings
from peerproto.storage.errors import StorageError
from peerproto.storage.keeper import STOP_TIMEOUT
from peerproto.storage.lock import FileLock
from peerproto.testing import MemoryNetwork
from tests.storage.stored import LINE, AtOnce, StorageTestCase, said

LONG = "a server key that is longer than what stands in a record"
GPC0 = "type string len 64 size 1m expire 10m store gpc0"
KEPT = "select key_text, gpc0 from t"


def about(entries: Iterable[Entry]) -> dict[Any, tuple[list[Any], list[int]]]:
    """By key: the values of entries, and their ages and the end of their life in ms."""
    found: dict[Any, tuple[list[Any], list[int]]] = {}
    for entry in entries:
        values: list[Any] = []
        times = [entry.expires_in or 0]
        for cell in entry.layout.printed:
            if cell.column.period is None:
                values.append(entry.value(cell))
            else:
                counter = entry.counter(f"{cell.name}")
                values.append(counter[1:])
                times.append(counter.age)
        found[entry.key] = values, times
    return found


class RestartTests(StorageTestCase):
    def test_restart(self) -> None:
        """What one process had, the next one has, as if it had always run."""
        here = self.node({"t": LINE})
        table = here.table("t")
        table.set("a", gpc0=1, server_key=LONG, http_req_rate=9, server_id=-3)
        table.set("b", {"gpc_rate[1]": 7}, server_key="short", expires_in=50_000)
        table.set("c", bytes_in_cnt=2**64 - 1)
        table.set("\udcff\udcfe", server_key="\udcff12345")
        self.network.advance(3)
        self.stop(here)
        self.network.advance(20)
        there = self.node({"t": LINE}).table("t")
        self.assertEqual(said(there), said(table))
        self.assertEqual(len(there), 4)
        self.network.advance(30)
        self.assertNotIn("b", there)

    @given(st.data())
    @settings(max_examples=30, deadline=None)
    def test_any(self, data: st.DataObject) -> None:
        """Whatever happens to entries, with stops at any time and steps of the wall clock: the last
        process has what one that had always run would have."""
        self.network = MemoryNetwork()
        self.path = self.mktemp()
        mirror = StickTableService(
            "mirror",
            {},
            {"t": LINE},
            reactor=self.network.clock,
            wall_clock=self.network.wall_clock,
        )
        mirror.startService()
        always = mirror.table("t")
        here = self.node({"t": LINE})
        for _ in range(data.draw(st.integers(1, 15))):
            key = data.draw(st.sampled_from(["a", "b", "c"]))
            what = data.draw(st.sampled_from(["set", "set", "remove", "stop", "step", "wait"]))
            table = here.table("t")
            if what == "set":
                values = data.draw(
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "gpc0": st.integers(0, 2**32 - 1),
                            "server_key": st.sampled_from([None, "s1", LONG, "\udcff\udcfe"]),
                            "bytes_in_cnt": st.integers(0, 2**64 - 1),
                            "http_req_rate": st.builds(
                                Frequency, st.integers(0, 10**5), st.integers(0, 9), st.just(3)
                            ),
                        },
                    )
                )
                life = data.draw(st.none() | st.integers(1, 600_000))
                for one in (table, always):
                    one.set(key, values, expires_in=life)
            elif what == "remove":
                for one in (table, always):
                    one.remove(key)
            elif what == "stop":
                self.stop(here)
                self.network.advance(data.draw(st.integers(0, 60)))
                here = self.node({"t": LINE})
            elif what == "step":
                self.network.step_wall_clock(data.draw(st.sampled_from([3600, -3600])))
                self.stop(here)
                here = self.node({"t": LINE})
            else:
                self.network.advance(data.draw(st.integers(0, 30)) / 8)
        ours, theirs = about(here.table("t")), about(always)
        self.assertEqual(ours.keys(), theirs.keys())
        for key, (found, times) in ours.items():
            self.assertEqual(found, theirs[key][0])
            # The wall clock is read in whole ms: one a restart.
            for mine, other in zip(times, theirs[key][1]):
                self.assertLessEqual(abs(mine - other), 16)
        self.stop(here)
        mirror.stopService()

    def test_wall_clock_back(self) -> None:
        """If the wall clock is set back while nobody runs, no time has passed."""
        here = self.node({"t": LINE})
        here.table("t").set("a", gpc0=1, http_req_rate=5)
        before = said(here.table("t"))
        self.stop(here)
        self.network.step_wall_clock(-7200)
        self.assertEqual(
            said(self.node({"t": LINE}).table("t"))[("a", None)][0], before["a", None][0]
        )

    def test_expired_meanwhile(self) -> None:
        """What has expired is not loaded, and goes from the file."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1, expires_in=5000)
        here.table("t").set("b", gpc0=2)
        self.stop(here)
        self.network.advance(6)
        here = self.node({"t": GPC0})
        self.assertEqual([entry.key for entry in here.table("t")], ["b"])
        self.network.advance(2)
        self.assertEqual(self.rows(KEPT), [("b", 2)])

    def test_fleet(self) -> None:
        """A fleet that was down learns its tables back from the file, and no HAProxy is waited for
        longer than usual."""
        here = self.node({"t": LINE})
        here.table("t").set("a", gpc0=7)
        self.stop(here)
        here = self.node({"t": LINE})
        self.network.advance(6)
        self.assertTrue(here.up_to_date)
        other = self.network.peer("other", {"t": LINE})
        other.startService()
        self.network.advance(6)
        self.assertEqual(other.table("t")["a"]["gpc0"], 7)

    def test_adopted(self) -> None:
        """A table that a peer had brought is there again, and so are columns."""
        other = self.network.peer("other", {"t": LINE, "u": GPC0})
        other.startService()
        narrow = {"u": "type string len 64 size 1k expire 10m store gpt0"}
        here = self.node(narrow, learn_tables=True)
        self.network.advance(7)
        other.table("t").set("a", gpc0=3, http_req_rate=8)
        other.table("u").set("b", gpc0=4)
        self.network.advance(2)
        self.assertEqual(here.table("u")["b"]["gpc0"], 4)
        self.stop(here)
        other.stopService()
        del self.network.services["other"]
        here = self.node(narrow, learn_tables=True)
        self.assertEqual(here.table("t")["a"]["gpc0"], 3)
        self.assertEqual(here.table("t").declaration.adopted_from, "other")
        self.assertEqual(here.table("u")["b"]["gpc0"], 4)
        self.stop(here)
        here = self.node(narrow, learn_columns=False)
        self.assertIsNone(here.find_table("t"))
        self.assertEqual(list(here.table("u")["b"]), ["gpt0"])

    def test_comes_later(self) -> None:
        """What the file has of a table that the node has not is left there, and loaded when the
        node has it."""
        here = self.node({"t": GPC0, "u": GPC0})
        here.table("t").set("a", gpc0=3)
        self.stop(here)
        here = self.node({"u": GPC0})
        self.network.advance(2)
        self.assertEqual(self.rows(KEPT), [("a", 3)])
        table = here.add_table(Declaration.parse("t", GPC0))
        table.set("b", gpc0=5)
        self.network.advance(2)
        self.assertEqual({entry.key: entry["gpc0"] for entry in table}, {"a": 3, "b": 5})
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 3), ("b", 5)])

    def test_other_keys(self) -> None:
        """A table whose keys are of another type begins anew, in the file too."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=3)
        self.stop(here)
        here = self.node({"t": "type integer size 1k store gpc0"})
        self.assertEqual(len(here.table("t")), 0)
        here.table("t").set(7, gpc0=1)
        self.network.advance(2)
        self.assertEqual(self.rows(KEPT), [("7", 1)])

    def test_no_room(self) -> None:
        """What finds no room in a smaller table goes from the file, too."""
        here = self.node({"t": GPC0})
        for number in range(10):
            here.table("t").set(str(number), gpc0=1)
        self.stop(here)
        here = self.node({"t": GPC0.replace("1m", "4")})
        self.network.advance(2)
        self.assertEqual(len(here.table("t")), 4)
        self.assertEqual(len(self.rows(KEPT)), 4)

    def test_many(self) -> None:
        """Tables of more entries than are read, written and stored at once."""
        here = self.node({"t": "type integer size 1m expire 10m store gpc0"})
        here.table("t").update({n: {"gpc0": n} for n in range(45_000)})
        self.stop(here)
        there = self.node({"t": "type integer size 1m expire 10m store gpc0"}).table("t")
        self.network.advance(1)
        self.assertEqual(len(there), 45_000)
        self.assertTrue(all(entry["gpc0"] == entry.key for entry in there))

    def test_empty_name_apart(self) -> None:
        """Tables whose names differ in capitals, or have odd bytes, are kept apart."""
        tables = {"t": GPC0, "T": GPC0, "\udcff'\"": GPC0, "sqlite_master": GPC0}
        here = self.node(tables)
        for number, name in enumerate(tables):
            here.table(name).set("a", gpc0=number)
        self.stop(here)
        here = self.node(tables)
        self.assertEqual([here.table(name)["a"]["gpc0"] for name in tables], [0, 1, 2, 3])

    def test_stopped_while_it_loads(self) -> None:
        """A process that stops while it loads leaves the file as it is."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=3)
        self.stop(here)
        self.executor.held = True
        here = self.node({"t": GPC0})
        here.table("t").set("b", gpc0=1)
        stopping = here.stopService()
        self.network.settle()
        self.executor.let()
        self.network.settle()
        self.successResultOf(stopping)
        self.assertEqual(self.rows(KEPT), [("a", 3)])


class SharesTests(StorageTestCase):
    def fleet(self) -> StickTableService:
        def share(service: StickTableService) -> None:
            for name in ("lb1", "lb2"):
                if name not in service.peers:
                    service.expect_peer(name)
            service.share("t", per_peer=True)

        return self.node({"t": GPC0}, before=share)

    def test_restart(self) -> None:
        """The share of each peer is kept, and comes back under its peer."""
        here = self.fleet()
        table = here.table("t")
        table.set("a", gpc0=3, peer="lb1")
        table.set("a", gpc0=4, peer="lb2")
        table.set("b", gpc0=5, peer="lb2")
        self.stop(here)
        before = said(table)
        self.assertEqual(
            sorted(self.rows("select peer, key_text, gpc0 from t")),
            [("lb1", "a", 3), ("lb2", "a", 4), ("lb2", "b", 5)],
        )
        here = self.fleet()
        self.assertEqual(said(here.table("t")), before)
        here.table("t").contributions()["lb2"].remove("a")
        self.network.advance(2)
        self.assertEqual(
            sorted(self.rows("select peer, key_text, gpc0 from t")),
            [("lb1", "a", 3), ("lb2", "b", 5)],
        )

    def test_peer_goes(self) -> None:
        """With a peer, its share goes."""
        here = self.fleet()
        here.table("t").set("a", gpc0=3, peer="lb1")
        here.table("t").set("a", gpc0=4, peer="lb2")
        self.network.advance(2)
        here.remove_peer("lb1")
        self.network.advance(3)
        self.assertEqual(self.rows("select peer, gpc0 from t"), [("lb2", 4)])
        self.stop(here)

    def test_shared_otherwise(self) -> None:
        """A table that is shared otherwise by now begins anew."""
        here = self.fleet()
        here.table("t").set("a", gpc0=3, peer="lb1")
        self.stop(here)
        here = self.node({"t": GPC0})
        self.assertEqual(list(here.table("t")), [])
        here.table("t").set("b", gpc0=1)
        self.network.advance(2)
        self.assertEqual(self.rows("select peer, key_text, gpc0 from t"), [("", "b", 1)])


class WritingTests(StorageTestCase):
    def test_while_it_runs(self) -> None:
        """What changes is in the file an interval later, and nothing else is written."""
        here = self.node({"t": LINE})
        here.table("t").set("a", gpc0=1)
        self.network.advance(1.1)
        select = "select key_text, gpc0, http_req_rate_current from t"
        self.assertEqual(self.rows(select), [("a", 1, 0)])
        written = self.keeper.figures.transactions
        self.network.advance(10)
        self.assertEqual(self.keeper.figures.transactions, written)
        here.table("t").set("a", gpc0=2)
        here.table("t").set("b", gpc0=2, http_req_rate=3)
        self.network.advance(1.1)
        self.assertEqual(self.rows(select), [("a", 2, 0), ("b", 2, 3)])
        here.table("t").remove("a")
        self.network.advance(1.1)
        self.assertEqual(self.rows(select), [("b", 2, 3)])
        self.assertEqual(self.keeper.figures.keys, 4)

    def test_every_way_to_go(self) -> None:
        """What expires, is trashed, forgotten or cleared goes from the file."""
        here = self.node({"t": GPC0.replace("1m", "5")})
        table = here.table("t")
        table.set("expires", gpc0=1, expires_in=3000)
        for key in ("trashed", "forgotten", "removed", "stays"):
            table.set(key, gpc0=1)
        self.network.advance(2)
        self.assertEqual(len(self.rows(KEPT)), 5)
        table.forget("forgotten")
        table.remove("removed")
        self.network.advance(4)
        self.assertEqual(sorted(self.rows(KEPT)), [("stays", 1), ("trashed", 1)])
        for number in range(4):
            table.set(f"new{number}", gpc0=1)
        self.network.advance(2)
        self.assertEqual(len(self.rows(KEPT)), 5)
        self.assertNotIn(("trashed", 1), self.rows(KEPT))
        table.clear()
        self.network.advance(2)
        self.assertEqual(self.rows(KEPT), [])

    def test_redeclared(self) -> None:
        """A table that is declared anew while the node runs has its new columns in the file."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(2)
        here.declare_table(Declaration.parse("t", GPC0 + ",gpc1"))
        here.table("t").set("b", gpc1=5)
        self.network.advance(2)
        select = "select key_text, gpc0, gpc1 from t"
        self.assertEqual(sorted(self.rows(select)), [("a", 1, 0), ("b", 0, 5)])
        self.stop(here)
        here = self.node({"t": GPC0 + ",gpc1"})
        self.assertEqual(here.table("t")["a"]["gpc0"], 1)

    def test_removed(self) -> None:
        """A table that the node gives up goes from the file; another one of its name is another
        table."""
        here = self.node({"t": GPC0, "u": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(2)
        here.remove_table("t")
        here.add_table(Declaration.parse("t", GPC0)).set("b", gpc0=2)
        self.network.advance(2)
        self.assertEqual(self.rows(KEPT), [("b", 2)])
        here.remove_table("t")
        self.network.advance(2)
        self.assertRaises(sqlite3.OperationalError, self.rows, KEPT)

    def test_which(self) -> None:
        """Only the tables are kept that are named, also after that has changed."""
        here = self.node({"t": GPC0, "u": GPC0}, kept=("u",))
        for name in ("t", "u"):
            here.table(name).set("a", gpc0=1)
        self.network.advance(2)
        self.assertRaises(sqlite3.OperationalError, self.rows, KEPT)
        self.keeper.take(StorageSettings("ignored", 5000, ("t",)))
        self.network.advance(6)
        self.assertEqual(self.rows(KEPT), [("a", 1)])
        self.assertRaises(sqlite3.OperationalError, self.rows, "select * from u")
        self.assertEqual(self.keeper.settings.path, self.path)
        self.stop(here)
        here = self.node({"t": GPC0, "u": GPC0}, kept=("u",))
        self.network.advance(2)
        self.assertEqual(len(here.table("t")), 0)
        self.assertRaises(sqlite3.OperationalError, self.rows, KEPT)

    def test_slow_disk(self) -> None:
        """While the disk is slow, changes of a key merge, and the age of the oldest is told."""
        here = self.node({"t": GPC0})
        self.network.advance(1.1)
        self.executor.held = True
        for number in range(50):
            here.table("t").set("a", gpc0=number)
            self.network.advance(0.2)
        self.assertGreater(self.keeper.age(), 8000)
        self.executor.let()
        self.network.advance(2.2)
        self.assertEqual(self.rows(KEPT), [("a", 49)])
        self.assertEqual(self.keeper.age(), 0)
        self.assertLess(self.keeper.figures.transactions, 6)

    def test_overrun(self) -> None:
        """When too many keys wait, the table is written whole, and what it has not goes."""
        line = "type integer size 1m expire 1h store gpc0"
        here = self.node({"t": line}, most=1000)
        table = here.table("t")
        table.update({n: {"gpc0": 1} for n in range(1000)})
        self.network.advance(2)
        self.executor.held = True
        self.network.advance(2)
        table.update({n: {"gpc0": 2} for n in range(500, 1700)})
        for number in range(500):
            table.remove(number)
        self.executor.let()
        self.network.advance(3)
        table.set(5000, gpc0=2)
        self.network.advance(3)
        found = self.rows("select count(*), min(gpc0), min(cast(key_text as int)) from t")
        self.assertEqual(found, [(1201, 2, 500)])

    def test_flood(self) -> None:
        """While more changes come than can be written in time, they wait, for 5 s more than the
        interval at most, and are written as soon as fewer come."""
        here = self.node({"t": "type integer size 1m expire 1h store gpc0"}, flood=100)
        table = here.table("t")
        self.network.advance(2)

        def change(begin: int, seconds: int) -> None:
            for number in range(10 * seconds):
                table.update({begin + 20 * number + one: {"gpc0": 1} for one in range(20)})
                self.network.advance(0.1)

        def kept() -> int:
            ((count,),) = self.rows("select count(*) from t")
            assert isinstance(count, int)
            return count

        change(0, 4)
        self.assertEqual(kept(), 0)
        self.assertGreater(self.keeper.age(), 3000)
        self.network.advance(0.6)
        self.assertEqual(kept(), 800)
        self.assertEqual(self.keeper.age(), 0)
        change(1000, 8)
        self.assertGreater(kept(), 800 + 5 * 200)
        self.assertLess(self.keeper.age(), 6500)
        self.stop(here)
        self.assertEqual(kept(), 800 + 8 * 200)

    def test_flood_without_end(self) -> None:
        """The same where more keys wait than are held: what stays is written, what went is not."""
        here = self.node({"t": "type integer size 1m expire 1h store gpc0"}, flood=100, most=1000)
        table = here.table("t")
        table.set(1, gpc0=7)
        self.network.advance(2)
        for number in range(100):
            table.update({100 + 40 * number + one: {"gpc0": 1} for one in range(40)})
            self.network.advance(0.1)
        table.remove(1)
        self.network.advance(0.5)
        table.remove(100)
        self.network.advance(3)
        found = self.rows("select count(*), min(gpc0), min(cast(key_text as int)) from t")
        self.assertEqual(found, [(3999, 1, 101)])

    def test_flood_into_a_new_table(self) -> None:
        """Where more keys wait than are held of a table that the file has not yet, not all is
        written, and the keeper does not say so."""
        here = self.node({}, flood=100, most=1000)
        self.network.advance(2)
        table = here.add_table(Declaration.parse("t", "type integer size 1m expire 1h store gpc0"))
        table.update({number: {"gpc0": 1} for number in range(2000)})
        seen = 0
        while self.rows("select count(*) from peerproto_tables") == [(0,)]:
            self.assertGreaterEqual(self.keeper.age(), 49 * seen)
            self.network.advance(0.05)
            seen += 1
        self.assertGreater(seen, 5)
        self.network.advance(3)
        self.assertEqual(self.rows("select count(*) from t"), [(2000,)])
        self.assertEqual(self.keeper.age(), 0)

    def test_write_is_within_interval(self) -> None:
        """What a write takes is within the interval: the next one begins sooner by as much."""
        here = self.node({"t": GPC0})
        self.network.advance(1.1)
        self.executor.do = partial(deferLater, self.network.clock, 0.3)  # type: ignore[method-assign]
        oldest = 0
        for number in range(100):
            here.table("t").set("a", gpc0=number)
            self.network.advance(0.05)
            if number > 50:
                oldest = max(oldest, self.keeper.age())
        self.assertLessEqual(oldest, 1000)
        self.assertGreater(oldest, 900)

    def test_stop_writes(self) -> None:
        """What changed a moment ago is written when the service stops."""
        here = self.node({"t": GPC0})
        self.network.advance(5)
        here.table("t").set("a", gpc0=1)
        self.stop(here)
        self.assertEqual(self.rows(KEPT), [("a", 1)])
        self.assertTrue(self.executor.stopped)
        self.assertTrue(FileLock(self.path).take())

    def test_stop_is_bounded(self) -> None:
        """A disk that does not answer does not keep the process from ending."""
        here = self.node({"t": GPC0})
        self.network.advance(1.1)
        self.executor.held = True
        here.table("t").set("a", gpc0=1)
        stopping = here.stopService()
        self.network.advance(STOP_TIMEOUT - 1)
        self.assertNoResult(stopping)
        self.network.advance(2)
        self.successResultOf(stopping)
        self.executor.let()
        self.keeper.figures.state = ""

    def test_started_again(self) -> None:
        """A service may be started again after it has stopped."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        stopping = here.stopService()
        self.network.settle()
        self.successResultOf(stopping)
        here.startService()
        here.table("t").set("b", gpc0=2)
        self.network.advance(2)
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])


class TroubleTests(StorageTestCase):
    def trouble(self) -> Any:
        return self.keeper.figures.trouble

    def test_locked(self) -> None:
        """Whoever locks the file does not lose a change: it is written afterwards."""
        here = self.node({"t": GPC0})
        self.network.advance(1.1)
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        here.table("t").set("a", gpc0=1)
        self.network.advance(1.1)
        self.assertEqual(self.trouble(), "database is locked")
        self.assertFalse(self.keeper.writes)
        here.table("t").set("b", gpc0=2)
        other.close()
        self.network.advance(2.2)
        self.assertIsNone(self.trouble())
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])
        self.assertEqual(self.keeper.figures.failures, 1)

    def test_cannot_open_yet(self) -> None:
        """A file that cannot be opened is tried again, while the node serves; then what it has is
        loaded beside what has come meanwhile."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        here.table("t").set("b", gpc0=1)
        here.table("t").set("c", gpc0=1)
        self.stop(here)
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        here = self.node({"t": GPC0})
        self.network.advance(1)
        self.assertIsNotNone(here.address())
        self.assertIsNotNone(self.trouble())
        here.table("t").set("b", gpc0=2)
        here.table("t").set("c", gpc0=2)
        here.table("t").remove("c")
        other.close()
        self.network.advance(3)
        self.assertEqual({e.key: e["gpc0"] for e in here.table("t")}, {"a": 1, "b": 2})
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2)])
        self.assertIsNone(self.trouble())

    def test_second_node(self) -> None:
        """A second node at the same file is refused, and goes on without it."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        first = self.keeper
        other = self.node({"t": GPC0}, name="other")
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assertIn("another process keeps its tables in", other.not_ready()[0])
        self.network.part("here", "other")
        other.table("t").set("b", gpc0=1)
        self.network.advance(2)
        self.stop(other)
        self.assertEqual(self.rows(KEPT), [("a", 1)])
        self.assertTrue(first.writes)

    def test_newer_schema(self) -> None:
        """A file of a newer version is refused with a clear word, and stays as it is."""
        self.stop(self.node({"t": GPC0}))
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA user_version = 9")
        connection.execute("UPDATE peerproto_file SET value = 9 WHERE name = 'schema'")
        connection.close()
        here = self.node({"t": GPC0})
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        here.table("t").set("b", gpc0=1)
        self.network.advance(3)
        self.assertIn("schema version 9", str(self.keeper.figures.refused))
        self.stop(here)
        self.assertEqual(self.rows("select count(*) from t"), [(0,)])

    def test_another_program(self) -> None:
        """The file of another program is refused, and stays as it is."""
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        self.node({"t": GPC0})
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assertIn("another program", str(self.keeper.figures.refused))
        self.assertEqual(self.rows("select name from sqlite_master"), [("theirs",)])

    def test_no_folder(self) -> None:
        """A path where no file can be is refused when the lock is taken."""
        self.path = os.path.join(self.path, "no", "x.db")
        self.node({"t": GPC0})
        (problem,) = self.flushLoggedErrors(StorageError)
        self.assertIn("No such file or directory", str(problem.value))

    def test_bad_row(self) -> None:
        """A row that is not as it was written is left out, and goes."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        here.table("t").set("b", gpc0=2)
        self.stop(here)
        connection = sqlite3.connect(self.path)
        connection.execute("UPDATE t SET stored = zeroblob(length(stored)) WHERE key_text = 'a'")
        connection.commit()
        connection.close()
        here = self.node({"t": GPC0})
        self.assertEqual([entry.key for entry in here.table("t")], ["b"])
        self.assertEqual(self.keeper.figures.bad, 1)

    def test_commands_and_metrics(self) -> None:
        """``show storage`` and the metrics say how it stands."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        self.network.advance(1.1)
        (command,) = [one for one in here.parts.commands() if one.words == ("show", "storage")]
        answer = "".join(command.run([]))
        for words in (f"path={self.path}", "state=keeps", "keys=1", "table=t rows=1"):
            self.assertIn(words, answer)
        metrics = {one.name: one.value for one in here.parts.metrics()}
        self.assertEqual(metrics["peerproto_storage_writes"], 1)
        self.assertEqual(metrics["peerproto_storage_rows"], 1)
        self.assertEqual(metrics["peerproto_storage_unwritten_ms"], 0)
        self.assertGreater(metrics["peerproto_storage_bytes"], 4096)
        self.assertTrue(here.parts.status()["storage"]["writes"])


class TakeOverTests(StorageTestCase):
    def test_waits(self) -> None:
        """A process that takes over loads and writes nothing before the old one has let go."""
        here = self.node({"t": GPC0})
        here.table("t").set("a", gpc0=1)
        here.table("t").set("b", gpc0=1)
        self.network.advance(1.1)
        old_executor, self.executor = self.executor, AtOnce()
        self.network.part("here", "new")
        new = self.node({"t": GPC0}, name="new", takes_over=True)
        self.assertIsNotNone(new.address())
        new.table("t").set("b", gpc0=2)
        new.table("t").set("c", gpc0=2)
        new.table("t").set("d", gpc0=2)
        new.table("t").remove("d")
        here.table("t").set("d", gpc0=1)
        self.network.advance(3)
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 1), ("d", 1)])
        self.assertEqual({e.key for e in new.table("t")}, {"b", "c"})
        self.stop(here)
        self.network.advance(2)
        self.assertEqual({e.key: e["gpc0"] for e in new.table("t")}, {"a": 1, "b": 2, "c": 2})
        self.assertEqual(sorted(self.rows(KEPT)), [("a", 1), ("b", 2), ("c", 2)])
        self.assertTrue(old_executor.stopped)

    def test_nobody_had_it(self) -> None:
        """A process that takes over from one without storage loads at once, beside serving."""
        lock: list[Deferred[None]] = []
        here = self.node({"t": GPC0}, takes_over=True)
        self.assertEqual(lock, [])
        self.network.advance(1)
        self.assertTrue(self.keeper.writes)
        self.stop(here)

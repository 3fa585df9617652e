"""Changes that an application makes: lives, many keys at once, events."""

from __future__ import annotations

import contextlib
from typing import Optional

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.batch import Batch
from peerproto.service.observers import Observer
from peerproto.service.service import StickTableService
from peerproto.tables import rates
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableFull
from peerproto.testing import MemoryNetwork
from peerproto.wire.datatypes import Frequency
from peerproto.wire.errors import LocalProtocolError

LINE = (
    "type integer size 1m expire 10s"
    " store gpc0,gpc1,gpt0,server_id,server_key,conn_cnt,bytes_in_cnt,http_req_rate(2s)"
)
ARRAYS = "type integer size 1m expire 10s store gpc(3),gpc_rate(3,2s)"


class WritingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        tables = {
            "t": LINE,
            "arrays": ARRAYS,
            "for-ever": "type integer size 1k store gpc0",
            "full": "type integer size 2 nopurge expire 10s store gpc0",
        }
        self.here = self.network.peer("here", tables)
        self.there = self.network.peer("there", tables)
        self.network.start()
        self.network.advance(6)
        self.table = self.here.table("t")

    def value(self, service: StickTableService, key: int, name: str, table: str = "t") -> object:
        entry = service.table(table).get(key)
        return None if entry is None else entry[name]

    def life(self, service: StickTableService, key: int) -> Optional[int]:
        entry = service.table("t").get(key)
        return None if entry is None else entry.expires_in

    def test_life(self) -> None:
        """An entry lives as long as it was said, here and at peers; another change gives it its
        usual life again."""
        entry = self.table.set(1, gpc0=1, expires_in=3000)
        self.assertEqual(entry.expires_in, 3000)
        self.network.advance(1)
        for service in (self.here, self.there):
            self.assertEqual((self.life(service, 1), self.value(service, 1, "gpc0")), (2000, 1))
        self.network.advance(1.9)
        self.assertEqual([self.life(one, 1) for one in (self.here, self.there)], [100, 100])
        self.table.set(1, gpc1=1)
        self.network.advance(1)
        self.assertEqual([self.life(one, 1) for one in (self.here, self.there)], [9000, 9000])
        self.table.set(1, expires_in=500)
        self.network.advance(0.5)
        self.assertEqual([self.life(one, 1) for one in (self.here, self.there)], [None, None])

    def test_wrong_lives(self) -> None:
        """A life that the table cannot give is refused, and nothing is changed."""
        for life in (0, -1, 10_001, 1.5, True):
            problem = self.assertRaises(
                LocalProtocolError,
                self.table.set,
                1,
                expires_in=life,
            )
            self.assertIn("expected an int from 1 to 10000 (ms)", str(problem))
        problem = self.assertRaises(
            LocalProtocolError, self.here.table("for-ever").set, 1, expires_in=1
        )
        self.assertIn("none: it has no expire", str(problem))
        self.assertEqual((len(self.table), self.here.status().entries), (0, 0))
        self.assertEqual(self.table.set(1, expires_in=10_000).expires_in, 10_000)

    def test_update(self) -> None:
        """Many keys are one change: told at once, and sent together."""
        told: list[Batch] = []

        class Told(Observer):
            def table_changed(self, batch: Batch) -> None:
                told.append(batch)

        self.table.set(1, gpc1=9)
        self.here.add_observer(Told())
        entries = self.table.update(
            {1: {"gpc0": 1}, 2: {"gpc0": 2, "server_key": "s1"}}, expires_in=5000
        )
        self.assertEqual([entry["gpc0"] for entry in entries], [1, 2])
        self.assertEqual([(one.cause, list(one.keys())) for one in told], [(Cause.SET, [1, 2])])
        self.network.advance(1)
        self.assertEqual(self.value(self.there, 1, "gpc1"), 9)
        self.assertEqual(self.value(self.there, 2, "server_key"), "s1")
        self.assertEqual([self.life(self.there, one) for one in (1, 2)], [4000, 4000])
        self.assertEqual(self.table.update({}), [])

    def test_update_of_one_key_twice(self) -> None:
        """Two texts of one key are one entry, with the values of both."""
        self.here.add_table(Declaration.parse("names", "type string len 4 size 1k store gpc0,gpc1"))
        names = self.here.table("names")
        (entry,) = names.update({"abcdX": {"gpc0": 1}, "abcdY": {"gpc1": 2}})
        self.assertEqual(dict(entry), {"gpc0": 1, "gpc1": 2})

    def test_update_of_more_than_a_table_takes(self) -> None:
        """Entries that are trashed by others of the same update leave nothing in the log."""
        self.here.add_table(Declaration.parse("small", "type integer size 2 expire 9s store gpc0"))
        small = self.here.table("small")
        for start in range(0, 500, 10):
            small.update({start + number: {"gpc0": 1} for number in range(10)})
        self.assertLessEqual(len(self.here.node.tables["small"].log), len(small))

    def test_an_observer_that_fills_a_table(self) -> None:
        """What an observer cannot store is not refused to who made the change."""
        full = self.here.table("full")

        class Filling(Observer):
            def table_changed(self, batch: Batch) -> None:
                if list(batch.keys()) == [1]:
                    for number in range(100, 109):
                        with contextlib.suppress(TableFull):
                            full.set(number, gpc0=1)

        self.here.add_observer(Filling())
        self.assertEqual(full.set(1, gpc0=1)["gpc0"], 1)

    def test_update_with_a_mistake(self) -> None:
        """What cannot be stored of one entry leaves all of them as they are."""
        wrong = [{1: {"gpc0": 1}, 2: {"gpc7": 1}}, {1: {"gpc0": 1}, 2: {"gpc0": "x"}}]
        for entries in wrong:
            self.assertRaises(LocalProtocolError, self.table.update, entries)
        self.assertRaises(LocalProtocolError, self.table.update, {1: {}, "x": {}})
        self.assertEqual((len(self.table), self.table.status().update_id), (0, 0))

    def test_update_of_a_full_table(self) -> None:
        """What finds no room is said, and the rest is there, here and at peers."""
        full = self.here.table("full")
        entries = {number: {"gpc0": number} for number in range(1, 5)}
        problem = self.assertRaises(TableFull, full.update, entries)
        self.assertIn("read '2 new entries, with 2 in it', expected room", str(problem))
        self.network.advance(1)
        for service in (self.here, self.there):
            self.assertEqual(
                [self.value(service, one, "gpc0", "full") for one in (1, 2, 3, 4)],
                [1, 2, None, None],
            )
        self.assertRaises(TableFull, full.count, 3, gpc0=1)
        self.assertEqual(full.count(2, gpc0=1)["gpc0"], 3)

    def test_count(self) -> None:
        """Events are added to what there is, in all kinds of counters, and go to peers."""
        self.table.count(1, gpc0=2, conn_cnt=1, bytes_in_cnt=1500, http_req_rate=3)
        entry = self.table.count(1, gpc0=1, bytes_in_cnt=1 << 31, http_req_rate=1)
        self.here.table("arrays").count(1, {"gpc[1]": 2, "gpc_rate[2]": 5})
        self.network.advance(0)
        for one in (entry, self.there.table("t")[1]):
            self.assertEqual(
                [one[name] for name in ("gpc0", "gpc1", "conn_cnt", "bytes_in_cnt")],
                [3, 0, 1, (1 << 31) + 1500],
            )
            self.assertEqual(one["http_req_rate"], 4)
        arrays = self.there.table("arrays")[1]
        self.assertEqual([arrays[f"gpc[{number}]"] for number in range(3)], [0, 2, 0])
        self.assertEqual([arrays[f"gpc_rate[{number}]"] for number in range(3)], [0, 0, 5])

    def test_largest(self) -> None:
        """A counter that is at its largest value stays there."""
        self.table.set(1, gpc0=0xFFFFFFFE, bytes_in_cnt=(1 << 64) - 2, http_req_rate=0xFFFFFFFE)
        for _ in range(3):
            entry = self.table.count(1, gpc0=1, bytes_in_cnt=1, http_req_rate=1)
        self.assertEqual((entry["gpc0"], entry["bytes_in_cnt"]), (0xFFFFFFFF, (1 << 64) - 1))
        self.assertEqual(entry.counter("http_req_rate").current, 0xFFFFFFFF)

    def test_wrong_events(self) -> None:
        """What counts nothing is refused, and nothing is changed."""
        for events in (
            {"server_id": 1},
            {"server_key": 1},
            {"gpc0": -1},
            {"gpc0": 1 << 32},
            {"gpc0": 1.0},
            {"gpc0": True},
            {"nothing": 1},
        ):
            self.assertRaises(LocalProtocolError, self.table.count, 1, {"gpc1": 1, **events})
        self.assertEqual(len(self.table), 0)


class RateTests(SynchronousTestCase):
    @given(
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 50)), min_size=1, max_size=30),
        st.integers(1, 2500),
    )
    def test_as_haproxy_counts(self, steps: list[tuple[int, int]], period: int) -> None:
        """A counter has what happened in its period and in the one before: those begin where the
        ones before them end, unless nothing happened for two of them."""
        now = began = 0
        current = previous = 0
        counter = Frequency(0, 0, 0)
        for wait, events in steps:
            now += wait
            counter = counter._replace(age=counter.age + wait)
            counter = rates.count(counter, period, events)
            if now - began < period:
                current += events
            elif now - began < 2 * period:
                began, previous, current = began + period, current, events
            else:
                began, previous, current = now, 0, events
            self.assertEqual(counter, (now - began, current, previous))

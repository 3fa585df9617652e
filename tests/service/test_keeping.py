"""Records, what brings them back, and keepers."""

from __future__ import annotations

import pickle
from typing import Any, Optional

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerproto.service.keeper import IKeeper
from peerproto.service.service import StickTableService
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.record import Record
from peerproto.testing import MemoryNetwork
from peerproto.wire.datatypes import Frequency
from peerproto.wire.errors import LocalProtocolError

LINE = (
    "type string len 32 size 1m expire 10m"
    " store gpc0,gpt0,server_id,server_key,bytes_in_cnt,http_req_rate(1m),gpc_rate(2,1m)"
)
LONG = "a server key that is longer than what stands in a record"


def said(entries: Any) -> dict[object, tuple[object, ...]]:
    """All that entries say."""
    return {entry.key: (entry.decoded, entry.expires_in) for entry in entries}


class RecordTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.here = self.network.peer("here", {"t": LINE})
        self.network.advance(1000)
        self.table = self.here.table("t")

    def test_of_all(self) -> None:
        """A record has all that the entry has, and says the same at each time."""
        self.table.set("a", gpc0=1, server_key=LONG, server_id=-3, http_req_rate=9)
        self.table.set("b", {"gpc_rate[1]": 7}, server_key="short", expires_in=5000)
        self.network.advance(2)
        self.table.set("c", bytes_in_cnt=2**63)
        records = {record.key: record for record in self.table.records()}
        self.assertEqual(records["a"].arrived, 1_700_001_000_000)
        self.assertEqual(records["b"].expires, 1_700_001_005_000)
        for seconds in (0, 1, 1, 20):
            self.network.advance(seconds)
            at = self.here.time.now()
            now = {
                record.key: (entry.decoded, entry.expires_in)
                for record in records.values()
                if ((entry := record.entry(at)).expires_in or 1) > 0
            }
            self.assertEqual(now, said(self.table))

    def test_of_some(self) -> None:
        """Of keys that have no entry, there is no record."""
        self.table.set("a", gpc0=1)
        self.table.set("b", gpc0=1, expires_in=1000)
        self.network.advance(1)
        self.assertEqual([one.key for one in self.table.records([b"a", b"b", b"c"])], ["a"])

    def test_hashable(self) -> None:
        """Two records of the same are equal, and may stand in a set."""
        self.table.set("a", gpc0=1)
        self.assertEqual(len({*self.table.records(), *self.table.records()}), 1)

    def test_copied(self) -> None:
        """A record can be pickled, and says the same then."""
        self.table.set("a", gpc0=1, server_key=LONG, http_req_rate=9)
        (record,) = self.table.records()
        self.assertEqual(record.entry(self.here.time.now()), self.table["a"])
        copy = pickle.loads(pickle.dumps(record))
        self.assertEqual((copy, hash(copy)), (record, hash(record)))
        self.assertEqual(copy.entry(self.here.time.now()), self.table["a"])

    def restart(self, seconds: float, line: str = LINE) -> StickTableService:
        """Another process, so much later."""
        self.network.stop()
        self.network.advance(seconds)
        return self.network.peer("later", {"t": line})

    def test_restored(self) -> None:
        """In another process, entries are as they would have been in the first."""
        self.table.set("a", gpc0=1, server_key=LONG, http_req_rate=9)
        self.table.set("b", gpc0=1, expires_in=5000)
        self.network.advance(3)
        records = list(self.table.records())
        there = self.restart(1).table("t")
        self.assertEqual(there.restore(records), 2)
        self.assertEqual(said(there), said(self.table))
        self.assertEqual(list(there.records()), records)
        self.network.advance(2)
        self.assertEqual([entry.key for entry in there], ["a"])

    def test_no_change_of_ours(self) -> None:
        """Observers hear that it was restored; for peers it is no change."""
        self.table.set("a", gpc0=1)
        records = list(self.table.records())
        later = self.restart(1)
        feed = later.feed()
        later.table("t").restore(records)
        self.assertEqual(later.table("t").status().update_id, 0)
        self.assertEqual([one.cause for one in feed.take()], [Cause.RESTORED])

    def test_newer_stays(self) -> None:
        """What is here and is newer stays, and so does what was forgotten."""
        self.table.set("a", gpc0=1)
        self.table.set("b", gpc0=1)
        self.table.set("c", gpc0=1)
        self.table.set("d", gpc0=1)
        records = list(self.table.records())
        self.network.advance(1)
        self.table.set("a", gpc0=2)
        self.table.forget("b")
        self.table.remove("c")
        self.assertEqual(self.table.restore(records), 1)
        self.assertEqual({one.key: one["gpc0"] for one in self.table}, {"a": 2, "c": 1, "d": 1})

    def test_latest_of_several(self) -> None:
        """Of several records of a key, the latest counts."""
        records: list[Record] = []
        for value in (1, 2, 3):
            self.table.set("a", gpc0=value)
            records += self.table.records()
            self.network.advance(1)
        there = self.restart(1).table("t")
        self.assertEqual(there.restore([records[2], records[0], records[1]]), 1)
        self.assertEqual(there["a"]["gpc0"], 3)

    def test_another_declaration(self) -> None:
        """Columns that both have are kept, and the shorter life holds."""
        self.table.set("a", {"gpc_rate[1]": 4}, gpc0=1, server_key="s1")
        records = list(self.table.records())
        line = "type string len 32 size 1m expire 1m store conn_cnt,gpc0,gpc_rate(3,1m)"
        there = self.restart(10, line).table("t")
        self.assertEqual(there.restore(records), 1)
        entry = there["a"]
        values = [entry[name] for name in ("conn_cnt", "gpc0", "gpc_rate[1]", "gpc_rate[2]")]
        self.assertEqual((values, entry.expires_in), ([0, 1, 4, 0], 50_000))
        self.network.advance(50)
        self.assertNotIn("a", there)

    def test_other_keys(self) -> None:
        """Records with other keys are refused, and nothing is stored."""
        self.table.set("a", gpc0=1)
        records = list(self.table.records())
        there = self.restart(0, "type string len 16 size 1k store gpc0").table("t")
        problem = self.assertRaises(LocalProtocolError, there.restore, records)
        self.assertIn("differs in key length", str(problem))
        self.assertEqual(len(there), 0)

    def test_step_of_the_wall_clock(self) -> None:
        """What steps the wall clock makes changes nothing in a process; over a restart, nothing if
        it is said by how much it had gone away."""
        self.table.set("a", gpc0=1, http_req_rate=5)
        before = said(self.table)
        for step in (3600.0, -7200.0):
            self.network.step_wall_clock(step)
            records = list(self.table.records())
            self.table.clear()
            self.table.restore(records)
            self.assertEqual(said(self.table), before)
        records, shift = list(self.table.records()), self.here.time.step()
        self.assertEqual(shift, -3_600_000)
        there = self.restart(0).table("t")
        there.restore(records, shift)
        self.assertEqual(said(there), before)

    def test_older_than_the_clock(self) -> None:
        """A record may be older than this process's clock is."""
        self.table.set("a", gpc0=1, http_req_rate=5)
        self.table.set("b", gpc0=1)
        self.network.advance(20)
        records, before = list(self.table.records()), said(self.table)
        younger = MemoryNetwork()
        younger.step_wall_clock(self.network.wall_clock() - younger.wall_clock())
        with younger:
            there = younger.peer("later", {"t": LINE}).table("t")
            there.restore(records)
            self.assertEqual(said(there), before)
            younger.advance(580)
            self.assertEqual(list(there), [])

    def test_older_records_in_any_order(self) -> None:
        """Of records that are all older than the clock, the latest counts."""
        records: list[Record] = []
        for value in (1, 2):
            self.table.set("a", gpc0=value)
            records += self.table.records()
            self.network.advance(3)
        younger = MemoryNetwork()
        younger.step_wall_clock(self.network.wall_clock() - younger.wall_clock())
        with younger:
            there = younger.peer("later", {"t": LINE}).table("t")
            self.assertEqual([there.restore([record]) for record in records], [1, 1])
            self.assertEqual(there["a"]["gpc0"], 2)
            self.assertEqual(list(there.records()), records[1:])

    def test_ages_of_other_columns(self) -> None:
        """A rate of which the record says nothing is as old as it was."""
        there = self.network.peer("there", {"t": LINE}).table("t")
        there.set("a", http_req_rate=7)
        self.network.advance(5)
        with MemoryNetwork() as other:
            other.clock.advance(1005)
            narrow = other.peer("x", {"t": "type string len 32 size 1k expire 10m store gpc0"})
            narrow.table("t").set("a", gpc0=9)
            records = list(narrow.table("t").records())
        self.network.advance(20)
        before = there["a"].counter("http_req_rate")
        there.restore(records)
        self.assertEqual(there["a"]["gpc0"], 9)
        self.assertEqual(there["a"].counter("http_req_rate"), before)

    def test_nothing_makes_room(self) -> None:
        """What is there stays, however full the table is; of the rest, what lives longest finds
        room, and is counted."""
        for number in range(8):
            self.table.set(f"old{number}", gpc0=1, expires_in=100_000 + number)
        records = list(self.table.records())
        there = self.restart(1, LINE.replace("size 1m", "size 5")).table("t")
        there.set("new", gpc0=1)
        self.assertEqual(there.restore(records), 4)
        self.assertEqual({entry.key for entry in there}, {"new", "old4", "old5", "old6", "old7"})

    def test_full_table(self) -> None:
        """A table that is full takes as many as it has room for, and says how many."""
        for number in range(10):
            self.table.set(str(number), gpc0=1)
        records = list(self.table.records())
        there = self.restart(0, LINE.replace("size 1m", "size 4 nopurge")).table("t")
        self.assertEqual((there.restore(records), len(there)), (4, 4))

    @given(st.data())
    @settings(max_examples=80, deadline=None)
    def test_any(self, data: st.DataObject) -> None:
        """Whatever was set when, with whatever life: restored over a restart and steps of the wall
        clock, every entry has its values, ages and life."""
        network = MemoryNetwork()
        seconds = st.integers(0, 30).map(lambda one: one / 8)
        with network:
            table = network.peer("here", {"t": LINE}).table("t")
            for _ in range(data.draw(st.integers(0, 12))):
                values = data.draw(
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "gpc0": st.integers(0, 2**32 - 1),
                            "server_id": st.integers(-(2**31), 2**31 - 1),
                            "server_key": st.sampled_from([None, "s1", LONG, "\udcff\udcfe12345"]),
                            "bytes_in_cnt": st.integers(0, 2**64 - 1),
                            "http_req_rate": st.builds(
                                Frequency, st.integers(0, 10**5), st.integers(0, 9), st.just(3)
                            ),
                        },
                    )
                )
                life = data.draw(st.none() | st.integers(1, 600_000))
                key = data.draw(st.sampled_from(["a", "b", "c", "d"]))
                table.set(key, values, expires_in=life)
                network.advance(data.draw(seconds))
                network.step_wall_clock(data.draw(st.sampled_from([0, 0, 3600, -3600])))
            records, shift = list(table.records()), network.services["here"].time.step()
            network.advance(data.draw(seconds))
            other = MemoryNetwork()
            if data.draw(st.booleans()):
                other.clock.advance(10_000)
            other.step_wall_clock(network.wall_clock() - other.wall_clock())
            with other:
                there = other.peer("later", {"t": LINE}).table("t")
                there.restore(records, shift)
                self.assertEqual(said(there), said(table))


@implementer(IKeeper)
class Shelf:
    """A keeper that keeps records in memory."""

    def __init__(self, records: Optional[list[Record]] = None, waits: bool = False) -> None:
        self.records = records or []
        self.waits = Deferred[None]() if waits else None
        self.service: Optional[StickTableService] = None
        self.stopped_with: list[Entry] = []
        self.log: list[str] = []

    def load(self, service: StickTableService) -> Optional[Deferred[None]]:
        self.service = service
        self.log.append("load")
        if self.waits is None:
            self._fill()
            return None
        return self.waits.addCallback(lambda _: self._fill())

    def _fill(self) -> None:
        assert self.service is not None
        self.service.table("t").restore(self.records)

    def stop(self) -> None:
        assert self.service is not None
        self.log.append(f"stop with {sum(one.connected for one in self.service.peers.values())}")
        self.records = list(self.service.table("t").records())


class KeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)

    def service(self, keeper: Shelf, name: str = "here") -> StickTableService:
        others = list(self.network.services)
        service = StickTableService(
            name,
            {other: self.network.client(other, name) for other in others},
            {"t": LINE},
            self.network.server(name),
            keeper=keeper,
            reactor=self.network.clock,
            chance=self.network.chance,
            wall_clock=self.network.wall_clock,
        )
        return self.network.add(service)

    def test_a_whole_fleet(self) -> None:
        """What one process kept, the next one has and teaches to a peer that is empty."""
        shelf = Shelf()
        service = self.service(shelf)
        self.network.start()
        service.table("t").set("a", gpc0=7)
        self.successResultOf(service.stopService())
        del self.network.services["here"]
        again = self.service(shelf)
        other = self.network.peer("other", {"t": LINE})
        self.network.start()
        self.network.advance(6)
        self.assertEqual(again.table("t")["a"]["gpc0"], 7)
        self.assertEqual(other.table("t")["a"]["gpc0"], 7)
        self.assertEqual(shelf.log, ["load", "stop with 0", "load"])

    def test_sessions_first(self) -> None:
        """All sessions are over when the keeper is stopped, and the service has stopped when it
        is."""
        shelf = Shelf()
        self.network.peer("other", {"t": LINE})
        service = self.service(shelf)
        self.network.start()
        self.network.advance(6)
        self.assertTrue(service.peers["other"].connected)
        stopping = service.stopService()
        self.assertEqual(shelf.log, ["load"])
        self.network.settle()
        self.successResultOf(stopping)
        self.assertEqual(shelf.log, ["load", "stop with 0"])

    def test_loads_first(self) -> None:
        """As long as it loads, nobody can connect, and nobody is called."""
        shelf = Shelf(waits=True)
        self.network.peer("other", {"t": LINE})
        service = self.service(shelf)
        self.network.start()
        listening = service.when_listening()
        self.network.advance(10)
        self.assertFalse(service.peers["other"].connected)
        self.assertNoResult(listening)
        self.assertFalse(service.status().up_to_date)
        assert shelf.waits is not None
        shelf.waits.callback(None)
        self.assertIsNotNone(self.successResultOf(listening))
        self.network.advance(10)
        self.assertTrue(service.peers["other"].connected)
        self.assertTrue(service.status().up_to_date)

    def test_stopped_while_it_loads(self) -> None:
        """The service may stop before: loading is cancelled, and nothing listens after it."""
        shelf = Shelf(waits=True)
        service = self.service(shelf)
        self.network.start()
        listening = service.when_listening()
        stopping = service.stopService()
        self.network.settle()
        self.successResultOf(stopping)
        self.failureResultOf(listening, CancelledError)
        assert shelf.waits is not None
        self.assertTrue(shelf.waits.called)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])
        self.assertIsNone(service.address())

    def test_fails(self) -> None:
        """What fails is logged, and the service goes on with what it has."""
        shelf = Shelf(waits=True)
        service = self.service(shelf)
        self.network.start()
        assert shelf.waits is not None
        shelf.waits.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.network.advance(10)
        self.assertTrue(service.status().up_to_date)

    def test_not_ready(self) -> None:
        """A service that does not run, is loading, or could not be filled is not ready, and not
        up to date before it was."""
        shelf = Shelf(waits=True)
        service = self.service(shelf)
        self.assertEqual(service.not_ready(), ["it does not run"])
        self.network.start()
        self.assertEqual(service.not_ready(), ["its tables are being filled"])
        assert shelf.waits is not None
        shelf.waits.errback(ZeroDivisionError("why"))
        self.flushLoggedErrors(ZeroDivisionError)
        self.network.advance(10)
        self.assertEqual(service.not_ready(), ["its tables could not be filled: why"])
        self.network.stop()
        shelf.waits = Deferred()
        self.network.start()
        self.assertFalse(service.status().up_to_date)
        waiting = service.when_up_to_date()
        self.assertNoResult(waiting)
        self.network.stop()
        self.failureResultOf(waiting, CancelledError)

    def test_stop_without_load(self) -> None:
        """A keeper hears of the end once for each load: not if it was never asked to load."""
        shelf = Shelf()
        service = self.service(shelf)
        self.successResultOf(service.stopService())
        self.assertEqual(shelf.log, [])

    def test_slow_to_cancel(self) -> None:
        """A load of a start before does not begin anything."""
        slow: list[Deferred[None]] = []

        class Slow(Shelf):
            def load(self, service: StickTableService) -> Deferred[None]:
                self.service = service
                self.log.append("load")
                slow.append(Deferred())
                return Deferred.fromCoroutine(self.wait(slow[-1]))

            async def wait(self, loaded: Deferred[None]) -> None:
                try:
                    await Deferred() if len(slow) == 1 else None
                except CancelledError:
                    pass
                await loaded

        shelf = Slow()
        service = self.service(shelf)
        self.network.start()
        service.stopService()
        self.network.settle()
        service.startService()
        self.assertEqual(shelf.log, ["load", "stop with 0", "load"])
        slow[0].callback(None)
        self.network.advance(10)
        self.assertIsNone(service.address())
        slow[1].callback(None)
        self.network.advance(10)
        self.assertIsNotNone(service.address())
        self.assertTrue(service.status().up_to_date)

    def test_stops_softly_while_it_loads(self) -> None:
        """A process that hands over while it loads does not listen afterwards."""
        shelf = Shelf(waits=True)
        service = self.service(shelf)
        self.network.start()
        self.assertFalse(self.successResultOf(service.stop_softly()))
        assert shelf.waits is not None
        shelf.waits.callback(None)
        self.network.advance(5)
        self.assertIsNone(service.address())

    def test_cannot_listen_without_a_keeper(self) -> None:
        """Who waits from before the start is told when listening fails at once."""

        class Taken:
            def listen(self, _: object) -> Deferred[Any]:
                raise CannotListenError("127.0.0.1", 1, OSError())

        taken: Any = Taken()
        service = StickTableService("here", {}, {"t": LINE}, taken, reactor=self.network.clock)
        listening = service.when_listening()
        self.assertRaises(CannotListenError, service.startService)
        self.failureResultOf(listening, CannotListenError)

    def test_cannot_listen(self) -> None:
        """If listening fails after that, who waits for it is told."""

        class Taken:
            def listen(self, _: object) -> Deferred[Any]:
                raise CannotListenError("127.0.0.1", 1, OSError())

        taken: Any = Taken()
        service = StickTableService(
            "here",
            {},
            {"t": LINE},
            taken,
            keeper=Shelf(),
            reactor=self.network.clock,
            wall_clock=self.network.wall_clock,
        )
        listening = service.when_listening()
        service.startService()
        self.failureResultOf(listening, CannotListenError)
        self.failureResultOf(service.when_listening(), CannotListenError)
        self.assertIn("nobody can connect", service.not_ready()[0])
        self.assertEqual(len(self.flushLoggedErrors(CannotListenError)), 1)
        service.stopService()

    def test_declared(self) -> None:
        """A keeper may declare tables that it kept, before peers can."""

        class Adopted(Shelf):
            def _fill(self) -> None:
                assert self.service is not None
                self.service.add_table(Declaration.parse("kept", "type ip size 1k store gpc0"))

        shelf = Adopted()
        service = self.service(shelf)
        self.network.start()
        self.assertIn("kept", [table.name for table in service.tables])
        self.network.advance(1)


class DeliveredTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.here = self.network.peer("here", {"t": LINE, "own": LINE})
        self.there = self.network.peer("there", {"t": LINE})
        self.network.start()
        self.network.advance(6)
        self.table = self.here.table("t")

    def test_delivered(self) -> None:
        """It fires when the peer has acked, and not before."""
        self.successResultOf(self.here.when_delivered())
        self.table.set("a", gpc0=1)
        delivered = self.here.when_delivered()
        self.assertNoResult(delivered)
        (connection,) = self.network.between("here", "there")
        connection.stall("here")
        self.network.advance(1)
        self.assertNoResult(delivered)
        connection.flow("here")
        self.network.advance(1)
        self.successResultOf(delivered)
        self.assertIn("a", self.there.table("t"))

    def test_away(self) -> None:
        """A peer that is away is waited for, whatever is set meanwhile."""
        self.network.part("here", "there")
        self.network.advance(1)
        self.table.set("a", gpc0=1)
        delivered = self.here.when_delivered(["there"], ["t"])
        self.network.advance(60)
        self.table.set("b", gpc0=1)
        self.assertNoResult(delivered)
        self.network.heal("here", "there")
        self.network.advance(5)
        self.successResultOf(delivered)

    def test_changed_again(self) -> None:
        """An entry that is changed once more is not delivered before its values are, wherever it
        stands in the log by then."""
        (connection,) = self.network.between("here", "there")
        connection.stall("here")
        for key in ("a", "b"):
            self.table.set(key, gpc0=1)
        delivered = self.here.when_delivered()
        self.table.set("a", gpt0=5)
        self.table.count("b", gpc0=1)
        self.assertNoResult(delivered)
        self.network.pace = 20
        connection.flow("here")
        while not delivered.called:
            self.network.advance(0.001)
            self.table.count("b", gpc0=1)
        self.assertEqual(len(self.there.table("t")), 2)
        self.assertGreaterEqual(self.there.table("t")["b"].number("gpc0"), 1)
        self.successResultOf(delivered)

    def test_not_taught_any_more(self) -> None:
        """What is not sent any more is not waited for."""
        self.network.part("here", "there")
        self.network.advance(1)
        self.table.set("a", gpc0=1)
        delivered = self.here.when_delivered(tables=["t"])
        self.assertNoResult(delivered)
        self.here.share("t", teach=False)
        self.successResultOf(delivered)

    def test_no_tables(self) -> None:
        """Of no tables, all is delivered."""
        self.table.set("a", gpc0=1)
        self.successResultOf(self.here.when_delivered(tables=[]))

    def test_waits_again(self) -> None:
        """Who waits again when told that the service stops does not keep it from stopping."""
        again = []

        def wait_again(_: object) -> None:
            again.append(self.here.when_in_step("there").addErrback(wait_again))

        self.network.part("here", "there")
        self.network.advance(1)
        self.here.when_in_step("there").addErrback(wait_again)
        self.here.stopService()
        self.assertEqual(len(again), 1)

    def test_not_had(self) -> None:
        """Of a table that the peer has not got, nothing is said."""
        self.here.table("own").set("a", gpc0=1)
        self.table.set("a", gpc0=1)
        all_of_it, of_one = self.here.when_delivered(), self.here.when_delivered(tables=["t"])
        self.network.advance(1)
        self.successResultOf(of_one)
        self.assertNoResult(all_of_it)
        self.here.remove_table("own")
        self.table.set("b", gpc0=1)
        self.network.advance(1)
        self.successResultOf(all_of_it)

    def test_gone_meanwhile(self) -> None:
        """Changes of entries that are gone do not count, nor do peers that are removed."""
        self.network.part("here", "there")
        self.network.advance(1)
        self.table.set("a", gpc0=1)
        first, second = self.here.when_delivered(), self.here.when_delivered()
        self.table.remove("a")
        self.successResultOf(first)
        self.successResultOf(second)
        self.table.set("a", gpc0=1)
        delivered = self.here.when_delivered()
        self.here.remove_peer("there")
        self.successResultOf(delivered)

    def test_stop(self) -> None:
        """It fails when the service stops, and may be cancelled before."""
        self.network.part("here", "there")
        self.network.advance(1)
        self.table.set("a", gpc0=1)
        delivered, other = self.here.when_delivered(), self.here.when_delivered()
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.here.stopService()
        self.failureResultOf(delivered, CancelledError)

    def test_unknown(self) -> None:
        """Names that there are not are refused."""
        self.assertRaises(KeyError, self.here.when_delivered, ["nobody"])
        self.assertRaises(KeyError, self.here.when_delivered, None, ["none"])

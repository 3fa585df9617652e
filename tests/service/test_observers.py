from __future__ import annotations

from hypothesis.stateful import run_state_machine_as_test
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.batch import Batch
from peerproto.service.observers import Observer
from peerproto.service.peer import Peer
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.rowstore import SLICE
from peerproto.testing import MemoryNetwork
from peerproto.testing.network import MemoryClock
from tests.service.mirrors import Mirrors, key
from tests.support import begin, take

LINE = "type integer size 1m expire 10m store gpc0"


class OrderTests(SynchronousTestCase):
    def test_mirror(self) -> None:
        """Whoever follows what is told has what the tables have; nothing goes that is not there."""
        run_state_machine_as_test(Mirrors)

    def test_tables_that_go(self) -> None:
        """A mirror of each table is empty once that is gone, whatever stands in its place: it
        was removed, declared with other keys, or begun anew by its peer."""

        class Mirror(Observer):
            def table_changed(self, batch: Batch) -> None:
                mirror = mirrors.setdefault(batch.table, set())
                if batch.cause in (Cause.LEARNT, Cause.SET):
                    mirror |= set(batch.raw_keys)
                    entries.append(len(list(batch.entries())))
                else:
                    mirror -= set(batch.raw_keys)
                    entries.append(-len(list(batch.entries())))

        mirrors: dict[StickTable, set[bytes]] = {}
        entries: list[int] = []
        clock = MemoryClock()
        integers = "type integer size 1m store gpc0"
        service = StickTableService(
            "us", tables={"a": integers, "b": integers}, observers=[Mirror()], reactor=clock
        )
        service.startService()
        session = begin(service.node)
        adopted = Declaration.parse("c", integers).definition(1)
        service.changed(take(service.node, session, adopted.encode()))
        before = [service.table(name) for name in "abc"]
        many = 3 * SLICE
        for table in before:
            store = service.node.tables[table.name]
            service.changed(store.store([(key(one), 5000, b"\x01") for one in range(many)], 0))
        service.remove_table("a")
        service.declare_table(Declaration.parse("b", "type string size 1k store gpc0"))
        other = Declaration.parse("c", "type string size 1k store gpc0").definition(1)
        service.changed(take(service.node, session, other.encode()))
        for name in "bc":
            service.table(name).set("x")
        for _ in range(20):
            clock.advance(0.2)
        self.assertEqual([len(mirrors[table]) for table in before], [0, 0, 0])
        self.assertEqual([len(mirrors[service.table(name)]) for name in "bc"], [1, 1])
        self.assertEqual([table.shared for table in before], [False] * 3)
        self.assertEqual(set(entries), {many, 1, 0})
        service.stopService()

    def test_small_tables_that_go(self) -> None:
        """What a small table had is told at once, before its name has entries anew."""
        told: list[tuple[Cause, list[object]]] = []

        class Told(Observer):
            def table_changed(self, batch: Batch) -> None:
                told.append((batch.cause, list(batch.keys())))

        service = StickTableService(
            "us", tables={"t": "type integer size 1k"}, observers=[Told()], reactor=Clock()
        )
        service.table("t").set(1)
        service.declare_table(Declaration.parse("t", "type string size 1k"))
        service.table("t").set("x")
        service.remove_table("t")
        self.assertEqual(
            told,
            [
                (Cause.SET, [1]),
                (Cause.CLEARED, [1]),
                (Cause.SET, ["x"]),
                (Cause.CLEARED, ["x"]),
            ],
        )

    def test_entries(self) -> None:
        """The entries of a batch are those that are there, each once, as they are now."""
        told: list[Batch] = []

        class Told(Observer):
            def table_changed(self, batch: Batch) -> None:
                told.append(batch)

        clock = Clock()
        line = "type integer size 9 expire 10s store gpc0"
        service = StickTableService("us", tables={"t": line}, observers=[Told()], reactor=clock)
        table = service.table("t")
        store = service.node.tables["t"]
        updates = [(key(one), 5000, b"\x01") for one in (1, 2, 3, 2)]
        service.changed(store.store([*updates, (key(4), 0, b"\x01")], service.now()))
        table.remove(1)
        batch = told[0]
        self.assertIs(batch.table, table)
        self.assertEqual([entry.key for entry in batch.entries()], [2, 3])
        self.assertEqual((list(batch.keys()), len(batch)), ([1, 2, 3, 2, 4], 5))
        clock.advance(5)
        self.assertEqual(list(batch.entries()), [])


class HappeningsTests(SynchronousTestCase):
    """What is told of tables, peers and the resync."""

    def setUp(self) -> None:
        self.told: list[tuple[object, ...]] = []
        test = self

        class Everything(Observer):
            def table_changed(self, batch: Batch) -> None:
                test.told.append((batch.cause, batch.table, list(batch.keys())))

            def table_added(self, table: StickTable) -> None:
                test.told.append(("added", table))

            def table_redeclared(self, table: StickTable, before: Declaration) -> None:
                test.told.append(("redeclared", table, before))

            def table_removed(self, table: StickTable) -> None:
                test.told.append(("removed", table))

            def peer_added(self, peer: Peer) -> None:
                test.told.append(("added", peer))

            def peer_removed(self, peer: Peer) -> None:
                test.told.append(("removed", peer))

            def peer_connected(self, peer: Peer) -> None:
                test.told.append(("connected", peer))

            def peer_disconnected(self, peer: Peer, why: str) -> None:
                test.told.append(("disconnected", peer, why))

            def resync_moved(self, state: str, reason: str) -> None:
                test.told.append((state, reason))

        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.here = self.network.peer("here", {"t": LINE}, learn_tables=True)
        self.here.add_observer(Everything())

    def taken(self) -> list[tuple[object, ...]]:
        told, self.told = self.told, []
        return told

    def test_tables(self) -> None:
        """Tables are told when they come, before what happens in them; when they are declared
        anew; and when they go, before what they had is cleared."""
        before = self.here.table("t").declaration
        table = self.here.table("t")
        added = self.here.add_table(Declaration.parse("u", LINE))
        added.set(1)
        self.here.declare_table(Declaration.parse("t", f"{LINE},gpc1"))
        self.here.declare_table(Declaration.parse("t", f"{LINE},gpc1"))
        self.here.remove_table("u")
        self.here.declare_table(Declaration.parse("t", "type string size 1k"))
        self.assertEqual(
            self.taken(),
            [
                ("added", added),
                (Cause.SET, added, [1]),
                ("redeclared", table, before),
                ("removed", added),
                (Cause.CLEARED, added, [1]),
                ("removed", table),
                ("added", self.here.table("t")),
            ],
        )

    def test_adopted_tables(self) -> None:
        """A table that is adopted, follows its peer or begins anew on its word is told before
        what the peer says in it."""
        there = self.network.peer("there", {"adopted": LINE})
        there.table("adopted").set(1, gpc0=1)
        self.network.start()
        self.network.advance(6)
        table = self.here.table("adopted")
        first, *others = [one for one in self.taken() if table in one]
        self.assertEqual(first, ("added", table))
        self.assertEqual({one[0] for one in others}, {Cause.LEARNT})
        before = table.declaration
        there.declare_table(Declaration.parse("adopted", f"{LINE},gpc1"))
        there.table("adopted").set(1, gpc1=1)
        self.network.advance(6)
        told = self.taken()
        self.assertEqual(told[0], ("redeclared", table, before))
        there.declare_table(Declaration.parse("adopted", "type string size 1k store gpc0"))
        there.table("adopted").set("x", gpc0=1)
        self.network.advance(6)
        anew = self.here.table("adopted")
        told = [one for one in self.taken() if anew in one or table in one]
        self.assertEqual(told[:2], [("removed", table), ("added", anew)])
        self.assertIn((Cause.CLEARED, table, [1]), told)
        self.assertIn((Cause.LEARNT, anew), [one[:2] for one in told])

    def test_peers(self) -> None:
        """Peers are told when they come, when a session begins and ends, and when they go."""
        self.network.peer("there", {"t": LINE})
        self.network.start()
        self.network.advance(6)
        peer = self.here.peers["there"]
        told = [one for one in self.taken() if peer in one]
        self.assertEqual(told, [("added", peer), ("connected", peer)])
        self.network.part("here", "there")
        self.network.advance(6)
        told = [one for one in self.taken() if peer in one]
        self.assertEqual([one[0] for one in told], ["disconnected"])
        self.assertEqual(told[0][2], peer.trouble and told[0][2])
        self.network.heal("here", "there")
        self.network.advance(6)
        self.here.remove_peer("there")
        told = [one for one in self.taken() if peer in one]
        self.assertEqual(
            told,
            [
                ("connected", peer),
                ("disconnected", peer, "it is no peer of ours any more"),
                ("removed", peer),
            ],
        )

    def test_resync(self) -> None:
        """Each move of the resync is told once, with its reason."""
        self.here.startService()
        self.network.advance(6)
        self.assertEqual(
            self.taken(),
            [
                ("waiting", "started"),
                ("up_to_date", "no peer to learn from within 5 s"),
            ],
        )

    def test_observer_that_fails(self) -> None:
        """What one observer raises is logged with what it was told, and hurts no other."""

        class Failing(Observer):
            def table_added(self, table: StickTable) -> None:
                raise ZeroDivisionError

        self.here.dispatcher.observers.insert(0, Failing())
        added = self.here.add_table(Declaration.parse("u", LINE))
        self.assertEqual(self.taken(), [("added", added)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

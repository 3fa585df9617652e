"""`StickTable.forget`: what is gone here, and what peers have and say of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.service import StickTableService
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork

LINE = "type integer size 1m expire 1m store gpc0,gpc1,server_key,http_req_rate(2s)"


class ForgettingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        tables = {"t": LINE, "for-ever": "type integer size 3 store gpc0"}
        self.here = self.network.peer("b", tables)
        self.greater = self.network.peer("c", tables)
        self.lesser = self.network.peer("a", tables)
        self.others = [self.lesser, self.greater]
        self.network.start()
        self.network.advance(6)
        self.table = self.here.table("t")

    def gpc0(self, table: str = "t") -> list[object]:
        """What each node says of key 1, in the order of names."""
        entries = [one.table(table).get(1) for one in (self.lesser, self.here, self.greater)]
        return [None if entry is None else entry["gpc0"] for entry in entries]

    def in_step(self) -> bool:
        return not any(
            peer.out_of_step()
            for service in (self.here, *self.others)
            for peer in service.peers.values()
        )

    def test_gone(self) -> None:
        """An entry is gone here at once and at peers a moment later; observers hear why."""
        feed = self.here.feed()
        self.table.set(1, gpc0=1, server_key="s1")
        self.network.advance(1)
        self.assertEqual(self.gpc0(), [1, 1, 1])
        self.assertTrue(self.table.forget(1))
        self.assertNotIn(1, self.table)
        self.assertFalse(self.table.forget(1))
        self.network.advance(0.01)
        self.assertEqual(self.gpc0(), [None, None, None])
        self.assertTrue(self.in_step())
        self.assertEqual([one.cause for one in feed.take()], [Cause.FORGOTTEN])

    def test_zeros(self) -> None:
        """Peers store zeros in all columns before the entry goes there."""
        self.table.set(1, gpc0=1, gpc1=2, server_key="s1", http_req_rate=3)
        self.network.advance(0)
        self.table.forget(1)
        self.network.settle()
        entry = self.greater.table("t").get(1)
        assert entry is not None
        self.assertEqual(
            [entry[name] for name in ("gpc0", "gpc1", "server_key", "http_req_rate")],
            [0, 0, None, 0],
        )
        self.assertLessEqual(entry.expires_in or 0, 1)

    def test_peer_that_was_away(self) -> None:
        """A peer that was away hears of it when it comes, and its lesson brings nothing back."""
        self.table.set(1, gpc0=1)
        self.network.advance(1)
        self.network.part("b", "c")
        self.network.part("a", "c")
        self.table.forget(1)
        self.network.advance(3)
        self.assertEqual(self.gpc0(), [None, None, 1])
        self.network.heal("b", "c")
        self.network.advance(5)
        self.assertEqual(self.gpc0(), [None, None, None])

    def test_falls(self) -> None:
        """A tombstone falls when the entry would have expired: peers hear no more of it."""
        self.table.set(1, gpc0=1, expires_in=3000)
        self.network.advance(1)
        self.table.forget(1)
        self.assertEqual(self.table.status().tombstones, 1)
        self.network.advance(1.5)
        self.assertEqual(self.table.status().tombstones, 1)
        self.network.advance(1)
        self.assertEqual(self.table.status().tombstones, 0)
        self.assertTrue(self.in_step())

    def test_set_again(self) -> None:
        """What is set after that is new; peers that were away get no older value with it."""
        self.table.set(1, gpc0=1, gpc1=1)
        self.network.advance(1)
        self.network.part("b", "c")
        self.network.part("a", "c")
        self.table.forget(1)
        self.table.set(1, gpc0=5)
        self.network.advance(1)
        self.assertEqual(self.gpc0(), [5, 5, 1])
        self.network.heal("b", "c")
        self.network.advance(5)
        self.assertEqual(self.gpc0(), [5, 5, 5])
        self.assertEqual(self.greater.table("t")[1]["gpc1"], 0)

    def test_counted_after(self) -> None:
        """What a peer counts after it was told makes the entry anew, everywhere."""
        self.table.set(1, gpc0=7)
        self.network.advance(1)
        self.table.forget(1)
        self.network.advance(1)
        self.greater.table("t").count(1, gpc0=1)
        self.network.advance(1)
        self.assertEqual(self.gpc0(), [1, 1, 1])
        self.assertEqual(self.table.status().tombstones, 0)

    def test_lessons(self) -> None:
        """Peers that have it from others who were not told do not bring it back with a lesson, and
        are told once more."""
        self.table.set(1, gpc0=7)
        self.network.advance(1)
        self.network.part("b", "c")
        self.table.forget(1)
        self.network.advance(1)
        # The one that was told loses its table, and learns from the one that was not.
        self.network.part("a", "b")
        self.lesser.remove_table("t")
        self.lesser.add_table(self.table.declaration)
        self.network.advance(2)
        self.assertEqual(self.gpc0(), [7, None, 7])
        self.network.heal("a", "b")
        self.network.advance(6)
        self.here.add_table(Declaration.parse("more", "type ip size 1"))
        self.network.advance(2)
        self.assertEqual(self.gpc0(), [None, None, 7])

    def test_pupil(self) -> None:
        """A peer that has it from others hears of it in a lesson, too."""
        self.table.set(1, gpc0=7)
        self.network.advance(1)
        self.network.part("b", "c")
        self.table.forget(1)
        self.network.advance(1)
        self.lesser.table("t").remove(1)
        # The one that was told has it again.
        self.network.part("a", "b")
        self.lesser.add_table(Declaration.parse("more", "type ip size 1"))
        self.greater.add_table(Declaration.parse("more", "type ip size 1"))
        self.network.advance(2)
        self.assertEqual(self.gpc0(), [7, None, 7])
        self.network.part("a", "c")
        self.network.heal("a", "b")
        self.network.advance(6)
        self.lesser.add_table(Declaration.parse("again", "type ip size 1"))
        self.network.advance(2)
        self.assertEqual(self.gpc0(), [None, None, 7])

    def test_tie(self) -> None:
        """Of two that change and forget the same at once, the one with the lesser name wins, and
        all agree."""
        self.table.set(1, gpc0=7)
        self.network.advance(1)
        for other, after in ((self.greater, None), (self.lesser, 8)):
            self.table.set(1, gpc0=7)
            self.network.advance(1)
            self.table.forget(1)
            other.table("t").count(1, gpc0=1)
            self.network.advance(2)
            self.assertEqual(self.gpc0(), [after] * 3)
            self.assertTrue(self.in_step())

    def test_declared_anew(self) -> None:
        """A tombstone stands no longer than entries live, as the table is declared by then."""
        table = self.here.table("for-ever")
        table.forget(1)
        line = "type integer size 3 expire 10s store gpc0"
        self.here.declare_table(Declaration.parse("for-ever", line))
        self.network.advance(9)
        self.assertEqual(table.status().tombstones, 1)
        self.network.advance(2)
        self.assertEqual(table.status().tombstones, 0)

    def test_two_forget_it(self) -> None:
        """Two that forget the same, one after the other, both go on telling of it."""
        self.table.set(1, gpc0=7)
        self.network.advance(1)
        self.network.part("b", "c")
        self.network.part("a", "c")
        self.table.forget(1)
        self.network.advance(1)
        self.lesser.table("t").forget(1)
        self.network.advance(1)
        stones = [one.table("t").status().tombstones for one in (self.here, self.lesser)]
        self.assertEqual(stones, [1, 1])
        self.network.heal("b", "c")
        self.network.advance(6)
        self.assertEqual(self.gpc0(), [None, None, None])

    def test_never_known(self) -> None:
        """An entry that is not here yet can be forgotten: peers are told all the same."""
        self.network.part("b", "c")
        self.network.part("a", "c")
        self.greater.table("t").set(1, gpc0=1)
        self.assertFalse(self.table.forget(1))
        self.network.heal("b", "c")
        self.network.advance(0)
        self.network.heal("a", "c")
        self.network.advance(6)
        self.assertEqual(self.gpc0(), [None, None, None])

    def test_table_without_expiry(self) -> None:
        """In a table without expiry, peers keep an entry of zeros; so many are told of as ever."""
        table = self.here.table("for-ever")
        table.set(1, gpc0=1)
        self.network.advance(1)
        table.forget(1)
        self.network.advance(1)
        self.assertEqual(self.gpc0("for-ever"), [0, None, 0])
        self.network.advance(3600)
        self.assertEqual(table.status().tombstones, 1)
        table.clear()
        self.assertEqual(table.status().tombstones, 0)


@given(st.data())
@settings(max_examples=60, deadline=None)
def run_in_any_order(case: SynchronousTestCase, data: st.DataObject) -> None:
    """Partings, meetings, lessons and restarts in any order: nobody brings back what is gone."""
    keys = st.integers(1, 3)
    network = MemoryNetwork(data.draw(st.integers(0, 9)))
    names = data.draw(st.permutations(["a", "b", "c"]))
    tables = {"t": "type integer size 1m expire 10m store gpc0"}
    services: dict[str, StickTableService] = {}
    with network:
        for name in names:
            services[name] = network.peer(name, tables)
        network.start()
        network.advance(6)
        here = services[data.draw(st.sampled_from(names))]
        others = [one for one in names if one != here.localpeer]
        for key in range(1, 4):
            services[data.draw(st.sampled_from(names))].table("t").set(key, gpc0=key)
            network.advance(1)
        gone: set[int] = set()
        steps = ["forget", "forget", "part", "heal", "cut", "lose", "learn"]
        for number in range(data.draw(st.integers(1, 12))):
            step = data.draw(st.sampled_from(steps))
            other = data.draw(st.sampled_from(others))
            if step == "forget":
                key = data.draw(keys)
                here.table("t").forget(key)
                gone.add(key)
            elif step == "part":
                network.part(here.localpeer, other)
            elif step == "heal":
                network.heal(here.localpeer, other)
            elif step == "cut":
                network.cut()
            elif step == "lose":
                # It has lost everything, and learns it again from whom it can.
                services[other].remove_table("t")
                services[other].add_table(here.table("t").declaration)
            elif step == "learn":
                # Whoever shares more asks all peers for lessons.
                learner = services[data.draw(st.sampled_from(names))]
                learner.add_table(Declaration.parse(f"more{number}", "type ip size 1"))
            network.advance(data.draw(st.sampled_from([0, 0.002, 2, 7])))
            for key in gone:
                case.assertNotIn(key, here.table("t"))
        network.heal(here.localpeer, others[0])
        network.heal(here.localpeer, others[1])
        network.advance(20)
        for key in gone:
            case.assertNotIn(key, here.table("t"))
        case.assertEqual(here.table("t").status().tombstones, len(gone))


class InAnyOrderTests(SynchronousTestCase):
    def test_lessons(self) -> None:
        """As long as a tombstone stands, no lesson brings the entry back."""
        run_in_any_order(self)

"""The numbers of sessions in sums and in the lease: what of them is of an old process."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from peerproto import Batch, Declaration, Observer
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.testing import MemoryNetwork, RawPeer
from peerproto.testing.entries import Update
from peerproto.wire.messages import Control

LINE = "type integer size 1k expire 1m store gpc0"
TABLE = Declaration.parse("t", LINE)
KEYS = range(5)


class NumberTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.hub = self.network.peer("h", {"t": LINE})
        rules = Rules("t", "t.sum", expect=("a",), lease="t.lease")
        aggregation = Aggregation(self.hub, [rules], self.network.clock)
        aggregation.startService()
        self.addCleanup(aggregation.stopService)
        self.network.start()
        self.first = self.comes(10, Control.RESYNC_FINISHED)
        for key in KEYS:
            self.first.update(key, {"gpc0": key})
        self.network.advance(2)

    def comes(self, process: int, replies: Control) -> RawPeer:
        """A process of peer ``a`` calls, and defines the table."""
        raw = self.network.raw_peer("a", "h", process)
        raw.replies = replies
        self.network.advance(0.1)
        raw.define(TABLE)
        return raw

    def number(self, updates: Sequence[Update]) -> int:
        """The one that all sums and leases have."""
        numbers = set()
        for one in updates:
            tags = one.values.get("gpt")
            if one.table != "t" and isinstance(tags, list):
                numbers.add(tags[0 if one.table == "t.sum" else 2])
        (number,) = numbers
        assert isinstance(number, int)
        return number

    def sums(self, updates: Sequence[Update]) -> list[object]:
        """The keys of the sums, in the order in which they were sent."""
        return [one.key for one in updates if one.table == "t.sum"]

    def test_one_session(self) -> None:
        """Sums and lease have the same number."""
        self.assertEqual(self.sums(self.first.updates), [*KEYS])
        self.number(self.first.updates)
        self.assertIn("t.lease", {one.table for one in self.first.updates})

    def test_nothing_to_learn(self) -> None:
        """That there is a lease now gives nobody anything to learn."""
        leases = [one for one in self.first.updates if one.table == "t.lease"]
        later = self.first.heard[self.first.heard.index(leases[0]) :]
        self.assertNotIn(Control.RESYNC_REQUEST, later)

    def test_another_process(self) -> None:
        """Another process has another number, and is sent all sums before any lease; and once
        more when it counts itself up to date, since its old process may have taught it after
        that."""
        again = self.comes(11, Control.RESYNC_PARTIAL)
        self.network.advance(3)
        self.assertEqual(self.sums(again.updates), [*KEYS])
        sent = [one.table for one in again.updates]
        self.assertEqual(sent.index("t.lease"), len(KEYS))
        self.assertNotEqual(self.number(again.updates), self.number(self.first.updates))
        again.replies = Control.RESYNC_FINISHED
        self.network.advance(3)
        self.assertEqual(self.sums(again.updates), [*KEYS, *KEYS])
        self.number(again.updates)
        self.network.advance(3)
        self.assertEqual(self.sums(again.updates), [*KEYS, *KEYS])

    def test_same_process(self) -> None:
        """The same process keeps its number, and is sent what is new to it."""
        again = self.comes(10, Control.RESYNC_FINISHED)
        again.update(3, {"gpc0": 7})
        self.network.advance(3)
        self.assertEqual(self.sums(again.updates), [3])
        self.assertEqual(self.number(again.updates), self.number(self.first.updates))

    def test_cut_off_in_the_middle(self) -> None:
        """A process that goes before it counts itself up to date is sent all sums again."""
        again = self.comes(11, Control.RESYNC_PARTIAL)
        self.network.advance(3)
        again.hang_up()
        last = self.comes(11, Control.RESYNC_FINISHED)
        self.network.advance(0.5)
        self.assertEqual(self.sums(last.updates)[: len(KEYS)], [*KEYS])
        self.number(last.updates)

    def test_taught(self) -> None:
        """A process that asks for a lesson has all sums by that, under its own number; the lease
        comes behind it."""
        again = self.comes(11, Control.RESYNC_FINISHED)
        before = len(again.updates)
        again.confirms = False
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.5)
        lesson = again.updates[before:]
        self.assertEqual(sorted(map(str, self.sums(lesson))), [*map(str, KEYS)])
        self.assertNotIn("t.lease", {one.table for one in lesson})
        again.say(Control.RESYNC_CONFIRM)
        self.network.advance(3)
        later = again.updates[before + len(lesson) :]
        self.assertEqual({one.table for one in later}, {"t.lease"})
        self.number(again.updates)

    def test_waited(self) -> None:
        """Nothing is vouched for before that is published which another process has counted while
        that had to wait, however long that was."""
        vouched_for: list[object] = []

        class Watcher(Observer):
            def table_changed(self, batch: Batch) -> None:
                lease = batch.table.get("::") if batch.table.name == "t.lease" else None
                if lease is not None and lease["gpt[3]"] == 1:
                    vouched_for.append(hub.table("t.sum")[3]["gpc0"])

        hub = self.hub
        again = self.comes(11, Control.RESYNC_PARTIAL)
        again.update(3, {"gpc0": 7})
        hub.add_observer(Watcher())
        self.network.advance(2)
        self.assertEqual(vouched_for, [])
        # The node hears at once that the process is up to date.
        hub.resync.learn_again("told to", hub.now())
        hub.mesh.resync_moved()
        again.replies = Control.RESYNC_FINISHED
        self.network.advance(3)
        self.assertEqual(set(vouched_for), {7})

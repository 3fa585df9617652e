"""Feeds: what a reader at its own pace is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Optional

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.batch import Batch
from peerproto.service.feed import Feed, FeedOverrun
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from tests.service.mirrors import Mirrors, key

REMOVED = (Cause.EXPIRED, Cause.TRASHED, Cause.CLEARED)
LINE = "type integer size 1m expire 10s store gpc0"


class Readers(Mirrors):
    """Mirrors that read feeds, at once or a few keys at a time, beside those of observers."""

    def __init__(self) -> None:
        super().__init__()
        self.feeds = [self.service.feed(), self.service.feed(most=4)]
        self.read: list[dict[tuple[str, bytes], Optional[int]]] = [{}, {}]
        self.overruns = 0

    @rule(which=st.sampled_from((0, 1)), limit=st.integers(1, 5))
    def take_some(self, which: int, limit: int) -> None:
        self.take(which, limit)

    def take(self, which: int, limit: Optional[int] = None) -> None:
        mirror = self.read[which]
        try:
            batches = self.feeds[which].take(limit)
        except FeedOverrun:
            assert which == 1
            # What was told so far is in the table; all since then is in the feed.
            mirror.clear()
            for name, seen in self.mirrors.items():
                mirror.update({(name, raw_key): self.value(name, raw_key) for raw_key in seen})
            return
        assert limit is None or sum(map(len, batches)) <= limit
        taken = [(batch.table.name, raw_key) for batch in batches for raw_key in batch.raw_keys]
        assert len(taken) == len(set(taken))
        for batch in batches:
            for raw_key in batch.raw_keys:
                place = (batch.table.name, raw_key)
                if batch.cause in REMOVED:
                    mirror.pop(place, None)
                else:
                    mirror[place] = self.value(*place)

    @invariant()
    def bounded(self) -> None:
        assert len(self.feeds[1]) <= 4

    def teardown(self) -> None:
        for which in (0, 1):
            with contextlib.suppress(FeedOverrun):
                self.take(which)
            self.take(which)
            read = self.read[which]
            told = {
                (name, raw_key): self.value(name, raw_key)
                for name, mirror in self.mirrors.items()
                for raw_key in mirror
            }
            assert read.keys() == told.keys()
            for place, value in read.items():
                # An entry may have expired since it was read, and be still there.
                assert told[place] in (value, None)


class FeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.service = StickTableService("us", tables={"a": LINE, "b": LINE}, reactor=self.clock)
        self.a, self.b = self.service.table("a"), self.service.table("b")

    def keys(
        self, feed: Feed, limit: Optional[int] = None
    ) -> list[tuple[str, Cause, list[object]]]:
        return [(batch.table.name, batch.cause, list(batch.keys())) for batch in feed.take(limit)]

    def test_mirror(self) -> None:
        """A mirror that reads a feed at any pace has what the tables have, also after an
        overrun if it then takes over the tables."""
        run_state_machine_as_test(Readers)

    def test_drain(self) -> None:
        """All that waits is taken at once, and given piece by piece; what changes meanwhile is held
        anew, also of a key that was not given yet."""
        feed = self.service.feed(tables=["a"])
        for number in (1, 2, 3, 1):
            self.a.set(number)
        drained = feed.drain(2)
        self.assertEqual((len(feed), feed.merged), (0, 1))
        self.a.set(3)
        pieces = [list(batch.keys()) for batch in drained]
        self.assertEqual(pieces, [[1, 2], [3]])
        self.assertEqual(self.keys(feed), [("a", Cause.SET, [3])])
        self.assertEqual(list(feed.drain(2)), [])

    def test_drain_of_what_is_begun(self) -> None:
        """What was left when some was taken is drained, too; an overrun is raised once."""
        feed = self.service.feed(most=4)
        for number in (1, 2, 3):
            self.a.set(number)
        self.b.set(4)
        self.assertEqual(self.keys(feed, 1), [("a", Cause.SET, [1])])
        drained = [(batch.table.name, one) for batch in feed.drain(5) for one in batch.keys()]
        self.assertEqual(drained, [("a", 2), ("a", 3), ("b", 4)])
        for number in range(5):
            self.a.set(number)
        self.assertRaises(FeedOverrun, feed.drain, 5)
        self.assertEqual(list(feed.drain(5)), [])

    def test_one_place_each(self) -> None:
        """A key that changes often is taken once, with the latest cause; the others are counted
        as merged."""
        feed = self.service.feed()
        for value in range(5):
            self.a.set(1, gpc0=value)
        self.a.set(2)
        self.a.remove(1)
        self.assertEqual(self.keys(feed), [("a", Cause.CLEARED, [1]), ("a", Cause.SET, [2])])
        self.assertEqual((feed.merged, len(feed), self.keys(feed)), (5, 0, []))

    def test_learnt(self) -> None:
        """Keys that are new are taken in whatever portions, with what changes of them meanwhile."""
        feed = self.service.feed()
        store = self.service.node.tables["a"]

        def learn(numbers: Iterable[int]) -> None:
            updates = [(key(number), 5000, b"\x01") for number in numbers]
            self.service.changed(store.store(updates, 0))

        learn(range(6))
        self.assertEqual(self.keys(feed, 2), [("a", Cause.LEARNT, [0, 1])])
        self.assertEqual(self.keys(feed, 1), [("a", Cause.LEARNT, [2])])
        self.assertEqual(self.keys(feed, 9), [("a", Cause.LEARNT, [3, 4, 5])])
        self.assertEqual((self.keys(feed), feed.merged), ([], 0))
        learn(range(6, 9))
        learn(range(9, 12))
        self.assertEqual(self.keys(feed), [("a", Cause.LEARNT, list(range(6, 12)))])
        learn((12, 13))
        learn((13, 14))
        self.assertEqual(self.keys(feed), [("a", Cause.LEARNT, [12, 13, 14])])
        self.assertEqual(feed.merged, 1)
        learn((15, 15))
        self.a.remove(15)
        learn((15,))
        self.assertEqual(self.keys(feed), [("a", Cause.LEARNT, [15])])

    def test_new_again(self) -> None:
        """A key that is removed and new again is taken once, also if removals are left out, and
        does not overrun the feed."""
        feed = self.service.feed(causes=[Cause.SET, Cause.LEARNT], most=3)
        for _ in range(9):
            self.a.set(1)
            self.a.remove(1)
        self.a.set(1)
        self.assertEqual(self.keys(feed), [("a", Cause.SET, [1])])
        for _ in range(9):
            self.a.set(1)
            self.a.clear()
        self.a.set(1)
        self.assertEqual(self.keys(feed), [("a", Cause.SET, [1])])

    def test_changed_while_taken(self) -> None:
        """Keys that change again while they are taken have one place, and overrun nothing."""
        feed = self.service.feed(most=10)
        for _ in range(2):
            for number in range(10):
                self.a.set(number)
        self.assertEqual(self.keys(feed, 1), [("a", Cause.SET, [0])])
        for number in range(1, 10):
            self.a.set(number)
        self.assertEqual(self.keys(feed), [("a", Cause.SET, list(range(1, 10)))])
        self.assertEqual((feed.merged, len(feed)), (19, 0))

    def test_limit(self) -> None:
        """No more than the limit is taken, first what changed first; a key that changes between
        two takes is taken once."""
        feed = self.service.feed()
        for one in range(5):
            self.a.set(one)
        self.assertEqual(self.keys(feed, 2), [("a", Cause.SET, [0, 1])])
        self.a.remove(3)
        self.a.set(0)
        self.b.set(9)
        self.assertEqual(self.keys(feed, 3), [("a", Cause.SET, [2, 4]), ("a", Cause.CLEARED, [3])])
        self.assertEqual(sorted(self.keys(feed)), [("a", Cause.SET, [0]), ("b", Cause.SET, [9])])
        self.assertEqual(feed.merged, 1)

    def test_chosen(self) -> None:
        """A feed has the tables and causes that were asked for, also tables that come later."""
        feed = self.service.feed(tables=["b", "c"], causes=[Cause.SET])
        self.service.add_table(Declaration.parse("c", LINE))
        for name in "abc":
            self.service.table(name).set(1)
            self.service.table(name).remove(1)
        self.assertEqual(self.keys(feed), [("b", Cause.SET, [1]), ("c", Cause.SET, [1])])

    def test_table_begun_anew(self) -> None:
        """Keys of a table that is gone are taken with that table, not with the one of its name."""
        feed = self.service.feed()
        self.a.set(1)
        self.service.declare_table(Declaration.parse("a", "type string size 1k"))
        anew = self.service.table("a")
        anew.set("x")
        batches = feed.take()
        self.assertEqual(
            [(batch.table, batch.cause, list(batch.keys())) for batch in batches],
            [(self.a, Cause.CLEARED, [1]), (anew, Cause.SET, ["x"])],
        )
        self.assertEqual([len(list(batch.entries())) for batch in batches], [0, 1])

    def test_overrun(self) -> None:
        """A feed that is not read drops what it held at one key too many, and says so once to who
        takes; it goes on with what changes since then."""
        feed = self.service.feed(most=3)
        for _ in range(3):
            for one in range(3):
                self.a.set(one)
        self.assertEqual((len(feed), feed.overrun), (3, False))
        self.a.set(3)
        self.assertEqual((len(feed), feed.overrun), (0, True))
        self.a.set(4)
        problem = self.assertRaises(FeedOverrun, feed.take)
        self.assertEqual(
            str(problem),
            "<Feed of all tables>: read 'more than 3 changed keys', expected that they are taken"
            " before",
        )
        self.a.set(5)
        self.assertEqual(self.keys(feed), [("a", Cause.SET, [5])])

    def test_wait(self) -> None:
        """Who waits hears of the first change, at once if there is one, and of an overrun."""
        feed = self.service.feed(most=1)
        waiting = feed.wait()
        self.assertNoResult(waiting)
        self.a.set(1)
        self.successResultOf(waiting)
        self.successResultOf(feed.wait())
        self.a.set(2)
        self.successResultOf(feed.wait())
        self.assertRaises(FeedOverrun, feed.take)
        given_up = feed.wait()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.a.set(3)

    def test_close(self) -> None:
        """A feed that is closed holds nothing, and fails whoever waits, then or later."""
        feed, other = self.service.feed(), self.service.feed()
        waiting = feed.wait()
        feed.close()
        feed.close()
        self.failureResultOf(waiting, CancelledError)
        self.failureResultOf(feed.wait(), CancelledError)
        self.a.set(1)
        self.assertEqual((feed.take(), len(feed), len(other)), ([], 0, 1))

    def test_service_stops(self) -> None:
        """Who waits, and who iterates, hears that the service stops."""
        self.service.startService()
        feed = self.service.feed()
        waiting, iterating = feed.wait(), self.iterate(feed, lambda batch: None)
        self.service.stopService()
        self.failureResultOf(waiting, CancelledError)
        self.failureResultOf(iterating, CancelledError)
        self.failureResultOf(feed.wait(), CancelledError)
        self.service.startService()
        again = feed.wait()
        self.assertNoResult(again)
        self.service.stopService()
        self.failureResultOf(again, CancelledError)

    def iterate(self, feed: Feed, each: Callable[[Batch], None]) -> Deferred[None]:
        async def read() -> None:
            async for batch in feed:
                each(batch)

        return Deferred.fromCoroutine(read())

    def test_iteration(self) -> None:
        """``async for`` gives changes as they happen, and ends when the feed is closed."""
        feed = self.service.feed()
        read: list[tuple[StickTable, Cause, list[object]]] = []
        self.a.set(1)
        self.b.set(2)
        done = self.iterate(
            feed, lambda batch: read.append((batch.table, batch.cause, list(batch.keys())))
        )
        self.a.remove(1)
        self.assertNoResult(done)
        feed.close()
        self.successResultOf(done)
        self.assertEqual(
            read,
            [
                (self.a, Cause.SET, [1]),
                (self.b, Cause.SET, [2]),
                (self.a, Cause.CLEARED, [1]),
            ],
        )

    def test_iteration_is_left(self) -> None:
        """What an iteration that is left has not given is there for the next one."""
        feed = self.service.feed()
        for one in range(3):
            (self.a, self.b)[one % 2].set(one)

        async def first() -> list[object]:
            async for batch in feed:
                return list(batch.keys())
            raise AssertionError

        self.assertEqual(self.successResultOf(ensureDeferred(first())), [0])
        self.assertEqual(self.keys(feed), [("b", Cause.SET, [1]), ("a", Cause.SET, [2])])

    def test_iteration_takes_turns(self) -> None:
        """An iteration over much lets others have their turn."""
        feed = self.service.feed()
        read: list[int] = []
        for one in range(2000):
            self.a.set(one)
        done = self.iterate(feed, lambda batch: read.append(len(batch)))
        self.assertEqual(sum(read), 500)
        for _ in range(4):
            self.clock.advance(0)
        self.assertEqual(sum(read), 2000)
        feed.close()
        self.successResultOf(done)

    def test_iteration_overrun(self) -> None:
        """An iteration is told of an overrun, and can go on."""
        feed = self.service.feed(most=1)
        failing = self.iterate(feed, lambda batch: self.clock.advance(0))
        feed.add(Batch(self.a, Cause.SET, [key(1), key(2)], 0))
        self.failureResultOf(failing, FeedOverrun)
        read: list[int] = []
        self.iterate(feed, lambda batch: read.append(len(batch)))
        self.a.set(1)
        self.assertEqual(read, [1])

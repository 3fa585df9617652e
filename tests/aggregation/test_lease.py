"""The lease of an aggregate, among peers in memory."""

from __future__ import annotations

import itertools
from typing import Optional

import attrs
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration, StickTableService
from peerproto.aggregation.lease import KEY, Lease, Vouch, read_lease
from peerproto.aggregation.lease import LINE as LEASE
from peerproto.testing import MemoryNetwork
from tests.aggregation.fleet import RULES, AggregateTestCase


class LeaseTests(AggregateTestCase):
    rules = attrs.evolve(RULES, lease="t.lease", grace=3000)

    def left(self, service: StickTableService) -> int:
        """For how many ms the lease that a peer has still holds; below 0 if it is over."""
        entry = service.table("t.lease").get("::")
        if entry is None:
            return -1
        self.assertEqual(entry["gpt[0]"], 1)
        now = round(self.network.wall_clock() * 1000)
        left = (entry.number("gpt[1]") - now) % 2**32
        return left if left <= 1500 else -1

    def source(self, name: str) -> StickTableService:
        source = super().source(name)
        source.add_table(Declaration.parse("t.lease", LEASE))
        return source

    def sources_in(self, service: StickTableService) -> int:
        return service.table("t.lease")["::"].number("gpt[3]")

    def test_kept_up(self) -> None:
        """It holds as long as the sums are kept up, and says of how many sources they are; also
        when the wall clock steps."""
        self.begin()
        for step in (0, 3600, -7200):
            self.network.step_wall_clock(step)
            self.network.advance(0.3)
            for _ in range(20):
                self.network.advance(0.1)
                self.assertTrue(650 <= self.left(self.a) <= 1000, self.left(self.a))
        self.assertEqual(self.sources_in(self.a), 2)

    def test_wraps(self) -> None:
        """It holds all the time while its number begins again from 0; a node that reads it says
        so, too."""
        self.begin()
        now = round(self.network.wall_clock() * 1000)
        self.network.step_wall_clock((2**32 - 1500 - now % 2**32) / 1000)
        self.network.advance(0.3)
        numbers = []
        for _ in range(40):
            self.network.advance(0.05)
            lease = self.a.table("t.lease")
            numbers.append(lease[KEY].number("gpt[1]"))
            self.assertTrue(650 <= self.left(self.a) <= 1000, self.left(self.a))
            vouch = read_lease(lease, self.a.time)
            assert vouch is not None
            self.assertEqual((vouch.sources, vouch.left), (2, self.left(self.a)))
        wraps = [after - before for before, after in itertools.pairwise(numbers) if after < before]
        self.assertEqual(len(wraps), 1)

    def test_stops(self) -> None:
        """It is over at once when the node adds up no more."""
        self.begin()
        self.aggregation.stopService()
        self.network.advance(0.01)
        self.assertEqual(self.left(self.a), -1)

    def test_missing(self) -> None:
        """It is over at once when a source is missed, and holds again after the grace, with fewer
        sources; the peer that comes back has it at once."""
        self.begin()
        self.a.stopService()
        self.network.advance(0.01)
        self.assertEqual(self.left(self.b), -1)
        self.network.advance(2.5)
        self.assertEqual(self.left(self.b), -1)
        self.network.advance(1)
        self.assertGreater(self.left(self.b), 0)
        self.assertEqual(self.sources_in(self.b), 1)
        self.a.startService()
        self.network.advance(6)
        self.assertEqual(self.sources_in(self.b), 2)

    def test_comes_back(self) -> None:
        """A source that comes back is in once it had the time to say what it counted meanwhile: not
        as soon as its session begins."""
        self.begin()
        self.a.stopService()
        self.network.advance(4)
        self.assertEqual(self.sources_in(self.b), 1)
        self.a.startService()
        while not self.hub.peers["a"].connected:
            self.network.advance(0.05)
        connected = self.hub.now()
        while self.sources_in(self.b) < 2:
            self.network.advance(0.05)
        self.assertTrue(500 <= self.hub.now() - connected <= 1000)

    def test_not_before_it_has_begun(self) -> None:
        """There is none before all expected peers have taught."""
        self.hub.startService()
        self.a.startService()
        self.network.advance(5)
        self.assertEqual(self.left(self.a), -1)

    def test_behind_the_sums(self) -> None:
        """It does not overtake the sums that it vouches for: a peer that is
        not reached has neither."""
        self.begin()
        (connection,) = self.network.between("h", "a")
        connection.stall("h")
        self.b.table("t").update({key: {"gpc0": 1} for key in range(5000)})
        self.network.advance(2)
        self.assertEqual((self.left(self.a), self.sums(self.a)), (-1, {}))
        connection.flow("h")
        self.network.advance(0.5)
        self.assertGreater(self.left(self.a), 0)
        self.assertEqual(len(self.sums(self.a)), 5000)


class SilenceTests(AggregateTestCase):
    rules = attrs.evolve(RULES, lease="t.lease", grace=1000)

    def test_heard_again(self) -> None:
        """When a source is heard again on the same session, the sum is vouched for once it had the
        time to say what it has counted meanwhile, and not before."""
        self.begin()
        (connection,) = self.network.between("a", "h")
        connection.stall("a")
        self.network.advance(4.8)
        self.assertTrue(self.hub.peers["a"].connected)
        self.network.advance(1.1)
        self.assertFalse(self.vouched())
        self.a.table("t").count(1, gpc0=3)
        connection.flow("a")
        self.network.advance(0.01)
        self.assertFalse(self.hub.peers["a"].is_silent)
        for _ in range(9):
            self.assertFalse(self.vouched())
            self.network.advance(0.05)
        self.network.advance(0.5)
        self.assertTrue(self.vouched())

    def test_comes_back(self) -> None:
        """One that was silent and comes back on another session, when the sum is vouched for
        without it, is out until then, and the sum is vouched for all the time."""
        self.begin()
        (connection,) = self.network.between("a", "h")
        connection.stall("a")
        self.network.advance(5.9)
        self.assertTrue(self.hub.peers["a"].is_silent)
        self.network.part("a", "h")
        self.a.stopService()
        self.network.advance(12)
        self.assertTrue(self.vouched())
        self.network.heal("a", "h")
        self.a.startService()
        for _ in range(100):
            self.network.advance(0.05)
            self.assertTrue(self.vouched())
        self.assertEqual(self.hub.table("t.lease")[KEY]["gpt[3]"], 2)


class WaitingLeaseTests(SynchronousTestCase):
    """A lease whose test says what is vouched for, and until when all is published."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.service = self.network.peer("h", {"sum": "type integer size 9 store gpc0"})
        self.network.start()
        self.vouch: Optional[Vouch] = Vouch(2)
        self.published = -1
        """All is published that was known before this time, in ms."""
        self.lease = Lease(
            self.service,
            "lease",
            "sum",
            self.network.clock,
            lambda: self.vouch,
            lambda when: when < self.published,
        )

    def until(self) -> Optional[int]:
        """The end of the lease, in ms."""
        table = self.service.find_table("lease")
        return None if table is None else table[KEY].number("gpt[1]")

    def sources(self) -> int:
        """Of how many sources the lease tells."""
        return self.service.table("lease")[KEY].number("gpt[3]")

    def test_not_before_it_is_published(self) -> None:
        """The first lease, and the first after one that was over, comes once all is published that
        was known when the sums came to be vouched for."""
        self.lease.start()
        for _ in range(2):
            over = self.until()
            self.network.advance(1.5)
            self.assertEqual(self.until(), over)
            self.published = self.service.now()
            self.network.advance(0.05)
            self.assertNotEqual(self.until(), over)
            self.vouch = None
            self.lease.look()
            self.vouch = Vouch(2)

    def test_one_comes_back(self) -> None:
        """When one more source is in the sums, the lease tells of it once all is published that was
        known then; of one that goes it tells at once."""
        self.published = 1 << 62
        self.lease.start()
        self.network.advance(2)
        said = self.until()
        self.published = self.service.now()
        self.vouch = Vouch(3)
        self.lease.look()
        self.network.advance(1.5)
        self.assertEqual((self.until(), self.sources()), (said, 2))
        self.published = self.service.now()
        self.network.advance(0.05)
        self.assertEqual(self.sources(), 3)
        self.published = -1
        self.vouch = Vouch(1)
        self.lease.look()
        self.assertEqual(self.sources(), 1)

    def test_others_are_summed(self) -> None:
        """When others come to be summed, what was said holds until its end, and is renewed once
        all is published that was known then."""
        self.published = 1 << 62
        self.lease.start()
        self.network.advance(2)
        said = self.until()
        self.published = self.service.now()
        self.lease.wait()
        self.network.advance(1.5)
        self.lease.look()
        self.assertEqual(self.until(), said)
        self.published = self.service.now()
        self.network.advance(0.05)
        self.assertNotEqual(self.until(), said)

    def test_stood_still(self) -> None:
        """After the process stood still it is renewed once there was time to read what came
        meanwhile, and all that was read by then is published."""
        self.published = 1 << 62
        self.lease.start()
        self.network.advance(2)
        said = self.until()
        self.published = self.service.now() + 1050
        self.network.clock.advance(1)
        self.network.advance(0.5)
        self.assertEqual(self.until(), said)
        self.published = self.service.now()
        self.network.advance(0.05)
        self.assertNotEqual(self.until(), said)

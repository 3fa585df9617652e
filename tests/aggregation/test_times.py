"""When keys go: pacing, returns, and how many a second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.aggregation.pacing import Pacing
from peerproto.aggregation.returns import WIDTH, Returns
from peerproto.aggregation.throughput import Throughput


class PacingTests(SynchronousTestCase):
    def test_first_at_once(self) -> None:
        """The first change of a key goes at once; more of them go together, an interval later."""
        pacing = Pacing(20)
        self.assertIsNone(pacing.next_due)
        self.assertEqual(pacing.changed([b"a", b"b", b"a"], 100), [b"a", b"b"])
        self.assertEqual(pacing.changed([b"b", b"c"], 110), [b"c"])
        self.assertEqual((pacing.next_due, pacing.due(119)), (120, []))
        self.assertEqual(pacing.due(120), [b"a", b"b"])
        self.assertEqual(pacing.changed([b"b"], 125), [])
        self.assertEqual(pacing.due(139), [])
        self.assertEqual(pacing.due(140), [b"b"])
        self.assertEqual((pacing.due(160), pacing.next_due), ([], None))
        self.assertEqual(pacing.changed([b"b"], 161), [b"b"])

    def test_cleared(self) -> None:
        """What is forgotten is a first change again."""
        pacing = Pacing(20)
        pacing.changed([b"a"], 0)
        pacing.clear()
        self.assertEqual((pacing.changed([b"a"], 1), pacing.due(20)), ([b"a"], []))

    @given(st.lists(st.tuples(st.integers(0, 15), st.sampled_from([b"a", b"b"])), max_size=60))
    def test_never_too_often(self, changes: list[tuple[int, bytes]]) -> None:
        """No key goes twice in an interval, none waits for longer, and after its last change each
        goes once more or has just gone."""
        pacing, now = Pacing(20), 0
        gone: dict[bytes, int] = {}
        changed: dict[bytes, int] = {}

        def go(keys: list[bytes]) -> None:
            for key in keys:
                assert now - gone.get(key, -99) >= 20
                gone[key] = now
                changed.pop(key, None)

        for wait, key in [*changes, (20, b"z"), (20, b"z")]:
            for _ in range(wait):
                now += 1
                go(pacing.due(now))
            changed.setdefault(key, now)
            go(pacing.changed([key], now))
            assert all(now - since < 20 for since in changed.values())
        self.assertLessEqual(set(changed), {b"z"})


class ReturnsTests(SynchronousTestCase):
    def test_in_time(self) -> None:
        """A key comes back once, at the latest time that was said, no earlier and hardly later."""
        returns = Returns()
        self.assertIsNone(returns.next_due)
        returns.put(b"a", 1000)
        returns.put(b"b", 1000)
        returns.put(b"a", 2000)
        returns.put(b"a", 1000)
        returns.put(b"b", 1500)
        self.assertEqual((len(returns), returns.due(999, 9)), (2, []))
        self.assertEqual(returns.due(1000 + WIDTH, 9), [b"a"])
        returns.put(b"b", None)
        self.assertEqual((returns.due(9999, 9), len(returns), returns.next_due), ([], 0, None))

    def test_cleared(self) -> None:
        """What is forgotten does not come back."""
        returns = Returns()
        returns.put(b"a", 5)
        returns.clear()
        self.assertEqual((returns.due(99, 9), returns.next_due), ([], None))

    def test_some(self) -> None:
        """No more come than are asked for; the others come the next time."""
        returns = Returns()
        for number in range(5):
            returns.put(bytes((number,)), 1)
        found = [returns.due(99, 2) for _ in range(4)]
        self.assertEqual([len(one) for one in found], [2, 2, 1, 0])
        self.assertEqual(len({key for some in found for key in some}), 5)
        self.assertIsNone(returns.next_due)


class ThroughputTests(SynchronousTestCase):
    def test_a_second(self) -> None:
        """It says what was counted in the second before, and nothing of one long ago."""
        throughput = Throughput()
        throughput.add(2, 1500)
        throughput.add(3, 1999)
        self.assertEqual(throughput.per_second(1999), 0)
        throughput.add(1, 2000)
        self.assertEqual(throughput.per_second(2500), 5)
        self.assertEqual(throughput.per_second(3500), 1)
        self.assertEqual((throughput.per_second(9000), throughput.total), (0, 6))

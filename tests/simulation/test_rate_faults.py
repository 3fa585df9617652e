"""Faults that are put into sums of rates: the simulation sees each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from peerproto import Frequency, StickTable
from peerproto.aggregation.publishing import Publisher
from peerproto.aggregation.returns import Returns
from peerproto.service import sums
from peerproto.updates.adding import Adder
from tests.simulation.finding import FIRST, SECOND, Steps, broken
from tests.simulation.frequency import PERIOD, FrequencyCounter
from tests.simulation.haproxy import RATE
from tests.simulation.sums import SumsSimulation


def turns_unseen() -> AbstractContextManager[Any]:
    """A sum is not published again when a period ends."""
    put = Returns.put
    return patch.object(Returns, "put", lambda returns, key, at: put(returns, key, None))


class _NoTimePasses:
    """Adds up records as they came: their ages do not grow."""

    def __init__(self, texts: list[bool], steps: list[tuple[int, int, int]]) -> None:
        self._adder = Adder(texts, steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adder, name)

    def add(
        self, records: list[bytes], elapsed: list[int], changed: list[int], counts: list[bool]
    ) -> bytes:
        return self._adder.add(records, [0] * len(elapsed), changed, counts)


def not_at_one_time() -> AbstractContextManager[Any]:
    """Ages of sources are added up as of the times at which they came."""
    return patch.object(sums, "Adder", _NoTimePasses)


def published(change: Any) -> AbstractContextManager[Any]:
    """Rates of sums are published as something else makes of them."""
    replace_raw = StickTable.replace_raw

    def replaces(table: StickTable, entries: Iterable[tuple[bytes, bytes, Optional[int]]]) -> int:
        codec, columns = table.layout.codec, table.layout.columns
        (place,) = (at for at, column in enumerate(columns) if column.name == RATE)
        changed = []
        for key, record, life in entries:
            values = list(codec.decode(record, 0))
            values[place] = change(values[place])
            changed.append((key, codec.encode(tuple(values)), life))
        return replace_raw(table, changed)

    return patch.object(StickTable, "replace_raw", replaces)


def previous_forgotten() -> AbstractContextManager[Any]:
    """A sum has nothing of the periods before the present ones."""
    return published(lambda rate: Frequency(rate.age, rate.current, 0))


@contextmanager
def kept_up() -> Iterator[None]:
    """A sum is what is read now, as if it had just happened, and is published again and again."""
    publish = Publisher.publish

    def reads(rate: Frequency) -> Frequency:
        return Frequency(0, round(FrequencyCounter.received(0, rate).exactly(0)), 0)

    def publishes(publisher: Publisher, keys: list[bytes], returns: Returns) -> None:
        publish(publisher, keys, returns)
        assert publisher.output is not None
        for key in keys:
            entry = publisher.output.get_raw(key)
            if entry is not None and entry.number(RATE):
                returns.put(key, publisher.output.now() + 1)

    with published(reads), patch.object(Publisher, "publish", publishes):
        yield


def bursts(simulation: SumsSimulation) -> None:
    """Two HAProxies count a lot, in periods that do not begin together."""
    for wait in (PERIOD // 2, PERIOD, 2 * PERIOD):
        simulation.burst(FIRST, 0, 200)
        simulation.network.advance(PERIOD / 3000)
        simulation.burst(SECOND, 0, 50)
        simulation.network.advance(wait / 1000)


class RateFaultTests(SynchronousTestCase):
    def check(self, fault: AbstractContextManager[Any], steps: Steps, why: str) -> None:
        self.assertIsNone(broken(nullcontext(), steps))
        self.assertIn(why, broken(fault, steps) or "nothing")

    def test_turns(self) -> None:
        """A sum is published again when the period of a source ends."""
        self.check(turns_unseen(), bursts, "m has 0=")

    def test_ages(self) -> None:
        """What sources have is added up as of one time."""
        self.check(not_at_one_time(), bursts, "m has 0=")

    def test_previous(self) -> None:
        """The period before the present one counts."""
        self.check(previous_forgotten(), bursts, "a in sum1 reads ")

    def test_kept_up(self) -> None:
        """A sum falls by itself."""
        self.check(kept_up(), lambda simulation: None, "a reads ")

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.rates import rate
from peerproto.updates import adding
from peerproto.updates.adding import Adder
from peerproto.wire.codec import entry_codec
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.varint import encode

PERIOD = 10_000

counters = st.builds(
    Frequency,
    st.integers(0, 3 * PERIOD),
    st.integers(0, 300),
    st.integers(0, 300),
)

RATE = entry_codec(((Kind.FREQUENCY, None),))


def later(counter: Frequency, ms: int) -> Frequency:
    return counter._replace(age=counter.age + ms)


def summed(some: list[Frequency], ms: int = 0) -> tuple[Frequency, int]:
    """The sum of counters that have arrived so many ms ago, and when to add up again."""
    adder = Adder([False] * 3, [(adding.RATE, 0, PERIOD)])
    count = len(some)
    record = adder.add(
        [RATE.encode((one,)) for one in some], [ms] * count, [0] * count, [True] * count
    )
    (total,) = RATE.decode(record, 0)
    return total, adder.again


class RateTests(SynchronousTestCase):
    @given(st.lists(counters, min_size=1, max_size=8), st.data())
    @example([Frequency(0, 100, 100), Frequency(PERIOD - 1, 100, 100)], None)
    @example([Frequency(6509, 0, 1312), Frequency(8295, 0, 4231)], None)
    @example([Frequency(1911, 260, 230), Frequency(666, 0, 22), Frequency(1844, 15, 235)], None)
    @example([Frequency(5000, 0, 1), Frequency(9999, 0, 1), Frequency(0, 1, 0)], None)
    def test_reads_as_all_together(self, some: list[Frequency], data: Any) -> None:
        """As long as it is not to be added up again, a sum is read as its sources are: within
        their rounding, which is as many events, or 1 %."""
        total, again = summed(some)
        until = 3 * PERIOD if again < 0 else again
        moments = [0, until // 2, until]
        if data is not None:
            moments.append(data.draw(st.integers(0, until)))
        for moment in moments:
            alone = sum(rate(later(one, moment), PERIOD) for one in some)
            together = rate(later(total, moment), PERIOD)
            may = max(len(some), alone / 100)
            self.assertLessEqual(abs(together - alone), may, (moment, again))

    @given(st.lists(counters, min_size=1, max_size=4), st.integers(0, 3 * PERIOD))
    def test_ages_grow(self, some: list[Frequency], ms: int) -> None:
        """What has arrived some time ago is added up as it is by now."""
        self.assertEqual(summed(some, ms), summed([later(one, ms) for one in some]))

    def test_one_source(self) -> None:
        """What one source alone counts is passed on as it is, and need not be added up again."""
        one = Frequency(1234, 5, 6)
        self.assertEqual(summed([one]), (one, -1))

    def test_nothing_of_late(self) -> None:
        """What happened two periods ago counts for nothing; a period that is over is the one
        before."""
        for nothing in (Frequency(2 * PERIOD, 9, 9), Frequency(5, 0, 0)):
            self.assertEqual(summed([nothing])[0], Frequency(0, 0, 0))
        self.assertEqual(summed([Frequency(PERIOD + 5, 9, 8)])[0], Frequency(5, 0, 9))

    def test_of_another_thread(self) -> None:
        """An age below 0, of a period that another thread has just begun, is 0."""
        self.assertEqual(summed([Frequency(0xFFFFFFFE, 3, 0)])[0], Frequency(0, 3, 0))

    def test_largest(self) -> None:
        """Rates stop at the largest number of 32 bits."""
        most = 0xFFFFFFFF
        total, _ = summed([Frequency(1, most, most), Frequency(1, 1, 1)])
        self.assertEqual(total, Frequency(1, most, most))


class AdderTests(SynchronousTestCase):
    def add(self, how: int, *values: Any, kind: Kind = Kind.UNSIGNED64) -> Any:
        """The sum of one value of each source: the second one has arrived last, and the current
        connections of the third do not count."""
        codec = entry_codec(((kind, None),))
        adder = Adder([kind is Kind.DICTIONARY], [(how, 0, 0)])
        records = [codec.encode((value,)) for value in values]
        record = adder.add(records, [0, 0, 0], [5, 9, 7], [True, True, False])
        (total,) = codec.decode(record, 0)
        return total

    def test_counters(self) -> None:
        """Counters add up, and stop at the largest number."""
        self.assertEqual(self.add(adding.COUNTER, 1, 240, 100_000), 100_241)
        self.assertEqual(self.add(adding.COUNTER, 1, 0xFFFFFFFF, 1), 0xFFFFFFFF)
        self.assertEqual(self.add(adding.LARGE_COUNTER, 1, 0xFFFFFFFF, 1), 0x100000001)
        most = 0xFFFFFFFFFFFFFFFF
        self.assertEqual(self.add(adding.LARGE_COUNTER, 1, most, most), most)

    def test_connections(self) -> None:
        """Current connections are those that count."""
        self.assertEqual(self.add(adding.CONNECTIONS, 1, 2, 4), 3)

    def test_tags(self) -> None:
        """Of tags one is chosen, or all their bits are."""
        self.assertEqual(self.add(adding.LAST, 7, 3, 5), 3)
        self.assertEqual(self.add(adding.LARGEST, 7, 3, 5), 7)
        self.assertEqual(self.add(adding.BITS, 1, 2, 8), 11)
        self.assertEqual(self.add(adding.LARGEST, -1, -3, -2, kind=Kind.SIGNED), -1)
        self.assertEqual(self.add(adding.LARGEST, -1, 3, -2, kind=Kind.SIGNED), 3)

    def test_texts(self) -> None:
        """Of texts the one stays that arrived last; that there is none says nothing."""
        text = Kind.DICTIONARY
        self.assertEqual(self.add(adding.TEXT, "s1", "s2", "s3", kind=text), "s2")
        self.assertEqual(self.add(adding.TEXT, "s1", None, "s3" * 200, kind=text), "s3" * 200)
        self.assertIsNone(self.add(adding.TEXT, None, None, None, kind=text))

    @given(st.lists(st.integers(0, 0xFFFFFFFFFFFFFFFF), min_size=1, max_size=5))
    def test_all_lengths(self, values: list[int]) -> None:
        """Numbers of every length are read and written."""
        codec = entry_codec(((Kind.UNSIGNED64, None),))
        adder = Adder([False], [(adding.LARGE_COUNTER, 0, 0)])
        count = len(values)
        record = adder.add(
            [codec.encode((one,)) for one in values], [0] * count, [0] * count, [True] * count
        )
        self.assertEqual(codec.decode(record, 0), (min(sum(values), 0xFFFFFFFFFFFFFFFF),))


class AloneTests(SynchronousTestCase):
    @given(st.data())
    def test_as_with_nothing(self, data: st.DataObject) -> None:
        """A record alone has the sum that it has with one in which nothing was counted."""
        hows = data.draw(
            st.lists(
                st.sampled_from(
                    (
                        adding.COUNTER,
                        adding.LARGE_COUNTER,
                        adding.CONNECTIONS,
                        adding.LAST,
                        adding.BITS,
                        adding.RATE,
                        adding.NOTHING,
                        adding.STAMP,
                    )
                ),
                min_size=1,
                max_size=8,
            )
        )
        steps, record, width = [], bytearray(), 0
        for how in hows:
            fields = {adding.RATE: 3, adding.NOTHING: 0, adding.STAMP: 0}.get(how, 1)
            period = data.draw(st.sampled_from((0, 100))) if how == adding.NOTHING else 0
            steps.append((how, width, PERIOD if how == adding.RATE else period))
            largest = adding.UINT64 if how == adding.LARGE_COUNTER else adding.UINT32
            for _ in range(fields):
                record += encode(data.draw(st.integers(0, largest) | st.integers(0, 300)))
            width += fields
        elapsed = data.draw(st.integers(0, 3 * PERIOD))
        counts = data.draw(st.booleans())
        adder = Adder([False] * width, steps)
        alone = adder.add([bytes(record)], [elapsed], [7], [counts])
        self.assertEqual(adder.again, -1)
        both = adder.add([bytes(record), bytes(width)], [elapsed, 0], [7, 0], [counts, True])
        self.assertEqual(alone, both)

    def test_text(self) -> None:
        """A text of a record alone is the sum, also behind other fields."""
        adder = Adder([False, True, False], [(adding.COUNTER, 0, 0), (adding.TEXT, 1, 0)])
        self.assertEqual(adder.add([b"\x05\x02ab\x07"], [0], [0], [True]), b"\x05\x02ab")

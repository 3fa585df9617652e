from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.wire import varint
from peerproto.wire.codec import MAX_AGE
from peerproto.wire.datatypes import BY_NAME, Frequency
from peerproto.wire.dictionary import LONGEST_TEXT, PLACES, ReceivingDictionary, SendingDictionary
from peerproto.wire.errors import LocalProtocolError, MalformedMessage
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Column, Layout, column, in_bit_order
from tests.strategies import layouts, values


def layout_of(*names: str) -> Layout:
    columns = [
        column(name, period=1000 if BY_NAME[name].kind.name == "FREQUENCY" else None)
        for name in names
    ]
    return Layout(KeyType.IPV4, 4, in_bit_order(columns))


class CodecTests(SynchronousTestCase):
    @given(st.data(), st.integers(0, MAX_AGE), st.binary(max_size=12))
    def test_ageing(self, data: st.DataObject, elapsed: int, head: bytes) -> None:
        """Ages grow by the time that passed, up to what HAProxy's clock can hold."""
        layout = data.draw(layouts())
        before = data.draw(values(layout))
        stored = head + layout.codec.encode(before)
        aged = layout.codec.decode(stored, len(head), elapsed)
        for column_, old, new in zip(layout.columns, before, aged):
            if column_.data_type.kind.name != "FREQUENCY":
                self.assertEqual(old, new)
            elif column_.elements is None:
                self.assertEqual(new, old._replace(age=min(old.age + elapsed, MAX_AGE)))

    def test_period_in_the_future(self) -> None:
        """A period that began in the future, by another thread's clock, has just begun."""
        codec = layout_of("conn_rate").codec
        record = varint.encode(2**32 - 1) + b"\x07\x00"
        self.assertEqual(codec.decode(record, 0), (Frequency(0, 7, 0),))
        self.assertEqual(codec.decode(record, 0, 500), (Frequency(500, 7, 0),))

    def test_blank(self) -> None:
        """A new entry is all zeros and none."""
        layout = Layout(KeyType.IPV4, 4, (*layout_of("gpc0", "conn_rate", "server_key").columns,))
        self.assertEqual(layout.codec.blank(), (0, Frequency(0, 0, 0), None))
        arrays = Layout(KeyType.IPV4, 4, (column("gpt", elements=2),))
        self.assertEqual(arrays.codec.blank(), ((0, 0),))

    def test_out_of_range(self) -> None:
        """A value that its type cannot hold is refused."""
        for name, value in (
            ("gpc0", -1),
            ("gpc0", 2**32),
            ("server_id", 2**31),
            ("bytes_in_cnt", 2**64),
            ("gpc0", "3"),
            ("conn_rate", 3),
            ("server_key", 3),
        ):
            with self.assertRaises(LocalProtocolError):
                layout_of(name).codec.encode((value,))
        with self.assertRaises(LocalProtocolError):
            layout_of("gpc0").codec.encode((1, 2))

    def test_no_columns(self) -> None:
        """A table that stores nothing but keys has empty records."""
        codec = Layout(KeyType.IPV4, 4).codec
        self.assertEqual(codec.encode(()), b"")
        self.assertEqual(codec.decode(b"", 0), ())
        self.assertEqual(codec.read(b"rest", 0, ReceivingDictionary()), (b"", True))

    def test_error_names_the_place(self) -> None:
        """What is missing is said with the place and the bytes read."""
        codec = layout_of("gpc0", "gpc1").codec
        with self.assertRaises(MalformedMessage) as caught:
            codec.read(b"key\x01", 3, ReceivingDictionary())
        self.assertEqual(
            str(caught.exception),
            "values at byte 3: read b'\\x01', expected more values: the message ends after these",
        )


class LayoutTests(SynchronousTestCase):
    def test_names_of_elements(self) -> None:
        """An element goes by HAProxy's printed name and by its index."""
        layout = Layout(
            KeyType.IPV4,
            4,
            (column("gpc", elements=2), column("gpc_rate", elements=2, period=1000)),
        )
        self.assertEqual(
            [cell.name for cell in layout.printed], ["gpc0", "gpc1", "gpc0_rate", "gpc1_rate"]
        )
        self.assertIs(layout.cells["gpc0_rate"], layout.cells["gpc_rate[0]"])
        self.assertIs(layout.cells["gpc1"], layout.cells["gpc[1]"])

    def test_bad_columns(self) -> None:
        """Elements belong to arrays and periods to rates, and to nothing else."""
        for make in (
            lambda: column("nothing"),
            lambda: column("gpc0", period=10),
            lambda: column("gpc0_rate"),
            lambda: column("gpc0", elements=1),
            lambda: column("gpc"),
            lambda: column("gpc", elements=101),
            lambda: Column(BY_NAME["gpc"], 0),
            lambda: Layout(KeyType.IPV6, 4),
        ):
            self.assertRaises(LocalProtocolError, make)


class DictionaryTests(SynchronousTestCase):
    def test_known_bytes(self) -> None:
        """The first text gets id 1 and is sent with it, then by reference; none is 0."""
        sending = SendingDictionary()
        self.assertEqual(sending.write(b"s1"), b"\x04\x01\x02s1")
        self.assertEqual(sending.write(b"s1"), b"\x01\x01")
        self.assertEqual(sending.write(b""), b"\x00")
        self.assertEqual(sending.write(b"s2"), b"\x04\x02\x02s2")

    @given(st.lists(st.integers(0, 200), max_size=400))
    def test_more_texts_than_places(self, order: list[int]) -> None:
        """However many texts there are, the receiver reads what was sent."""
        sending, receiving = SendingDictionary(), ReceivingDictionary()
        for number in order:
            text = b"server %d" % number
            value = sending.write(text)
            known = varint.encode(len(text)) + text
            self.assertEqual(receiving.read(b"-" + value, 1), (known, 1 + len(value)))

    def test_places_are_taken_over_in_turn(self) -> None:
        """The 129th text takes the place of the first, which is sent in full again."""
        sending = SendingDictionary()
        for number in range(PLACES + 1):
            sending.write(b"%d" % number)
        self.assertEqual(sending.write(b"1"), b"\x01\x02")
        self.assertEqual(sending.write(b"0"), b"\x03\x02\x010")

    def test_malformed(self) -> None:
        """Ids of 0, above 128, and lengths past the end are malformed."""
        for value in (
            b"\x01\x00",
            b"\x01\x81",
            b"\x05\x01\x02s1",
            b"\x04\x01\x09s1",
            b"\x03\x00\x01x",
            b"\x02\xf0\x80",
        ):
            self.assertRaises(MalformedMessage, ReceivingDictionary().read, value, 0)

    def test_nothing_said(self) -> None:
        """A value of 0 and an id that was never sent say nothing, an empty text does."""
        receiving = ReceivingDictionary()
        self.assertEqual(receiving.read(b"\x00", 0), (b"", 1))
        self.assertEqual(receiving.read(b"\x01\x07", 0), (b"", 2))
        self.assertEqual(receiving.read(b"\x02\x07\x00", 0), (b"\x00", 3))
        self.assertEqual(receiving.read(b"\x01\x07", 0), (b"\x00", 2))

    def test_cleared(self) -> None:
        """That a text was cleared is said under an id of its own, once in full."""
        sending, receiving = SendingDictionary(), ReceivingDictionary()
        for value in (b"\x02\x01\x00", b"\x01\x01"):
            self.assertEqual(sending.write_empty(), value)
            self.assertEqual(receiving.read(value, 0), (b"\x00", len(value)))
        self.assertEqual(sending.write(b""), b"\x00")
        for number in range(3 * PLACES):
            for value, text in (
                (sending.write(b"%d" % number), b"%d" % number),
                (sending.write_empty() if number % 100 == 0 else b"\x00", b""),
            ):
                if value != b"\x00":
                    known = varint.encode(len(text)) + text
                    self.assertEqual(receiving.read(value, 0), (known, len(value)))

    def test_longest_text(self) -> None:
        """A text that HAProxy could not teach is not taken, and its id says nothing."""
        receiving = ReceivingDictionary()
        for size in (LONGEST_TEXT, LONGEST_TEXT + 1):
            value = b"\x07" + varint.encode(size) + b"x" * size
            said, _ = receiving.read(varint.encode(len(value)) + value, 0)
            self.assertEqual(len(said) > 0, size <= LONGEST_TEXT)
            self.assertEqual(receiving.read(b"\x01\x07", 0), (said, 2))
            self.assertEqual(receiving.longest_refused, 0 if said else size)

    def test_text_with_nul(self) -> None:
        """A text ends at its first NUL, as it does in HAProxy."""
        self.assertEqual(ReceivingDictionary().read(b"\x07\x01\x05s1\x00s2", 0), (b"\x02s1", 8))

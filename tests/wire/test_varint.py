from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.wire import varint
from peerproto.wire.errors import LocalProtocolError, MalformedMessage
from tests.strategies import uint64

LENGTHS = {
    0: 1,
    239: 1,
    240: 2,
    2287: 2,
    2288: 3,
    264431: 3,
    264432: 4,
    33818863: 4,
    33818864: 5,
    4328786159: 5,
    4328786160: 6,
    2**64 - 1: 10,
}


class VarintTests(SynchronousTestCase):
    def test_lengths(self) -> None:
        """Each value takes the bytes that the table of doc/protocol.md, "Numbers", gives."""
        for value, length in LENGTHS.items():
            self.assertEqual(len(varint.encode(value)), length, value)

    def test_where_lengths_change(self) -> None:
        """Values about the first of each length come back, too."""
        for edge in LENGTHS:
            for value in range(max(0, edge - 2), min(edge + 3, 2**64)):
                encoded = varint.encode(value)
                self.assertEqual(varint.decode(encoded, 0), (value, len(encoded)))

    def test_known_bytes(self) -> None:
        """The first two-byte value, and periods as a HAProxy sent them."""
        self.assertEqual(varint.encode(240), b"\xf0\x00")
        self.assertEqual(varint.encode(3600000), bytes.fromhex("f0d9dc0c"))
        self.assertEqual(varint.decode(bytes.fromhex("f0e203"), 0), (10000, 3))

    @given(uint64, st.binary(max_size=3), st.binary(max_size=3))
    def test_round_trip(self, value: int, before: bytes, after: bytes) -> None:
        """Any 64-bit value comes back, wherever it stands; the rest is not touched."""
        encoded = varint.encode(value)
        data = before + encoded + after
        end = len(before) + len(encoded)
        self.assertEqual(varint.decode(data, len(before)), (value, end))

    @given(uint64)
    def test_truncated(self, value: int) -> None:
        """An integer that runs past its message is malformed, wherever it is cut."""
        encoded = varint.encode(value)
        for length in range(len(encoded)):
            self.assertRaises(MalformedMessage, varint.decode, encoded[:length], 0)

    def test_too_long(self) -> None:
        """More than 10 bytes are malformed; 10 bytes are taken modulo 2**64."""
        self.assertRaises(MalformedMessage, varint.decode, b"\xf0" + b"\x80" * 9 + b"\x00", 0)
        value, end = varint.decode(b"\xff" + b"\xff" * 8 + b"\x7f", 0)
        self.assertEqual(end, 10)
        self.assertLess(value, 2**64)

    def test_out_of_range(self) -> None:
        """What does not fit 64 bits is refused before anything is sent."""
        for value in (-1, 2**64):
            self.assertRaises(LocalProtocolError, varint.encode, value)

    @given(st.binary(max_size=14))
    def test_pattern_agrees(self, data: bytes) -> None:
        """The regular expression ends where the decoder ends, or both refuse."""
        match = re.compile(varint.VARINT, re.DOTALL).match(data)
        try:
            end = varint.decode(data, 0)[1]
        except MalformedMessage:
            self.assertIsNone(match)
        else:
            assert match is not None
            self.assertEqual(match.end(), end)

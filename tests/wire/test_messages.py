from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.wire import varint
from peerproto.wire.datatypes import BY_NAME, DATA_TYPES, Frequency
from peerproto.wire.dictionary import ReceivingDictionary, SendingDictionary
from peerproto.wire.errors import LocalProtocolError, MalformedMessage
from peerproto.wire.frames import DEFINITION, PEERPROTO, RELAYED, STICK_TABLE, Frame, FrameBuffer
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Column, Layout, column
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Control,
    EntryUpdate,
    ErrorMessage,
    Message,
    RefusedDefinition,
    RelayedTable,
    TableDefinition,
    TableSwitch,
    read_message,
)
from tests.strategies import as_sent, definitions, layouts, messages, raw_keys, uint32, values


def frame_of(encoded: bytes) -> Frame:
    (frame,) = FrameBuffer().feed(encoded)
    return frame


class MessageTests(SynchronousTestCase):
    @given(messages)
    def test_round_trip(self, message: Message) -> None:
        """Every message that is not an update comes back as it was."""
        assert not isinstance(message, RefusedDefinition)
        self.assertEqual(read_message(frame_of(message.encode())), message)

    def test_bytes(self) -> None:
        """Control and error messages are two bytes; ack and switch have a payload."""
        self.assertEqual(Control.RESYNC_REQUEST.encode(), b"\x00\x00")
        self.assertEqual(Control.RESYNC_FINISHED.encode(), b"\x00\x01")
        self.assertEqual(Control.RESYNC_PARTIAL.encode(), b"\x00\x02")
        self.assertEqual(Control.RESYNC_CONFIRM.encode(), b"\x00\x03")
        self.assertEqual(Control.HEARTBEAT.encode(), b"\x00\x04")
        self.assertEqual(ErrorMessage.PROTOCOL.encode(), b"\x01\x00")
        self.assertEqual(ErrorMessage.SIZE_LIMIT.encode(), b"\x01\x01")
        self.assertEqual(TableSwitch(3).encode(), b"\x0a\x83\x01\x03")
        self.assertEqual(Ack(3, 0x01020304).encode(), b"\x0a\x84\x05\x03\x01\x02\x03\x04")

    @given(st.text(min_size=1, max_size=20), st.booleans(), st.binary(max_size=9))
    def test_relayed(self, name: str, is_relayed: bool, more: bytes) -> None:
        """What newer peers say behind the name of a relayed table is left. A message that ends too
        early is malformed; one with a name that no table can have is skipped."""
        message = RelayedTable(name, is_relayed)
        frame = frame_of(message.encode())
        self.assertEqual(read_message(frame._replace(payload=frame.payload + more)), message)
        for end in range(len(frame.payload)):
            with self.assertRaises(MalformedMessage):
                read_message(frame._replace(payload=frame.payload[:end]))
        self.assertIsNone(read_message(frame._replace(payload=b"\x01\x00")))
        long = b"\x01" + varint.encode(4097) + b"n" * 4097
        self.assertIsNone(read_message(Frame(PEERPROTO, RELAYED, long)))

    def test_unknown(self) -> None:
        """Unknown classes and types mean nothing: newer peers may send them."""
        for frame in (Frame(0, 5), Frame(1, 9), Frame(7, 200, b"x"), Frame(10, 0x90, b"")):
            self.assertIsNone(read_message(frame))

    @given(st.integers(0, 254), st.integers(0, 255), st.binary(max_size=60))
    def test_any_payload(self, message_class: int, message_type: int, payload: bytes) -> None:
        """Any payload gives a message, nothing, or MalformedMessage."""
        if message_class == STICK_TABLE and message_type in UPDATES:
            return
        try:
            read_message(Frame(message_class, message_type, payload))
        except MalformedMessage as problem:
            self.assertIn("expected", str(problem))

    def test_left_over(self) -> None:
        """Bytes after the end of a known message are skipped."""
        self.assertEqual(read_message(Frame(10, 0x84, b"\x01\x00\x00\x00\x07more")), Ack(1, 7))

    def test_short_ack(self) -> None:
        """An ack that ends inside of its id is malformed."""
        self.assertRaises(MalformedMessage, read_message, Frame(10, 0x84, b"\x01\x00\x00"))


class DefinitionTests(SynchronousTestCase):
    def definition(self, *tail: int, name: bytes = b"t") -> Message | None:
        payload = varint.encode(1) + varint.encode(len(name)) + name
        payload += b"".join(map(varint.encode, tail))
        return read_message(Frame(STICK_TABLE, DEFINITION, payload))

    def refusal(self, *tail: int) -> str:
        message = self.definition(*tail)
        assert isinstance(message, RefusedDefinition), message
        return message.why

    def test_parameters(self) -> None:
        """Parameters follow in the order of bits, each led by its own."""
        message = self.definition(
            4, 4, 1 << 2 | 1 << 10 | 1 << 22 | 1 << 24, 60000, 10, 10000, 22, 4, 24, 2, 5000
        )
        layout = Layout(
            KeyType.IPV4,
            4,
            (
                column("gpc0"),
                column("http_req_rate", period=10000),
                column("gpt", elements=4),
                column("gpc_rate", elements=2, period=5000),
            ),
        )
        self.assertEqual(message, TableDefinition(1, "t", layout, 60000))

    def test_any_is_refused_by_name(self) -> None:
        """The key type `any` is named in the refusal, others by number."""
        self.assertIn("any", self.refusal(0, 4, 0, 0))
        self.assertIn("key type 9", self.refusal(9, 4, 0, 0))

    def test_old_peer(self) -> None:
        """Without expiry and parameters, arrays make a definition unusable; the rest is not."""
        message = self.definition(6, 33, 1 << 2 | 1 << 3)
        columns = (Column(BY_NAME["gpc0"]), Column(BY_NAME["gpc0_rate"]))
        self.assertEqual(
            message, TableDefinition(1, "t", Layout(KeyType.STRING, 33, columns), None)
        )
        self.assertIn("gpt", self.refusal(6, 33, 1 << 22))

    def test_unusable(self) -> None:
        """What no table can be made of is refused in words, and is no protocol error."""
        self.assertIn("key length", self.refusal(4, 5, 0, 0))
        self.assertIn("key length", self.refusal(6, 1, 0, 0))
        self.assertIn("1 to 100", self.refusal(4, 4, 1 << 22, 0, 22, 101))
        self.assertIn("its bit", self.refusal(4, 4, 1 << 22, 0, 23, 3))
        self.assertIn("the message ends", self.refusal(4, 4, 1 << 10, 0, 10))

    def test_newer_peer(self) -> None:
        """Data types that are not known yet, and their parameters, are skipped."""
        message = self.definition(4, 4, 1 << 2 | 1 << 27, 1000, 27, 3, 10000)
        layout = Layout(KeyType.IPV4, 4, (column("gpc0"),))
        self.assertEqual(message, TableDefinition(1, "t", layout, 1000, unknown_bits=(27,)))

    def test_malformed(self) -> None:
        """No name, or nothing after it, is a protocol error."""
        for payload in (b"\x01\x00\x04\x04\x00", b"\x01\x05name!", b"\x01\x09ab", b"\x01"):
            self.assertRaises(
                MalformedMessage, read_message, Frame(STICK_TABLE, DEFINITION, payload)
            )

    def test_cannot_be_sent(self) -> None:
        """Neither a table without a name nor a rate without a period is announced."""
        layout = Layout(KeyType.IPV4, 4, (Column(BY_NAME["gpc0_rate"]),))
        self.assertRaises(LocalProtocolError, TableDefinition(1, "t", layout, 0).encode)
        self.assertRaises(
            LocalProtocolError, TableDefinition(1, "", Layout(KeyType.IPV4, 4), 0).encode
        )

    @given(definitions)
    def test_truncated(self, definition: TableDefinition) -> None:
        """A definition cut anywhere is malformed, refused, or an older peer's: no other error."""
        payload = frame_of(definition.encode()).payload
        for length in range(len(payload)):
            try:
                message = read_message(Frame(STICK_TABLE, DEFINITION, payload[:length]))
            except MalformedMessage:
                continue
            self.assertIsInstance(message, (TableDefinition, RefusedDefinition))


class UpdateTests(SynchronousTestCase):
    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        """Any entry of any layout comes back, with and without id and expiry."""
        layout = data.draw(layouts())
        drawn = data.draw(values(layout))
        record = layout.codec.encode(drawn)
        update = EntryUpdate(
            data.draw(st.none() | uint32),
            data.draw(st.none() | uint32),
            data.draw(raw_keys(layout)),
            record,
            said=None not in drawn,
        )
        sending, receiving = SendingDictionary(), ReceivingDictionary()
        for _ in range(2):  # the second time by reference
            sent = EntryUpdate(
                update.id, update.expiry, update.key, as_sent(layout, record, sending)
            )
            frame = frame_of(sent.encode(layout.key_type))
            self.assertEqual(EntryUpdate.decode(frame, layout, receiving), update)

    @given(st.data())
    def test_truncated(self, data: st.DataObject) -> None:
        """An update cut anywhere is malformed; bytes after its end are skipped."""
        layout = data.draw(layouts())
        record = layout.codec.encode(data.draw(values(layout)))
        values_sent = as_sent(layout, record, SendingDictionary())
        update = EntryUpdate(1, 2, data.draw(raw_keys(layout)), values_sent)
        message_class, message_type, payload = frame_of(update.encode(layout.key_type))
        for length in range(len(payload)):
            cut = Frame(message_class, message_type, payload[:length])
            self.assertRaises(
                MalformedMessage, EntryUpdate.decode, cut, layout, ReceivingDictionary()
            )
        more = Frame(message_class, message_type, payload + b"\xff\xff")
        self.assertEqual(EntryUpdate.decode(more, layout, ReceivingDictionary()).key, update.key)

    @given(layouts(), st.sampled_from(sorted(UPDATES)), st.binary(max_size=80))
    def test_any_payload(self, layout: Layout, message_type: int, payload: bytes) -> None:
        """Any payload is an entry that can be decoded, or MalformedMessage."""
        frame = Frame(STICK_TABLE, message_type, payload)
        try:
            update = EntryUpdate.decode(frame, layout, ReceivingDictionary())
        except MalformedMessage as problem:
            self.assertIn("expected", str(problem))
        else:
            layout.codec.decode(update.values, 0)

    def test_long_string_is_cut(self) -> None:
        """A string longer than the table's is cut to it, and the values are found behind it."""
        layout = Layout(KeyType.STRING, 4, (column("gpc0"),))
        update = EntryUpdate(1, None, b"abcdef", b"\x07")
        read = EntryUpdate.decode(
            frame_of(update.encode(KeyType.STRING)), layout, ReceivingDictionary()
        )
        self.assertEqual((read.key, read.values), (b"abc", b"\x07"))

    def test_all_types(self) -> None:
        """One entry with each of the 27 data types, with values that C would truncate."""
        columns = tuple(
            column(
                one.name,
                elements=2 if one.array else None,
                period=1000 if one.kind.name == "FREQUENCY" else None,
            )
            for one in DATA_TYPES
        )
        self.assertEqual(len(columns), 27)
        layout = Layout(KeyType.INTEGER, 4, columns)
        wire = b"".join(
            varint.encode(2**64 - 1) * (1 if one.kind.name != "FREQUENCY" else 3) * (one.array + 1)
            if one.name != "server_key"
            else b"\x00"
            for one in DATA_TYPES
        )
        record, said = layout.codec.read(wire, 0, ReceivingDictionary())
        self.assertFalse(said)
        decoded = layout.codec.decode(record, 0)
        self.assertEqual(decoded[0], -1)
        self.assertEqual(decoded[1], 2**32 - 1)
        self.assertEqual(decoded[13], 2**64 - 1)
        self.assertIsNone(decoded[19])
        self.assertEqual(decoded[22], (2**32 - 1,) * 2)
        self.assertEqual(decoded[24][0], Frequency(0, 2**32 - 1, 2**32 - 1))

from __future__ import annotations

from typing import Optional

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.node import Node
from peerproto.service.upkeep import INTERVAL, Upkeep
from peerproto.tables.declaration import Declaration
from peerproto.tables.row import UNENDING
from peerproto.tables.store import TableStore
from peerproto.updates.reception import Reception
from peerproto.updates.writer import UpdateWriter
from peerproto.wire import varint
from peerproto.wire.datatypes import DATA_TYPES, MAX_ELEMENTS, Kind
from peerproto.wire.dictionary import LONGEST_TEXT, SendingDictionary
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.frames import TIMED_UPDATE, UPDATE, FrameBuffer
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Layout, column
from peerproto.wire.messages import (
    Control,
    EntryUpdate,
    RefusedDefinition,
    TableDefinition,
    read_message,
)
from peerproto.wire.sizes import BUFFER, LONGEST_NAME, LONGEST_UPDATE, always_fits, longest_update
from tests.strategies import layouts, raw_keys, records
from tests.support import begin, make_node, take

LATEST = 1 << 33


def every_column() -> Layout:
    """All data types, with arrays as long as can be."""
    columns = tuple(
        column(
            one.name,
            elements=MAX_ELEMENTS if one.array else None,
            period=1 << 31 if one.kind is Kind.FREQUENCY else None,
        )
        for one in DATA_TYPES
    )
    return Layout(KeyType.STRING, 2000, columns)


class LongestUpdateTests(SynchronousTestCase):
    @given(st.data(), st.integers(0, LATEST))
    def test_bound(self, data: st.DataObject, now: int) -> None:
        """No update is longer than reckoned, however old its ages are when it is written."""
        layout: Layout = data.draw(layouts())
        key, record = data.draw(raw_keys(layout)), data.draw(records(layout))
        table = TableStore(Declaration("t", layout))
        table.store([(key, UNENDING, record)], 0)
        writer = UpdateWriter(table.declaration, SendingDictionary(), True)
        writer.write(list(table.scan()), now, b"1234")
        (frame,) = FrameBuffer().feed(writer.take())
        self.assertLessEqual(len(frame.payload), longest_update(layout, key, record))
        self.assertLessEqual(len(record), layout.codec.longest)

    def test_usual_tables(self) -> None:
        """Where keys are not very long everything fits: nothing is looked at entry by entry."""
        self.assertTrue(always_fits(every_column()))
        self.assertFalse(always_fits(attrs.evolve(every_column(), key_length=16384)))
        text = "x" * LONGEST_TEXT
        blank = every_column().codec.blank()
        record = every_column().codec.encode(tuple(text if one is None else one for one in blank))
        self.assertLess(len(record), every_column().codec.longest)


KEY_LENGTH = LONGEST_UPDATE - 12
"""Of keys that leave 4 bytes for a record, beside an id and an expiry."""

LONG = Declaration.parse("long", f"type binary len {KEY_LENGTH} size 9 store gpc0")
WIDER = Declaration.parse("long", f"type binary len {KEY_LENGTH} size 9 store gpc0,gpc1,gpt0")


def long_key(number: int) -> bytes:
    return number.to_bytes(LONG.layout.key_length, "big")


class NotTakenTests(SynchronousTestCase):
    def test_learnt(self) -> None:
        """An update that would be too long with an id and an expiry is not taken."""
        table = TableStore(LONG)
        reception = Reception(table, LONG.layout, 0)
        for number, record in ((1, b"\xff\xff\xff\x01"), (2, b"\xff\xff\xff\xff\x01")):
            reception.add((long_key(number), None, record, True), 0)
        (batch,) = reception.store(0)
        self.assertEqual([key[-1] for key in batch.raw_keys], [1])
        self.assertEqual(reception.longest_refused, LONGEST_UPDATE + 1)

    def test_said(self) -> None:
        """What was not taken is said once, with peer, table and size; a lesson tells anew."""
        table = Declaration.parse("names", "type integer size 9 store server_key")
        node = make_node([LONG, table])
        session = begin(node)
        peer = session.peer
        record = b"\xff\xff\xff\xff\x01"
        text = b"\x01" + varint.encode(1025) + b"x" * 1025
        expected = [
            f"an update of table long was not taken: read {LONGEST_UPDATE + 1} bytes,"
            f" expected {LONGEST_UPDATE} at most",
            "a server_key of table names was not taken: read 1025 bytes, expected 1024 at most",
        ]
        with capturedLogs() as logs:
            for number in range(3):
                take(
                    node,
                    session,
                    LONG.definition(1).encode()
                    + EntryUpdate(1, None, long_key(number), record).encode(KeyType.BINARY),
                    0,
                )
                update = EntryUpdate(1, None, b"aaaa", varint.encode(len(text)) + text)
                take(
                    node, session, table.definition(2).encode() + update.encode(KeyType.INTEGER), 0
                )
        self.assertEqual(node.out_of_step(peer), expected)
        self.assertEqual([one["why"] for one in logs if one["log_level"].name == "warn"], expected)
        self.assertEqual([one.used for one in node.tables.values()], [0, 1])
        session = node.begin(peer, 1, 0)
        self.assertEqual(node.out_of_step(peer), expected)
        session.ask_for_lesson()
        self.assertEqual(node.out_of_step(peer), ["it is teaching us"])

    def test_set(self) -> None:
        """The same where it is set here: the error says how long it may be."""
        table = TableStore(WIDER)
        with self.assertRaises(LocalProtocolError) as caught:
            table.set(long_key(1), {"gpc0": 1 << 20}, 0)
        self.assertIn(f"{LONGEST_UPDATE} at most", str(caught.exception))
        self.assertEqual(table.used, 0)

    def test_definition(self) -> None:
        """A table whose name would fill its definition is refused, and not named in full."""
        for size in (LONGEST_NAME, LONGEST_NAME + 1, BUFFER - 20):
            head = b"\x01" + varint.encode(size) + b"n" * size
            (frame,) = FrameBuffer().feed(
                b"\x0a\x82" + varint.encode(len(head) + 4) + head + b"\x02\x04\x00\x00"
            )
            message = read_message(frame)
            if size == LONGEST_NAME:
                assert isinstance(message, TableDefinition)
                self.assertEqual(message.name, "n" * size)
                continue
            assert isinstance(message, RefusedDefinition)
            self.assertEqual(message.name, "n" * 32 + "…")
            self.assertEqual(message.why, f"a name of {size} bytes, expected 4096 at most")

    def test_declaration(self) -> None:
        """A name that cannot be announced is found when the table is declared."""
        for name in ("", "n" * (LONGEST_NAME + 1)):
            self.assertRaises(LocalProtocolError, attrs.evolve, LONG, name=name)
        definition = Declaration("n" * LONGEST_NAME, every_column(), 1 << 31).definition(1 << 31)
        self.assertLess(len(definition.encode()), BUFFER)


class LeftOutTests(SynchronousTestCase):
    def taught(self, node: Node, request: Optional[Control] = None) -> list[int]:
        """The last bytes of the keys that a peer gets."""
        session = begin(node, "pupil")
        if request is not None:
            take(node, session, request.encode())
        data = b""
        while session.wants_to_send:
            data += session.pull(1 << 16, 0)
        frames = list(FrameBuffer().feed(data))
        if request is not None:
            self.assertEqual(frames[-1].message_class, 0, "the lesson ends as it should")
        for frame in frames:
            self.assertLessEqual(len(frame.encode()), BUFFER)
        heads = {UPDATE: 4, TIMED_UPDATE: 8}
        return sorted(
            one.payload[heads[one.message_type] + KEY_LENGTH - 1]
            for one in frames
            if one.message_type in heads
        )

    def test_widened(self) -> None:
        """An entry that is too long with all columns of a table that was widened is sent with its
        own; where it would have all of them it is left out, and it alone."""
        clock = Clock()
        node = make_node([LONG])
        upkeep = Upkeep(node, clock, lambda _: None)
        upkeep.start()
        self.addCleanup(upkeep.stop)
        table = node.tables["long"]
        for number, value in ((1, 5), (2, 100_000), (3, 6)):
            table.set(long_key(number), {"gpc0": value}, 0)
        table.redeclare(WIDER)
        self.assertEqual(self.taught(node), [1, 2, 3], "what was changed fits in")
        self.assertEqual(
            self.taught(node, Control.RESYNC_REQUEST), [1, 2, 3], "so does what was stored"
        )
        writer = UpdateWriter(
            WIDER, SendingDictionary(), True, left_out=node.tables.outgoing(table).left_out
        )
        entries = [(long_key(number), table.stored(long_key(number))) for number in (1, 2, 3)]
        with capturedLogs() as logs:
            whole = [(key, stored) for key, stored in entries if stored is not None]
            self.assertEqual(writer.write(whole, table.origin, bytes(4)), 2)
            clock.advance(INTERVAL)
        said = [one for one in logs if one["log_level"].name == "warn"]
        self.assertEqual(
            [(one["count"], one["table"], one["size"]) for one in said],
            [(1, "long", LONGEST_UPDATE + 1)],
        )

    def test_both_ways(self) -> None:
        """What is too long is left out by steps and by what is generated, and is noted."""
        table = TableStore(LONG)
        for number, record in ((1, b"\x01"), (2, b"\xff\xff\xff\xff\x01"), (3, b"\x01")):
            table.store([(long_key(number), UNENDING, record)], 0)
        for generated in (False, True):
            left_out: dict[bytes, int] = {}
            writer = UpdateWriter(LONG, SendingDictionary(), True, left_out=left_out)
            write = writer.by_generated if generated else writer.by_steps
            self.assertEqual(write(list(table.scan()), 0, b"1234"), 2)
            self.assertEqual(len(list(FrameBuffer().feed(writer.take()))), 2)
            self.assertEqual(list(left_out.values()), [LONGEST_UPDATE + 1])

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.limits import Limits
from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session, SessionState
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.lesson import CHUNK
from peerproto.tables.log import ChangeLog
from peerproto.tables.table import StickTable
from peerproto.wire import varint
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import Frame, FrameBuffer
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Control,
    EntryUpdate,
    ErrorMessage,
    TableDefinition,
    TableSwitch,
    read_message,
)

RATES = Declaration.parse("rates", "type integer size 100k expire 10s store gpc0")
NAMES = Declaration.parse("names", "type string len 20 size 1k store gpc0,server_key")
REQUEST = Control.RESYNC_REQUEST.encode()
CONFIRM = Control.RESYNC_CONFIRM.encode()
HEARTBEAT = Control.HEARTBEAT.encode()


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def update(number: int | None, raw_key: bytes, values: bytes, expiry: int | None = None) -> bytes:
    return EntryUpdate(number, expiry, raw_key, values).encode(RATES.layout.key_type)


class SessionTestCase(SynchronousTestCase):
    minor = 1

    def setUp(self) -> None:
        self.clock = Clock()
        self.batches: list[Batch] = []
        self.resync = Resync(self.clock)
        self.node = Node("us", self.resync, (RATES,), tell=self.batches.append)
        self.peer = self.node.peers["them"] = Peer("them")
        self.rates = self.node.tables["rates"]
        self.session = self.connect()

    def connect(self, now: int = 0) -> Session:
        session = Session(self.node, self.peer, self.minor, now)
        self.assertEqual(session.pull(1, now), HEARTBEAT)
        self.definition: TableDefinition | None = None
        self.dictionary = ReceivingDictionary()
        return session

    def pull(self, now: int = 0) -> list[object]:
        """What is sent, as messages and as (id, expiry, key, values) of updates."""
        said: list[object] = []
        data = b""
        while self.session.wants_to_send:
            data += self.session.pull(1 << 16, now)
        for frame in FrameBuffer().feed(data):
            if frame.message_type in UPDATES and frame.message_class == 10:
                assert self.definition is not None
                one = EntryUpdate.decode(frame, self.definition.layout, self.dictionary)
                said.append((one.id, one.expiry, one.key, one.values))
                continue
            message = read_message(frame)
            said.append(message)
            if isinstance(message, TableDefinition):
                self.definition = message
        return said

    def defined(self, declaration: Declaration = RATES, table_id: int = 7) -> bytes:
        return declaration.definition(table_id).encode()


class LearningTests(SessionTestCase):
    def test_updates_are_stored_and_acked_once(self) -> None:
        """All of a read is stored, told in one batch, and acked with the latest id."""
        data = self.defined() + update(5, key(1), b"\x01") + update(None, key(2), b"\x02")
        self.session.receive(data, 100)
        self.assertEqual(self.value(1), 1)
        self.assertEqual(self.value(2), 2)
        (batch,) = self.batches
        self.assertEqual((batch.cause, batch.origin), (Cause.LEARNT, "them"))
        self.assertEqual(list(batch.keys()), [1, 2])
        self.assertEqual(self.pull(), [Ack(7, 6)])
        self.assertEqual(self.pull(), [])

    def value(self, number: int, now: int = 100) -> object:
        entry = self.rates.get(key(number), now)
        return None if entry is None else entry["gpc0"]

    def test_expiry_of_timed_updates(self) -> None:
        """A timed update lives as long as it says, at most as the table."""
        self.session.receive(
            self.defined() + update(1, key(1), b"\x01", 50) + update(2, key(2), b"\x01", 99999),
            100,
        )
        self.assertEqual(self.value(1, 149), 1)
        self.assertIsNone(self.value(1, 150))
        entry = self.rates.get(key(2), 100)
        assert entry is not None
        self.assertEqual(entry.expires_in, 10000)

    def test_incremental_id_wraps(self) -> None:
        """After the last id comes 0."""
        self.session.receive(
            self.defined() + update(2**32 - 1, key(1), b"\x01") + update(None, key(2), b"\x01"), 0
        )
        self.assertEqual(self.pull(), [Ack(7, 0)])

    def test_definitions_and_switches(self) -> None:
        """Updates belong to the table defined or switched to last."""
        self.session.receive(
            self.defined()
            + self.defined(NAMES, 8)
            + EntryUpdate(1, None, b"ann", b"\x05\x04\x01\x02s1").encode(NAMES.layout.key_type)
            + TableSwitch(7).encode()
            + update(9, key(1), b"\x03"),
            100,
        )
        self.assertEqual(self.value(1), 3)
        entry = self.node.tables["names"].get(b"ann", 100)
        assert entry is not None
        self.assertEqual(entry.as_dict(), {"gpc0": 5, "server_key": "s1"})
        self.assertEqual(self.pull(), [Ack(7, 9), Ack(8, 1)])
        self.assertEqual({batch.table.name for batch in self.batches}, {"names", "rates"})

    def test_switch_to_the_unknown(self) -> None:
        """Updates of a table that was never defined are skipped; the session goes on."""
        self.session.receive(
            TableSwitch(9).encode() + update(1, key(1), b"\x01") + self.defined(), 0
        )
        self.assertEqual(self.rates.used, 0)
        self.assertFalse(self.session.over)

    def test_table_that_differs(self) -> None:
        """A table of another key is not shared, and that is said in words."""
        other = Declaration.parse("rates", "type ip size 1k store gpc0")
        self.session.receive(self.defined(other) + update(1, key(1), b"\x01"), 0)
        self.assertEqual(self.rates.used, 0)
        self.assertEqual(
            self.peer.out_of_step(), ["table rates differs in key type: ip there, integer here"]
        )
        self.session.receive(self.defined(), 0)
        self.assertEqual(self.peer.out_of_step(), [])

    def test_dictionary_of_a_table_not_shared(self) -> None:
        """Texts sent with a table that is not shared can be referred to by another."""
        self.node.learn_tables = False
        self.node.add_table(NAMES)
        other = Declaration.parse("more", "type string size 1k store gpc0,server_key")
        self.session.receive(
            self.defined(other, 1)
            + EntryUpdate(1, None, b"x", b"\x05\x04\x01\x02s1").encode(NAMES.layout.key_type)
            + self.defined(NAMES, 2)
            + EntryUpdate(1, None, b"y", b"\x05\x01\x01").encode(NAMES.layout.key_type),
            0,
        )
        self.assertIsNone(self.session.ended_by)
        entry = self.node.tables["names"].get(b"y", 0)
        assert entry is not None
        self.assertEqual(entry["server_key"], "s1")
        self.assertIn("more", self.peer.differences)

    def test_adoption(self) -> None:
        """With learn-tables a table is adopted as defined, and follows later definitions."""
        first = Declaration.parse("new", "type ip size 1k expire 1m store gpc0")
        more = Declaration.parse("new", "type ip size 1k expire 2m store gpc0,gpc1")
        self.session.receive(self.defined(first) + update(1, key(1), b"\x03"), 0)
        table = self.node.tables["new"]
        self.assertEqual((table.layout, table.declaration.expire), (first.layout, 60000))
        self.session.receive(self.defined(more) + update(2, key(2), b"\x04\x05"), 0)
        self.assertEqual((table.layout, table.declaration.expire), (more.layout, 120000))
        self.assertEqual([self.cells(table, n) for n in (1, 2)], [[3, 0], [4, 5]])
        another = Session(self.node, Peer("another"), 1, 0)
        another.receive(self.defined(first) + update(1, key(2), b"\x06"), 0)
        self.assertEqual(table.layout, more.layout)
        self.assertEqual(table.declaration.expire, 120000)
        self.assertEqual(self.cells(table, 2), [6, 5])

    def cells(self, table: StickTable, number: int) -> list[object]:
        entry = table.get(key(number), 0)
        assert entry is not None
        return list(entry.as_dict().values())

    def test_many_tables(self) -> None:
        """A peer that defines very many tables is taken so many of, and told of once."""
        self.node.limits = Limits(tables_per_peer=3)
        for number in range(10_000):
            table = Declaration.parse(f"t{number}", "type ip size 1k store gpc0")
            self.session.receive(self.defined(table, number) + update(1, key(1), b"\x01"), 0)
        self.assertEqual(list(self.node.tables), ["rates", "t0", "t1", "t2"])
        self.assertLess(len(self.peer.differences), 5)
        self.assertIn("t3 is not adopted: 3 of this", " ".join(self.peer.differences.values()))
        self.assertIn("it defines more tables", self.peer.differences[""])
        self.assertLess(len(self.session._receiver._defined), 10)
        self.assertFalse(self.session.over)

    def test_defined_anew_where_none_is_remembered_any_more(self) -> None:
        """The last definition under an id holds, however many there were."""
        self.node.limits = Limits(tables_per_peer=1)
        other = Declaration.parse("other", "type integer size 1k store gpc0")
        self.session.receive(
            self.defined(other, 1)
            + self.defined(RATES, 2)
            + self.defined(other, 3)
            + self.defined(RATES, 1)
            + self.defined(other, 3)
            + TableSwitch(1).encode()
            + update(1, key(1), b"\x01"),
            0,
        )
        self.assertEqual((self.rates.used, self.node.tables["other"].used), (1, 0))

    def test_refused_definition(self) -> None:
        """A definition that no table can be made of is ignored, with a word about it."""
        payload = b"\x01\x03bad\x00\x04\x00"
        self.session.receive(Frame(10, 0x82, payload).encode() + update(1, key(1), b"\x01"), 0)
        self.assertFalse(self.session.over)
        self.assertEqual(
            self.peer.differences["bad"],
            "table bad cannot be stored: key type any,"
            " expected integer, ip, ipv6, string or binary",
        )

    def test_names_that_cannot_be_shown(self) -> None:
        """A table whose name would garble a report is not shared, and is quoted."""
        layout = RATES.layout
        for name in ("a b", "a\nb", "a\x1b[2J"):
            self.session.receive(TableDefinition(1, name, layout, 0).encode(), 0)
            self.assertNotIn(name, self.node.tables)
            self.assertIn(repr(name), self.peer.differences[name])

    def test_unknown_messages_are_skipped(self) -> None:
        """Classes and types of newer peers are skipped, with their payload."""
        self.session.receive(b"\x07\x01\x0a\x99\x02xx\x00\x77" + HEARTBEAT, 0)
        self.assertFalse(self.session.over)
        self.assertEqual(self.peer.counters.rx_hbt, 1)

    def test_not_sent_on(self) -> None:
        """What was learnt from a peer is no change to send to others."""
        self.session.receive(self.defined() + update(1, key(1), b"\x01"), 0)
        other = Session(self.node, Peer("other"), 1, 0)
        self.assertEqual(other.pull(1000, 0), HEARTBEAT)


class ErrorTests(SessionTestCase):
    def check(self, data: bytes, code: int) -> str:
        good = self.defined() + update(1, key(1), b"\x07")
        self.session.receive(good + data + update(2, key(2), b"\x07"), 0)
        self.assertEqual(self.session.pull(100, 0), bytes((1, code)))
        self.assertTrue(self.session.over)
        self.assertEqual(self.peer.counters.proto_err, 1)
        self.assertEqual(self.rates.used, 1, "what came before the error is kept")
        self.assertEqual(sum(map(len, self.batches)), 1, "and told")
        self.session.receive(update(3, key(3), b"\x07"), 0)
        self.assertEqual(self.rates.used, 1, "what comes after it is not read")
        assert self.session.ended_by is not None
        return self.session.ended_by

    def test_too_long(self) -> None:
        """A message of over 16384 bytes is answered with 1/1."""
        self.assertIn("16385", self.check(b"\x0a\x80" + varint.encode(16385), 1))

    def test_truncated_integer(self) -> None:
        """An integer that runs past its message is answered with 1/0."""
        self.assertIn("\\xf0\\x80", self.check(update(2, key(9), b"\xf0\x80"), 0))

    def test_value_past_the_message(self) -> None:
        """A value that is not there is answered with 1/0."""
        self.assertIn("the message ends", self.check(update(2, key(9), b""), 0))

    def test_reserved_class(self) -> None:
        """Class 255 is answered with 1/0."""
        self.assertIn("255", self.check(b"\xff\x00", 0))

    def test_dictionary_id_never_sent(self) -> None:
        """A reference to nothing is answered with 1/0."""
        names = EntryUpdate(1, None, b"x", b"\x05\x01\x03").encode(NAMES.layout.key_type)
        self.assertIn("dictionary id", self.check(self.defined(NAMES, 8) + names, 0))

    def test_peer_reports_an_error(self) -> None:
        """An error message ends the session without an answer."""
        self.session.receive(ErrorMessage.SIZE_LIMIT.encode(), 0)
        self.assertTrue(self.session.over)
        self.assertEqual(self.session.pull(100, 0), b"")
        self.assertIn("size limit", self.session.ended_by or "")

    @given(st.lists(st.binary(max_size=200), max_size=6), st.booleans())
    def test_any_bytes(self, pieces: list[bytes], defined: bool) -> None:
        """Any bytes in any pieces end in messages, a wait, or one error answer."""
        self.setUp()
        if defined:
            self.session.receive(self.defined(NAMES, 8), 0)
        for piece in pieces:
            self.session.receive(piece, 0)
        sent = b""
        while self.session.wants_to_send and len(sent) < 1 << 16:
            sent += self.session.pull(1 << 16, 0)
        if self.session.over and "reported" not in (self.session.ended_by or ""):
            self.assertIn(sent[-2:], (b"\x01\x00", b"\x01\x01"))


class SendingTests(SessionTestCase):
    def test_changes(self) -> None:
        """Changes go out in order, each with id and expiry, once."""
        for number in (1, 2, 1):
            self.rates.set(key(number), {"gpc0": number}, 0)
        self.assertEqual(
            self.pull(4000),
            [RATES.definition(1), (2, 6000, key(2), b"\x02"), (3, 6000, key(1), b"\x01")],
        )
        self.assertEqual(self.pull(), [])
        self.rates.set(key(3), {}, 4000)
        self.assertEqual(self.pull(4000), [(4, 10000, key(3), b"\x00")])

    def test_other_tables_stay_untouched(self) -> None:
        """Only the table that changed is defined and sent."""
        self.node.add_table(NAMES)
        self.node.tables["names"].set(b"ann", {"server_key": "s1"}, 0)
        self.assertEqual(self.pull(), [NAMES.definition(2), (1, 0, b"ann", b"\x00\x02s1")])

    def test_gone_entries_are_not_sent(self) -> None:
        """What was removed or has expired since the change is passed over."""
        self.rates.set(key(1), {}, 0)
        self.rates.set(key(2), {}, 0)
        self.rates.set(key(3), {}, 5000)
        self.rates.remove(key(2))
        self.assertEqual(self.pull(11000), [RATES.definition(1), (3, 4000, key(3), b"\x00")])

    def test_little_room(self) -> None:
        """However little room there is, everything is sent in the end, once."""
        for number in range(100):
            self.rates.set(key(number), {}, 0)
        sent = b""
        while self.session.wants_to_send:
            piece = self.session.pull(20, 0)
            self.assertLess(len(piece), 100)
            sent += piece
        frames = [frame for frame in FrameBuffer().feed(sent) if frame.message_type in UPDATES]
        self.assertEqual(len(frames), 100)
        self.assertEqual(self.peer.counters.tx_updates, 100)

    def test_restart_from_the_acked_id(self) -> None:
        """A new session goes on after the latest ack, not before it."""
        for number in range(1, 6):
            self.rates.set(key(number), {}, 0)
        self.pull()
        self.session.receive(Ack(1, 3).encode(), 0)
        self.session = self.connect()
        self.assertEqual([one[0] for one in self.pull()[1:]], [4, 5])  # type: ignore[index]

    def test_acks_out_of_range(self) -> None:
        """Acks of what was not sent, of the past, or of unknown tables did not come."""
        for number in range(1, 6):
            self.rates.set(key(number), {}, 0)
        self.pull()
        self.session.receive(Ack(1, 4).encode(), 0)
        for ack in (Ack(1, 0x05000000), Ack(1, 6), Ack(1, 2), Ack(9, 5), Ack(1, 2**32 - 1)):
            self.session.receive(ack.encode(), 0)
        self.assertEqual(self.peer.acked, {"rates": 4})

    def test_ids_wrap(self) -> None:
        """Ids go on across 2**32, and so do acks and restarts."""
        self.rates.log = ChangeLog(head=2**32 - 2)
        self.peer.acked["rates"] = 2**32 - 2
        self.session = self.connect()
        for number in range(4):
            self.rates.set(key(number), {}, 0)
        ids = [one[0] for one in self.pull()[1:]]  # type: ignore[index]
        self.assertEqual(ids, [2**32 - 1, 0, 1, 2])
        self.session.receive(Ack(1, 1).encode(), 0)
        self.session = self.connect()
        self.assertEqual([one[0] for one in self.pull()[1:]], [2])  # type: ignore[index]


class DowngradedTests(SessionTestCase):
    minor = 0

    def test_no_timed_updates(self) -> None:
        """A peer that speaks 2.0 gets no timed update, live or in a lesson."""
        self.rates.set(key(1), {}, 0)
        self.assertEqual(self.pull(), [RATES.definition(1), (1, None, key(1), b"\x00")])
        self.session.receive(REQUEST, 0)
        self.assertEqual(self.pull()[0], (1, None, key(1), b"\x00"))


class TeachingTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.session.receive(
            self.defined() + update(1, key(1), b"\x01") + update(2, key(2), b"\x02"), 0
        )
        self.rates.set(key(3), {"gpc0": 3}, 0)
        self.pull()

    def lesson(self) -> list[object]:
        self.session.receive(REQUEST, 0)
        return self.pull()

    def test_lesson(self) -> None:
        """All entries are taught, the learnt ones too; then partial, as long as we are not
        up to date."""
        said = self.lesson()
        self.assertEqual(
            {one for one in said if isinstance(one, tuple)},
            {(1, 10000, key(n), bytes((n,))) for n in (1, 2, 3)},
        )
        self.assertIs(said[-1], Control.RESYNC_PARTIAL)
        self.assertIs(self.session.state, SessionState.AWAITING_CONFIRM)

    def test_finished_when_up_to_date(self) -> None:
        """A node that counts itself up to date ends its lessons with finished."""
        self.resync.start()
        self.clock.advance(5)
        self.assertIs(self.lesson()[-1], Control.RESYNC_FINISHED)

    def test_every_table_is_announced(self) -> None:
        """Empty tables are defined in a lesson, too."""
        self.node.add_table(NAMES)
        self.assertIn(NAMES.definition(2), self.lesson())

    def test_changes_wait_for_the_confirm(self) -> None:
        """What changes during a lesson is sent after the confirm."""
        self.lesson()
        self.rates.set(key(4), {}, 0)
        self.assertEqual(self.pull(), [])
        self.assertFalse(self.session.wants_to_send)
        self.session.receive(CONFIRM, 0)
        self.assertEqual(
            [one for one in self.pull() if isinstance(one, tuple)], [(2, 10000, key(4), b"\x00")]
        )

    def test_confirm_acks_the_lesson(self) -> None:
        """After the confirm a new session does not repeat what was taught."""
        self.lesson()
        self.session.receive(CONFIRM, 0)
        self.assertEqual(self.peer.acked, {"rates": 1})
        self.session = self.connect()
        self.assertEqual(self.pull(), [])

    def test_broken_lesson(self) -> None:
        """Without a confirm, a new session repeats what was not acked."""
        self.lesson()
        self.session = self.connect()
        self.assertEqual([one[0] for one in self.pull()[1:]], [1])  # type: ignore[index]

    def test_acks_during_a_lesson_do_not_count(self) -> None:
        """Ids of a lesson are not in the order of changes."""
        self.lesson()
        self.session.receive(Ack(1, 1).encode(), 0)
        self.assertEqual(self.peer.acked, {})

    def test_request_during_a_lesson(self) -> None:
        """A new request starts the lesson again."""
        for number in range(1000):
            self.rates.set(key(number), {}, 0)
        self.session.receive(REQUEST, 0)
        self.session.pull(100, 0)
        said = self.lesson()
        self.assertEqual(len({one[2] for one in said if isinstance(one, tuple)}), 1000)
        self.assertEqual(said.count(Control.RESYNC_PARTIAL), 1)

    def test_confirm_out_of_place(self) -> None:
        """A confirm that nobody waits for changes nothing."""
        self.session.receive(CONFIRM, 0)
        self.assertIs(self.session.state, SessionState.LIVE)
        self.assertEqual(self.peer.acked, {})

    def test_a_large_lesson_is_not_built_at_once(self) -> None:
        """A lesson is produced as it is drawn."""
        for number in range(5000):
            self.rates.set(key(number), {}, 0)
        self.session.receive(REQUEST, 0)
        pieces = 0
        while self.session.wants_to_send:
            self.assertLess(len(self.session.pull(2000, 0)), CHUNK + 1000)
            pieces += 1
        self.assertGreater(pieces, 4)


class AskingTests(SessionTestCase):
    def test_learning(self) -> None:
        """The lesson that was asked for is confirmed and not acked; then acks go on."""
        self.resync.start()
        self.resync.connected(self.session)
        self.assertEqual(self.pull(), [Control.RESYNC_REQUEST])
        self.session.receive(self.defined() + update(1, key(1), b"\x01"), 0)
        self.assertEqual(self.pull(), [])
        self.session.receive(Control.RESYNC_FINISHED.encode(), 0)
        self.assertEqual(self.pull(), [Control.RESYNC_CONFIRM])
        self.assertTrue(self.resync.up_to_date)
        self.session.receive(update(8, key(2), b"\x01"), 0)
        self.assertEqual(self.pull(), [Ack(7, 8)])

    def test_unasked_lesson(self) -> None:
        """Every finished or partial is confirmed, asked for or not."""
        for end in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL):
            self.session.receive(end.encode(), 0)
            self.assertEqual(self.pull(), [Control.RESYNC_CONFIRM])
        self.assertFalse(self.resync.up_to_date)
        self.assertEqual(self.peer.counters.confirm, 2)


class TimeTests(SessionTestCase):
    def test_heartbeat(self) -> None:
        """After 3 s without sending anything, a heartbeat."""
        self.assertEqual(self.session.next_wake(), 3000)
        self.session.wake(2999)
        self.assertEqual(self.pull(2999), [])
        self.session.wake(3000)
        self.assertEqual(self.pull(3000), [Control.HEARTBEAT])
        self.assertEqual(self.session.next_wake(), 5000)

    def test_dead_peer(self) -> None:
        """A period of 5 s without a byte ends the session; any byte keeps it."""
        self.session.receive(HEARTBEAT, 1000)
        self.session.wake(5000)
        self.session.receive(b"\x00", 9999)
        self.session.wake(10000)
        self.assertFalse(self.session.over)
        self.session.wake(15000)
        self.assertTrue(self.session.over)
        self.assertTrue(self.session.call_soon)
        self.assertEqual(self.peer.counters.no_hbt, 1)
        self.assertIn("5 s", self.session.ended_by or "")

from __future__ import annotations

import gc
from typing import NoReturn

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from peerproto.peering.limits import Limits
from peerproto.peering.reasons import Lack
from peerproto.peering.session import Session
from peerproto.peering.states import ResyncState, SessionState
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.log import ChangeLog
from peerproto.tables.store import TableStore
from peerproto.updates.lesson import CHUNK
from peerproto.wire import varint
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import Frame, FrameBuffer
from peerproto.wire.layout import column
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Control,
    EntryUpdate,
    ErrorMessage,
    Mark,
    TableDefinition,
    TableSwitch,
    read_message,
)
from tests.support import NodeTestCase, begin, make_node

RATES = Declaration.parse("rates", "type integer size 100k expire 10s store gpc0")
NAMES = Declaration.parse("names", "type string len 20 size 1k store gpc0,server_key")
COUNTERS = Declaration.parse("counters", "type integer size 1k store gpt0,gpc0").with_columns(
    [column("gpc", elements=2)]
)
REQUEST = Control.RESYNC_REQUEST.encode()
CONFIRM = Control.RESYNC_CONFIRM.encode()
HEARTBEAT = Control.HEARTBEAT.encode()
GREETING = HEARTBEAT + Mark.TIES.encode()


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def columns_of(declaration: Declaration, *names: str) -> Declaration:
    """The same with some columns alone."""
    whole = declaration.layout
    columns = tuple(one for one in whole.columns if one.name in names)
    return attrs.evolve(declaration, layout=attrs.evolve(whole, columns=columns))


def update(number: int | None, raw_key: bytes, values: bytes, expiry: int | None = None) -> bytes:
    return EntryUpdate(number, expiry, raw_key, values).encode(RATES.layout.key_type)


class SessionTestCase(NodeTestCase):
    minor = 1

    def setUp(self) -> None:
        super().setUp()
        self.node = make_node((RATES,))
        self.resync = self.node.resync
        self.peer = self.node.expect("them", 0)
        self.rates = self.node.tables["rates"]
        self.session = self.connect()

    def connect(self, now: int = 0) -> Session:
        session = self.node.begin(self.peer, self.minor, now)
        self.assertEqual(session.pull(1, now), GREETING)
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
        self.take(self.session, data, 100)
        self.assertEqual(self.value(1), 1)
        self.assertEqual(self.value(2), 2)
        (batch,) = self.told
        self.assertEqual((batch.cause, batch.origin), (Cause.LEARNT, "them"))
        self.assertEqual(list(batch.raw_keys), [key(1), key(2)])
        self.assertEqual(self.pull(), [Ack(7, 6)])
        self.assertEqual(self.pull(), [])

    def value(self, number: int, now: int = 100) -> object:
        entry = self.rates.get(key(number), now)
        return None if entry is None else entry["gpc0"]

    def test_expiry_of_timed_updates(self) -> None:
        """A timed update lives as long as it says, at most as the table."""
        self.take(
            self.session,
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
        self.take(
            self.session,
            self.defined() + update(2**32 - 1, key(1), b"\x01") + update(None, key(2), b"\x01"),
            0,
        )
        self.assertEqual(self.pull(), [Ack(7, 0)])

    def test_definitions_and_switches(self) -> None:
        """Updates belong to the table defined or switched to last."""
        self.take(
            self.session,
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
        self.assertEqual(dict(entry), {"gpc0": 5, "server_key": "s1"})
        self.assertEqual(self.pull(), [Ack(8, 1), Ack(7, 9)])
        self.assertEqual({batch.table.name for batch in self.told}, {"names", "rates"})

    def test_switch_to_the_unknown(self) -> None:
        """Updates of a table that was never defined are skipped; the session goes on."""
        self.take(
            self.session, TableSwitch(9).encode() + update(1, key(1), b"\x01") + self.defined(), 0
        )
        self.assertEqual(self.rates.used, 0)
        self.assertFalse(self.session.over)

    def test_table_that_differs(self) -> None:
        """A table of another key is not shared, and that is said in words."""
        other = Declaration.parse("rates", "type ip size 1k store gpc0")
        self.take(self.session, self.defined(other) + update(1, key(1), b"\x01"), 0)
        self.assertEqual(self.rates.used, 0)
        self.assertEqual(
            self.node.out_of_step(self.peer),
            ["table rates differs in key type: ip there, integer here"],
        )
        self.assertEqual(
            [one.lack for one in self.node.out_of_step(self.peer)], [Lack.TABLE_DIFFERS]
        )
        self.take(self.session, self.defined(), 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])

    def test_dictionary_of_a_table_not_shared(self) -> None:
        """Texts sent with a table that is not shared can be referred to by another."""
        self.node.adoption.learn_tables = False
        self.node.tables.add(NAMES)
        other = Declaration.parse("more", "type string size 1k store gpc0,server_key")
        self.take(
            self.session,
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
        self.assertIn("more", self.session.differences)

    def test_text_not_said(self) -> None:
        """A text stays where an update says nothing of it, and an unknown id is no error."""
        table = self.node.tables.add(NAMES)
        for said, text in ((b"\x04\x01\x02s1", "s1"), (b"\x00", "s1"), (b"\x01\x63", "s1")):
            update = EntryUpdate(None, None, b"y", b"\x05" + said)
            self.take(self.session, self.defined(NAMES) + update.encode(NAMES.layout.key_type), 0)
            self.assertIsNone(self.session.ended_by)
            entry = table.get(b"y", 0)
            assert entry is not None
            self.assertEqual(entry["server_key"], text)

    def test_updates_of_a_table_not_shared(self) -> None:
        """What is wrong in an update of a table that is not shared ends no session."""
        self.node.adoption.learn_tables = False
        table = self.node.tables.add(NAMES)
        other = Declaration.parse("more", "type string size 1k store gpc0,server_key")
        updates = [
            EntryUpdate(1, None, b"x", b"\x05" + text).encode(NAMES.layout.key_type)
            for text in (b"\x01\x63", b"\x04\x01\x02s1", b"\x09\x01\x02s2", b"\x01\x00")
        ]
        self.take(self.session, self.defined(other, 1) + b"".join(updates), 0)
        self.assertIsNone(self.session.ended_by)
        known = EntryUpdate(1, None, b"y", b"\x05\x01\x01").encode(NAMES.layout.key_type)
        self.take(self.session, self.defined(NAMES, 2) + known, 0)
        entry = table.get(b"y", 0)
        assert entry is not None
        self.assertEqual(entry["server_key"], "s1")

    def test_adoption(self) -> None:
        """With learn-tables a table is adopted as defined, and follows later definitions."""
        first = Declaration.parse("new", "type ip size 1k expire 1m store gpc0")
        more = Declaration.parse("new", "type ip size 1k expire 2m store gpc0,gpc1")
        self.take(self.session, self.defined(first) + update(1, key(1), b"\x03"), 0)
        table = self.node.tables["new"]
        self.assertEqual((table.layout, table.declaration.expire), (first.layout, 60000))
        self.take(self.session, self.defined(more) + update(2, key(2), b"\x04\x05"), 0)
        self.assertEqual((table.layout, table.declaration.expire), (more.layout, 120000))
        self.assertEqual([self.cells(table, n) for n in (1, 2)], [[3, 0], [4, 5]])
        another = begin(self.node, "another")
        self.take(another, self.defined(first) + update(1, key(2), b"\x06"), 0)
        self.assertEqual(table.layout, more.layout)
        self.assertEqual(table.declaration.expire, 120000)
        self.assertEqual(self.cells(table, 2), [6, 5])

    def test_no_period(self) -> None:
        """A rate over a period of 0 is 0; what is counted is stored, and taught as it came."""
        odd = Declaration.parse("odd", "type ip size 1k store gpc0_rate(0),gpc0")
        self.take(self.session, self.defined(odd) + update(1, key(1), b"\x03\x00\x04\x05"), 0)
        table = self.node.tables["odd"]
        self.assertEqual(self.cells(table, 1), [3, 0])
        pupil = begin(self.node, "pupil")
        pupil.teach()
        sent = pupil.pull(10000, 0)
        self.assertIn(table.declaration.definition(self.node.tables.local_id(table)).encode(), sent)
        self.assertIn(key(1) + b"\x03\x00\x04\x05", sent)

    def cells(self, table: TableStore, number: int) -> list[object]:
        entry = table.get(key(number), 0)
        assert entry is not None
        return list(dict(entry).values())

    def test_many_tables(self) -> None:
        """A peer that defines very many tables is taken so many of, and told of once."""
        self.node.adoption.limits = Limits(tables_per_peer=3)
        for number in range(10_000):
            table = Declaration.parse(f"t{number}", "type ip size 1k store gpc0")
            self.take(self.session, self.defined(table, number) + update(1, key(1), b"\x01"), 0)
        self.assertEqual(list(self.node.tables), ["rates", "t0", "t1", "t2"])
        self.assertLess(len(self.session.differences), 5)
        self.assertIn("t3 is not adopted: 3 of this", " ".join(self.session.differences.values()))
        self.assertIn("it defines more tables", self.session.differences[""])
        self.assertFalse(self.session.over)

    def test_defined_anew_where_none_is_remembered_any_more(self) -> None:
        """The last definition under an id holds, however many there were."""
        self.node.adoption.limits = Limits(tables_per_peer=1)
        other = Declaration.parse("other", "type integer size 1k store gpc0")
        self.take(
            self.session,
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
        self.take(self.session, Frame(10, 0x82, payload).encode() + update(1, key(1), b"\x01"), 0)
        self.assertFalse(self.session.over)
        self.assertEqual(
            self.session.differences["bad"],
            "table bad cannot be stored: key type any,"
            " expected integer, ip, ipv6, string or binary",
        )

    def test_names_that_cannot_be_shown(self) -> None:
        """A table whose name would garble a report is not shared, and is quoted."""
        layout = RATES.layout
        for name in ("a b", "a\nb", "a\x1b[2J"):
            self.take(self.session, TableDefinition(1, name, layout, 0).encode(), 0)
            self.assertNotIn(name, self.node.tables)
            self.assertIn(repr(name), self.session.differences[name])

    def test_updates_without_id_across_reads(self) -> None:
        """An id that is left out follows the one before, read by read and message by message."""
        self.take(self.session, self.defined() + update(5, key(1), b"\x01"), 0)
        self.take(self.session, update(None, key(2), b"\x02"), 0)
        longer = b"\x03" + b"left over" * 30
        self.take(self.session, update(None, key(3), longer), 0)
        self.assertEqual(self.pull(), [Ack(7, 7)])
        self.take(self.session, update(None, key(4), longer) + update(None, key(5), b"\x01"), 0)
        self.assertEqual(self.pull(), [Ack(7, 9)])

    def test_after_a_switch_to_the_unknown(self) -> None:
        """What follows a switch to an id without a definition belongs to no table."""
        self.take(
            self.session, self.defined() + TableSwitch(9).encode() + update(1, key(1), b"\x01"), 0
        )
        self.assertEqual(self.rates.used, 0)

    def test_a_table_that_begins_anew_on_a_running_session(self) -> None:
        """Updates go into the table that bears the name now, once the session has looked again."""
        self.take(self.session, self.defined() + update(1, key(1), b"\x01"), 0)
        self.node.remove_table("rates")
        rates = self.node.tables.add(RATES)
        self.session.look_again((), 0)
        self.take(self.session, update(2, key(2), b"\x02"), 0)
        self.assertEqual((rates.used, rates.get(key(2), 0) is not None), (1, True))

    def test_a_table_that_is_declared_later(self) -> None:
        """A table that was refused is shared from the moment that its declaration is right."""
        self.node.adoption.learn_tables = False
        self.take(self.session, self.defined(NAMES, 8), 0)
        self.assertEqual(len(self.node.out_of_step(self.peer)), 1)
        names = self.node.tables.add(NAMES)
        self.session.look_again((), 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])
        ann = EntryUpdate(1, None, b"ann", b"\x05\x04\x01\x02s1").encode(NAMES.layout.key_type)
        self.take(self.session, ann, 0)
        self.assertEqual(names.used, 1)

    def test_a_table_that_is_removed(self) -> None:
        """Nothing is said any more of a table that is not shared, and nothing brings it back
        but a definition."""
        other = Declaration.parse("rates", "type ip size 1k store gpc0")
        self.take(self.session, self.defined(other), 0)
        self.assertEqual(len(self.node.out_of_step(self.peer)), 1)
        self.node.remove_table("rates")
        self.session.look_again((), 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])
        self.assertEqual(self.node.tables, {})
        self.take(self.session, self.defined(other), 0)
        self.assertEqual(list(self.node.tables), ["rates"])

    def test_a_table_that_was_defined_under_another_id(self) -> None:
        """The last definition of a table holds, whatever id the one before it had."""
        other = Declaration.parse("rates", "type ip size 1k store gpc0")
        self.take(self.session, self.defined(other, 1) + self.defined(RATES, 2), 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])
        self.node.tables.add(NAMES)
        self.session.look_again((), 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])
        self.take(self.session, TableSwitch(1).encode() + update(1, key(1), b"\x01"), 0)
        self.assertEqual(self.rates.used, 0)

    def test_a_table_that_is_removed_under_its_updates(self) -> None:
        """Updates of the removed table go nowhere, though other tables were looked up again."""
        names = self.node.tables.add(NAMES)
        self.take(self.session, self.defined() + self.defined(NAMES, 8), 0)
        self.node.remove_table("names")
        self.session.look_again((), 0)
        ann = EntryUpdate(1, None, b"annabel", b"\x05\x00").encode(NAMES.layout.key_type)
        self.take(self.session, ann, 0)
        self.assertEqual((self.rates.used, names.used), (0, 0))
        self.assertFalse(self.session.over)

    def test_an_adopted_table_with_other_keys(self) -> None:
        """A table begins anew when the peer that it was adopted from has other keys for it;
        no other peer can do that."""
        first = Declaration.parse("new", "type ip size 1k expire 1m store gpc0")
        other = Declaration.parse("new", "type string len 20 size 1k store gpc0")
        self.take(self.session, self.defined(first) + update(1, key(1), b"\x03"), 0)
        stranger = begin(self.node, "stranger")
        self.take(stranger, self.defined(other), 0)
        self.assertEqual(self.node.tables["new"].layout, first.layout)
        self.assertIn("differs in key type", stranger.differences["new"])
        self.take(self.session, self.defined(other), 0)
        self.assertEqual(self.node.tables["new"].layout, other.layout)
        self.assertEqual(self.node.tables["new"].used, 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])

    def test_others_of_a_table_that_begins_anew(self) -> None:
        """When an adopted table begins anew on one peer's word, the others' of its name is said
        to differ: what they send of it is not taken any more."""
        first = Declaration.parse("new", "type ip size 1k expire 1m store gpc0")
        other = Declaration.parse("new", "type string len 20 size 1k store gpc0")
        self.take(self.session, self.defined(first), 0)
        stranger = begin(self.node, "stranger")
        self.take(stranger, self.defined(first), 0)
        self.assertEqual(stranger.out_of_step(), [])
        self.take(self.session, self.defined(other), 0)
        self.assertEqual(
            stranger.out_of_step(), ["table new differs in key type: ip there, string here"]
        )

    def test_tables_that_begin_anew_without_end(self) -> None:
        """A table that its peer defines with other keys again and again costs another one no more
        than the latest definition, however long that reads nothing; and it sends that."""
        self.node.remove_table("rates")
        other = begin(self.node, "other")
        other.pull(1, 0)
        kinds = [
            Declaration.parse("x", f"type {kind} size 1k store gpc0").definition(1).encode()
            for kind in ("ip", "string len 10")
        ]
        for number in range(500):
            self.take(self.session, kinds[number % 2], 0)
            self.assertLess(len(self.session.pull(1 << 16, 0)), 100)
        said = other.pull(8192, 0)
        self.assertLess(len(said), 100)
        self.assertIn(b"x", said)
        gone = [table for table in gc.get_objects() if isinstance(table, TableStore)]
        self.assertLess(sum(table.name == "x" for table in gone), 50)

    def test_definitions_are_read_in_turns(self) -> None:
        """A peer that sends costly messages has its share of a turn, and loses none."""
        definitions = [
            Declaration.parse(f"t{number}", "type integer size 1k store gpc0")
            for number in range(2000)
        ]
        data = b"".join(self.defined(one, number) for number, one in enumerate(definitions))
        last = self.defined() + update(1, key(1), b"\x01")
        self.take(self.session, data, 0)
        self.take(self.session, last, 0)
        turns = 1
        while self.session.unread:
            self.assertEqual(self.rates.used, 0)
            self.read_on(self.session, 0)
            turns += 1
        self.assertEqual(turns, 21)
        self.assertEqual(self.rates.used, 1)

    def test_the_log_is_not_flooded(self) -> None:
        """What a peer causes is logged at a bounded rate, and what is left out is counted."""
        good, bad = self.defined(), self.defined(Declaration.parse("rates", "type ip size 1k"))
        with capturedLogs() as logs:
            for _ in range(1000):
                self.take(self.session, REQUEST + good + bad, 0)
                self.read_on(self.session, 0)
            self.assertLess(len(logs), 60)
            self.wake(self.session, 3000)
        (left_out,) = [event["count"] for event in logs if "count" in event]
        self.assertEqual(len(logs) - 1 + left_out, 2000)

    def test_the_log_is_not_flooded_by_sessions(self) -> None:
        """Nor do sessions that begin and end fill it, nor what the resync says of them."""
        self.resync.start(0)
        with capturedLogs() as logs:
            for _ in range(1000):
                self.node.ended(self.session, "gone", 0)
                self.session = begin(self.node)
                self.node.connected(self.session, 0)
            self.assertLess(len(logs), 120)
            self.node.ended(self.session, "gone", 60_000)
        left_out = [event["count"] for event in logs if "count" in event]
        self.assertEqual(len(left_out), 2, "the peer's and the resync's")
        self.assertGreater(sum(left_out), 3000)

    def test_unknown_messages_are_skipped(self) -> None:
        """Classes and types of newer peers are skipped, with their payload."""
        self.take(self.session, b"\x07\x01\x0a\x99\x02xx\x00\x77" + HEARTBEAT, 0)
        self.assertFalse(self.session.over)
        self.assertEqual(self.peer.counters.rx_hbt, 1)

    def test_not_sent_on(self) -> None:
        """What was learnt from a peer is no change to send to others."""
        self.take(self.session, self.defined() + update(1, key(1), b"\x01"), 0)
        other = begin(self.node, "other")
        self.assertEqual(other.pull(1000, 0), GREETING)


class ErrorTests(SessionTestCase):
    def check(self, data: bytes, code: int) -> str:
        good = self.defined() + update(1, key(1), b"\x07")
        self.take(self.session, good + data + update(2, key(2), b"\x07"), 0)
        self.assertEqual(self.session.pull(100, 0), bytes((1, code)))
        self.assertTrue(self.session.over)
        self.assertEqual(self.peer.counters.proto_err, 1)
        self.assertEqual(self.rates.used, 1, "what came before the error is kept")
        self.assertEqual(sum(map(len, self.told)), 1, "and told")
        self.take(self.session, update(3, key(3), b"\x07"), 0)
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

    def test_dictionary_id_out_of_range(self) -> None:
        """A reference that no cache has room for is answered with 1/0."""
        names = EntryUpdate(1, None, b"x", b"\x05\x01\x81").encode(NAMES.layout.key_type)
        self.assertIn("dictionary id", self.check(self.defined(NAMES, 8) + names, 0))

    def test_peer_reports_an_error(self) -> None:
        """An error message ends the session without an answer."""
        self.take(self.session, ErrorMessage.SIZE_LIMIT.encode(), 0)
        self.assertTrue(self.session.over)
        self.assertEqual(self.session.pull(100, 0), b"")
        self.assertIn("size limit", self.session.ended_by or "")

    @given(st.lists(st.binary(max_size=200), max_size=6), st.booleans())
    def test_any_bytes(self, pieces: list[bytes], defined: bool) -> None:
        """Any bytes in any pieces end in messages, a wait, or one error answer."""
        self.setUp()
        if defined:
            self.take(self.session, self.defined(NAMES, 8), 0)
        for piece in pieces:
            self.take(self.session, piece, 0)
        sent = b""
        while self.session.wants_to_send and len(sent) < 1 << 16:
            sent += self.session.pull(1 << 16, 0)
        if self.session.over and "reported" not in (self.session.ended_by or ""):
            self.assertIn(sent[-2:], (b"\x01\x00", b"\x01\x01"))


class SendingTests(SessionTestCase):
    def test_changes(self) -> None:
        """Changes go out in order, each with its id, once."""
        for number in (1, 2, 1):
            self.rates.set(key(number), {"gpc0": number}, 0)
        self.assertEqual(
            self.pull(),
            [RATES.definition(1), (2, None, key(2), b"\x02"), (3, None, key(1), b"\x01")],
        )
        self.assertEqual(self.pull(), [])
        self.rates.set(key(3), {"gpc0": 3}, 4000)
        self.assertEqual(self.pull(4000), [(4, None, key(3), b"\x03")])

    def test_lives(self) -> None:
        """A change that is sent in time has no life, so that the peer's own holds; a later one has
        what is left of that, if it is known."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.assertEqual(self.pull(4000)[1:], [(1, None, key(1), b"\x01")])
        self.rates.set(key(2), {"gpc0": 2}, 4000)
        hour = Declaration.parse("rates", "type integer size 1 expire 1h store gpc0")
        self.take(self.session, self.defined(hour), 4000)
        self.assertEqual(self.pull(5000), [(2, None, key(2), b"\x02")])
        self.rates.set(key(3), {"gpc0": 3}, 5000)
        self.assertEqual(self.pull(6001), [(3, 3_598_999, key(3), b"\x03")])
        never = Declaration.parse("rates", "type integer size 1 store gpc0")
        self.take(self.session, self.defined(never), 6001)
        self.rates.set(key(4), {"gpc0": 4}, 5000)
        self.assertEqual(self.pull(7000), [(4, None, key(4), b"\x04")])
        short = Declaration.parse("rates", "type integer size 1 expire 3s store gpc0")
        self.take(self.session, self.defined(short), 7000)
        self.rates.set(key(5), {"gpc0": 5}, 7000)
        self.assertEqual(self.pull(9000), [(5, 1000, key(5), b"\x05")])
        self.rates.set(key(6), {"gpc0": 6}, 9000)
        self.rates.set(key(7), {}, 9000)
        self.assertEqual(self.pull(12000), [], "it would be over there")
        self.assertEqual(self.session.behind(), 0)
        self.rates.set(key(8), {"gpc0": 8}, 12000)
        self.assertEqual(self.pull(12000), [(8, None, key(8), b"\x08")])

    def test_late_and_in_time(self) -> None:
        """Changes of one column, of which some are late, need no definition between them; what is
        over here is not sent, however long it would live there."""
        hour = Declaration.parse("rates", "type integer size 1 expire 1h store gpc0")
        self.take(self.session, self.defined(hour), 0)
        self.rates.set(key(0), {"gpc0": 9}, 0)
        for number in (1, 2, 3):
            self.rates.set(key(number), {"gpc0": number}, 4000 * number)
        self.assertEqual(
            self.pull(12000),
            [
                RATES.definition(1),
                (2, 3_592_000, key(1), b"\x01"),
                (3, 3_596_000, key(2), b"\x02"),
                (4, None, key(3), b"\x03"),
            ],
        )

    def test_lives_where_there_are_texts(self) -> None:
        """Late changes of a table with texts have what is left of the peer's life, too, also when
        that is defined anew."""
        names = Declaration.parse("more", "type string len 20 size 1k expire 1m store server_key")
        table = self.node.tables.add(names)
        for number, expire in enumerate((0, 3_600_000, 60_000)):
            peers = attrs.evolve(names, expire=expire)
            self.take(self.session, self.defined(peers, 8), 5000)
            table.set(b"ann", {"server_key": "s1"}, 0)
            said = [one for one in self.pull(5000) if isinstance(one, tuple)]
            self.assertEqual(
                said, [(number + 1, expire - 5000 if expire else None, b"ann", b"\x02s1")]
            )

    def test_lives_across_sessions(self) -> None:
        """What a peer has defined tells how long it keeps entries, until it defines them anew."""
        hour = Declaration.parse("rates", "type integer size 1 expire 1h store gpc0")
        self.take(self.session, self.defined(hour), 0)
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.session = self.connect(5000)
        self.assertEqual(self.pull(5000)[1:], [(1, 3_595_000, key(1), b"\x01")])
        another = begin(self.node, "another")
        self.assertTrue(another.pull(1000, 5000).endswith(b"\x0a\x80\x09\0\0\0\1\0\0\0\1\1"))

    def test_a_life_of_its_own(self) -> None:
        """An entry whose life is not that of its table goes out with what is left of it."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.rates.store([(key(1), 5000, b"\x02")], 0)
        self.assertEqual(self.pull(10)[1:], [(1, 4990, key(1), b"\x02")])

    def test_no_expiry_here(self) -> None:
        """Of a table without expiry, all changes go out without a life."""
        never = Declaration.parse("never", "type integer size 1k store gpc0")
        table = self.node.tables.add(never)
        hour = Declaration.parse("never", "type integer size 1 expire 1h store gpc0")
        self.take(self.session, self.defined(hour), 0)
        table.set(key(1), {"gpc0": 1}, 0)
        self.assertEqual(self.pull(99_999)[1:], [(1, None, key(1), b"\x01")])

    def test_changed_columns_alone(self) -> None:
        """An update has the columns that the peer lacks, and says by definitions which they are;
        all of them are defined first, once."""
        table = self.node.tables.add(COUNTERS)
        peer = self.session.receive
        table.set(key(1), {"gpt0": 1}, 0)
        table.set(key(2), {"gpt0": 2}, 0)
        table.set(key(3), {"gpc0": 3, "gpc[1]": 4}, 0)
        table.set(key(4), {}, 0)
        self.assertEqual(
            self.pull(),
            [
                COUNTERS.definition(2),
                columns_of(COUNTERS, "gpt0").definition(2),
                (1, None, key(1), b"\x01"),
                (2, None, key(2), b"\x02"),
                columns_of(COUNTERS, "gpc0", "gpc").definition(2),
                (3, None, key(3), b"\x03\x00\x04"),
                columns_of(COUNTERS).definition(2),
                (4, None, key(4), b""),
            ],
        )
        table.set(key(4), {"gpt0": 5}, 0)
        self.assertEqual(
            self.pull(), [columns_of(COUNTERS, "gpt0").definition(2), (5, None, key(4), b"\x05")]
        )
        peer(Ack(2, 4).encode(), 0)
        table.set(key(4), {"gpc0": 6}, 0)
        self.session = self.connect()
        self.assertEqual(
            self.pull()[1:],
            [
                columns_of(COUNTERS, "gpt0", "gpc0").definition(2),
                (6, None, key(4), b"\x05\x06"),
            ],
            "a change that was not acked comes again",
        )

    def test_all_columns_after_some(self) -> None:
        """A change of all columns is announced again after one of some; the same ones are not."""
        table = self.node.tables.add(COUNTERS)
        for _ in range(2):
            table.set(key(1), {"gpt0": 1}, 0)
            said = self.pull()
        self.assertEqual(said, [(2, None, key(1), b"\x01")])
        every = {"gpt0": 1, "gpc0": 2, "gpc[0]": 3}
        table.set(key(1), every, 0)
        self.assertEqual(
            self.pull(), [COUNTERS.definition(2), (3, None, key(1), b"\x01\x02\x03\x00")]
        )
        table.set(key(1), every, 0)
        self.assertEqual(self.pull(), [(4, None, key(1), b"\x01\x02\x03\x00")])

    def test_columns_and_lessons(self) -> None:
        """A lesson has all columns, also between changes of a few."""
        table = self.node.tables.add(COUNTERS)
        table.set(key(1), {"gpt0": 1}, 0)
        self.pull()
        self.take(self.session, REQUEST, 0)
        said = self.pull()
        self.assertIn(COUNTERS.definition(2), said)
        self.assertIn((1, 0, key(1), b"\x01\x00\x00\x00"), said)
        self.take(self.session, CONFIRM, 0)
        table.set(key(1), {"gpt0": 2}, 0)
        self.assertEqual(
            self.pull(), [columns_of(COUNTERS, "gpt0").definition(2), (2, None, key(1), b"\x02")]
        )

    def test_cleared_text(self) -> None:
        """That a text was cleared is said; in a lesson, or where it was not changed, it is not."""
        table = self.node.tables.add(NAMES)
        table.set(b"ann", {"server_key": "s1"}, 0)
        table.set(b"bob", {"gpc0": 1}, 0)
        self.pull()
        table.set(b"ann", {"server_key": None}, 0)
        said = b""
        while self.session.wants_to_send:
            said += self.session.pull(1000, 0)
        self.assertTrue(said.endswith(b"\x03ann\x02\x02\x00"), said)
        table.set(b"ann", {"server_key": None, "gpc0": 7}, 0)
        self.assertTrue(self.session.pull(1000, 0).endswith(b"\x03ann\x07\x01\x02"))
        self.take(self.session, REQUEST, 0)
        said = b""
        while self.session.wants_to_send:
            said += self.session.pull(1000, 0)
        self.assertIn(b"\x03ann\x07\x00", said)
        self.assertIn(b"\x03bob\x01\x00", said)

    def test_learnt_in_between(self) -> None:
        """What is learnt between two peers' turns of the same ms is what the second one gets."""
        other = begin(self.node, "other")
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.assertIn((1, None, key(1), b"\x01"), self.pull())
        self.take(self.session, Ack(1, 1).encode() + self.defined() + update(1, key(1), b"\x09"), 0)
        self.assertTrue(other.pull(1000, 0).endswith(key(1) + b"\x09"))

    def test_crossing(self) -> None:
        """What the peer wrote before it read a change leaves the values that were changed, and
        brings the others; what it writes after its ack is newer."""
        table = self.node.tables.add(COUNTERS)
        table.set(key(1), {"gpt0": 1}, 0)
        self.pull()
        older = self.defined(COUNTERS, 8) + update(1, key(1), b"\x09\x08\x07\x06")
        self.take(self.session, older + Ack(2, 1).encode(), 0)
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual([entry[name] for name in ("gpt0", "gpc0", "gpc[1]")], [1, 8, 6])
        self.take(self.session, update(2, key(1), b"\x09\x09\x07\x06"), 0)
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual([entry[name] for name in ("gpt0", "gpc0", "gpc[1]")], [9, 9, 6])

    def test_a_change_that_expired(self) -> None:
        """A change that had expired before the peer acked it keeps nothing of the peer's out."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.pull(11_000)
        self.take(self.session, self.defined(), 11_000)
        for value in (5, 6):
            self.take(self.session, update(value, key(1), bytes((value,))), 11_000 + value)
            entry = self.rates.get(key(1), 11_000 + value)
            assert entry is not None
            self.assertEqual(entry["gpc0"], value)

    def test_other_tables_stay_untouched(self) -> None:
        """Only the table that changed is defined and sent."""
        self.node.tables.add(NAMES)
        self.node.tables["names"].set(b"ann", {"server_key": "s1"}, 0)
        self.assertEqual(
            self.pull(),
            [
                NAMES.definition(2),
                columns_of(NAMES, "server_key").definition(2),
                (1, None, b"ann", b"\x02s1"),
            ],
        )

    def test_gone_entries_are_not_sent(self) -> None:
        """What was removed or has expired since the change is passed over."""
        for number in (1, 2):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.rates.set(key(3), {"gpc0": 1}, 5000)
        self.rates.remove(key(2))
        self.assertEqual(self.pull(11000), [RATES.definition(1), (3, None, key(3), b"\x01")])

    def test_little_room(self) -> None:
        """However little room there is, everything is sent in the end, once."""
        for number in range(100):
            self.rates.set(key(number), {}, 0)
        sent = b""
        while self.session.wants_to_send:
            piece = self.session.pull(10, 0)
            self.assertLess(len(piece), 100)
            sent += piece
        frames = [frame for frame in FrameBuffer().feed(sent) if frame.message_type in UPDATES]
        self.assertEqual(len(frames), 100)
        self.assertEqual(self.peer.counters.tx_updates, 100)

    def test_behind(self) -> None:
        """How many changes are still to be sent is counted, and makes the peer out of step."""
        for number in range(100):
            self.rates.set(key(number % 50), {}, 0)
        self.assertEqual(self.session.behind(), 50)
        self.assertEqual(
            self.node.out_of_step(self.peer), ["50 changes are still to be sent to it"]
        )
        self.pull()
        self.assertEqual((self.session.behind(), self.node.out_of_step(self.peer)), (0, []))
        self.rates.set(key(1), {}, 0)
        self.assertEqual(self.session.behind(), 1)

    def test_counts_without_a_walk(self) -> None:
        """To say how far a peer is behind, nobody goes through the changes one by one."""
        self.take(self.session, self.defined(), 0)
        for number in range(100):
            self.rates.set(key(number), {}, 0)

        def walk(*_: object) -> NoReturn:
            self.fail("the changes were walked through")

        self.patch(ChangeLog, "after", walk)
        self.assertEqual((self.session.behind(), self.session.unacked()), (100, 100))
        self.assertEqual(len(self.node.out_of_step(self.peer)), 1)

    def test_restart_from_the_acked_id(self) -> None:
        """A new session goes on after the latest ack, not before it."""
        for number in range(1, 6):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.pull()
        self.take(self.session, Ack(1, 3).encode(), 0)
        self.session = self.connect()
        self.assertEqual([one[0] for one in self.pull()[1:]], [4, 5])  # type: ignore[index]

    def test_in_step_when_acked(self) -> None:
        """A peer has a change when it acks it, not when it was sent; a table that the peer is
        not known to have does not count."""
        self.rates.set(key(1), {}, 0)
        self.assertEqual(self.node.out_of_step(self.peer), ["1 change is still to be sent to it"])
        self.pull()
        self.assertEqual(self.node.out_of_step(self.peer), [])
        self.take(self.session, self.defined(), 0)
        self.assertEqual(self.node.out_of_step(self.peer), ["it has yet to ack 1 change"])
        self.take(self.session, Ack(1, 1).encode(), 0)
        self.assertEqual(self.node.out_of_step(self.peer), [])

    def test_acks_out_of_range(self) -> None:
        """Acks of what was not sent, of the past, or of unknown tables did not come."""
        for number in range(1, 6):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.pull()
        self.take(self.session, Ack(1, 4).encode(), 0)
        for ack in (Ack(1, 0x05000000), Ack(1, 6), Ack(1, 2), Ack(9, 5), Ack(1, 2**32 - 1)):
            self.take(self.session, ack.encode(), 0)
        self.assertEqual(self.peer.acked[self.rates.log], 4)

    def test_ids_wrap(self) -> None:
        """Ids go on across 2**32, and so do acks and restarts."""
        self.rates.log = ChangeLog(head=2**32 - 2)
        self.peer.acked[self.rates.log] = 2**32 - 2
        self.session = self.connect()
        for number in range(4):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        ids = [one[0] for one in self.pull()[1:]]  # type: ignore[index]
        self.assertEqual(ids, [2**32 - 1, 0, 1, 2])
        self.take(self.session, Ack(1, 1).encode(), 0)
        self.session = self.connect()
        self.assertEqual([one[0] for one in self.pull()[1:]], [2])  # type: ignore[index]

    def begin_anew(self) -> None:
        """Another table under the name of the first one."""
        self.node.remove_table("rates")
        self.node.tables.add(RATES)
        self.rates = self.node.tables["rates"]

    def test_a_table_that_begins_anew_is_sent_from_its_first_change(self) -> None:
        """What a peer acked of a table says nothing about a later one of the same name."""
        for number in range(5):
            self.rates.set(key(number), {}, 0)
        self.pull()
        self.take(self.session, Ack(1, 5).encode(), 0)
        self.begin_anew()
        self.rates.set(key(7), {}, 0)
        for again in (False, True):
            if again:
                self.session = self.connect()
            sent = [one for one in self.pull() if isinstance(one, tuple)]
            self.assertEqual([one[:1] + one[2:3] for one in sent], [(1, key(7))])

    def test_a_late_ack_is_for_the_table_that_it_means(self) -> None:
        """An ack that was under way when a table began anew is none of the new table's."""
        for number in range(3):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.pull()
        self.begin_anew()
        for number in range(3):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.pull()
        self.take(self.session, Ack(1, 3).encode(), 0)
        self.session = self.connect()
        self.assertEqual([one[0] for one in self.pull()[1:]], [1, 2, 3])  # type: ignore[index]


class DowngradedTests(SessionTestCase):
    minor = 0

    def test_no_timed_updates(self) -> None:
        """A peer that speaks 2.0 gets no timed update, live or in a lesson."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.take(self.session, self.defined(), 0)
        self.assertEqual(self.pull(5000), [RATES.definition(1), (1, None, key(1), b"\x01")])
        self.take(self.session, REQUEST, 0)
        self.assertEqual(self.pull()[0], (1, None, key(1), b"\x01"))


class TeachingTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.take(
            self.session,
            self.defined() + update(1, key(1), b"\x01") + update(2, key(2), b"\x02"),
            0,
        )
        self.rates.set(key(3), {"gpc0": 3}, 0)
        self.pull()

    def lesson(self) -> list[object]:
        self.take(self.session, REQUEST, 0)
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
        self.resync.start(0)
        self.node.wake(5000)
        self.assertIs(self.lesson()[-1], Control.RESYNC_FINISHED)

    def test_too_many_came(self) -> None:
        """A lesson is partial if it is left at last, since more and more came."""
        self.resync.start(0)
        self.node.wake(5000)
        other = begin(self.node, "other")
        self.take(other, self.defined())
        self.take(self.session, REQUEST, 5000)
        number = 0
        while self.session.state is SessionState.TEACHING:
            said = self.session.pull(1000, 5000)
            if number < 60_000:
                keys = range(number, number + 500)
                self.take(other, b"".join(update(one, key(one), b"\x01") for one in keys), 5000)
                number += 500
        self.assertLess(self.peer.counters.tx_updates, self.rates.used)
        self.assertTrue(said.endswith(Control.RESYNC_PARTIAL.encode()))

    def test_sign_of_life(self) -> None:
        """While a lesson is put in order, the pupil hears something of it now and then."""
        updates = [(key(one), 10_000, b"\x01") for one in range(100_000)]
        self.rates.store(updates, 0)
        self.take(self.session, REQUEST, 0)
        heard: list[bytes] = []
        for turn in range(40):
            heard.append(self.session.pull(8192, turn * 40))
            if len(heard[-1]) > 1000:
                break
        again = [turn for turn, one in enumerate(heard[1:-1], 1) if one]
        self.assertEqual(again, list(range(5, len(heard) - 1, 5)))
        self.assertGreater(len(again), 3)
        self.assertEqual({heard[turn] for turn in again}, {RATES.definition(1).encode()})

    def test_every_table_is_announced(self) -> None:
        """Empty tables are defined in a lesson, too."""
        self.node.tables.add(NAMES)
        self.assertIn(NAMES.definition(2), self.lesson())

    def test_changes_wait_for_the_confirm(self) -> None:
        """What changes during a lesson is sent after the confirm."""
        self.lesson()
        self.rates.set(key(4), {"gpc0": 4}, 0)
        self.assertEqual(self.pull(), [])
        self.assertFalse(self.session.wants_to_send)
        self.take(self.session, CONFIRM, 0)
        self.assertEqual(
            [one for one in self.pull() if isinstance(one, tuple)], [(2, None, key(4), b"\x04")]
        )

    def test_confirm_acks_the_lesson(self) -> None:
        """After the confirm a new session does not repeat what was taught."""
        self.lesson()
        self.take(self.session, CONFIRM, 0)
        self.assertEqual(self.peer.acked[self.rates.log], 1)
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
        self.take(self.session, Ack(1, 1).encode(), 0)
        self.assertEqual(len(self.peer.acked), 0)

    def test_request_during_a_lesson(self) -> None:
        """A new request starts the lesson again."""
        for number in range(1000):
            self.rates.set(key(number), {}, 0)
        self.take(self.session, REQUEST, 0)
        self.session.pull(100, 0)
        said = self.lesson()
        self.assertEqual(len({one[2] for one in said if isinstance(one, tuple)}), 1000)
        self.assertEqual(said.count(Control.RESYNC_PARTIAL), 1)

    def test_a_table_that_begins_anew_in_mid_lesson(self) -> None:
        """A lesson leaves a table that is gone: the definition of the one that bears its name
        now is the last that the peer gets."""
        for number in range(5000):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.take(self.session, REQUEST, 0)
        self.session.pull(100, 0)
        self.node.remove_table("rates")
        anew = self.node.tables.add(Declaration.parse("rates", "type string size 1k store gpc0"))
        anew.set(b"x", {"gpc0": 1}, 0)
        self.session.look_again([anew], 0)
        said = self.pull()
        definitions = [one for one in said if isinstance(one, TableDefinition)]
        self.assertEqual({one.layout for one in definitions}, {anew.layout})

    def test_a_table_that_is_removed_in_mid_lesson(self) -> None:
        """A lesson that leaves a table is not finished; the next one is of what there is then."""
        self.resync.start(0)
        self.node.wake(5000)
        for drawn in (1, 100):
            for number in range(5000):
                self.node.tables["rates"].set(key(number), {"gpc0": 1}, 0)
            self.take(self.session, REQUEST)
            self.session.pull(drawn, 0)
            self.node.remove_table("rates")
            self.assertIs(self.pull()[-1], Control.RESYNC_PARTIAL)
            self.assertIs(self.lesson()[-1], Control.RESYNC_FINISHED)
            self.node.add_table(RATES)

    def test_up_to_date_in_mid_lesson(self) -> None:
        """A lesson is finished if the teacher was up to date when it began: what the teacher
        has learnt since is not all in it."""
        self.take(self.session, REQUEST, 0)
        self.session.pull(1, 0)
        self.resync.start(0)
        self.node.wake(5000)
        self.assertTrue(self.resync.up_to_date)
        self.assertIs(self.pull()[-1], Control.RESYNC_PARTIAL)
        self.assertIs(self.lesson()[-1], Control.RESYNC_FINISHED)

    def test_no_longer_up_to_date_in_mid_lesson(self) -> None:
        """A lesson is not finished if the teacher lacks something at its end."""
        self.resync.start(0)
        self.node.wake(5000)
        self.take(self.session, REQUEST, 0)
        self.session.pull(1, 0)
        self.resync.learn_again("a table was added", 0)
        self.assertIs(self.pull()[-1], Control.RESYNC_PARTIAL)

    def test_confirm_in_mid_lesson(self) -> None:
        """A confirm that comes before the end of a lesson does not end it."""
        for number in range(5000):
            self.rates.set(key(number), {"gpc0": 1}, 0)
        self.take(self.session, REQUEST, 0)
        self.session.pull(100, 0)
        self.take(self.session, CONFIRM, 0)
        self.assertIs(self.session.state, SessionState.TEACHING)
        self.assertEqual(len(self.peer.acked), 0)
        said = self.pull()
        self.assertIs(said[-1], Control.RESYNC_PARTIAL)
        self.take(self.session, CONFIRM, 0)
        self.assertIs(self.session.state, SessionState.LIVE)
        self.assertTrue(self.session.taught)

    def test_confirm_of_the_lesson_before(self) -> None:
        """A lesson that was begun again is confirmed by the second confirm, not by that of the
        lesson before it."""
        self.lesson()
        self.lesson()
        self.take(self.session, CONFIRM, 0)
        self.assertIs(self.session.state, SessionState.AWAITING_CONFIRM)
        self.take(self.session, CONFIRM, 0)
        self.assertIs(self.session.state, SessionState.LIVE)

    def test_confirm_out_of_place(self) -> None:
        """A confirm that nobody waits for changes nothing."""
        self.take(self.session, CONFIRM, 0)
        self.assertIs(self.session.state, SessionState.LIVE)
        self.assertEqual(len(self.peer.acked), 0)

    def test_a_large_lesson_is_not_built_at_once(self) -> None:
        """A lesson is produced as it is drawn."""
        for number in range(5000):
            self.rates.set(key(number), {}, 0)
        self.take(self.session, REQUEST, 0)
        pieces = 0
        while self.session.wants_to_send:
            self.assertLess(len(self.session.pull(2000, 0)), CHUNK + 1000)
            pieces += 1
        self.assertGreater(pieces, 4)


class AskingTests(SessionTestCase):
    def test_how_far_a_lesson_is(self) -> None:
        """While a lesson is given, it is known how many entries were given and are left; once it
        is confirmed, there is none."""
        entries = 5 * CHUNK
        updates = b"".join(update(at, key(at), b"\x01") for at in range(1, entries + 1))
        self.take(begin(self.node, "other"), self.defined() + updates)
        self.assertIsNone(self.session.lesson_given)
        self.take(self.session, REQUEST, 0)
        seen = []
        while self.session.wants_to_send:
            self.session.pull(1, 0)
            seen.append(self.session.lesson_given)
        self.assertEqual({sum(one) for one in seen if one is not None}, {entries})
        self.assertGreater(len(set(seen)), 3)
        self.assertEqual(seen[-1], (entries, 0))
        self.take(self.session, CONFIRM, 0)
        self.assertIsNone(self.session.lesson_given)

    def test_learning(self) -> None:
        """The lesson that was asked for is confirmed and not acked; then acks go on."""
        self.resync.start(0)
        self.resync.connected(self.session, 0)
        self.assertEqual(self.pull(), [Control.RESYNC_REQUEST])
        self.assertEqual(self.session.lesson_learnt, 0)
        self.take(self.session, self.defined() + update(1, key(1), b"\x01"), 0)
        self.assertEqual(self.session.lesson_learnt, 1)
        self.assertEqual(self.pull(), [])
        self.take(self.session, Control.RESYNC_FINISHED.encode(), 0)
        self.assertIsNone(self.session.lesson_learnt)
        self.assertEqual(self.pull(), [Control.RESYNC_CONFIRM])
        self.assertTrue(self.resync.up_to_date)
        self.take(self.session, update(8, key(2), b"\x01"), 0)
        self.assertEqual(self.pull(), [Ack(7, 8)])

    def test_asked_again_after_its_confirm(self) -> None:
        """A lesson that is followed by a request is confirmed before that: HAProxy takes a confirm
        after a request for the end of the new lesson, and never ends it."""
        for end in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL):
            self.session = self.connect()
            self.resync.start(0)
            self.resync.connected(self.session, 0)
            self.assertEqual(self.pull(), [Control.RESYNC_REQUEST])
            self.resync.learn_again("table t was added", 0)
            self.take(self.session, end.encode())
            self.assertEqual(self.pull(), [Control.RESYNC_CONFIRM, Control.RESYNC_REQUEST])
            self.resync.stop()

    def test_up_to_date_when_all_is_stored(self) -> None:
        """Who waits for the node to be up to date finds the last entry of the lesson."""
        self.resync.start(0)
        self.resync.connected(self.session, 0)
        lesson = self.defined() + update(1, key(1), b"\x01") + Control.RESYNC_FINISHED.encode()
        events = self.session.receive(lesson, 0)
        self.assertEqual(self.rates.used, 1)
        self.assertFalse(self.resync.up_to_date)
        self.act(self.session, events)
        self.assertTrue(self.resync.up_to_date)

    def test_unasked_lesson(self) -> None:
        """Every finished or partial is confirmed, asked for or not."""
        for end in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL):
            self.take(self.session, end.encode(), 0)
            self.assertEqual(self.pull(), [Control.RESYNC_CONFIRM])
        self.assertFalse(self.resync.up_to_date)
        self.assertEqual(self.peer.counters.confirm, 2)

    def test_confirms_to_a_peer_that_does_not_read(self) -> None:
        """Confirms are counted, not gathered, and all of them are sent in the end."""
        for _ in range(1000):
            self.take(self.session, Control.RESYNC_FINISHED.encode() * 100, 0)
        self.assertLess(len(self.session.pull(1000, 0)), 1100)
        self.assertEqual(len(self.pull()), 100_000 - 500)


class ChangedMeanwhileTests(SessionTestCase):
    """What changes here while a lesson is awaited or under way."""

    def setUp(self) -> None:
        super().setUp()
        self.resync.start(0)

    def value(self, number: int) -> object:
        entry = self.rates.get(key(number), 0)
        return None if entry is None else entry["gpc0"]

    def begin(self) -> None:
        self.resync.connected(self.session, 0)
        self.pull()

    def lesson(self, *numbers: int, value: int = 9) -> None:
        """The teacher says 9 for these keys."""
        updates = [update(1, key(number), bytes((value,))) for number in numbers]
        self.take(self.session, self.defined() + b"".join(updates), 0)

    def finish(self) -> list[object]:
        self.take(self.session, Control.RESYNC_FINISHED.encode(), 0)
        return [one[2:] for one in self.pull() if isinstance(one, tuple)]

    def test_set_here(self) -> None:
        """What was set here, before the request or after it, stays and is sent again: others
        may have the teacher's older value."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.begin()
        self.rates.set(key(2), {"gpc0": 2}, 0)
        self.pull()
        self.lesson(1, 2, 3)
        self.assertEqual([self.value(n) for n in (1, 2, 3)], [1, 2, 9])
        self.assertEqual(sorted(self.finish()), [(key(1), b"\x01"), (key(2), b"\x02")])
        self.take(self.session, Ack(1, 4).encode(), 0)
        self.lesson(1, 2)
        self.assertEqual([self.value(n) for n in (1, 2)], [9, 9], "live updates are newer again")

    def test_one_value_set_here(self) -> None:
        """Of an entry of which one value was set here, the lesson brings the others."""
        table = self.node.tables.add(COUNTERS)
        self.begin()
        table.set(key(1), {"gpt0": 1}, 0)
        self.pull()
        taught = self.defined(COUNTERS, 8) + update(1, key(1), b"\x09\x08\x07\x06")
        self.take(self.session, taught, 0)
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual(
            [entry[name] for name in ("gpt0", "gpc0", "gpc[0]", "gpc[1]")], [1, 8, 7, 6]
        )
        self.assertEqual(self.finish(), [(key(1), b"\x01")])

    def test_what_the_teacher_has_acked(self) -> None:
        """The teacher has read a change that it acks: what it says from then on is newer."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.begin()
        self.take(self.session, Ack(1, 1).encode(), 0)
        self.lesson(1)
        self.assertEqual(self.value(1), 9)
        self.assertEqual(self.finish(), [])

    def test_what_the_teacher_wrote_before_its_ack(self) -> None:
        """An ack behind a part of a lesson, in the same read, says nothing about that part."""
        self.rates.set(key(1), {"gpc0": 1}, 0)
        self.begin()
        older = self.defined() + update(1, key(1), b"\x09")
        self.take(self.session, older + Ack(1, 1).encode(), 0)
        self.assertEqual(self.value(1), 1)

    def test_what_another_peer_has_changed_since(self) -> None:
        """A value that another peer sent after the change here is not from here any more; sent
        in the time of the lesson, it stays; sent before, the lesson is newer."""
        other = begin(self.node, "other")
        self.begin()
        self.lesson(4)
        self.finish()
        for number in (1, 2):
            self.rates.set(key(number), {"gpc0": number}, 0)
        other.pull(1000, 0)
        self.take(other, Ack(1, 2).encode() + self.defined() + update(1, key(1), b"\x05"), 0)
        self.resync.learn_again("a table was added", 0)
        self.pull()
        self.take(other, update(2, key(2), b"\x06"), 0)
        self.lesson(1, 2)
        self.assertEqual([self.value(n) for n in (1, 2)], [9, 6])
        self.assertEqual(self.finish(), [])

    def test_some_values_of_another_peer(self) -> None:
        """Of an entry of which another peer sent some values meanwhile, the lesson brings the
        others, whether all of it is here already or not."""
        wide = Declaration.parse("rates", "type integer size 100k expire 10s store gpc0,gpc1")
        narrow = Declaration.parse("rates", "type integer size 100k expire 10s store gpc1")
        self.rates.redeclare(wide)
        other = begin(self.node, "other")
        self.begin()
        self.take(other, self.defined(narrow) + update(1, key(1), b"\x05"), 0)
        lesson = update(1, key(1), b"\x09\x09") + update(1, key(2), b"\x09\x09")
        self.take(self.session, self.defined(wide) + lesson, 0)
        self.take(other, update(2, key(2), b"\x06"), 0)
        self.take(self.session, lesson, 0)
        entries = [self.rates.get(key(number), 0) for number in (1, 2)]
        values = [entry and list(dict(entry).values()) for entry in entries]
        self.assertEqual(values, [[9, 5], [9, 6]])

    def test_text_that_another_peer_does_not_say(self) -> None:
        """An update that says nothing of a text leaves that to the lesson."""
        names = self.node.tables.add(NAMES)
        other = begin(self.node, "other")
        self.begin()
        string = NAMES.layout.key_type
        self.take(
            other, self.defined(NAMES) + EntryUpdate(1, None, b"ann", b"\x05\x00").encode(string), 0
        )
        self.take(
            self.session,
            self.defined(NAMES)
            + EntryUpdate(1, None, b"ann", b"\x09\x04\x01\x02s1").encode(string),
            0,
        )
        entry = names.get(b"ann", 0)
        assert entry is not None
        self.assertEqual(dict(entry), {"gpc0": 5, "server_key": "s1"})

    def test_removed_here(self) -> None:
        """A remote peer may teach again what was removed here only."""
        self.begin()
        self.lesson(1)
        self.rates.remove(key(1))
        self.lesson(1)
        self.assertEqual(self.value(1), 9)


class TimeTests(SessionTestCase):
    def test_a_peer_without_heartbeats(self) -> None:
        """A peer that sent no heartbeat until it was taken for dead, and comes back, is one that
        sends none, as HAProxy 1.9: it may be silent from then on."""
        self.assertTrue(self.over_after_silence())
        self.session = self.connect()
        self.assertFalse(self.over_after_silence())
        self.take(self.session, HEARTBEAT, 60_000)
        self.assertTrue(self.over_after_silence(60_000))
        self.session = self.connect()
        self.assertTrue(self.over_after_silence())

    def test_the_process_of_our_own_name(self) -> None:
        """HAProxy sends no heartbeats to a local peer, which may be silent until it sends one."""
        self.session = begin(self.node, "us")
        self.assertFalse(self.over_after_silence())
        self.take(self.session, HEARTBEAT, 60_000)
        self.assertTrue(self.over_after_silence(60_000))

    def over_after_silence(self, since: int = 0) -> bool:
        for now in range(since, since + 60_000, 1000):
            self.wake(self.session, now)
        return self.session.over

    def test_a_lesson_that_does_not_go_on(self) -> None:
        """A lesson of which only heartbeats come ends the session after 5 to 10 s, and another
        peer is asked; a slow one is waited for."""
        self.resync.start(0)
        self.resync.connected(self.session, 0)
        other = begin(self.node, "other")
        self.resync.connected(other, 0)
        self.take(self.session, self.defined(), 0)
        for second in range(20):
            self.take(self.session, HEARTBEAT + update(1, key(second), b"\x01"), second * 1000)
            self.wake(self.session, second * 1000)
        self.assertIs(self.resync.state, ResyncState.LEARNING)
        self.assertFalse(other.learning)
        for second in range(20, 31):
            self.take(self.session, HEARTBEAT, second * 1000)
            self.wake(self.session, second * 1000)
            if self.session.over:
                break
        self.assertEqual(second, 25)
        self.node.ended(self.session, self.session.ended_by or "", 25_000)
        self.assertTrue(other.learning)
        self.take(other, Control.RESYNC_FINISHED.encode(), 31_000)
        self.assertTrue(self.resync.up_to_date)
        self.assertFalse(self.resync.lessons_ahead, "what never comes is not awaited")
        self.assertTrue(self.resync.can_finish(other))

    def test_asks_a_peer_that_does_not_ask(self) -> None:
        """A node that had nobody to learn from asks a peer that comes later, after a second."""
        self.alone()
        self.assertEqual(self.node.out_of_step(self.peer), ["it is to be asked for a lesson"])
        self.assertEqual(self.session.next_wake(), 1000)
        self.wake(self.session, 1000)
        self.assertEqual(self.pull(1000), [Control.RESYNC_REQUEST])
        self.take(self.session, Control.RESYNC_PARTIAL.encode(), 1000)
        self.assertEqual(self.node.out_of_step(self.peer), [])

    def test_a_peer_that_asks_first(self) -> None:
        """A peer that begins by asking may have something all the same: it is asked once it has
        confirmed its lesson, when it counts itself up to date."""
        self.alone()
        self.take(self.session, REQUEST, 400)
        self.assertIs(self.pull(400)[-1], Control.RESYNC_FINISHED)
        self.wake(self.session, 1000)
        self.assertEqual(self.pull(1000), [])
        self.assertEqual(self.session.next_wake(), 2000)
        self.take(self.session, Control.RESYNC_CONFIRM.encode(), 1500)
        self.wake(self.session, 2000)
        self.assertEqual(self.pull(2000), [Control.RESYNC_REQUEST])

    def alone(self) -> None:
        self.resync.start(0)
        self.node.wake(5000)
        self.resync.connected(self.session, 0)

    def test_heartbeat(self) -> None:
        """After 3 s without sending anything, a heartbeat."""
        self.assertEqual(self.session.next_wake(), 3000)
        self.wake(self.session, 2999)
        self.assertEqual(self.pull(2999), [])
        self.wake(self.session, 3000)
        self.assertEqual(self.pull(3000), [Control.HEARTBEAT])
        self.assertEqual(self.session.next_wake(), 5000)

    def test_dead_peer(self) -> None:
        """A period of 5 s without a byte ends the session; any byte keeps it."""
        self.take(self.session, HEARTBEAT, 1000)
        self.wake(self.session, 5000)
        self.take(self.session, b"\x00", 9999)
        self.wake(self.session, 10000)
        self.assertFalse(self.session.over)
        self.wake(self.session, 15000)
        self.assertTrue(self.session.over)
        self.assertTrue(self.session.call_soon)
        self.assertEqual(self.peer.counters.no_hbt, 1)
        self.assertIn("5 s", self.session.ended_by or "")

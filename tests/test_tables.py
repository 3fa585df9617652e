from __future__ import annotations

import gc
import ipaddress
import random
from itertools import islice
from typing import Optional

import attrs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.sending import Sender
from peerproto.tables import stored
from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import ExpirySlots
from peerproto.tables.log import ChangeLog
from peerproto.tables.rates import rate
from peerproto.tables.reception import Reception, disagreement
from peerproto.tables.stored import UNENDING
from peerproto.tables.table import Quota, StickTable, TableFull
from peerproto.wire import keys
from peerproto.wire.datatypes import BY_NAME, Frequency
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.keys import KeyType
from peerproto.wire.messages import UPDATES, EntryUpdate, TableDefinition, read_message

from .strategies import layouts, raw_keys, values


def table_of(line: str, name: str = "rates") -> StickTable:
    return StickTable(Declaration.parse(name, line))


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


class StickTableTests(SynchronousTestCase):
    def test_set_and_get(self) -> None:
        """Values named are changed, the others stay; the life begins anew."""
        table = table_of("type integer size 10 expire 10s store gpc0,gpc(2),server_key", "t")
        # gpc0 names the data type itself where both are stored.
        table.set(key(1), {"gpc0": 3, "gpc[1]": 5, "server_key": "s1"}, 1000)
        table.set(key(1), {"gpc0": 4}, 5000)
        entry = table.get(key(1), 6000)
        assert entry is not None
        self.assertEqual(entry.key, 1)
        self.assertEqual(entry["gpc0"], 4)
        self.assertEqual(entry["gpc[1]"], 5)
        self.assertEqual(entry["server_key"], "s1")
        self.assertEqual(entry.expires_in, 9000)

    def test_expired_is_not_there(self) -> None:
        """An entry is gone to the ms, whether it was removed yet or not."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        table.set(key(1), {"gpc0": 3}, 1000)
        self.assertIsNotNone(table.get(key(1), 10999))
        self.assertIsNone(table.get(key(1), 11000))
        self.assertEqual(table.used, 1)
        self.assertEqual(table.expire(11050), [key(1)])
        self.assertEqual(table.used, 0)
        self.assertIsNone(table.next_due())

    def test_set_after_expiry_begins_anew(self) -> None:
        """What an expired entry had does not come back."""
        table = table_of("type integer size 10 expire 10s store gpc0,gpc1")
        table.set(key(1), {"gpc0": 3}, 0)
        self.assertEqual(table.set(key(1), {"gpc1": 1}, 10000).as_dict(), {"gpc0": 0, "gpc1": 1})

    def test_rates(self) -> None:
        """A number of events set as a rate fades as HAProxy's does."""
        table = table_of("type integer size 10 store http_req_rate(10s)")
        table.set(key(1), {"http_req_rate": 12}, 0)
        for now, expected in ((0, 12), (9999, 12), (15000, 6), (20000, 0), (90000, 0)):
            entry = table.get(key(1), now)
            assert entry is not None
            self.assertEqual(entry["http_req_rate"], expected, now)
            self.assertEqual(entry.counter("http_req_rate"), Frequency(now, 12, 0))

    def test_bad_values(self) -> None:
        """Names and values that the table cannot store are refused, and nothing changes."""
        table = table_of("type integer size 10 store gpc0,conn_rate(1s),server_key")
        for bad in (
            {"gpt0": 1},
            {"gpc0": -1},
            {"gpc0": 2**32},
            {"gpc0": "1"},
            {"gpc0": True},
            {"conn_rate": "x"},
            {"conn_rate": -1},
            {"server_key": 3},
        ):
            self.assertRaises(LocalProtocolError, table.set, key(1), bad, 0)
        self.assertEqual((table.used, table.log.head), (0, 0))

    def test_full_table_trashes_the_oldest(self) -> None:
        """A new entry takes the place of those that expire first."""
        table = table_of("type integer size 4 expire 10s store gpc0")
        for number in range(4):
            table.set(key(number), {}, number * 1000)
        table.set(key(0), {}, 5000)
        table.set(key(9), {}, 6000)
        self.assertEqual({k for k, _ in table.scan()}, {key(0), key(2), key(3), key(9)})
        self.assertEqual((table.used, table.trashed), (4, 1))
        self.assertEqual(table.take_trashed(), [key(1)])
        self.assertEqual(table.take_trashed(), [])

    def test_full_table_without_expiry(self) -> None:
        """Where nothing expires, those that were made first go first."""
        table = table_of("type integer size 3 store gpc0")
        for number in range(5):
            table.set(key(number), {}, 0)
        self.assertEqual({k for k, _ in table.scan()}, {key(2), key(3), key(4)})
        self.assertIsNone(table.next_due())

    def test_trashes_a_256th(self) -> None:
        """A large table makes room for many at a time."""
        table = table_of("type integer size 1024 store gpc0")
        for number in range(1025):
            table.set(key(number), {}, 0)
        self.assertEqual((table.used, table.trashed), (1020, 5))

    def test_nopurge(self) -> None:
        """A full table with nopurge refuses what is new, and takes changes."""
        table = table_of("type integer size 2 nopurge store gpc0")
        table.set(key(1), {}, 0)
        table.set(key(2), {}, 0)
        self.assertRaises(TableFull, table.set, key(3), {}, 0)
        table.set(key(2), {"gpc0": 7}, 0)
        taken = table.store([(key(4), UNENDING, b"\x01"), (key(1), UNENDING, b"\x02")], 0)
        self.assertEqual((taken, table.used, table.refused), ([key(1)], 2, 2))

    def test_clear_a_large_table(self) -> None:
        """What is cleared is gone at once; its memory is given back, and its keys are told, a
        slice at a time, but for those that are there again."""
        table = table_of("type integer size 100k expire 10s store gpc0")
        table.store(((key(number), 5000, b"\x01") for number in range(20_000)), 0)
        self.assertEqual(table.clear(), 20_000)
        self.assertEqual((table.used, list(table.scan()), table.next_due()), (0, [], None))
        table.set(key(7), {"gpc0": 2}, 0)
        told: list[bytes] = []
        slices = 0
        while table.discarding:
            gone = table.discard(1000)
            self.assertLess(len(gone), 1200)
            told += gone
            slices += 1
        self.assertGreater(slices, 10)
        self.assertEqual(sorted(told), [key(number) for number in range(20_000) if number != 7])
        self.assertEqual((table.used, table.discard()), (1, []))

    def test_expire_a_large_slot(self) -> None:
        """Entries that are due together are removed a slice at a time, each told once."""
        table = table_of("type integer size 100k expire 10s store gpc0")
        keys = [key(number) for number in range(10_000)]
        table.store(((one, 5000, b"\x01") for one in keys * 2), 0)
        expired: list[bytes] = []
        while (due := table.next_due()) is not None and due <= 6000:
            gone = table.expire(6000, 1000)
            self.assertLessEqual(len(gone), 1000)
            expired += gone
        self.assertEqual((sorted(expired), table.used), (keys, 0))

    def test_remove_and_clear(self) -> None:
        """Removed entries leave the log too; numbers of changes go on."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        for number in range(3):
            table.set(key(number), {}, 0)
        self.assertTrue(table.remove(key(1)))
        self.assertFalse(table.remove(key(1)))
        self.assertEqual([k for _, k in table.log.after(0)], [key(0), key(2)])
        self.assertEqual(table.clear(), 2)
        self.assertEqual((table.used, list(table.log.after(0)), table.log.head), (0, [], 3))
        self.assertEqual(table.expire(99999), [])

    def test_scan_while_changing(self) -> None:
        """A scan goes on while entries come and go; what stays comes once."""
        table = table_of("type integer size 100k store gpc0")
        for number in range(20000):
            table.set(key(number), {}, 0)
        seen = []
        for raw_key, _ in table.scan():
            seen.append(raw_key)
            number = int.from_bytes(raw_key, "big")
            if number < 10000:
                table.remove(key(number + 10000))
            table.set(key(number + 50000), {}, 0)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual({key(number) for number in range(10000)}, set(seen))

    def test_redeclare(self) -> None:
        """With other data types, entries keep what both declarations store."""
        table = table_of("type integer size 10 expire 1m store gpc0,conn_rate(1s)")
        table.set(key(1), {"gpc0": 3, "conn_rate": 8}, 0)
        table.redeclare(
            Declaration.parse("rates", "type integer size 10 expire 1m store gpt0,conn_rate(1s)")
        )
        entry = table.get(key(1), 1500)
        assert entry is not None
        self.assertEqual(entry.as_dict(), {"gpt0": 0, "conn_rate": 4})
        self.assertEqual(entry.expires_in, 58500)

    def test_life(self) -> None:
        """An expiry is capped at the table's own; without one nothing ends."""
        timed = table_of("type integer size 10 expire 10s")
        self.assertEqual([timed.life(x) for x in (None, 3, 20000)], [10000, 3, 10000])
        unending = table_of("type integer size 10")
        self.assertEqual([unending.life(x) for x in (None, 3)], [UNENDING] * 2)


class QuotaTests(SynchronousTestCase):
    def test_shared_by_tables(self) -> None:
        """Beyond what tables may hold together, each is as if it were full."""
        quota = Quota(4)
        one, other = (
            StickTable(Declaration.parse(name, "type integer size 10 expire 10s"), quota=quota)
            for name in ("one", "other")
        )
        for number in range(3):
            one.set(key(number), {}, number)
        other.set(key(9), {}, 0)
        one.set(key(7), {}, 5000)
        self.assertEqual({k for k, _ in one.scan()}, {key(1), key(2), key(7)})
        self.assertEqual((quota.used, one.used, other.used), (4, 3, 1))
        one.clear()
        self.assertEqual(quota.used, 1)
        other.expire(20000)
        self.assertEqual(quota.used, 0)

    def test_nothing_to_trash(self) -> None:
        """A table that has nothing to give up refuses what is new."""
        quota = Quota(1)
        one, other = (
            StickTable(Declaration.parse(name, "type integer size 10"), quota=quota)
            for name in ("one", "other")
        )
        one.set(key(1), {}, 0)
        self.assertRaises(TableFull, other.set, key(1), {}, 0)
        self.assertEqual((other.refused, one.used), (1, 1))


class RedeclarationTests(SynchronousTestCase):
    def test_expire_begins(self) -> None:
        """Entries that never ended do so once the table is declared with an end."""
        table = table_of("type integer size 10 store gpc0")
        table.store([(key(1), 0, b"\x07")], 1000)
        table.redeclare(Declaration.parse("rates", "type integer size 10 expire 10s store gpc0"))
        entry = table.get(key(1), 2000)
        assert entry is not None
        self.assertEqual((entry["gpc0"], entry.expires_in), (7, 9000))
        while table.converting:
            table.convert(1)
        due = table.next_due()
        assert due is not None
        self.assertLess(due, 11100)
        self.assertEqual(table.expire(due), [key(1)])

    def test_shorter_expire(self) -> None:
        """With a shorter life, entries are removed when that is over, one slice after another."""
        table = table_of("type integer size 1k expire 1h store gpc0")
        table.store([(key(number), 3_600_000, b"\x01") for number in range(1000)], 0)
        table.redeclare(Declaration.parse("rates", "type integer size 1k expire 10s store gpc0"))
        slices = 0
        while table.converting:
            table.convert(100)
            slices += 1
        self.assertGreaterEqual(slices, 10)
        while (due := table.next_due()) is not None and due <= 10_100:
            table.expire(10_100)
        self.assertEqual(table.used, 0)

    def test_full_before_it_is_converted(self) -> None:
        """A full table makes room, though it does not know yet which entries end first."""
        table = table_of("type integer size 3 expire 1h store gpc0")
        for number in range(3):
            table.set(key(number), {"gpc0": 1}, number * 10_000)
        table.redeclare(Declaration.parse("rates", "type integer size 3 expire 2h store gpc0"))
        table.set(key(9), {"gpc0": 9}, 60_000)
        self.assertEqual({k for k, _ in table.scan()}, {key(1), key(2), key(9)})

    def test_again_and_again(self) -> None:
        """More declarations than can be told from each other, before anything is converted."""
        lines = [f"type integer size 10 expire 1h store gpc0{more}" for more in ("", ",gpt0")]
        table = table_of(lines[0])
        table.set(key(1), {"gpc0": 7}, 0)
        for number in range(600):
            table.redeclare(Declaration.parse("rates", lines[number % 2]))
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual(entry["gpc0"], 7)

    def test_lesson_meanwhile(self) -> None:
        """What is taught is what the present declaration stores, converted or not."""
        table = table_of("type integer size 1k expire 1h store gpc0,conn_rate(9s)")
        for number in range(600):
            table.set(key(number), {"gpc0": number, "conn_rate": 3}, 1000)
        sender = Sender(True)
        sender.now = 2000
        lesson = sender.lesson([(1, table)])
        taught = next(lesson) + next(lesson)
        table.redeclare(
            Declaration.parse("rates", "type integer size 1k expire 1h store gpt0,gpc0")
        )
        table.convert(300)
        taught += b"".join(lesson)
        layout = None
        came = {}
        for frame in FrameBuffer().feed(taught):
            if frame.message_type in UPDATES:
                assert layout is not None
                update = EntryUpdate.decode(frame, layout, ReceivingDictionary())
                place = layout.place_of(BY_NAME["gpc0"].bit)
                assert place is not None
                came[update.key] = layout.codec.decode(update.values, 0)[place]
                self.assertEqual(update.expiry, 3_599_000)
            else:
                message = read_message(frame)
                assert isinstance(message, TableDefinition)
                layout = message.layout
        self.assertEqual(came, {key(number): number for number in range(600)})


LINES = [
    f"type integer size 16 expire 10s store {stored}"
    for stored in ("gpc0", "gpt0,gpc0", "gpc0,conn_rate(3s),server_key", "gpc(2),gpc0")
]


class TableModel(RuleBasedStateMachine):
    """A table against a plain dict, under random changes and a clock that moves."""

    numbers = st.integers(0, 30)

    def __init__(self) -> None:
        super().__init__()
        self.table = table_of(LINES[0])
        self.now = 0
        self.model: dict[bytes, tuple[int, int]] = {}

    @rule(number=numbers, value=st.integers(0, 1000))
    def set(self, number: int, value: int) -> None:
        self.table.set(key(number), {"gpc0": value}, self.now)
        self.model[key(number)] = (value, self.now + 10000)

    @rule(number=numbers, life=st.integers(1, 10000))
    def learn(self, number: int, life: int) -> None:
        codec = self.table.layout.codec
        values = list(codec.blank())
        values[self.table.layout.cells["gpc0"].place] = 5
        self.table.store([(key(number), life, codec.encode(tuple(values)))], self.now)
        self.model[key(number)] = (5, self.now + life)

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        self.table.remove(key(number))
        self.model.pop(key(number), None)

    @rule(ms=st.integers(1, 7000))
    def wait(self, ms: int) -> None:
        self.now += ms

    @rule(line=st.sampled_from(LINES))
    def redeclare(self, line: str) -> None:
        self.table.redeclare(Declaration.parse("rates", line))

    @rule(limit=st.integers(1, 5))
    def convert(self, limit: int) -> None:
        if self.table.converting:
            self.table.convert(limit)

    @rule(limit=st.integers(1, 5))
    def expire(self, limit: int) -> None:
        for raw_key in self.table.expire(self.now, limit):
            assert self.model.pop(raw_key)[1] <= self.now

    @invariant()
    def agrees(self) -> None:
        for raw_key in self.table.take_trashed():
            self.model.pop(raw_key, None)
        assert self.table.used == sum(1 for _ in self.table.scan()) <= 16
        swept = {
            raw_key: one
            for piece in map(self.table.present, self.table.sweep())
            for raw_key, one in piece
        }
        assert swept == dict(self.table.scan())
        for number in range(31):
            entry = self.table.get(key(number), self.now)
            value, deadline = self.model.get(key(number), (0, 0))
            if deadline > self.now:
                assert entry is not None and entry["gpc0"] == value
                assert entry.expires_in == deadline - self.now
            else:
                assert entry is None


class TableModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        """Whatever happens in whatever order, the table says what the dict says."""
        run_state_machine_as_test(TableModel)


def taken_by(
    reception: Reception, updates: list[tuple[bytes, Optional[int], bytes]], now: int
) -> Optional[list[bytes]]:
    for update in updates:
        reception.add(update, now)
    return reception.store(now)


class ReceptionTests(SynchronousTestCase):
    @given(st.data())
    def test_same_layout(self, data: st.DataObject) -> None:
        """Records of an equal layout are stored as they came."""
        layout = data.draw(layouts())
        table = StickTable(Declaration("t", layout, 1000, recv_only=True))
        record = layout.codec.encode(data.draw(values(layout)))
        raw_key = data.draw(raw_keys(layout))
        self.assertEqual(
            taken_by(Reception(table, layout, 1000), [(raw_key, 7, record)], 5), [raw_key]
        )
        kept = table.stored(raw_key)
        assert kept is not None
        self.assertEqual(kept[stored.record_at(layout) :], record)
        self.assertEqual(stored.unpack(kept), (5, 7))

    @given(st.data())
    def test_other_layout(self, data: st.DataObject) -> None:
        """Whatever the layouts: what both store is taken, the rest stays as it was, or blank."""
        ours = data.draw(layouts())
        columns = data.draw(layouts()).columns
        theirs = attrs.evolve(ours, columns=columns)
        table = StickTable(Declaration("t", ours, 0))
        known, new = data.draw(st.lists(raw_keys(ours), min_size=2, max_size=2, unique=True))
        before, sent = data.draw(values(ours)), data.draw(values(theirs))
        table.store([(known, UNENDING, ours.codec.encode(before))], 0)
        record = theirs.codec.encode(sent)
        taken_by(Reception(table, theirs, 0), [(one, None, record) for one in (new, known)], 0)
        for raw_key, base in ((known, before), (new, ours.codec.blank())):
            entry = table.get(raw_key, 0)
            assert entry is not None
            for place, column in enumerate(ours.columns):
                other = theirs.place_of(column.data_type.bit)
                expected = base[place]
                if other is not None and not column.data_type.local:
                    expected = sent[other]
                    if column.elements is not None:
                        expected = sent[other][: column.elements] + base[place][len(sent[other]) :]
                self.assertEqual(entry.values[place], expected)

    def test_kept_ages_grow(self) -> None:
        """A rate that the peer does not send goes on growing old when it sends the rest."""
        table = table_of("type integer size 10 expire 1m store gpc0,conn_rate(10s)")
        other = table_of("type integer size 10 expire 1m store gpc0")
        table.set(key(1), {"gpc0": 1, "conn_rate": 9}, 0)
        taken_by(Reception(table, other.layout, 60_000), [(key(1), 60_000, b"\x05")], 4000)
        entry = table.get(key(1), 5000)
        assert entry is not None
        self.assertEqual(entry["gpc0"], 5)
        self.assertEqual(entry.counter("conn_rate").age, 5000)

    def test_conn_cur_is_local(self) -> None:
        """conn_cur is ignored on receipt, unless the table is declared recv-only."""
        for words, expected in (("", 0), ("recv-only", 9)):
            table = table_of(f"type integer size 10 store conn_cur {words}")
            taken_by(Reception(table, table.layout, 0), [(key(1), None, b"\x09")], 0)
            entry = table.get(key(1), 0)
            assert entry is not None
            self.assertEqual(entry["conn_cur"], expected)

    def test_peer_without_expiry(self) -> None:
        """The 0 in timed updates of a table without expiry is no life of 0 ms."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        taken_by(Reception(table, table.layout, 0), [(key(1), 0, b"\x01")], 0)
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual(entry.expires_in, 10000)

    def test_disagreement(self) -> None:
        """Type and key length must agree; data types need not."""
        table = table_of("type string len 10 size 10 store gpc0")
        others = {
            "type string len 11 size 10": "differs in key length: 12 there, 11 here",
            "type ip size 10": "differs in key type: ip there, string here",
            "type string len 10 size 10 store gpt0": None,
        }
        for line, words in others.items():
            why = disagreement(table, table_of(line).layout)
            self.assertEqual(why, words and f"table rates {words}")


class ExpirySlotsTests(SynchronousTestCase):
    @given(
        st.lists(st.integers(0, 10**6)),
        st.integers(0, 10**6),
        st.integers(0, 10**8),
        st.integers(1, 9),
    )
    def test_order(self, deadlines: list[int], now: int, expire: int, limit: int) -> None:
        """Keys come out by time, none before its deadline, all that are a slot past it."""
        slots = ExpirySlots(expire)
        for number, deadline in enumerate(deadlines):
            slots.add((key(number),), deadline)
        out: list[bytes] = []
        while (due := slots.next_due()) is not None and due <= now:
            deadline, keys_due = slots.take(limit, now)
            self.assertEqual(deadline, due)
            self.assertTrue(0 < len(keys_due) <= limit)
            out += keys_due
        times = [deadlines[int.from_bytes(one, "big")] for one in out]
        self.assertTrue(all(time <= now for time in times))
        self.assertGreaterEqual(len(out), sum(time <= now - slots.width for time in deadlines))

    @given(st.lists(st.integers(0, 10_000), max_size=6), st.integers(1, 10_000))
    def test_batches(self, sizes: list[int], limit: int) -> None:
        """However many come at once, they come out in their order, and none is lost."""
        slots = ExpirySlots(1000)
        numbers = iter(range(sum(sizes)))
        for size in sizes:
            slots.add([key(number) for number in islice(numbers, size)], 500)
        out: list[bytes] = []
        while slots.next_due() is not None:
            keys_due = slots.take(limit)[1]
            self.assertLessEqual(len(keys_due), limit)
            out += keys_due
        self.assertEqual(out, [key(number) for number in range(sum(sizes))])

    def test_collector(self) -> None:
        """The garbage collector does not look at keys that came together."""
        slots = ExpirySlots(1000)
        slots.add([key(number) for number in range(10_000)], 500)
        gc.collect()
        pieces = slots.take_all()
        self.assertEqual(sum(len(piece) for piece in pieces if not gc.is_tracked(piece)), 10_000)

    def test_empty(self) -> None:
        """Nothing in it: nothing due."""
        self.assertEqual(ExpirySlots(0).take(1)[1], ())
        self.assertIsNone(ExpirySlots(0).next_due())


class ChangeLogTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=400), st.integers(0, 50))
    def test_one_place_each(self, steps: list[tuple[int, bool]], after: int) -> None:
        """However often entries change or go, each has the place of its latest change."""
        log = ChangeLog()
        latest: dict[bytes, int] = {}
        for number, gone in steps:
            if gone:
                log.forget(key(number))
                latest.pop(key(number), None)
            else:
                latest[key(number)] = log.record(key(number))
        expected = sorted((at, k) for k, at in latest.items() if at > after)
        self.assertEqual(list(log.after(after)), expected)

    def test_stays_small(self) -> None:
        """A million changes to few entries keep few places."""
        log = ChangeLog()
        for number in range(100_000):
            log.record(key(number % 10))
        self.assertEqual(len(log), 10)
        self.assertLess(len(log._numbers), 200)

    def test_ids_wrap(self) -> None:
        """An id of 32 bits means the change that it is near to, across the wrap."""
        log = ChangeLog(head=2**32 - 2)
        for number in range(5):
            log.record(key(number))
        self.assertEqual(log.head, 2**32 + 3)
        self.assertEqual(log.number_of_id(2**32 - 1, log.head), 2**32 - 1)
        self.assertEqual(log.number_of_id(0, log.head), 2**32)
        self.assertEqual(log.number_of_id(3, log.head), 2**32 + 3)
        self.assertIsNone(log.number_of_id(4, log.head))


class RateTests(SynchronousTestCase):
    def test_as_haproxy(self) -> None:
        """The table of PROTOCOL.md: full, fading, rotated, gone, and no flapping."""
        for counter, expected in (
            ((0, 10, 0), 10),
            ((5000, 10, 8), 14),
            ((9999, 10, 8), 10),
            ((10000, 10, 8), 10),
            ((15000, 10, 8), 5),
            ((19999, 10, 0), 0),
            ((20000, 10, 8), 0),
            ((9000, 0, 1), 1),
            ((19000, 1, 0), 1),
            ((9000, 0, 2), 0),
        ):
            self.assertEqual(rate(Frequency(*counter), 10000), expected, counter)


class KeyTests(SynchronousTestCase):
    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        """Python's form of a raw key gives the raw key again."""
        layout = data.draw(layouts())
        raw = data.draw(
            raw_keys(layout).filter(
                lambda one: b"\0" not in one or layout.key_type is not KeyType.STRING
            )
        )
        python = keys.to_python(raw, layout.key_type)
        self.assertEqual(keys.to_raw(python, layout.key_type, layout.key_length), raw)

    def test_forms(self) -> None:
        """Each type takes its own form, and addresses text as well."""
        for given_, key_type, length, raw in (
            (7, KeyType.INTEGER, 4, b"\0\0\0\x07"),
            (-1, KeyType.INTEGER, 4, b"\xff" * 4),
            ("192.0.2.7", KeyType.IPV4, 4, b"\xc0\0\x02\x07"),
            (ipaddress.IPv4Address("192.0.2.7"), KeyType.IPV4, 4, b"\xc0\0\x02\x07"),
            ("::1", KeyType.IPV6, 16, b"\0" * 15 + b"\x01"),
            ("abcdef", KeyType.STRING, 4, b"abc"),
            (b"ab", KeyType.BINARY, 4, b"ab\0\0"),
            (b"abcdef", KeyType.BINARY, 4, b"abcd"),
        ):
            self.assertEqual(keys.to_raw(given_, key_type, length), raw)

    def test_wrong_forms(self) -> None:
        """Another type's form is refused, with what was expected."""
        for given_, key_type in (
            ("7", KeyType.INTEGER),
            (2**32, KeyType.INTEGER),
            ("192.0.2", KeyType.IPV4),
            ("::1", KeyType.IPV4),
            (7, KeyType.IPV4),
            ("192.0.2.7", KeyType.IPV6),
            (b"x", KeyType.STRING),
            ("a\0b", KeyType.STRING),
            ("x", KeyType.BINARY),
        ):
            self.assertRaises(LocalProtocolError, keys.to_raw, given_, key_type, 4)


class PartitionTests(SynchronousTestCase):
    def test_many_entries(self) -> None:
        """Nothing gets lost between the parts of a large table."""
        table = table_of("type integer size 1m expire 1h store gpc0")
        numbers = list(range(50_000))
        random.Random(1).shuffle(numbers)
        table.store(((key(number), 1000 + number, b"\x01") for number in numbers), 0)
        self.assertEqual(table.used, 50_000)
        gone = set()
        while (due := table.next_due()) is not None and due <= 26_000:
            gone.update(table.expire(26_000))
        self.assertGreaterEqual(len(gone), 24_000)
        self.assertEqual(table.used + len(gone), 50_000)

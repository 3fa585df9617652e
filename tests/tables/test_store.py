from __future__ import annotations

import gc
import ipaddress
import random
from collections.abc import Iterable
from itertools import islice, product
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

from peerproto.tables import row as stored
from peerproto.tables import rowstore
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import NEVER, ExpirySlots
from peerproto.tables.rates import rate
from peerproto.tables.room import Quota, make_room
from peerproto.tables.row import UNENDING
from peerproto.tables.store import TableFull, TableStore
from peerproto.updates.reception import Reception, disagreement
from peerproto.wire import keys
from peerproto.wire.datatypes import Frequency
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from tests.strategies import layouts, raw_keys, values


def table_of(line: str, name: str = "rates") -> TableStore:
    return TableStore(Declaration.parse(name, line))


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


class CountedKey(bytes):
    """A key that counts how often any of its kind was looked up."""

    looked_up = 0

    def __hash__(self) -> int:
        CountedKey.looked_up += 1
        return super().__hash__()


def told(batches: list[Changes]) -> list[tuple[Cause, list[bytes]]]:
    return [(batch.cause, list(batch.raw_keys)) for batch in batches]


class StickTableTests(SynchronousTestCase):
    def test_set_and_get(self) -> None:
        """Values named are changed, the others stay; the life begins anew."""
        table = table_of("type integer size 10 expire 10s store gpc0,gpt(2),server_key", "t")
        table.set(key(1), {"gpc0": 3, "gpt[1]": 5, "server_key": "s1"}, 1000)
        table.set(key(1), {"gpc0": 4}, 5000)
        entry = table.get(key(1), 6000)
        assert entry is not None
        self.assertEqual(entry.key, 1)
        self.assertEqual(entry["gpc0"], 4)
        self.assertEqual(entry["gpt1"], 5)
        self.assertEqual(entry["server_key"], "s1")
        self.assertEqual(entry.expires_in, 9000)

    def test_expired_is_not_there(self) -> None:
        """An entry is gone to the ms, whether it was removed yet or not."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        table.set(key(1), {"gpc0": 3}, 1000)
        self.assertIsNotNone(table.get(key(1), 10999))
        self.assertIsNone(table.get(key(1), 11000))
        self.assertEqual([table.has(key(1), now) for now in (10999, 11000)], [True, False])
        self.assertFalse(table.has(key(2), 0))
        self.assertEqual(table.used, 1)
        self.assertEqual(table.expire(11050), [key(1)])
        self.assertEqual(table.used, 0)
        self.assertIsNone(table.next_due())

    def test_set_after_expiry_begins_anew(self) -> None:
        """What an expired entry had does not come back."""
        table = table_of("type integer size 10 expire 10s store gpc0,gpc1")
        table.set(key(1), {"gpc0": 3}, 0)
        table.set(key(1), {"gpc1": 1}, 10000)
        entry = table.get(key(1), 10000)
        assert entry is not None
        self.assertEqual(dict(entry), {"gpc0": 0, "gpc1": 1})

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
        batches = table.set(key(9), {}, 6000)
        self.assertEqual({k for k, _ in table.scan()}, {key(0), key(2), key(3), key(9)})
        self.assertEqual((table.used, table.trashed), (4, 1))
        self.assertEqual(told(batches), [(Cause.TRASHED, [key(1)]), (Cause.SET, [key(9)])])

    def test_trashed_and_back_in_one_read(self) -> None:
        """What is trashed and comes again in one read is told in that order."""
        table = table_of("type integer size 2 expire 10s store gpc0")
        batches = table.store([(key(number), 5000, b"\x01") for number in (1, 2, 3, 1)], 0)
        self.assertEqual(
            told(batches),
            [
                (Cause.LEARNT, [key(1), key(2)]),
                (Cause.TRASHED, [key(1)]),
                (Cause.LEARNT, [key(3)]),
                (Cause.TRASHED, [key(2)]),
                (Cause.LEARNT, [key(1)]),
            ],
        )

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
        batches = table.store([(key(4), UNENDING, b"\x01"), (key(1), UNENDING, b"\x02")], 0)
        self.assertEqual(told(batches), [(Cause.LEARNT, [key(1)])])
        self.assertEqual((table.used, table.refused), (2, 2))

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

    def test_refreshed_entry_expires(self) -> None:
        """An entry that was refreshed is looked at again when its new end comes."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        table.set(key(1), {}, 0)
        table.set(key(1), {}, 5000)
        self.assertEqual(table.expire(10_100), [])
        due = table.next_due()
        assert due is not None
        self.assertTrue(15_000 <= due <= 15_100)
        self.assertEqual(table.expire(due - 1), [])
        self.assertEqual(table.expire(due), [key(1)])
        self.assertEqual((table.used, table.next_due()), (0, None))

    def test_expires_after_clear(self) -> None:
        """New entries of a table that was cleared expire, whatever waited there before."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        table.set(key(1), {}, 0)
        table.clear()
        table.set(key(2), {}, 0)
        self.assertEqual(table.expire(10_100), [key(2)])

    def test_cleared_and_back(self) -> None:
        """A key that was stored again since a clear is told for each clear that it is gone by."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        table.set(key(1), {}, 0)
        table.set(key(2), {}, 0)
        table.clear()
        table.set(key(1), {}, 0)
        table.remove(key(1))
        table.set(key(1), {}, 0)
        table.clear()
        told_of: list[bytes] = []
        while table.discarding:
            told_of += table.discard(1)
        self.assertEqual(sorted(told_of), [key(1), key(2)])

    def test_remove_and_clear(self) -> None:
        """Removed entries leave the log too; numbers of changes go on."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        for number in range(3):
            table.set(key(number), {}, 0)
        self.assertTrue(table.remove(key(1)))
        self.assertFalse(table.remove(key(1)))
        self.assertEqual([k for _, _, k in table.log.after(0)], [key(0), key(2)])
        self.assertEqual(table.clear(), 2)
        self.assertEqual((table.used, list(table.log.after(0)), table.log.head), (0, [], 3))
        self.assertEqual(table.expire(99999), [])

    def test_set_and_removed_for_ever(self) -> None:
        """Entries that come and go leave nothing behind, whenever they were to expire, and
        whether there is upkeep or not."""
        for expire, alive in product(("", "expire 24d"), (1, 1000)):
            table = table_of(f"type integer size 10k {expire} store gpc0")
            for number in range(alive):
                table.set(key(number), {}, 0)
            for cycle in range(10_000):
                table.remove(key(cycle % alive))
                table.set(key(cycle % alive), {}, 1000 * cycle)
                self.assertLessEqual(table.places, 3 * alive + 2050)
            while table.converting:
                table.convert()
            self.assertLessEqual(table.places, 2 * alive + 2048)
            self.assertEqual(table.used, alive)

    def test_many_are_removed(self) -> None:
        """Of a table that was large nothing is left once its entries are removed, and those
        that stay expire."""
        table = table_of("type integer size 100k expire 10s store gpc0")
        for number in range(20_000):
            table.set(key(number), {}, number // 20)
        for number in range(19_900):
            table.remove(key(number))
        self.assertTrue(table.converting)
        slices = 0
        while table.converting:
            table.convert(1000)
            slices += 1
        self.assertEqual((table.places, table.converting), (100, False))
        self.assertGreaterEqual(slices, 20)
        left = [key(number) for number in range(19_900, 20_000)]
        self.assertEqual(table.expire(10_900), [])
        self.assertEqual(sorted(table.expire(12_000)), left)

    def test_made_first_go_first_among_removed(self) -> None:
        """Where nothing expires, those that were made first go first, whatever was removed."""
        table = table_of("type integer size 100 store gpc0")
        for number in range(50):
            table.set(key(number), {}, 0)
        for cycle in range(10_000):
            table.set(key(1000 + cycle), {}, 0)
            table.remove(key(1000 + cycle))
        while table.converting:
            table.convert()
        for number in range(50, 110):
            table.set(key(number), {}, 0)
        self.assertEqual(sorted(k for k, _ in table.scan()), [*map(key, range(10, 110))])

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
        self.assertEqual(dict(entry), {"gpt0": 0, "conn_rate": 4})
        self.assertEqual(entry.expires_in, 58500)


class RoomTests(SynchronousTestCase):
    def test_one_read_of_many(self) -> None:
        """A table never has more than its size, however many come in one read."""
        table = table_of("type integer size 4 expire 10s store gpc0")
        table.store([(key(number), 5000, b"\x01") for number in range(50)], 0)
        self.assertEqual({k for k, _ in table.scan()}, {key(number) for number in range(46, 50)})
        self.assertEqual((table.used, table.trashed, table.refused), (4, 46, 0))

    def test_asked_once(self) -> None:
        """Where nothing can go, room is asked for once a read, however many entries come."""
        asked: list[int] = []

        def counting(table: TableStore, wanted: int, now: int) -> tuple[int, list[Changes]]:
            asked.append(wanted)
            return make_room(table, wanted, now)

        self.patch(rowstore, "make_room", counting)
        table = table_of("type integer size 10 nopurge store gpc0")
        table.store([(key(number), 5000, b"\x01") for number in range(8010)], 0)
        self.assertEqual((asked, table.used, table.refused), ([8000], 10, 8000))
        table.store([(key(number % 10), 5000, b"\x02") for number in range(8000)], 0)
        self.assertEqual((len(asked), table.used, table.refused), (1, 10, 8000))

    def look_ups(self, table: TableStore, numbers: Iterable[int]) -> int:
        """Store these in one read: how often a key was looked up."""
        updates = [(CountedKey(key(number)), 5000, b"\x01") for number in numbers]
        CountedKey.looked_up = 0
        table.store(updates, 0)
        return CountedKey.looked_up

    def test_much_is_trashed(self) -> None:
        """What a read costs that goes through a small table goes with its length, and not with
        the square of that."""
        table = table_of("type integer size 4 expire 10s store gpc0")
        self.assertLess(self.look_ups(table, range(6000)), 20 * 6000)
        self.assertEqual(
            {k for k, _ in table.scan()}, {key(number) for number in range(5996, 6000)}
        )
        self.assertEqual((table.trashed, table.refused), (5996, 0))

    def test_the_same_few_again_and_again(self) -> None:
        """The same where a read has a few keys, over and over, of which not all fit in."""
        table = table_of("type integer size 4 expire 10s store gpc0")
        numbers = [number % 6 for number in range(6000)]
        self.assertLess(self.look_ups(table, numbers), 40 * 6000)
        self.assertEqual((table.used, table.refused), (4, 0))

    def test_smaller_size(self) -> None:
        """A table whose size was made smaller takes new entries, and gives up more for them."""
        table = table_of("type integer size 10k expire 1h store gpc0")
        table.store([(key(number), 1000 + number, b"\x01") for number in range(10_000)], 0)
        table.redeclare(Declaration.parse("rates", "type integer size 1k expire 1h store gpc0"))
        for number in range(10_000, 12_000):
            before = table.used
            batches = table.set(key(number), {}, 1000)
            self.assertEqual(table.used, before - 1)
            self.assertEqual(sum(map(len, batches)), 3)
            self.assertIsNotNone(table.get(key(number), 1000))
        self.assertEqual((table.refused, table.used), (0, 8000))
        self.assertEqual(table.excess, table.used - 1024)
        while table.excess:
            table.trash(min(table.excess, 1000))
        self.assertEqual({k for k, _ in table.scan()}, {key(n) for n in range(10_976, 12_000)})

    def test_smaller_size_with_nopurge(self) -> None:
        """With nopurge nothing goes, and nothing new comes, until there is room again."""
        table = table_of("type integer size 10 nopurge store gpc0")
        for number in range(10):
            table.set(key(number), {}, 0)
        table.redeclare(Declaration.parse("rates", "type integer size 5 nopurge store gpc0"))
        self.assertEqual((table.excess, table.used), (0, 10))
        self.assertRaises(TableFull, table.set, key(10), {}, 0)
        for number in range(6):
            table.remove(key(number))
        table.set(key(10), {}, 0)
        self.assertEqual(table.used, 5)

    def test_refreshed_entries_stay(self) -> None:
        """Entries that were refreshed are spared for those that were not."""
        table = table_of("type integer size 1k expire 10s store gpc0")
        table.store([(key(number), 5000, b"\x01") for number in range(1024)], 0)
        refreshed = [key(number) for number in range(1024) if number % 4]
        table.store([(one, 5000, b"\x02") for one in refreshed], 1000)
        table.store([(key(number), 5000, b"\x03") for number in range(2000, 2200)], 2000)
        self.assertLessEqual(set(refreshed), {k for k, _ in table.scan()})

    def test_each_goes_once(self) -> None:
        """An entry that waits in two places, for an earlier expiry and for the present one, is
        trashed once, and so many go as are to go."""
        table = table_of("type integer size 10 expire 10s store gpc0")
        table.set(key(0), {}, 0)
        table.redeclare(attrs.evolve(table.declaration, expire=20_000))
        table.remove(key(0))
        table.set(key(0), {}, 5)
        table.set(key(1), {}, 500)
        self.assertEqual(table.trash(2), [key(0), key(1)])
        self.assertEqual((table.used, table.trashed), (0, 2))

    def test_removed_keys_wait(self) -> None:
        """Keys of entries that are gone do not keep a full table from making room."""
        table = table_of("type integer size 20k store gpc0")
        for number in range(20_480):
            table.set(key(number), {}, 0)
        for number in range(15_000):
            table.remove(key(number))
        for number in range(100_000, 120_000):
            table.set(key(number), {}, 0)
        self.assertEqual(table.refused, 0)
        self.assertLessEqual(table.used, 20_480)


class QuotaTests(SynchronousTestCase):
    def tables(self, limit: int, *words: str, adopted: str = "") -> list[TableStore]:
        """One with each of the words, and those whose name is in ``adopted`` come from a peer."""
        self.quota = Quota(limit)
        return [
            TableStore(
                attrs.evolve(
                    Declaration.parse(name, f"type integer size 10 expire 10s {more}"),
                    adopted_from="lb1" if name in adopted else None,
                ),
                quota=self.quota,
            )
            for name, more in zip("abcd", words)
        ]

    def fill(self, table: TableStore, count: int) -> None:
        for number in range(count):
            table.set(key(number), {}, number)

    def test_shared_by_tables(self) -> None:
        """Beyond what tables may hold together, the largest gives up what expires first."""
        one, other = self.tables(4, "", "")
        self.fill(one, 3)
        other.set(key(9), {}, 0)
        one.set(key(7), {}, 5000)
        self.assertEqual({k for k, _ in one.scan()}, {key(1), key(2), key(7)})
        self.assertEqual((self.quota.used, one.used, other.used), (4, 3, 1))
        one.clear()
        self.assertEqual(self.quota.used, 1)
        other.expire(20000)
        self.assertEqual(self.quota.used, 0)

    def test_used_up_by_others(self) -> None:
        """A table finds room though others have used up all: they share equally in the end."""
        one, other = self.tables(8, "", "")
        self.fill(one, 8)
        batches = other.set(key(1), {}, 9)
        self.assertEqual(
            [(batch.table, *pair) for batch, pair in zip(batches, told(batches))],
            [(one, Cause.TRASHED, [key(0)]), (other, Cause.SET, [key(1)])],
        )
        other.store([(key(number), 5000, b"") for number in range(10, 40)], 9)
        self.assertEqual((one.used, other.used, self.quota.used), (4, 4, 8))
        self.assertEqual((one.refused, other.refused), (0, 0))
        self.assertEqual({k for k, _ in other.scan()}, {key(number) for number in range(36, 40)})

    def test_adopted_tables_give_first(self) -> None:
        """What was declared drives out what was adopted, and not the other way round."""
        declared, small, large = self.tables(9, "", "", "", adopted="bc")
        self.fill(small, 3)
        self.fill(large, 6)
        self.fill(declared, 4)
        self.assertEqual((declared.used, small.used, large.used), (4, 3, 2))
        self.fill(declared, 9)
        self.assertEqual((declared.used, small.used, large.used), (9, 0, 0))
        self.assertRaises(TableFull, large.set, key(1), {}, 0)
        self.assertEqual((declared.used, large.refused), (9, 1))

    def test_no_more_than_is_wanted(self) -> None:
        """What is left of the limit is used before anybody gives up anything."""
        declared, adopted = self.tables(8, "", "", adopted="b")
        self.fill(adopted, 6)
        declared.store([(key(number), 5000, b"") for number in range(4)], 9)
        self.assertEqual((declared.used, adopted.used), (4, 4))

    def test_without_size(self) -> None:
        """A table of any size is full when the limit is reached, and gives up its own."""
        (one,) = self.tables(3, "")
        one.redeclare(attrs.evolve(one.declaration, size=None))
        self.fill(one, 5)
        self.assertEqual({k for k, _ in one.scan()}, {key(2), key(3), key(4)})
        self.assertEqual(one.excess, 0)

    def test_nopurge_gives_nothing(self) -> None:
        """A table with nopurge has room made for it by others, and makes none."""
        keeps, other = self.tables(4, "nopurge", "")
        self.fill(other, 4)
        self.fill(keeps, 4)
        self.assertEqual((keeps.used, other.used), (4, 0))
        self.assertRaises(TableFull, other.set, key(1), {}, 0)
        self.assertEqual((other.refused, keeps.used), (1, 4))

    def test_gone_tables_give_nothing(self) -> None:
        """A table that nobody holds any more is not asked."""
        one, other = self.tables(2, "", "")
        self.fill(one, 2)
        one.clear()
        del one
        gc.collect()
        self.fill(other, 3)
        self.assertEqual(other.used, 2)


LINES = [
    f"type integer size 16 expire {expire} store {stored}"
    for expire, stored in (
        ("10s", "gpc0"),
        ("10s", "gpt0,gpc0"),
        ("10s", "gpc0,conn_rate(3s),server_key"),
        ("10s", "gpt(2),gpc0"),
        ("4s", "gpc0"),
        ("20s", "gpt0,gpc0"),
    )
]


def crowded(number: int) -> bytes:
    """A key: many of them are kept together, others apart."""
    return key(number * 257 if number % 2 else number)


class TableModel(RuleBasedStateMachine):
    """A table against a plain dict, under random changes and a clock that moves."""

    numbers = st.integers(0, 30)

    def __init__(self) -> None:
        super().__init__()
        self.table = table_of(LINES[0])
        self.now = 0
        self.model: dict[bytes, tuple[int, int, int]] = {}
        """Value, when it came, and its life."""
        self.lives: dict[bytes, list[tuple[int, int]]] = {}
        """When it came and its life, each time: a shorter one does not let it end sooner."""
        self.scan = self.table.scan()

    def keep(self, raw_key: bytes, value: int, life: int) -> None:
        if raw_key not in self.model:
            self.lives[raw_key] = []
        self.model[raw_key] = (value, self.now, life)
        self.lives[raw_key].append((self.now, life))

    def deadline(self, raw_key: bytes) -> int:
        _, came, life = self.model[raw_key]
        return came + min(life, self.table.declaration.expire)

    @rule(number=numbers, value=st.integers(0, 1000))
    def set(self, number: int, value: int) -> None:
        self.note(self.table.set(crowded(number), {"gpc0": value}, self.now))
        self.keep(crowded(number), value, UNENDING)

    @rule(number=numbers, life=st.integers(1, 20000))
    def learn(self, number: int, life: int) -> None:
        codec = self.table.layout.codec
        values = list(codec.blank())
        values[self.table.layout.cells["gpc0"].place] = 5
        updates = [(crowded(number), life, codec.encode(tuple(values)))]
        self.note(self.table.store(updates, self.now))
        self.keep(crowded(number), 5, life)

    @rule(number=numbers, value=st.integers(0, 200), line=st.sampled_from(LINES))
    def receive(self, number: int, value: int, line: str) -> None:
        """A peer's declaration may differ."""
        theirs = Declaration.parse("rates", line)
        codec = theirs.layout.codec
        values = list(codec.blank())
        values[theirs.layout.cells["gpc0"].place] = value
        reception = Reception(self.table, theirs.layout, theirs.expire)
        reception.add((crowded(number), 7000, codec.encode(tuple(values)), True), self.now)
        self.note(reception.store(self.now))
        self.keep(crowded(number), value, 7000)

    def note(self, batches: list[Changes]) -> None:
        for batch in batches:
            if batch.cause is Cause.TRASHED:
                for raw_key in batch.raw_keys:
                    del self.model[raw_key]

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        self.table.remove(crowded(number))
        self.model.pop(crowded(number), None)

    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.table.discard()
        self.model.clear()

    @rule(count=st.integers(1, 4))
    def scan_on(self, count: int) -> None:
        for raw_key, one in islice(self.scan, count):
            assert one == self.table.stored(raw_key)
        if next(self.scan, None) is None:
            self.scan = self.table.scan()

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
            assert self.deadline(raw_key) <= self.now
            del self.model[raw_key]

    @rule()
    def expire_all(self) -> None:
        """Nothing waits for the end of an earlier declaration's life."""
        while self.table.converting:
            self.table.convert()
        while (due := self.table.next_due()) is not None and due <= self.now:
            self.expire(5)
        expire = self.table.declaration.expire
        latest = self.now - expire // 1024
        for raw_key in self.model:
            assert max(came + min(life, expire) for came, life in self.lives[raw_key]) > latest

    @invariant()
    def agrees(self) -> None:
        assert self.table.used == sum(1 for _ in self.table.scan()) <= 16
        swept = {
            raw_key: self.table.generations.convert(one)
            for piece in self.table.partitions.sweep()
            for raw_key, one in piece
        }
        assert swept == dict(self.table.scan())
        for number in range(31):
            entry = self.table.get(crowded(number), self.now)
            if crowded(number) in self.model and self.deadline(crowded(number)) > self.now:
                assert entry is not None and entry["gpc0"] == self.model[crowded(number)][0]
                assert entry.expires_in == self.deadline(crowded(number)) - self.now
            else:
                assert entry is None


class TableModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        """Whatever happens in whatever order, the table says what the dict says."""
        run_state_machine_as_test(TableModel)


def taken_by(
    reception: Reception, updates: list[tuple[bytes, Optional[int], bytes]], now: int
) -> list[tuple[Cause, list[bytes]]]:
    for update in updates:
        reception.add((*update, True), now)
    return told(reception.store(now))


class ReceptionTests(SynchronousTestCase):
    @given(st.data())
    def test_same_layout(self, data: st.DataObject) -> None:
        """Records of an equal layout are stored as they came."""
        layout = data.draw(layouts())
        table = TableStore(Declaration("t", layout, 1000, recv_only=True))
        record = layout.codec.encode(data.draw(values(layout)))
        raw_key = data.draw(raw_keys(layout))
        self.assertEqual(
            taken_by(Reception(table, layout, 1000), [(raw_key, 7, record)], 5),
            [(Cause.LEARNT, [raw_key])],
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
        table = TableStore(Declaration("t", ours, 0))
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
                self.assertEqual(entry.decoded[place], expected)

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

    def test_expired_is_not_kept(self) -> None:
        """What an expired entry had does not come back with an update that does not have it."""
        table = table_of("type integer size 10 expire 10s store gpc0,gpc1")
        other = table_of("type integer size 10 expire 10s store gpc0")
        for now, expected in ((9999, 7), (10_000, 0)):
            table.clear()
            table.set(key(1), {"gpc1": 7}, 0)
            taken_by(Reception(table, other.layout, 10_000), [(key(1), None, b"\x05")], now)
            entry = table.get(key(1), now)
            assert entry is not None
            self.assertEqual(dict(entry), {"gpc0": 5, "gpc1": expected})

    def test_conn_cur_is_local(self) -> None:
        """conn_cur is ignored on receipt, unless the table is declared recv-only."""
        for words, expected in (("", 0), ("recv-only", 9)):
            table = table_of(f"type integer size 10 store conn_cur {words}")
            taken_by(Reception(table, table.layout, 0), [(key(1), None, b"\x09")], 0)
            entry = table.get(key(1), 0)
            assert entry is not None
            self.assertEqual(entry["conn_cur"], expected)

    def test_text_said_before_in_one_read(self) -> None:
        """A text stays that was said in the same read, when a later update says nothing of it."""
        table = table_of("type integer size 10 expire 10s store gpc0,server_key")
        reception = Reception(table, table.layout, 10_000)
        codec = table.layout.codec
        for said, value in ((True, (1, "abc")), (False, (2, None)), (False, (3, None))):
            reception.add((key(1), 10_000, codec.encode(value), said), 0)
        reception.store(0)
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual(dict(entry), {"gpc0": 3, "server_key": "abc"})

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

    def test_first_ones(self) -> None:
        """Those that end first come in their order, each once, and others wait on."""
        slots = ExpirySlots(10_000)
        ends = {key(number): 1000 for number in range(20)}
        slots.add([key(7), key(7), *ends], 1000)
        ends[key(3)] = 9000
        del ends[key(4)]
        for wanted, expected in (
            (4, [7, 0, 1, 2]),
            (2, [5, 6]),
            (99, [*range(8, 20), 3]),
            (1, []),
        ):
            first = slots.first(wanted, ends.get)
            self.assertEqual(first, [*map(key, expected)])
            for one in first:
                del ends[one]

    @given(st.integers(1, 6000), st.integers(0, 10_000))
    def test_bounded(self, wanted: int, refreshed: int) -> None:
        """However many were refreshed, so many are looked at that it takes a few ms: of those,
        the ones go that end first, and the others wait for the end that they have now."""
        slots = ExpirySlots(3_600_000)
        numbers = range(10_000)
        slots.add([key(number) for number in numbers], 1000)
        ends = {key(one): 600_000 - 50 * one if one < refreshed else 1000 for one in numbers}
        asked: list[int] = []

        def deadline_of(one: bytes) -> Optional[int]:
            asked.append(ends[one])
            return ends[one]

        first = slots.first(wanted, deadline_of)
        self.assertEqual(len(set(first)), wanted)
        self.assertLessEqual(len(asked), max(wanted, min(8 * wanted, 4096)))
        self.assertEqual(sorted(ends[one] for one in first), sorted(asked)[:wanted])
        left = {key(number) for number in numbers} - set(first)
        for _ in range(99):
            due = slots.next_due()
            if due is None:
                break
            over = slots.due(due, 20_000, lambda one: ends[one])
            self.assertTrue(all(due - slots.width < ends[one] <= due for one in over))
            left -= set(over)
        while slots.next_due() is not None:
            left -= set(slots.due(700_000, 20_000, lambda one: ends[one]))
        self.assertEqual(left, set())

    def test_many_are_gone(self) -> None:
        """Keys without entries are passed over, so many at a time that it takes a few ms."""
        slots = ExpirySlots(0)
        slots.add([key(number) for number in range(20_000)], NEVER)
        ends = {key(19_999): NEVER}
        rounds = 0
        while not (first := slots.first(5, ends.get)):
            rounds += 1
        self.assertEqual((first, rounds), ([key(19_999)], 4))

    def test_width(self) -> None:
        """An entry is removed a thousandth of the longest life late at most, or a second."""
        for expire, width in ((0, 1), (500, 1), (10_240, 10), (3_600_000, 1000)):
            slots = ExpirySlots(expire)
            slots.add([key(1)], 12_345)
            due = slots.next_due()
            assert due is not None
            self.assertEqual((due - 12_345, slots.width), (-12_345 % width, width))

    def test_one_by_one(self) -> None:
        """Keys that come one by one are kept together, and the garbage collector looks at few of
        them."""
        slots = ExpirySlots(1000)
        for number in range(10_000):
            slots.add([key(number)], 500)
        gc.collect()
        pieces = slots.take_all()
        self.assertEqual(sum(map(len, pieces)), 10_000)
        self.assertLess(len(pieces), 500)
        self.assertLess(sum(len(piece) for piece in pieces if gc.is_tracked(piece)), 50)

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


class RateTests(SynchronousTestCase):
    def test_as_haproxy(self) -> None:
        """As doc/protocol.md, "Frequency counters": full, fading, rotated, gone, no flapping."""
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

    @given(st.tuples(*[st.integers(0, 2**32 - 1)] * 3))
    def test_no_period(self, counter: tuple[int, int, int]) -> None:
        """Over a period of 0 there is no time, and so no event."""
        self.assertEqual(rate(Frequency(*counter), 0), 0)

    def test_blocks(self) -> None:
        """Byte rates are read in bytes, other values as they are; what is stored are blocks."""
        table = TableStore(
            Declaration.parse(
                "t",
                "type integer size 1k store bytes_in_rate(10s),bytes_out_rate(10s),gpc0_rate(10s),"
                "bytes_in_cnt brates-factor 16",
            )
        )
        values = {"bytes_in_rate": 3, "bytes_out_rate": 4, "gpc0_rate": 5, "bytes_in_cnt": 6}
        table.set(bytes(4), values, 0)
        entry = table.get(bytes(4), 0)
        assert entry is not None
        self.assertEqual(
            dict(entry),
            {"gpc0_rate": 5, "bytes_in_cnt": 6, "bytes_in_rate": 48, "bytes_out_rate": 64},
        )
        self.assertEqual(entry.counter("bytes_in_rate"), Frequency(0, 3, 0))


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

    def test_too_long_for_a_message(self) -> None:
        """A table may be declared with keys that no message has room for; none of them is made."""
        declared = Declaration.parse("t", "type binary len 99999999999 size 1")
        problem = self.assertRaises(
            LocalProtocolError, keys.to_raw, b"k", KeyType.BINARY, declared.layout.key_length
        )
        self.assertIn("99999999999 bytes", problem.expected)

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

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.memory import Counters
from peerproto.peering.sending import Sender
from peerproto.tables import redeclaration
from peerproto.tables.declaration import Declaration
from peerproto.tables.redeclaration import MOST
from peerproto.tables.store import TableStore
from peerproto.updates.outgoing import Outgoing
from peerproto.updates.reception import Reception
from peerproto.wire.datatypes import BY_NAME, Frequency, Kind
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import DEFINITION, STICK_TABLE, Frame, FrameBuffer
from peerproto.wire.layout import Layout, column, in_bit_order
from peerproto.wire.messages import UPDATES, EntryUpdate, TableDefinition, read_message


def declared(line: str) -> Declaration:
    return Declaration.parse("rates", line)


def table_of(line: str) -> TableStore:
    return TableStore(declared(line))


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def values_of(table: TableStore, number: int, now: int = 0) -> dict[str, Any]:
    entry = table.get(key(number), now)
    assert entry is not None
    return dict(entry)


def convert_all(table: TableStore, limit: int = 1024) -> int:
    """How many slices it took."""
    slices = 0
    while table.converting:
        table.convert(limit)
        slices += 1
    return slices


def size_of(table: TableStore) -> int:
    """Bytes of all that is kept for the keys."""
    return sum(len(stored) for stored in held(table))


def held(table: TableStore) -> Iterator[bytes]:
    """What is kept for the keys, as it is."""
    return (stored for piece in table.partitions.sweep() for _, stored in piece)


def of_elements(*elements: int) -> Declaration:
    """One of a million declarations that store different values."""
    layout = declared("type integer size 1m").layout
    columns = [
        column(name, elements=count, period=1000 if name == "gpc_rate" else None)
        for name, count in zip(("gpt", "gpc", "gpc_rate"), elements)
    ]
    return Declaration("rates", attrs.evolve(layout, columns=tuple(columns)), 1000)


class RedeclarationTests(SynchronousTestCase):
    def test_expire_begins(self) -> None:
        """Entries that never ended do so once the table is declared with an end."""
        table = table_of("type integer size 10 store gpc0")
        table.store([(key(1), 0, b"\x07")], 1000)
        table.redeclare(declared("type integer size 10 expire 10s store gpc0"))
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
        table.redeclare(declared("type integer size 1k expire 10s store gpc0"))
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
        table.redeclare(declared("type integer size 3 expire 2h store gpc0"))
        table.set(key(9), {"gpc0": 9}, 60_000)
        self.assertEqual({k for k, _ in table.scan()}, {key(1), key(2), key(9)})

    def test_again_and_again(self) -> None:
        """More declarations than can be told from each other, before anything is converted."""
        lines = [f"type integer size 10 expire 1h store gpc0{more}" for more in ("", ",gpt0")]
        table = table_of(lines[0])
        table.set(key(1), {"gpc0": 7}, 0)
        for number in range(600):
            table.redeclare(declared(lines[number % 2]))
        entry = table.get(key(1), 0)
        assert entry is not None
        self.assertEqual(entry["gpc0"], 7)

    def test_lesson_meanwhile(self) -> None:
        """What is taught is what the present declaration stores, converted or not."""
        table = table_of("type integer size 1k expire 1h store gpc0,conn_rate(9s)")
        for number in range(600):
            table.set(key(number), {"gpc0": number, "conn_rate": 3}, 1000)
        sender = Sender(True, Counters(), {})
        sender.now = 2000
        lesson = sender.lesson([(1, Outgoing(table))], lambda _: True)
        taught = next(lesson) + next(lesson)
        table.redeclare(declared("type integer size 1k expire 1h store gpt0,gpc0"))
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


class NarrowTests(SynchronousTestCase):
    """Columns that nobody has written need no room."""

    def test_wider(self) -> None:
        """Entries stay as they are when the table is declared to store more, however often it
        is looked at; what is set then is stored with all."""
        table = TableStore(of_elements(1, 1))
        for number in range(300):
            table.set(key(number), {"gpc[0]": number}, 0)
        before = size_of(table)
        table.redeclare(of_elements(9, 100, 100))
        convert_all(table)
        self.assertEqual(size_of(table), before)
        self.assertEqual(values_of(table, 7)["gpc0"], 7)
        self.assertEqual(values_of(table, 7)["gpc99"], 0)
        table.set(key(7), {"gpc[99]": 5}, 0)
        self.assertEqual(size_of(table), before + 8 + 99 + 300)
        self.assertEqual((values_of(table, 7)["gpc0"], values_of(table, 7)["gpc99"]), (7, 5))

    def test_narrower(self) -> None:
        """What the table does not store any more is taken from its entries in passing."""
        table = TableStore(of_elements(1, 100))
        for number in range(300):
            table.set(key(number), {"gpc[0]": number}, 0)
        before = size_of(table)
        table.redeclare(of_elements(1, 1))
        self.assertEqual(size_of(table), before)
        self.assertGreater(convert_all(table, 100), 2)
        self.assertEqual(size_of(table), before - 300 * 99)
        self.assertEqual(values_of(table, 7), {"gpt0": 0, "gpc0": 7})

    def test_narrower_and_wider_again(self) -> None:
        """In the middle of being rewritten a table may be declared as it was: what is left is
        there again, what was taken is blank."""
        table = TableStore(of_elements(1, 3))
        for number in range(300):
            table.set(key(number), {"gpc[0]": number, "gpc[2]": 1}, 0)
        table.redeclare(of_elements(1, 1))
        table.convert(100)
        table.redeclare(of_elements(1, 3))
        convert_all(table)
        entries = [values_of(table, number) for number in range(300)]
        self.assertEqual([entry["gpc0"] for entry in entries], list(range(300)))
        self.assertEqual(sum(entry["gpc2"] for entry in entries), 200)

    def test_lives_of_earlier_entries(self) -> None:
        """Entries that stay narrow end when their time comes, as all others."""
        table = TableStore(of_elements(1, 1))
        table.store([(key(1), 700, b"\x01\x01")], 0)
        table.redeclare(of_elements(1, 2))
        convert_all(table)
        due = table.next_due()
        assert due is not None
        self.assertLess(due, 710)
        self.assertEqual(table.expire(due), [key(1)])


class ClearedTests(SynchronousTestCase):
    """A table is cleared while it is being converted."""

    def setUp(self) -> None:
        self.table = TableStore(of_elements(3, 3))
        for number in range(3000):
            self.table.set(key(number), {"gpc[0]": number}, 0)

    def test_conversion_ends(self) -> None:
        """What is left to convert is what came since."""
        self.table.redeclare(of_elements(2, 2))
        self.table.convert(10)
        self.table.clear()
        self.table.set(key(5), {"gpc[0]": 55}, 0)
        self.assertLess(convert_all(self.table, 10), 5)
        self.assertEqual([raw for raw, _ in self.table.scan()], [key(5)])
        self.assertEqual(values_of(self.table, 5)["gpc0"], 55)

    def test_expiry_anew(self) -> None:
        """The same where keys wait for another expiry: none of those that are gone waits on."""
        self.table.redeclare(attrs.evolve(of_elements(3, 3), expire=500))
        self.table.convert(10)
        self.table.clear()
        self.assertFalse(self.table.converting)
        self.assertIsNone(self.table.next_due())
        self.table.set(key(5), {}, 0)
        self.assertEqual(self.table.expire(510), [key(5)])

    def test_expiry_anew_twice(self) -> None:
        """The same where the expiry was declared once more meanwhile, much shorter."""
        hours = 3_600_000
        for expire in (2 * hours, hours, 500):
            self.table.redeclare(attrs.evolve(of_elements(3, 3), expire=expire))
        self.table.clear()
        self.table.set(key(5), {}, 0)
        self.assertEqual(self.table.expire(510), [key(5)])

    def test_scan_meanwhile(self) -> None:
        """A scan that is under way goes on with what is there, whatever was there before."""
        scan = self.table.scan()
        next(scan)
        self.table.clear()
        self.table.redeclare(of_elements(5))
        self.table.redeclare(of_elements(6, 7))
        self.table.set(key(9), {"gpc[6]": 1}, 0)
        self.assertLessEqual([raw for raw, _ in scan], [key(9)])


class InBetweenTests(SynchronousTestCase):
    """What happens while what was declared earlier is not converted yet."""

    def test_expiry_that_comes_back(self) -> None:
        """Entries that came under an expiry in between end as the present one says."""
        table = table_of("type integer size 10k expire 1h store gpc0")
        for number in range(3000):
            table.set(key(number), {"gpc0": 1}, 0)
        short, endless = "type integer size 10k expire 10s", "type integer size 10k"
        table.redeclare(declared(f"{short} store gpc0"))
        table.redeclare(declared(f"{endless} store gpc0"))
        for number in range(5000, 6000):
            table.set(key(number), {"gpc0": 1}, 0)
        table.redeclare(declared(f"{short} store gpc0"))
        convert_all(table)
        while (due := table.next_due()) is not None:
            self.assertLess(due, 20_000)
            table.expire(due)
        self.assertEqual(table.used, 0)

    def test_number_of_a_generation(self) -> None:
        """A number that stands for other columns since a lap has ended says so to whoever
        remembers what it stood for."""
        wide = "type integer size 100k expire 1h store gpc0,conn_cnt,gpc1"
        table = table_of(f"{wide},http_req_cnt")

        def come(numbers: range, columns: str, record: bytes) -> None:
            theirs = declared(f"type integer size 100k expire 1h store {columns}")
            reception = Reception(table, theirs.layout, 3_600_000)
            for number in numbers:
                reception.add((key(number), 3_600_000, record, True), 0)
            reception.store(0)

        come(range(100), "gpc0", b"\x07")
        come(range(1000, 4000), "gpc1", b"\x09")
        table.redeclare(declared(wide))
        table.convert(1)
        before = table.generations.version
        for number in range(100):
            table.remove(key(number))
        convert_all(table)
        self.assertGreater(table.generations.version, before)
        come(range(200, 201), "conn_cnt", b"\x05")
        self.assertEqual(values_of(table, 200), {"gpc0": 0, "conn_cnt": 5, "gpc1": 0})


class ManyDefinitionsTests(SynchronousTestCase):
    """What a definition costs does not depend on those before it."""

    def setUp(self) -> None:
        self.made = 0

        def count(*arguments: Any) -> Any:
            self.made += 1
            return conversion(*arguments)

        conversion = redeclaration.conversion
        self.patch(redeclaration, "conversion", count)

    def test_of_an_empty_table(self) -> None:
        """Any number of them can be taken in turn, and nothing is left to do."""
        table = TableStore(of_elements(1))
        table.set(key(1), {}, 0)
        table.remove(key(1))
        for number in range(3 * MOST):
            self.assertTrue(table.redeclare(of_elements(number % 100 + 1, number % 13 + 1)))
            self.assertTrue(table.redeclare(attrs.evolve(table.declaration, expire=number + 1)))
        self.assertEqual(convert_all(table), 1)
        self.assertEqual(self.made, 0)

    def test_conversions_are_made_for_what_is_met(self) -> None:
        """How to convert entries is found out for those declarations that there are entries of."""
        table = TableStore(of_elements(100, 100))
        table.set(key(1), {"gpc[0]": 1}, 0)
        for number in range(99, 0, -1):
            table.redeclare(of_elements(number))
            table.redeclare(of_elements(number, number))
        self.assertEqual(self.made, 0)
        self.assertEqual(values_of(table, 1), {"gpt0": 0, "gpc0": 1})
        self.assertEqual(self.made, 1)

    def test_same_kinds_in_turn(self) -> None:
        """Declarations that store the same can go on in turn for ever, also while those that
        are being converted are many."""
        table = TableStore(of_elements(2, 2))
        for number in range(1000):
            table.set(key(number), {"gpc[0]": number}, 0)
        for number in range(3 * MOST):
            self.assertTrue(table.redeclare(of_elements(2, 1 + number % 2)))
            table.convert(1)
        convert_all(table)
        self.assertEqual([values_of(table, n)["gpc0"] for n in range(1000)], list(range(1000)))
        self.assertLess(self.made, 2 * MOST)

    def test_expiries_in_turn(self) -> None:
        """The same with expiries: all entries are removed in their time, none is lost."""
        table = TableStore(of_elements(1))
        for number in range(1000):
            table.store([(key(number), 1000, b"\x01")], 0)
        for number in range(3 * MOST):
            self.assertTrue(table.redeclare(attrs.evolve(table.declaration, expire=5000 - number)))
            table.convert(1)
        convert_all(table)
        self.assertEqual(len(table.expire(1005, 2000)), 1000)
        self.assertIsNone(table.next_due())

    def test_too_many(self) -> None:
        """With entries of as many declarations as can be told from each other, one more is not
        taken, nothing is lost, and it is taken once there are fewer."""
        table = TableStore(of_elements(1, 1, 1))
        declarations = [
            of_elements(2 + number // 90, 2 + number % 90) for number in range(MOST + 5)
        ]
        taken = []
        for number, declaration in enumerate(declarations):
            if table.redeclare(declaration):
                table.set(key(number), {"gpc[1]": number, "gpt[1]": 1}, 0)
                taken.append(number)
        self.assertEqual(taken, list(range(MOST)))
        self.assertEqual(table.declaration, declarations[MOST - 1])
        for number in taken:
            entry = values_of(table, number)
            self.assertEqual((entry["gpc1"], entry["gpt1"]), (number, 1))
        convert_all(table)
        self.assertTrue(table.redeclare(declarations[-1]))
        convert_all(table)
        self.assertEqual([values_of(table, number)["gpc1"] for number in taken], taken)

    @given(st.lists(st.integers(0, 396), max_size=30))
    def test_numbers_are_given_back(self, order: list[int]) -> None:
        """Whatever was declared, and however far conversion went: a generation that there are
        entries of is not taken for another one."""
        table = TableStore(of_elements(1, 1))
        for place, step in enumerate(order):
            if table.redeclare(of_elements(1 + step % 4, 1 + step // 4)):
                table.set(key(place), {"gpc[0]": place + 1}, 0)
            if step % 3 == 0:
                table.convert(5)
        for place in range(len(order)):
            self.assertEqual(values_of(table, place)["gpc0"], place + 1)


class GivenAwayTests(SynchronousTestCase):
    """The number of a generation is given back while it is in use, and taken by another one."""

    LINE = "type integer size 1m expire 1h store gpc0,gpc1,conn_cnt"

    def setUp(self) -> None:
        self.table = TableStore(declared(f"{self.LINE},gpt0"))
        self.receptions = {
            names: Reception(self.table, declared(f"type integer size 1m store {names}").layout, 0)
            for names in ("gpc0", "gpc0,gpc1", "conn_cnt")
        }
        self.receive("gpc0", 0, b"\x05")
        ((_, self.number),) = self.numbers()
        for number in range(1, 4000):
            self.table.set(key(number), {"gpc1": 1}, 0)
        self.table.redeclare(declared(self.LINE))
        self.table.convert(0)

    def receive(self, names: str, number: int, record: bytes) -> None:
        """Store an update of a peer that has these columns."""
        self.receptions[names].add((key(number), 3_600_000, record, True), 0)
        self.receptions[names].store(0)

    def give_away(self) -> None:
        """Have the number of those with ``gpc0`` alone taken by those with ``conn_cnt`` alone."""
        self.table.remove(key(0))
        convert_all(self.table)
        self.receive("conn_cnt", 9000, b"\x05")
        self.assertEqual(dict(self.numbers())[key(9000)], self.number)

    def numbers(self) -> list[tuple[bytes, int]]:
        """The keys and the numbers of the generations of their entries."""
        return [
            (raw, stored[0]) for piece in self.table.partitions.sweep() for raw, stored in piece
        ]

    def test_lesson(self) -> None:
        """A lesson that goes on teaches each value as what it is."""
        lesson = Sender(True, Counters(), {}).lesson([(1, Outgoing(self.table))], lambda _: True)
        began = next(lesson) + next(lesson)
        self.assertEqual(read_lesson(began).values[key(0)], {"gpc0": 5})
        self.give_away()
        came = read_lesson(began + b"".join(lesson))
        self.assertEqual(came.values[key(9000)], {"conn_cnt": 5})

    def test_updates(self) -> None:
        """Values stay that a peer does not send, though what had this number had none."""
        self.receive("gpc0,gpc1", 0, b"\x06\x06")
        self.give_away()
        self.receive("gpc0,gpc1", 9000, b"\x06\x06")
        self.assertEqual(values_of(self.table, 9000), {"gpc0": 6, "gpc1": 6, "conn_cnt": 5})


class MidLessonTests(SynchronousTestCase):
    def test_other_expiry(self) -> None:
        """Entries that are taught after a table was declared to end sooner have lives that are
        shorter, and so has the definition before them."""
        table = TableStore(attrs.evolve(of_elements(1), expire=3_600_000))
        for number in range(2000):
            table.set(key(number), {}, 0)
        lesson = Sender(True, Counters(), {}).lesson([(1, Outgoing(table))], lambda _: True)
        before = next(lesson) + next(lesson)
        table.redeclare(attrs.evolve(table.declaration, expire=5000))
        after = b"".join(lesson)
        self.assertEqual([expire_of(data) for data in (before, after)], [3_600_000, 5000])


def expire_of(lesson: bytes) -> int:
    """The expiry of the definition and of all updates in a part of a lesson."""
    (definition,) = {
        frame.payload for frame in FrameBuffer().feed(lesson) if frame.message_type not in UPDATES
    }
    message = read_message(Frame(STICK_TABLE, DEFINITION, definition))
    assert isinstance(message, TableDefinition)
    lives = {
        EntryUpdate.decode(frame, message.layout, ReceivingDictionary()).expiry
        for frame in FrameBuffer().feed(lesson)
        if frame.message_type in UPDATES
    }
    assert lives == {message.expire}
    assert message.expire is not None
    return message.expire


COLUMNS = {
    one.name: one
    for one in declared(
        "type integer size 1k"
        " store gpt0,sess_cnt,conn_cnt,conn_cur,conn_rate(10s),server_key,gpc(3)"
    ).layout.columns
}
"""What some peers store, and others do not."""


@attrs.frozen
class Taught:
    """What a peer has after a lesson: values by key and name, and bytes of the updates."""

    values: dict[bytes, dict[str, Any]]
    size: int


def taught(table: TableStore, now: int) -> Taught:
    sender = Sender(True, Counters(), {})
    sender.now = now
    return read_lesson(b"".join(sender.lesson([(1, Outgoing(table))], lambda _: True)))


def read_lesson(lesson: bytes) -> Taught:
    dictionary = ReceivingDictionary()
    layout = None
    came: dict[bytes, dict[str, Any]] = {}
    size = 0
    for frame in FrameBuffer().feed(lesson):
        if frame.message_type in UPDATES:
            assert layout is not None
            size += len(frame.payload)
            update = EntryUpdate.decode(frame, layout, dictionary)
            values = layout.codec.decode(update.values, 0)
            came[update.key] = {
                one.name: value
                for one, value, blank in zip(layout.columns, values, layout.codec.blank())
                if value != blank
            }
        else:
            message = read_message(frame)
            assert isinstance(message, TableDefinition)
            layout = message.layout
    return Taught(came, size)


class ManyPeersTests(SynchronousTestCase):
    """Peers store different columns in one table, which has them all."""

    def setUp(self) -> None:
        self.whole = declared("type integer size 1k expire 1h")

    def layout(self, names: Iterable[str]) -> Layout:
        columns = [one for name, one in COLUMNS.items() if name in names]
        return attrs.evolve(self.whole.layout, columns=in_bit_order(columns))

    def receive(self, table: TableStore, names: Iterable[str], number: int, value: int) -> None:
        layout = self.layout(names)
        kinds = {
            Kind.FREQUENCY: Frequency(0, value, 0),
            Kind.DICTIONARY: f"s{value}" if value else None,
        }
        values: list[Any] = [kinds.get(one.data_type.kind, value) for one in layout.columns]
        for place, one in enumerate(layout.columns):
            if one.elements is not None:
                values[place] = (value,) * one.elements
        reception = Reception(table, layout, 3_600_000)
        reception.add((key(number), 3_600_000, layout.codec.encode(tuple(values)), True), 0)
        reception.store(0)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("receive", "set", "convert", "remove")),
                st.integers(0, 3),
                st.integers(1, 9),
                st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1),
            )
        )
    )
    def test_nothing_is_lost(self, steps: list[tuple[str, int, int, set[str]]]) -> None:
        """Each value is the one that came last, whoever stores what; and so it is taught."""
        table = TableStore(self.whole)
        model: dict[bytes, dict[str, Any]] = {}
        known: set[str] = set()
        for what, number, value, names in steps:
            if what == "convert":
                table.convert(value)
                continue
            if what == "remove":
                table.remove(key(number))
                model.pop(key(number), None)
                continue
            known |= names
            table.redeclare(attrs.evolve(self.whole, layout=self.layout(known)))
            values: dict[str, Any] = dict.fromkeys(names, value)
            if "gpc" in names:
                del values["gpc"]
                values |= dict.fromkeys(("gpc[0]", "gpc[1]", "gpc[2]"), value)
            if "server_key" in names:
                values["server_key"] = f"s{value}"
            if what == "set":
                table.set(key(number), values, 0)
            else:
                self.receive(table, names, number, value)
                values.pop("conn_cur", None)
            model.setdefault(key(number), {}).update(values)
        lesson = taught(table, 0)
        self.assertEqual(set(lesson.values), set(model))
        for raw_key, values in model.items():
            entry = table.get(raw_key, 0)
            assert entry is not None
            blank = dict.fromkeys(entry, 0) | (
                {"server_key": None} if "server_key" in known else {}
            )
            cells = entry.layout.cells
            self.assertEqual(
                {cells[name].name: entry[name] for name in blank},
                blank | {cells[name].name: value for name, value in values.items()},
            )
            self.assertEqual(lesson.values[raw_key], wire_values(values))

    def test_narrow_peer(self) -> None:
        """What a peer that stores less sends takes no more room, here and in lessons, for
        what another one has defined; what has more stays so."""
        wide = attrs.evolve(self.whole, layout=of_elements(100, 100).layout)
        layout = of_elements(1).layout
        narrow = TableStore(attrs.evolve(self.whole, layout=layout))
        table = TableStore(wide)
        for to in (narrow, table):
            reception = Reception(to, layout, 3_600_000)
            for number in range(200):
                reception.add((key(number), 3_600_000, b"\x07", True), 0)
            reception.store(0)
        self.assertEqual(size_of(table), size_of(narrow))
        self.assertEqual(taught(table, 0).size, taught(narrow, 0).size)
        table.set(key(5), {"gpc[99]": 3}, 0)
        reception = Reception(table, layout, 3_600_000)
        reception.add((key(5), 3_600_000, b"\x08", True), 0)
        reception.store(0)
        entry = values_of(table, 5)
        self.assertEqual([entry[name] for name in ("gpt0", "gpc99")], [8, 3])
        self.assertEqual(taught(table, 0).values[key(5)]["gpc"][99], 3)

    def test_very_many_kinds(self) -> None:
        """With very many kinds of entries, a lesson says of each what was said of it, no more."""
        table = TableStore(attrs.evolve(self.whole, layout=of_elements(100).layout))
        for number in range(100):
            layout = of_elements(number + 1).layout
            reception = Reception(table, layout, 3_600_000)
            reception.add((key(number), 3_600_000, bytes([number + 1]) * (number + 1), True), 0)
            reception.store(0)
        lesson = taught(table, 0)
        for number in range(100):
            self.assertEqual(lesson.values[key(number)]["gpt"], (number + 1,) * (number + 1))

    def test_texts_in_mid_lesson(self) -> None:
        """A table that is declared to store texts in mid-lesson is taught on with the dictionary
        of the pupil's connection, in which other tables have texts, too."""
        names = declared("type integer size 1k store server_key")
        before, after = (TableStore(names) for _ in range(2))
        before.set(key(1), {"server_key": "name"}, 0)
        after.set(key(2), {"server_key": "name"}, 0)
        table = TableStore(attrs.evolve(self.whole, size=3000, layout=self.layout({"conn_cnt"})))
        for number in range(2000):
            table.set(key(number), {"conn_cnt": number}, 0)
        lesson = Sender(True, Counters(), {}).lesson(
            [(1, Outgoing(before)), (2, Outgoing(table)), (3, Outgoing(after))], lambda _: True
        )
        said = b"".join(islice(lesson, 4))
        both = self.layout({"conn_cnt", "server_key"})
        table.redeclare(attrs.evolve(table.declaration, layout=both))
        for number in range(2000):
            table.set(key(number), {"server_key": f"s{number % 3}"}, 0)
        said += b"".join(lesson)
        texts: dict[int, list[Any]] = {1: [], 2: [], 3: []}
        dictionary, definition = ReceivingDictionary(), None
        for frame in FrameBuffer().feed(said):
            if frame.message_type not in UPDATES:
                definition = read_message(frame)
                continue
            assert isinstance(definition, TableDefinition)
            update = EntryUpdate.decode(frame, definition.layout, dictionary)
            value = definition.layout.codec.decode(update.values, 0)[-1]
            number = int.from_bytes(update.key, "big")
            if not isinstance(value, int):
                texts[definition.id].append((number, value))
        self.assertEqual((texts[1], texts[3]), ([(1, "name")], [(2, "name")]))
        self.assertGreater(len(texts[2]), 1000)
        self.assertEqual(texts[2], [(number, f"s{number % 3}") for number, _ in texts[2]])


def wire_values(values: dict[str, Any]) -> dict[str, Any]:
    """As they travel, by column."""
    result = {name: value for name, value in values.items() if "[" not in name}
    if "gpc[0]" in values:
        result["gpc"] = tuple(values[f"gpc[{place}]"] for place in range(3))
    if "conn_rate" in result:
        result["conn_rate"] = Frequency(0, result["conn_rate"], 0)
    return result

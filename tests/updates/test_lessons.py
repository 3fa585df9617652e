from __future__ import annotations

import random
from collections.abc import Iterator

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.memory import Counters
from peerproto.peering.sending import Sender
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.lesson import CHUNK, FRESH, KEPT, Lessons
from peerproto.updates.outgoing import Outgoing
from peerproto.wire import varint
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import UPDATES, EntryUpdate, TableDefinition, read_message

ENTRIES = 4000


def table_of(stored: str = "gpc0,conn_rate(9s)", entries: int = ENTRIES) -> TableStore:
    line = f"type integer size 1m expire 1h store {stored}"
    table = TableStore(Declaration.parse("t", line))
    blank = table.layout.codec.encode(table.layout.codec.blank())
    table.store([(key(number), 3_600_000, blank) for number in range(entries)], 0)
    return table


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


_OUTGOING: dict[TableStore, Outgoing] = {}


def outgoing(table: TableStore) -> Outgoing:
    """What is written of a table for all its pupils."""
    return _OUTGOING.setdefault(table, Outgoing(table))


class Pupil:
    """Draws lessons, and reads what comes."""

    def __init__(self, *tables: TableStore) -> None:
        self.sender = Sender(True, Counters(), {})
        self.lesson: Iterator[bytes] = self.sender.lesson(
            [(number, outgoing(table)) for number, table in enumerate(tables, 1)], lambda _: True
        )
        self.drawn: list[bytes] = []

    def draw(self, now: int = 0) -> bool:
        self.sender.now = now
        piece = next((one for one in self.lesson if one), None)
        if piece is not None:
            self.drawn.append(piece)
        return piece is not None

    def draw_all(self, now: int = 0) -> None:
        for _ in range(2000):
            if not self.draw(now):
                return
        raise AssertionError("a lesson without end")

    def came(self) -> list[tuple[str, bytes]]:
        """Table and key of each update."""
        return [(name, key) for name, key, _ in self.updates()]

    def expiries(self, start: int) -> list[int]:
        """The lives in ms of what was drawn from ``start`` on."""
        layout = table_of(entries=0).layout
        frames = FrameBuffer().feed(b"".join(self.drawn[start:]))
        updates = (EntryUpdate.decode(one, layout, ReceivingDictionary()) for one in frames)
        return [one.expiry for one in updates if one.expiry is not None]

    def updates(self) -> list[tuple[str, bytes, bytes]]:
        """Table, key and record of each update."""
        came = []
        definition = None
        for frame in FrameBuffer().feed(b"".join(self.drawn)):
            if frame.message_type in UPDATES:
                assert definition is not None
                update = EntryUpdate.decode(frame, definition.layout, ReceivingDictionary())
                came.append((definition.name, update.key, update.values))
            else:
                message = read_message(frame)
                assert isinstance(message, TableDefinition)
                definition = message
        return came


ALL = sorted(("t", key(number)) for number in range(ENTRIES))


class SharedLessonTests(SynchronousTestCase):
    def test_written_once(self) -> None:
        """From where a pupil joins in, it gets what the others get; the rest comes in the end."""
        table = table_of()
        one = Pupil(table)
        one.draw()
        one.draw()
        other = Pupil(table)
        other.draw_all()
        one.draw_all()
        definition, _, *rest = one.drawn
        self.assertGreater(len(rest), 3)
        self.assertEqual(other.drawn[: len(rest) + 1], [definition, *rest])
        self.assertEqual(sorted(one.came()), ALL)
        self.assertEqual(sorted(other.came()), ALL)
        self.assertEqual(other.sender.taught, ENTRIES)

    @settings(max_examples=25)
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 700)), max_size=40))
    def test_any_pace(self, draws: list[tuple[int, int]]) -> None:
        """However fast each pupil is, every entry comes to each of them, once."""
        table = table_of()
        pupils = [Pupil(table) for _ in range(3)]
        now = 0
        for number, ms in draws:
            now += ms
            pupils[number].draw(now)
        for pupil in pupils:
            pupil.draw_all(now)
            self.assertEqual(sorted(pupil.came()), ALL)

    @settings(max_examples=25)
    @given(
        st.lists(st.tuples(st.sampled_from("012012cnrx"), st.integers(0, ENTRIES - 1)), max_size=60)
    )
    @example([("0", 0), ("0", 0), ("1", 0), ("r", 0), ("0", 0), ("c", 0)])
    def test_changes_meanwhile(self, steps: list[tuple[str, int]]) -> None:
        """What is there when a lesson ends has come, as it was when the pupil asked, or later."""
        table = table_of("gpc0")
        pupils: dict[str, Pupil] = {}
        known: dict[str, dict[bytes, bytes]] = {}
        due: dict[str, set[bytes]] = {}
        new = ENTRIES
        for time, (what, number) in enumerate(steps):
            if what == "r":
                table.remove(key(number))
            elif what == "x":
                table.clear()
            elif what in "cn":
                new += what == "n"
                one = key(number if what == "c" else new)
                table.store([(one, 3_600_000, bytes((time,)))], 0)
            elif what not in pupils:
                pupils[what] = Pupil(table)
                known[what] = {one: stored[-1:] for one, stored in table.scan()}
            elif what not in due and not pupils[what].draw():
                due[what] = {one for one, _ in table.scan()}
        for name, pupil in pupils.items():
            pupil.draw_all()
            latest = {one: record for _, one, record in pupil.updates()}
            for one in due.get(name, {one for one, _ in table.scan()}):
                self.assertGreaterEqual(latest[one], known[name].get(one, b""))

    def test_asked_before(self) -> None:
        """All that asked before a lesson began get the same, whoever is first, in each table."""
        table, more = table_of(), TableStore(attrs.evolve(table_of().declaration, name="more"))
        more.store([(key(number), 3_600_000, bytes(4)) for number in range(ENTRIES)], 0)
        pupils = [Pupil(table, more) for _ in range(2 * KEPT)]
        while pupils[0].draw():
            for pupil in pupils[1:]:
                pupil.draw()
        for pupil in pupils:
            self.assertFalse(pupil.draw())
            self.assertEqual(len(pupil.drawn), len(pupils[0].drawn))
            for one, other in zip(pupil.drawn, pupils[0].drawn):
                self.assertEqual(one, other)

    def test_comes_late(self) -> None:
        """Who asked before a lesson began, and comes to it late, gets each entry once."""
        table = table_of(entries=KEPT * CHUNK // 20 + 20_000)
        fast, late = Pupil(table), Pupil(table)
        for _ in range(KEPT + 10):
            fast.draw()
        late.draw_all()
        self.assertEqual(sorted(late.came()), [("t", key(one)) for one in range(table.used)])
        self.assertIn(late.drawn[1], fast.drawn)

    def test_comes_after_the_end(self) -> None:
        """What was new when a pupil asked comes, though others have ended the lesson meanwhile."""
        table = table_of()
        fast, slow = Pupil(table), Pupil(table)
        for pupil in (fast, slow):
            pupil.draw()
            pupil.draw()
        new = key(0x1111)  # in the part of a table that is read first
        table.store([(new, 3_600_000, bytes(4))], 0)
        late = Pupil(table)
        fast.draw_all()
        late.draw_all()
        self.assertEqual(sorted(late.came()), [*ALL, ("t", new)])
        self.assertIn(late.drawn[1], fast.drawn)

    def test_comes_too_late(self) -> None:
        """Chunks of a second ago are for nobody; whoever comes then has a new lesson to share."""
        table = table_of()
        fast, slow, late = Pupil(table), Pupil(table), Pupil(table)
        for pupil in (fast, slow):
            pupil.draw()
            pupil.draw()
        fast.draw_all()
        (ended,) = outgoing(table).lessons.values()
        late.draw(FRESH + 1)
        late.draw(FRESH + 1)
        self.assertNotIn(ended, outgoing(table).lessons.values())
        late.draw_all(FRESH + 1)
        self.assertEqual(sorted(late.came()), ALL)
        self.assertEqual(set(late.drawn[1:]) & set(fast.drawn), set())

    def test_stored_while_the_rest_comes(self) -> None:
        """What is stored while a pupil that has joined in gets what it missed comes, too."""
        table = table_of()
        one = Pupil(table)
        for _ in range(6):
            one.draw()
        missed = one.came()[0]
        other = Pupil(table)
        other.draw()
        other.draw()
        one.draw_all()
        self.assertNotIn(missed, other.came())
        count = 0
        while other.draw():
            if count < 3 and missed in other.came():
                table.store([(key(ENTRIES + count), 3_600_000, bytes(4))], 0)
                count += 1
        stored = [("t", key(ENTRIES + number)) for number in range(3)]
        self.assertEqual(sorted(other.came()), ALL + stored)

    def test_left_behind(self) -> None:
        """A pupil that is too slow goes on by itself, from where it is."""
        table = table_of(entries=KEPT * CHUNK // 20 + 20_000)
        fast, slow = Pupil(table), Pupil(table)
        for _ in range(3):
            slow.draw()
        fast.draw_all()
        slow.draw_all()
        self.assertEqual(len(slow.came()), table.used)
        self.assertEqual(set(slow.came()), set(fast.came()))

    def test_joins_what_is_fresh(self) -> None:
        """Who asked before a lesson began, and comes when its first chunks are old, gets those
        that are not, together with the others, and the rest in the end."""
        table = table_of()
        fast, late = Pupil(table), Pupil(table)
        for now in (0, 0, 0, FRESH, FRESH + 1):
            fast.draw(now)
        late.draw(FRESH + 1)
        late.draw(FRESH + 1)
        self.assertEqual(late.drawn[1], fast.drawn[3])
        while fast.draw(FRESH + 1):
            late.draw(FRESH + 1)
        late.draw_all(FRESH + 1)
        self.assertEqual(late.drawn[1 : len(fast.drawn) - 2], fast.drawn[3:])
        self.assertEqual(sorted(late.came()), ALL)

    def test_stale(self) -> None:
        """Chunks of a second ago are not used any more: lives are as of now."""
        table = table_of()
        fast, slow = Pupil(table), Pupil(table)
        for pupil in (fast, slow):
            pupil.draw()
            pupil.draw()
        fast.draw_all()
        slow.draw_all(FRESH + 1)
        self.assertEqual(sorted(slow.came()), ALL)
        self.assertIn(slow.drawn[1], fast.drawn)
        self.assertEqual(set(slow.drawn[2:]) & set(fast.drawn), set())

    def test_expiry_is_as_of_now(self) -> None:
        """What a pupil is taught has the life that is left, give or take what makes it stale."""
        table = table_of()
        fast, slow = Pupil(table), Pupil(table)
        for pupil in (fast, slow):
            pupil.draw()
            pupil.draw()
        for now in range(0, 4000, 200):
            fast.draw(now)
        for now in range(4000, 4000 + 40 * FRESH, FRESH):
            before = len(slow.drawn)
            slow.draw(now)
            for expiry in slow.expiries(before):
                self.assertTrue(3_600_000 - now <= expiry <= 3_600_000 - now + FRESH)
        self.assertEqual(sorted(slow.came()), ALL)

    def test_once_round(self) -> None:
        """A lesson ends where it began, though chunks end elsewhere than a lap before, since
        entries have become longer: each comes once."""
        for begin in range(2, 8):
            table = table_of("gpc0")
            first = Pupil(table)
            for _ in range(begin):
                first.draw()
            second = Pupil(table)
            second.draw()
            second.draw()
            record = varint.encode(1 << 31)
            longer = [(key(number), 3_600_000, record) for number in range(ENTRIES)]
            table.store(longer, 0)
            second.draw_all()
            first.draw_all()
            self.assertEqual(sorted(first.came()), ALL)
            self.assertEqual(sorted(second.came()), ALL)

    def test_joins_at_the_end(self) -> None:
        """Whoever asks when no piece of the order is left begins there, and goes round."""
        table = table_of()
        lessons = Lessons(table, {})
        shared = lessons.share((True, bytes(4)), 0)
        self.assertTrue(shared.order.prepare())
        number = end = 0
        while shared.order.has(end):
            end = shared.chunk(number, 0).end
            number += 1
        lessons.asked += 1
        self.assertEqual(shared.chunk(number, 0).end, 0)
        self.assertEqual(shared.join(lessons.asked, 0), (number, end))

    def test_chunks_stay_long(self) -> None:
        """However many pupils have begun and ended somewhere, chunks are about as long as they
        were, though entries become longer and shorter all the time."""
        table = table_of("gpc0", 12_000)
        lessons = Lessons(table, {})
        shared = lessons.share((True, bytes(4)), 0)
        while not shared.order.prepare():
            pass
        chance = random.Random(1)
        laps = [0]
        number = 0
        while len(laps) < 40:
            if chance.random() < 0.2:
                lessons.asked += 1
                self.assertEqual(shared.join(lessons.asked, 0)[0], number)
            chunk = shared.chunk(number, 0)
            number += 1
            laps[-1] += 1
            if chunk.end == 0:
                laps.append(0)
                records = [varint.encode(1 << 7 * chance.randrange(9)) for _ in range(8)]
                stored = [(key(one), 3_600_000, records[one // 64 % 8]) for one in range(5000)]
                table.store(stored, 0)
        self.assertLess(max(laps[-9:]), 1.25 * laps[0])

    def test_given_up(self) -> None:
        """Where most of a table is replaced again and again, a lesson goes once more through all
        of it, and then it ends; what is written then is written once, too."""
        table = table_of("gpc0", 10_000)
        pupils = [Pupil(table) for _ in range(3)]
        for pupil in pupils:
            for _ in range(5):
                pupil.draw()
        for turn in range(150):
            record = varint.encode(turn)
            table.store([(key(number), 3_600_000, record) for number in range(10_000)], 0)
            pupils[turn % 3].draw()
            if turn == 1:
                # Whoever asks then has a lesson in order, though another is not over.
                late = Pupil(table)
                late.draw()
                late.draw()
                (shared,) = outgoing(table).lessons.values()
                self.assertTrue(shared.order.serves())
        self.assertFalse(sum(pupil.draw() for pupil in pupils))
        for pupil in pupils:
            self.assertFalse(pupil.sender.skipped)
            self.assertEqual({one for _, one in pupil.came()}, {one for one, _ in table.scan()})
            self.assertLess(pupil.sender.taught, 20_000)
            self.assertTrue(pupil.drawn == pupils[0].drawn)

    def test_given_up_long_ago(self) -> None:
        """Where the order was given up, a pupil that was left behind is taught what is there by
        then, whatever has come and gone since others were."""
        table = table_of("gpc0", 10_000)
        fast, slow = Pupil(table), Pupil(table)
        for pupil in (fast, slow):
            for _ in range(5):
                pupil.draw()
        table.store([(key(number), 3_600_000, b"\1") for number in range(10_000)], 0)
        new = 10_000
        while fast.draw():
            # New ones without end: that lesson is left at last.
            table.store([(key(new + number), 3_600_000, b"\1") for number in range(800)], 0)
            new += 800
        self.assertTrue(fast.sender.skipped)
        slow.draw_all()
        self.assertFalse(slow.sender.skipped)
        self.assertLessEqual({one for one, _ in table.scan()}, {one for _, one in slow.came()})

    def test_expires_meanwhile(self) -> None:
        """What expires during a lesson comes no more, whether it was removed by then or not;
        all else comes once, wherever a pupil began."""
        for stored, removed, count in (
            ("gpc0", True, 2000),
            ("gpc0", False, 2000),
            ("gpc0,conn_rate(9s)", True, 2000),
            ("gpc0", True, 7000),
            ("gpc0", False, 7000),
        ):
            table = table_of(stored, 0)
            blank = table.layout.codec.encode(table.layout.codec.blank())
            entries = 3 * count
            short = {key(number) for number in range(0, entries, 3)}
            lives = [(key(one), 3_600_000 if one % 3 else 500) for one in range(entries)]
            table.store([(one, life, blank) for one, life in lives], 0)
            pupils = [Pupil(table)]
            for _ in range(6):
                pupils[0].draw()
            pupils.append(Pupil(table))
            for _ in range(3):
                pupils[1].draw()
            late = Pupil(table)
            while removed and (table.next_due() or 0) <= 600:
                table.expire(600)
            # Chunks that had been written by then are still fresh.
            fresh = {one for pupil in pupils for _, one in pupil.came()}
            for pupil in (late, *pupils):
                before = len(pupil.came())
                pupil.draw_all(600)
                expired = short.intersection(one for _, one in pupil.came()[before:])
                self.assertLessEqual(expired, fresh)
            for pupil in (*pupils, late):
                came = [one for _, one in pupil.came() if one not in short]
                self.assertFalse(pupil.sender.skipped)
                self.assertEqual(set(came), {one for one, _ in lives} - short)
                if count == 2000:
                    self.assertEqual(len(came), 2 * count)
            self.assertFalse(short & {one for _, one in late.came()})

    def test_all_expire(self) -> None:
        """A lesson ends, with nothing, where all has expired and is still there; to see that takes
        many turns, but no more than to send a lesson."""
        table = table_of("gpc0", 30_000)
        first = Pupil(table)
        for _ in range(4):
            first.draw()
        before = len(first.came())
        second = Pupil(table)
        second.sender.now = 3_600_001
        turns = sum(not piece for piece in second.lesson)
        self.assertTrue(30_000 // 2048 < turns < 30_000 // 512, turns)
        first.draw_all(3_600_001)
        self.assertEqual(second.came(), [])
        self.assertEqual(len(first.came()), before)
        self.assertFalse(first.sender.skipped or second.sender.skipped)

    def test_texts(self) -> None:
        """Texts are written for each pupil, which may know others."""
        table = table_of("server_key")
        pupil = Pupil(table, table_of(entries=9))
        pupil.draw_all()
        self.assertEqual(len(pupil.came()), ENTRIES + 9)
        table = table_of("server_key", 5 * ENTRIES)
        one, other = Pupil(table), Pupil(table)
        one.draw()
        one.draw()
        self.assertEqual(len(outgoing(table).lessons), 0)
        # The order that was made for the first serves the other: there is something at once.
        other.drawn += [next(other.lesson), next(other.lesson)]
        self.assertEqual(other.drawn[1], one.drawn[1])
        other.draw_all()
        self.assertEqual(len(set(other.came())), 5 * ENTRIES)

    def test_texts_meanwhile(self) -> None:
        """Where a table comes to store texts in the middle of a lesson, each pupil is told them as
        those that it knows, and the tables before and behind are right for it."""
        before, table, behind = table_of("server_key", 0), table_of(), table_of("server_key", 0)
        for number in range(50):
            record = before.layout.codec.encode((f"a{number % 5}",))
            for texts in (before, behind):
                texts.store([(key(number), 3_600_000, record)], 0)
        pupils = [Pupil(before, table, behind) for _ in range(2)]
        for pupil in pupils:
            for _ in range(5):
                pupil.draw()
        table.redeclare(Declaration.parse("t", "type integer size 1m expire 1h store server_key"))
        record = table.layout.codec.encode(("a3",))
        table.store([(key(number), 3_600_000, record) for number in range(ENTRIES)], 0)
        for pupil in pupils:
            pupil.draw_all()
            known, layout, local_id = ReceivingDictionary(), table.layout, 0
            said: dict[int, dict[bytes, object]] = {1: {}, 2: {}, 3: {}}
            for frame in FrameBuffer().feed(b"".join(pupil.drawn)):
                if frame.message_type in UPDATES:
                    update = EntryUpdate.decode(frame, layout, known)
                    said[local_id][update.key] = layout.codec.decode(update.values, 0)[0]
                else:
                    message = read_message(frame)
                    assert isinstance(message, TableDefinition)
                    layout, local_id = message.layout, message.id
            expected = {key(number): f"a{number % 5}" for number in range(50)}
            self.assertEqual(said[1], expected)
            self.assertEqual(said[3], expected)
            self.assertEqual(said[2].keys(), {key(number) for number in range(ENTRIES)})
            self.assertIn("a3", said[2].values())

    def test_ends_with_what_has_expired(self) -> None:
        """A lesson ends though entries are stored all the time that have expired by then."""
        table = table_of("gpc0")
        pupil = Pupil(table)
        pupil.sender.now = 1000
        for turn, _ in enumerate(pupil.lesson):
            new = range(ENTRIES + 100 * turn, ENTRIES + 100 * (turn + 1))
            table.store([(key(number), 1, b"\0") for number in new], 0)
            self.assertLess(turn, 30)
        self.assertEqual(pupil.sender.taught, ENTRIES)

    def test_forgotten(self) -> None:
        """What nobody follows any more is not kept."""
        table = table_of()
        pupil = Pupil(table)
        pupil.draw()
        pupil.draw()
        self.assertEqual(len(outgoing(table).lessons), 1)
        pupil.draw_all()
        self.assertEqual(len(outgoing(table).lessons), 0)

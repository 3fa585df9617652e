from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.sending import Sender
from peerproto.tables.declaration import Declaration
from peerproto.tables.lesson import CHUNK, FRESH, KEPT, lesson_of
from peerproto.tables.table import StickTable
from peerproto.wire.dictionary import ReceivingDictionary, SendingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import UPDATES, EntryUpdate, TableDefinition, read_message

ENTRIES = 4000

ID = b"\x00\x00\x00\x00"


def table_of(stored: str = "gpc0,conn_rate(9s)", entries: int = ENTRIES) -> StickTable:
    line = f"type integer size 1m expire 1h store {stored}"
    table = StickTable(Declaration.parse("t", line))
    blank = table.layout.codec.encode(table.layout.codec.blank())
    table.store([(key(number), 3_600_000, blank) for number in range(entries)], 0)
    return table


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


class Pupil:
    """Draws lessons, and reads what comes."""

    def __init__(self, *tables: StickTable) -> None:
        self.sender = Sender(True)
        self.lesson: Iterator[bytes] = self.sender.lesson(list(enumerate(tables, 1)))
        self.drawn: list[bytes] = []

    def draw(self, now: int = 0) -> bool:
        self.sender.now = now
        piece = next(self.lesson, None)
        if piece is not None:
            self.drawn.append(piece)
        return piece is not None

    def draw_all(self, now: int = 0) -> None:
        while self.draw(now):
            pass

    def came(self) -> list[tuple[str, bytes]]:
        """Table and key of each update."""
        came = []
        definition = None
        for frame in FrameBuffer().feed(b"".join(self.drawn)):
            if frame.message_type in UPDATES:
                assert definition is not None
                update = EntryUpdate.decode(frame, definition.layout, ReceivingDictionary())
                came.append((definition.name, update.key))
            else:
                message = read_message(frame)
                assert isinstance(message, TableDefinition)
                definition = message
        return came


ALL = sorted(("t", key(number)) for number in range(ENTRIES))


class SharedLessonTests(SynchronousTestCase):
    def test_written_once(self) -> None:
        """Pupils that begin at about the same time get the very same chunks."""
        table = table_of()
        one, other = Pupil(table), Pupil(table)
        one.draw()
        one.draw()
        other.draw_all()
        one.draw_all()
        self.assertEqual(one.drawn, other.drawn)
        self.assertEqual(sorted(one.came()), ALL)
        self.assertEqual(one.sender.taught, other.sender.taught)
        first, second = (lesson_of(table, True, ID, 0, SendingDictionary()) for _ in range(2))
        self.assertIs(first, second)
        self.assertIs(first.chunk(0, 0), second.chunk(0, 0))

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

    def test_stale(self) -> None:
        """Chunks of a second ago are not used any more: lives are as of now."""
        table = table_of()
        fast, slow, late = Pupil(table), Pupil(table), Pupil(table)
        slow.draw()
        fast.draw_all()
        slow.draw_all(FRESH + 1)
        late.draw_all(FRESH + 1)
        self.assertEqual(sorted(slow.came()), ALL)
        self.assertEqual(slow.drawn, late.drawn)
        self.assertNotEqual(fast.drawn, late.drawn)

    def test_texts(self) -> None:
        """Texts are written for each pupil, which may know others."""
        table = table_of("server_key")
        first, second = (lesson_of(table, True, ID, 0, SendingDictionary()) for _ in range(2))
        self.assertIsNot(first, second)
        pupil = Pupil(table, table_of(entries=9))
        pupil.draw_all()
        self.assertEqual(len(pupil.came()), ENTRIES + 9)

    def test_forgotten(self) -> None:
        """What nobody follows any more is not kept."""
        table = table_of()
        pupil = Pupil(table)
        pupil.draw()
        pupil.draw()
        self.assertEqual(len(table.lessons), 1)
        pupil.draw_all()
        self.assertEqual(len(table.lessons), 0)

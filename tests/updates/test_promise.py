"""What every pupil of a lesson is promised, while all of them and the table do as they like."""

from __future__ import annotations

import random
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.memory import Counters
from peerproto.peering.sending import Sender
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.outgoing import Outgoing
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import UPDATES, EntryUpdate, TableDefinition, read_message

_PUPILS = 8
_SIZES = (300, 5, 2000, 8000)
"""Entries at the beginning, for each seed."""

_LONG = 3_600_000
_SHORT = 400
"""Lives in ms."""


def _text(number: int) -> str:
    """The text that a change of this number stores."""
    return f"server {number % 7}"


class Pupil:
    """Draws a lesson at its own speed, and keeps what comes."""

    def __init__(self, outgoing: Outgoing, speed: float, had: dict[bytes, int]) -> None:
        """``had`` is what the table has, each key with the number of its change."""
        self.speed = speed
        self.had = had
        self.sender = Sender(True, Counters(), {})
        self.over = False
        self._lesson: Iterator[bytes] = self.sender.lesson([(1, outgoing)], lambda _: True)
        self._drawn: list[bytes] = []

    def draw(self, now: int) -> None:
        self.sender.now = now
        piece = next(self._lesson, None)
        self.over = piece is None
        self._drawn.append(piece or b"")

    def learnt(self) -> tuple[dict[bytes, int], int]:
        """The number of the latest change that came of each key, and how many updates came."""
        latest: dict[bytes, int] = {}
        count = 0
        texts = ReceivingDictionary()
        layout = None
        for frame in FrameBuffer().feed(b"".join(self._drawn)):
            if frame.message_type not in UPDATES:
                message = read_message(frame)
                assert isinstance(message, TableDefinition)
                layout = message.layout
                continue
            assert layout is not None
            update = EntryUpdate.decode(frame, layout, texts)
            values = layout.codec.decode(update.values, 0)
            place = [column.data_type.name for column in layout.columns].index("gpc0")
            number = values[place]
            assert isinstance(number, int)
            for column, value in zip(layout.columns, values):
                if column.data_type.name == "server_key" and value not in {None, "", _text(number)}:
                    raise AssertionError(f"{value!r} belongs to another change than {number}")
            latest[update.key] = number
            count += 1
        return latest, count


class Play:
    """A table that changes, and its pupils; all by chance."""

    def __init__(self, test: SynchronousTestCase, seed: int, kind: str) -> None:
        self.test = test
        self.chance = random.Random(f"{kind} {seed}")
        self.kind = kind
        self.why = f"seed {seed}, {kind}"
        self.key_type = "string len 16" if seed % 3 == 2 else "integer"
        self.table = TableStore(self.declared(""))
        self.outgoing = Outgoing(self.table)
        self.pupils: list[Pupil] = []
        self.now = 0
        self.number = 0
        self.keys = 0
        self.came = 0
        """How many updates came."""
        self.again = 0
        """How many of them were of keys that had come before."""
        self.store(range(_SIZES[seed]))

    def declared(self, columns: str) -> Declaration:
        line = f"type {self.key_type} size 1m expire 1h store gpc0{columns}"
        return Declaration.parse("t", line)

    def key(self, number: int) -> bytes:
        number = number * 0x9E3779B1 & 0xFFFFFFFF
        return number.to_bytes(4, "big") if self.key_type == "integer" else b"key-%x" % number

    def store(self, numbers: range | set[int], life: int = _LONG) -> None:
        """Store these as of the present change. What has expired is removed before."""
        for key in map(self.key, numbers):
            if self.table.unconverted(key) is not None and not self.table.has(key, self.now):
                self.table.remove(key)
        codec, columns = self.table.layout.codec, self.table.layout.columns
        said = {"gpc0": self.number, "server_key": _text(self.number)}
        blank = zip(columns, codec.blank())
        record = codec.encode(tuple(said.get(one.data_type.name, value) for one, value in blank))
        self.table.store([(self.key(number), life, record) for number in numbers], self.now)
        self.keys = max(self.keys, *numbers, -1) + 1 if numbers else self.keys

    def there(self) -> dict[bytes, int]:
        """The number of the latest change of each key that has not expired."""
        came = {}
        for key, stored in self.table.scan():
            entry = self.table.entry(key, stored, self.now)
            if entry is not None:
                number = entry["gpc0"]
                assert isinstance(number, int)
                came[key] = number
        return came

    def change(self) -> None:
        """Change the table in one way or another, or do nothing."""
        chance, what = self.chance, self.chance.random()
        self.number += 1
        if what < 0.2:
            self.table.remove(self.key(chance.randrange(self.keys + 1)))
        elif what < 0.45:
            first = self.keys
            self.store(
                range(first, first + chance.randrange(1, 60)), chance.choice((_LONG, _SHORT))
            )
        elif what < 0.8:
            count = 2500 if self.kind == "many" and what < 0.48 else chance.randrange(1, 20)
            numbers = {chance.randrange(self.keys + 1) for _ in range(count)}
            self.store(numbers, chance.choice((_LONG, _LONG, _SHORT)))
        elif what < 0.81 and self.kind == "cleared":
            self.table.clear()
        elif what < 0.82 and self.kind == "declared":
            columns = ("", ",server_key", ",gpc1", ",gpt0,server_key")
            self.table.redeclare(self.declared(chance.choice(columns)))
        elif what < 0.85:
            self.table.expire(self.now)
        elif what < 0.95 and self.table.converting:
            self.table.convert()

    def turn(self) -> None:
        """Time goes on, a pupil may come or go, and each may draw."""
        chance = self.chance
        self.now += (
            chance.choice((0, 1, 5)) if chance.random() < 0.97 else chance.choice((300, 1500))
        )
        if chance.random() < 0.1 and len(self.pupils) < _PUPILS:
            speed = chance.choice((0.1, 0.5, 1, 1, 2, 6))
            self.pupils.append(Pupil(self.outgoing, speed, self.there()))
        if chance.random() < 0.01 and len(self.pupils) > 1:
            gone = chance.choice(self.pupils)
            if not gone.over:
                self.pupils.remove(gone)
        for pupil in self.pupils:
            if chance.random() < pupil.speed:
                self.draw(pupil, max(1, int(pupil.speed)))

    def draw(self, pupil: Pupil, times: int) -> None:
        for _ in range(times):
            if not pupil.over:
                pupil.draw(self.now)
                if pupil.over:
                    self.judge(pupil)

    def judge(self, pupil: Pupil) -> None:
        """Its lesson is over: nothing may be lacking then, or older than when it had asked."""
        learnt, count = pupil.learnt()
        there = self.there()
        self.came += count
        self.again += count - len(learnt)
        self.test.assertFalse(pupil.sender.skipped, self.why)
        lacking = [key for key in there if key not in learnt]
        self.test.assertEqual(lacking, [], self.why)
        older = [key for key in there if learnt[key] < pupil.had.get(key, 0)]
        self.test.assertEqual(older, [], self.why)

    def play(self) -> None:
        for _ in range(300):
            self.turn()
            if self.kind != "quiet":
                self.change()
        for _ in range(2000):
            for pupil in self.pupils:
                self.draw(pupil, 1)
        self.test.assertTrue(all(pupil.over for pupil in self.pupils), self.why)


class PromiseTests(SynchronousTestCase):
    def play(self, kind: str) -> float:
        """The share of the updates that were of keys that the pupil had got before."""
        again = came = 0
        for seed in range(len(_SIZES)):
            play = Play(self, seed, kind)
            play.play()
            self.assertGreater(len(play.pupils), 1)
            again += play.again
            came += play.came
        return again / came

    def test_quiet(self) -> None:
        """Of a table that does not change, each entry comes once, however pupils come and go."""
        self.assertEqual(self.play("quiet"), 0)

    def test_few_changes(self) -> None:
        """While entries are stored, replaced, removed and expire, nothing is lacking when a
        lesson ends, and nothing is older than when it was asked for; little comes twice."""
        self.assertLess(self.play("few"), 0.02)

    def test_many_changes(self) -> None:
        """So it is while so many are replaced that orders are given up."""
        self.assertGreater(self.play("many"), 0.02)

    def test_cleared(self) -> None:
        """So it is while the table is cleared now and then."""
        self.play("cleared")

    def test_declared_anew(self) -> None:
        """So it is while the table is declared anew, with texts and without."""
        self.play("declared")

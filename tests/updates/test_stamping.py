"""The numbers of sessions, in updates that are written once for all."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.memory import Counters
from peerproto.peering.sending import Sender
from peerproto.tables.declaration import Declaration
from peerproto.tables.row import pack
from peerproto.tables.store import TableStore
from peerproto.testing.entries import Update, read
from peerproto.updates.outgoing import Outgoing
from peerproto.updates.stamping import UNSTAMPED, Stamping, new_number
from peerproto.updates.writer import UpdateWriter
from peerproto.wire.datatypes import BY_NAME
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.layout import Column, Layout, in_bit_order
from peerproto.wire.messages import UPDATES, TableDefinition, read_message
from peerproto.wire.varint import encode
from tests import strategies

MARK = encode(UNSTAMPED)

NUMBERS = st.builds(new_number)


def updates_of(data: bytes, layout: Layout) -> Iterator[Update]:
    """The updates among messages, of which the first are of a layout."""
    for frame in FrameBuffer().feed(data):
        if frame.message_type in UPDATES:
            yield read(frame, "t", layout, 0)
        else:
            message = read_message(frame)
            assert isinstance(message, TableDefinition)
            layout = message.layout


def expected(update: Update, element: int, number: int) -> Update:
    """The same with the number of a session."""
    tags = update.values.get("gpt")
    if not isinstance(tags, list) or not -len(tags) <= element < len(tags):
        return update
    if tags[element] != UNSTAMPED:
        return update
    tags = [*tags]
    tags[element] = number
    return attrs.evolve(update, values={**update.values, "gpt": tags})


@st.composite
def some_updates(draw: st.DrawFn) -> tuple[bytes, Layout]:
    """Updates of two layouts, with the definition of the second one between; the mark is also
    where it means nothing."""
    pieces: list[bytes] = []
    first = None
    dictionary = SendingDictionary()
    for _ in range(2):
        layout = draw(strategies.layouts())
        elements = draw(st.integers(0, 3))
        others = [one for one in layout.columns if one.name != "gpt"]
        if draw(st.booleans()):  # the number is the last thing in an update
            others = [one for one in others if one.data_type.bit < BY_NAME["gpt"].bit]
        if elements:
            others.append(Column(BY_NAME["gpt"], elements))
        layout = attrs.evolve(layout, columns=in_bit_order(others))
        declaration = Declaration("t", layout)
        if first is None:
            first = layout
        else:
            pieces.append(declaration.definition(1).encode())
        writer = UpdateWriter(declaration, dictionary, draw(st.booleans()))
        for _ in range(draw(st.integers(0, 4))):
            values = [
                tuple(draw(st.sampled_from((UNSTAMPED, 7))) for _ in range(elements))
                if column.name == "gpt"
                else value
                for column, value in zip(layout.columns, draw(strategies.values(layout)))
            ]
            key = draw(strategies.raw_keys(layout) | st.just(MARK * 20))
            if layout.fixed_key_length:
                key = key[: layout.key_length].ljust(layout.key_length, b"0")
            else:
                key = key[: layout.key_length - 1]
            head = pack(0, 0) + (key if layout.fixed_key_length else b"")
            writer.write([(key, head + layout.codec.encode(tuple(values)))], 0, bytes(4))
        pieces.append(writer.take())
    assert first is not None
    return b"".join(pieces), first


class StampingTests(SynchronousTestCase):
    @given(some_updates(), st.integers(-2, 2), NUMBERS)
    def test_any_updates(self, updates: tuple[bytes, Layout], element: int, number: int) -> None:
        """The number stands where the table has nothing but the mark for it, and nowhere else;
        everything else is byte for byte the same."""
        data, layout = updates
        stamping = Stamping(element)
        stamped = stamping.stamped(data, Declaration("t", layout), encode(number))
        self.assertEqual(len(stamped), len(data))
        self.assertEqual(
            list(updates_of(stamped, layout)),
            [expected(one, element, number) for one in updates_of(data, layout)],
        )
        again = stamping.stamped(data, Declaration("t", layout), MARK)
        self.assertEqual(again, data)

    def test_numbers(self) -> None:
        """Numbers are as long on the wire as what stands for them, and are not that."""
        numbers = {new_number() for _ in range(1000)}
        self.assertEqual({len(encode(number)) for number in numbers}, {len(MARK)})
        self.assertGreater(len(numbers), 990)
        self.assertNotIn(UNSTAMPED, numbers)

    def test_live_and_lesson(self) -> None:
        """Each session has its own number in what is written for all; the old or new process of
        the node is sent the table as it is."""
        declared = Declaration.parse("t", "type integer size 9 expire 10s store gpc0,gpt(2)")
        table = TableStore(declared)
        outgoing = Outgoing(table, -1)
        table.set(bytes(4), {"gpc0": 3, "gpt[1]": UNSTAMPED}, 0)
        table.set(bytes(3) + b"\1", {"gpc0": 4}, 0)
        for number in (new_number(), new_number(), None):
            sender = Sender(True, Counters(), {}, number)
            live, _ = sender.changes(1, outgoing, 0, 8192, None, None)
            lesson = b"".join(sender.lesson([(1, outgoing)], lambda _: True))
            shown = UNSTAMPED if number is None else number
            for data, unknown in ((live, [0, 0]), (lesson, [0, 0])):
                (first, second) = updates_of(data, declared.layout)
                self.assertEqual(first.values["gpt"], [0, shown])
                self.assertEqual(second.values.get("gpt", unknown), unknown)
        outgoing.stamp(None)
        live, _ = Sender(True, Counters(), {}, new_number()).changes(1, outgoing, 0, 99, None, None)
        self.assertIn(MARK, live)

"""What real HAProxies sent, held against what they say they have."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.node import Node
from peerproto.service.text import format_key
from peerproto.wire.datatypes import Kind
from peerproto.wire.dictionary import ReceivingDictionary, SendingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.messages import (
    UPDATES,
    Control,
    EntryUpdate,
    RefusedDefinition,
    TableDefinition,
    read_message,
)
from tests.strategies import as_sent
from tests.support import begin, make_node, take

CAPTURES = Path(__file__).parent.parent / "captures"
FILES = sorted(CAPTURES.glob("*.bin"))


def expected(capture: Path) -> dict[str, dict[str, Any]]:
    """What that HAProxy's ``show table`` said, by the names that travel."""
    version = "-".join(capture.name.split("-")[:2])
    tables = json.loads((CAPTURES / f"{version}-expected.json").read_text())
    if version == "haproxy-3.0":
        # Its one binary key stands in the report, but no capture has an update for it.
        assert len(tables["t_bin"]["entries"]) == 1
        tables["t_bin"]["entries"] = {}
    return {"/inpeers" if name == "px/inpeers" else name: table for name, table in tables.items()}


def pieces_at_random(data: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(1, 60)))
    return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)])]


class CaptureTests(SynchronousTestCase):
    def test_all_are_there(self) -> None:
        """Both versions of HAProxy, live and as lessons, under 2.1 and 2.0."""
        self.assertEqual(len(FILES), 6)

    def learn(self, pieces: list[bytes]) -> Node:
        node = make_node()
        session = begin(node, "them")
        for piece in pieces:
            take(node, session, piece)
        self.assertIsNone(session.ended_by)
        self.assertEqual(session.differences, {})
        return node

    def check(self, capture: Path, pieces: list[bytes]) -> None:
        node = self.learn(pieces)
        wanted = expected(capture)
        lesson = "resync" in capture.name
        for name, table in wanted.items():
            # Tables without a live update are announced in lessons of 2.1 alone.
            if name not in node.tables and not table["entries"]:
                continue
            ours = node.tables[name]
            self.assertEqual(ours.layout.key_type.word, table["type"])
            read = {}
            for raw_key, _ in ours.scan():
                entry = ours.get(raw_key, 0)
                assert entry is not None
                read[format_key(raw_key, ours.layout.key_type)] = {
                    cell.name: entry.value(cell)
                    for cell in ours.layout.printed
                    if cell.column.data_type.kind is not Kind.FREQUENCY
                }
            if not lesson:
                # A live stream has what changed there, not what was learnt.
                table["entries"] = {
                    key: entry for key, entry in table["entries"].items() if key in read
                }
                self.assertTrue(read or name == "t_bin", name)
            self.assertEqual(read, table["entries"], name)

    def test_whole(self) -> None:
        """Each capture gives the content that its HAProxy reported."""
        for capture in FILES:
            self.check(capture, [capture.read_bytes()])

    def test_byte_by_byte(self) -> None:
        """The same, one byte at a time."""
        for capture in FILES:
            data = capture.read_bytes()
            self.check(capture, [data[i : i + 1] for i in range(len(data))])

    def test_random_pieces(self) -> None:
        """The same, cut at random, 50 times each."""
        for capture in FILES:
            for seed in range(50):
                self.check(capture, pieces_at_random(capture.read_bytes(), seed))

    def test_expiries(self) -> None:
        """Timed updates live as long as they say, which is within the table's expiry."""
        seen = 0
        for capture in FILES:
            node = self.learn([capture.read_bytes()])
            for table in node.tables.values():
                for raw_key, _ in table.scan():
                    entry = table.get(raw_key, 0)
                    assert entry is not None and entry.expires_in is not None
                    limit = table.declaration.expire
                    self.assertTrue(limit - 60_000 < entry.expires_in <= limit)
                    seen += entry.expires_in != limit
        self.assertGreater(seen, 40)

    def test_encoded_as_haproxy_does(self) -> None:
        """The same messages, encoded by us, are the bytes that HAProxy sent, all of them."""
        for capture in FILES:
            data = capture.read_bytes()
            self.assertEqual(self.encoded_anew(data), data, capture.name)

    def encoded_anew(self, data: bytes) -> bytes:
        """Decode to Python values, and encode from those."""
        receiving, sending = ReceivingDictionary(), SendingDictionary()
        out = b""
        layout = None
        for frame in FrameBuffer().feed(data):
            if frame.message_type in UPDATES:
                assert layout is not None
                codec = layout.codec
                update = EntryUpdate.decode(frame, layout, receiving)
                record = codec.encode(codec.decode(update.values, 0))
                update = attrs.evolve(update, values=as_sent(layout, record, sending))
                out += update.encode(layout.key_type)
                continue
            message = read_message(frame)
            assert message is not None and not isinstance(message, RefusedDefinition)
            out += message.encode()
            if isinstance(message, TableDefinition):
                layout = message.layout
        return out

    def test_sent_by_a_session(self) -> None:
        """A whole lesson, learnt and taught on by sessions, is what HAProxy sent,
        but for the ids that every update of ours has."""
        for capture in FILES:
            if "resync" not in capture.name:
                continue
            minor = 1 if capture.name.endswith("2.1.bin") else 0
            learnt = self.learn([capture.read_bytes()])
            teacher = begin(learnt, "other", minor)
            take(learnt, teacher, Control.RESYNC_REQUEST.encode())
            taught = teacher.pull(1 << 20, 0)
            theirs = self.updates(capture.read_bytes())
            ours = self.updates(taught)
            self.assertEqual(ours, theirs, capture.name)

    def updates(self, data: bytes) -> dict[str, dict[bytes, dict[str, Any]]]:
        """By table: the key and values of each update as they travelled, the latest last.

        References to the dictionary depend on the order, so they are resolved. What is
        local to one peer is not kept, so it is not taught either.
        """
        receiving = ReceivingDictionary()
        tables: dict[str, dict[bytes, dict[str, Any]]] = {}
        definition = None
        for frame in FrameBuffer().feed(data):
            if frame.message_type in UPDATES:
                assert definition is not None
                update = EntryUpdate.decode(frame, definition.layout, receiving)
                columns = definition.layout.columns
                values = definition.layout.codec.decode(update.values, 0)
                tables[definition.name][update.key] = {
                    column.name: value
                    for column, value in zip(columns, values)
                    if not column.data_type.local
                }
                continue
            message = read_message(frame)
            if isinstance(message, TableDefinition):
                definition = message
                tables.setdefault(message.name, {})
        return tables

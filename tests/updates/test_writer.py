from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates import generated
from peerproto.updates.writer import COMPILED, UpdateWriter
from peerproto.wire.dictionary import ReceivingDictionary, SendingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.layout import Layout
from peerproto.wire.messages import EntryUpdate
from tests.strategies import layouts, raw_keys, records

LATEST = 1 << 33


class UpdateWriterTests(SynchronousTestCase):
    def written(
        self, table: TableStore, keys: list[bytes], now: int, timed: bool = True
    ) -> list[EntryUpdate]:
        """The updates for these keys, read again."""
        writer = UpdateWriter(table.declaration, SendingDictionary(), timed)
        for number, key in enumerate(keys):
            stored = table.stored(key)
            assert stored is not None
            size = writer.size
            wrote = writer.write([(key, stored)], now, number.to_bytes(4, "big"))
            self.assertEqual(wrote, int(writer.size > size))
        size = writer.size
        taken = writer.take()
        self.assertEqual((len(taken), writer.size, writer.take()), (size, 0, b""))
        dictionary = ReceivingDictionary()
        return [
            EntryUpdate.decode(frame, table.layout, dictionary)
            for frame in FrameBuffer().feed(taken)
        ]

    @given(st.data(), st.integers(0, LATEST))
    def test_says_what_is_stored(self, data: st.DataObject, now: int) -> None:
        """Whatever the layout: an update says what reading the entry at that moment says."""
        layout: Layout = data.draw(layouts())
        expire = data.draw(st.sampled_from((0, 1000, 1 << 31)))
        table = TableStore(Declaration("t", layout, expire))
        keys = data.draw(st.lists(raw_keys(layout), max_size=4, unique=True))
        for key in keys:
            life = data.draw(st.integers(0, 0xFFFFFFFF))
            record = data.draw(records(layout))
            table.store([(key, life, record)], data.draw(st.integers(0, now)))
        updates = {update.key: update for update in self.written(table, keys, now)}
        for key in keys:
            entry = table.get(key, now)
            if entry is None:
                self.assertNotIn(key, updates)
                continue
            update = updates.pop(key)
            self.assertEqual(layout.codec.decode(update.values, 0), entry.decoded)
            self.assertEqual(update.expiry, entry.expires_in or 0)
        self.assertEqual(updates, {})

    @given(st.data(), st.booleans(), st.integers(0, LATEST))
    def test_both_ways_agree(self, data: st.DataObject, timed: bool, now: int) -> None:
        """Going by steps and what was generated write the same bytes, in pieces and as a whole."""
        layout: Layout = data.draw(layouts())
        expire = data.draw(st.sampled_from((0, 1 << 31)))
        table = TableStore(Declaration("t", layout, expire))
        for key in data.draw(st.lists(raw_keys(layout), max_size=9, unique=True)):
            life = data.draw(st.integers(0, 0xFFFFFFFF))
            record = data.draw(records(layout))
            table.store([(key, life, record)], data.draw(st.integers(0, now)))
        pieces = list(table.partitions.sweep())
        room = data.draw(st.integers(1, 999))
        written = []
        for by_generated in (False, True):
            writer = UpdateWriter(table.declaration, SendingDictionary(), timed)
            write = writer.by_generated if by_generated else writer.by_steps
            out, count = b"", 0
            for number, entries in enumerate(pieces):
                count += write(entries, now, b"%04d" % (number // 2))
                if writer.size >= room:
                    out += writer.take()
            written.append((out + writer.take(), count))
        self.assertEqual(written[0], written[1])

    def test_way(self) -> None:
        """In pure Python it is what was generated that writes; compiled, the steps do."""
        table = TableStore(Declaration.parse("t", "type integer size 9 expire 9s store gpc0"))
        table.set(b"aaaa", {"gpc0": 7}, 0)
        ways: list[str] = []
        make = generated.writer

        def noted(*about: Any) -> generated.Write:
            ways.append("generated")
            return make(*about)

        self.patch(generated, "writer", noted)
        writer = UpdateWriter(table.declaration, SendingDictionary(), True)
        self.assertEqual(writer.write([(b"aaaa", table.stored(b"aaaa") or b"")], 0, b"0000"), 1)
        self.assertEqual(ways, [] if COMPILED else ["generated"])

    def test_untimed(self) -> None:
        """For version 2.0 there is no expiry, and an id in each update."""
        table = TableStore(Declaration.parse("t", "type integer size 9 expire 9s store gpc0"))
        keys = [b"aaaa", b"bbbb"]
        for key in keys:
            table.set(key, {"gpc0": 7}, 0)
        self.assertEqual(
            self.written(table, keys, 5, timed=False),
            [EntryUpdate(0, None, b"aaaa", b"\x07"), EntryUpdate(1, None, b"bbbb", b"\x07")],
        )

    def test_texts(self) -> None:
        """A text is sent once and referred to then, wherever it stands."""
        line = "type string len 9 size 9 store server_key,gpc(2),gpc_rate(2,1s)"
        table = TableStore(Declaration.parse("t", line))
        names = ["s1", "s2", None, "s1", "s" * 300]
        keys = [b"k%d" % number for number in range(len(names))]
        for key, name in zip(keys, names):
            table.set(key, {"server_key": name, "gpc[1]": 300, "gpc_rate[1]": 5}, 0)
        for key, update, name in zip(keys, self.written(table, keys, 400), names):
            self.assertEqual(update.key, key)
            entry = table.get(key, 400)
            assert entry is not None
            self.assertEqual(table.layout.codec.decode(update.values, 0), entry.decoded)
            self.assertEqual(entry["server_key"], name)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.table import StickTable
from peerproto.tables.updates import UpdateWriter, quick_encode
from peerproto.wire import varint
from peerproto.wire.dictionary import ReceivingDictionary, SendingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Layout, column, in_bit_order
from peerproto.wire.messages import EntryUpdate

from .strategies import layouts, raw_keys, values

LATEST = 1 << 33


class UpdateWriterTests(SynchronousTestCase):
    def written(
        self, table: StickTable, keys: list[bytes], now: int, timed: bool = True
    ) -> list[EntryUpdate]:
        """The updates for these keys, read again."""
        writer = UpdateWriter(table.layout, table.declaration.expire, SendingDictionary(), timed)
        for number, key in enumerate(keys):
            stored = table.stored(key)
            assert stored is not None
            size = writer.size
            wrote = writer.write(key, stored, now, number.to_bytes(4, "big"))
            self.assertEqual(wrote, writer.size > size)
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
        table = StickTable(Declaration("t", layout, expire))
        keys = data.draw(st.lists(raw_keys(layout), max_size=4, unique=True))
        for key in keys:
            record = layout.codec.encode(data.draw(values(layout)))
            life = data.draw(st.integers(0, 0xFFFFFFFF))
            table.store([(key, life, record)], data.draw(st.integers(0, now)))
        updates = {update.key: update for update in self.written(table, keys, now)}
        for key in keys:
            entry = table.get(key, now)
            if entry is None:
                self.assertNotIn(key, updates)
                continue
            update = updates.pop(key)
            self.assertEqual(layout.codec.decode(update.values, 0), entry.values)
            self.assertEqual(update.expiry, entry.expires_in or 0)
        self.assertEqual(updates, {})

    @given(st.data(), st.booleans(), st.integers(0, LATEST))
    def test_both_ways_agree(self, data: st.DataObject, text: bool, now: int) -> None:
        """What is remembered of other entries gives the same bytes, in pieces and as a whole."""
        columns = [column("server_key")] if text else []
        columns += [column("gpc_rate", elements=2, period=9), column("gpc", elements=2)]
        if not text:
            columns.append(column("conn_rate", period=9))
        size = data.draw(st.sampled_from((4, 300)))
        key_type = KeyType.STRING if data.draw(st.booleans()) else KeyType.BINARY
        layout = Layout(key_type, size, in_bit_order(columns))
        table = StickTable(Declaration("t", layout, 1 << 31))
        for key in data.draw(st.lists(raw_keys(layout), max_size=9, unique=True)):
            record = layout.codec.encode(data.draw(values(layout)))
            life = data.draw(st.integers(0, 0xFFFFFFFF))
            table.store([(key, life, record)], data.draw(st.integers(0, now)))
        pieces = list(table.sweep())
        room = data.draw(st.integers(1, 999))
        written = []
        for usual in (False, True):
            writer = UpdateWriter(layout, 1 << 31, SendingDictionary(), True)
            write = writer.write_usual if usual else writer.write_each
            out = b""
            for entries in pieces:
                write(entries, now, b"same")
                if writer.size >= room:
                    out += writer.take()
            out += writer.take()
            written.append(out)
        self.assertEqual(written[0], written[1])

    def test_untimed(self) -> None:
        """For version 2.0 there is no expiry, and an id in each update."""
        table = StickTable(Declaration.parse("t", "type integer size 9 expire 9s store gpc0"))
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
        table = StickTable(Declaration.parse("t", line))
        names = ["s1", "s2", None, "s1", "s" * 300]
        keys = [b"k%d" % number for number in range(len(names))]
        for key, name in zip(keys, names):
            table.set(key, {"server_key": name, "gpc[1]": 300, "gpc_rate[1]": 5}, 0)
        for key, update, name in zip(keys, self.written(table, keys, 400), names):
            self.assertEqual(update.key, key)
            entry = table.get(key, 400)
            assert entry is not None
            self.assertEqual(table.layout.codec.decode(update.values, 0), entry.values)
            self.assertEqual(entry["server_key"], name)

    @given(st.integers(0, varint.UINT64))
    def test_quick_encode(self, value: int) -> None:
        """The quick form of `varint.encode` is the same."""
        self.assertEqual(quick_encode(value), varint.encode(value))

    def test_quick_encode_at_the_edges(self) -> None:
        """Where lengths change, too."""
        for edge in (240, 240 + 2048, 240 + 2048 + (128 << 11)):
            for value in range(edge - 3, edge + 3):
                self.assertEqual(quick_encode(value), varint.encode(value))

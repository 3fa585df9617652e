from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import attrs
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from peerproto.peering import receiving
from peerproto.tables.declaration import Declaration
from peerproto.tables.row import stamp
from peerproto.tables.store import TableStore
from peerproto.updates.reception import Reception
from peerproto.updates.runs import COMPILED, RunReader
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.errors import RemoteProtocolError
from peerproto.wire.frames import STICK_TABLE, FrameBuffer
from peerproto.wire.layout import Layout
from peerproto.wire.messages import UPDATES, EntryUpdate, read_update
from tests.strategies import layouts, raw_keys, records, values
from tests.support import begin, make_node, take

NOW = 5
SEPARATORS = b"\n\x86", b"\n\x85"


class Road:
    """One way through a stream of updates of a table, and what it made of them."""

    def __init__(self, layout: Layout, way: str, ours: Optional[Layout] = None) -> None:
        self.way = way
        self.layout = layout
        self.dictionary = ReceivingDictionary()
        self.table = TableStore(Declaration("t", ours or layout, 1 << 24, recv_only=True))
        self.reception = Reception(self.table, layout, 1 << 24, self.dictionary.known)
        self.frames = FrameBuffer()
        self.id = 0
        self.error: Optional[str] = None
        self.by_runs = 0

    def feed(self, data: bytes) -> None:
        if self.error is not None:
            return
        try:
            for frame in self.frames.feed(data):
                if frame.message_class == STICK_TABLE and frame.message_type in UPDATES:
                    self.take(frame.message_type, frame.payload)
                    self.run()
        except RemoteProtocolError as problem:
            self.error = str(problem)
        self.reception.store(NOW)

    def take(self, message_type: int, payload: bytes) -> None:
        update_id, expiry, key, record, said = read_update(
            message_type, payload, self.layout, self.dictionary
        )
        self.id = self.id + 1 & 0xFFFFFFFF if update_id is None else update_id
        self.reception.add((key, expiry, record, said), NOW)

    def run(self) -> None:
        reader = self.reception.reader
        if self.way == "frames":
            return
        before = len(reader.keys)
        self.frames.read_run(self.read, NOW)
        if len(reader.keys) > before:
            self.by_runs += len(reader.keys) - before
            self.id = reader.take_ids(self.id)

    def read(self, data: bytes, start: int, now: int) -> int:
        """Take as many updates as the way of this stream can: where the rest begins."""
        reader, stamp = self.reception.reader, self.reception.stamp(now)
        if self.way == "plain":
            return reader.loop(data, start, stamp, 1 << 20)
        if self.way == "cut":
            reader.piece = 1 << 16
            return reader.cut(data, start, stamp)
        return reader.read(data, start, stamp)

    def texts(self, now: int = NOW) -> dict[str, object]:
        """The text of each key that the table has."""
        return {
            str(entry.key): entry["server_key"]
            for key, stored_ in self.table.scan()
            if (entry := self.table.entry(key, stored_, now)) is not None
        }

    def result(self) -> tuple[object, ...]:
        """All there is to compare; the byte without meaning left out."""
        entries = {key: (value[:8], value[9:]) for key, value in self.table.scan()}
        return entries, self.id, self.error, len(self.frames), self.table.next_due()


TEXTS = (
    b"\x00",
    b"\x01\x05",
    b"\x04\x05\x02s1",
    b"\x04\x06\x02s2",
    b"\x01\x06",
    b"\x02\x05\x00",
    b"\x01\x00",
    b"\x01\x80",
    b"\x01\x81",
    b"\x02\x05",
)
"""Dictionary values: none, references to known texts and to others, texts, malformed ones."""

WAYS = ("frames", "plain", "cut", "read")


@st.composite
def updates(draw: st.DrawFn, layout: Layout, keys: list[bytes]) -> bytes:
    """An update as it travels: of any type, most often of a run, sometimes not whole."""
    road = draw(st.sampled_from((None, None, None, 7, 1 << 31)))
    expiry = draw(st.sampled_from((None, 0, 9, 1 << 20, 0x0A860A86, 0xFFFFFFFF)))
    codec = layout.codec
    record = codec.encode(draw(values(layout)))
    key = draw(st.sampled_from(keys) | raw_keys(layout))
    sending = draw(st.sampled_from(("whole", "whole", "whole", "more", "less")))
    if len(codec.integers) > 1:
        before, after = codec.integers
        record = b"\x05" * before + draw(st.sampled_from(TEXTS)) + b"\x05" * after
    if sending == "more":
        record += draw(st.sampled_from((b"\x00", *SEPARATORS)))
    elif sending == "less":
        record = record[:-1]
    return EntryUpdate(road, expiry, key, record).encode(layout.key_type)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Layout, bytes, list[bytes]]:
    """A layout, updates of it, and the keys of most of them."""
    layout = draw(layouts())
    keys = draw(st.lists(raw_keys(layout), min_size=1, max_size=3))
    one = updates(layout, keys)
    several = st.one_of(one, one, one, st.sampled_from((b"\x00\x04", b"\n\xff")))
    return layout, b"".join(draw(st.lists(several, max_size=8))), keys


class SameResultTests(SynchronousTestCase):
    """Frame by frame, by the plain loop, cut at separators, and as it is done: all the same."""

    def compare(
        self,
        layout: Layout,
        pieces: list[bytes],
        ours: Optional[Layout] = None,
        known: Sequence[tuple[bytes, int, bytes]] = (),
    ) -> list[Road]:
        roads = [Road(layout, way, ours) for way in WAYS]
        for road in roads:
            road.table.store(known, 0)
            for piece in pieces:
                road.feed(piece)
        first = roads[0].result()
        for road in roads[1:]:
            self.assertEqual(road.result(), first, road.way)
        return roads

    @given(streams(), st.data())
    def test_random_streams(
        self, stream: tuple[Layout, bytes, list[bytes]], data: st.DataObject
    ) -> None:
        """Streams of updates of all kinds, whole or not, in pieces of any size, into any table."""
        layout, whole, keys = stream
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])]
        ours = attrs.evolve(layout, columns=data.draw(st.just(layout) | layouts()).columns)
        lives = st.sampled_from((1, 1 << 20))
        known = [(key, data.draw(lives), data.draw(records(ours))) for key in keys]
        self.compare(layout, pieces, ours, known)

    @given(st.binary(max_size=200))
    @example(b"\n\x86" * 50)
    @example(b"\n\x86\x09" * 50)
    def test_garbage(self, garbage: bytes) -> None:
        """Any bytes after a good update."""
        good = EntryUpdate(1, 9, b"abcd", b"\x01").encode(RATES.layout.key_type)
        self.compare(RATES.layout, [good + garbage])

    def test_each_cut(self) -> None:
        """A run that is cut at each of its bytes."""
        for layout, whole in RUNS:
            for cut in range(len(whole) + 1):
                self.compare(layout, [whole[:cut], whole[cut:]])

    def test_byte_by_byte(self) -> None:
        """A run that comes one byte at a time."""
        for layout, whole in RUNS:
            self.compare(layout, [whole[at : at + 1] for at in range(len(whole))])

    def test_runs_are_taken(self) -> None:
        """Whole runs are taken by the fast roads, all but the first message."""
        for kind in KINDS:
            layout, whole = run(*kind, COUNT, 200)
            for road in self.compare(layout, [whole])[1:]:
                self.assertEqual(road.by_runs, COUNT - 1, (road.way, layout))

    def test_separators_in_payloads(self) -> None:
        """What looks like a separator in a key, an expiry or a value is none."""
        layout = RATES.layout
        key_type = layout.key_type
        for separator in SEPARATORS:
            keys = (separator * 2, b"x" + separator + b"y", b"abcd", separator + b"\x09\x00")
            whole = b"".join(
                EntryUpdate(None, expiry, key, b"\x01").encode(key_type)
                for key in keys
                for expiry in (9, int.from_bytes(separator * 2, "big"))
            )
            for road in self.compare(layout, [whole * 20]):
                self.assertEqual((road.table.used, road.id), (4, 160), road.way)

    def test_known_texts(self) -> None:
        """Dictionary values: new texts, references, none, one never sent, and malformed ones."""
        layout = NAMES.layout
        new, other = b"\x04\x01\x02s1", b"\x05\x02\x03s22"
        for refs, good, by_runs in (
            ([new, b"\x01\x01", b"\x00", b"\x01\x01", other, b"\x01\x02", new, b"\x01\x01"], 8, 5),
            ([new, b"\x01\x01", b"\x01\x03", b"\x01\x01"], 4, 3),
            ([new, b"\x01\x01", b"\x01\x81", b"\x01\x01"], 2, 1),
            ([new, b"\x01\x01", b"\x01\x00", b"\x01\x01"], 2, 1),
            ([new, b"\x01\x01", b"\x02\x01", b"\x01\x01"], 2, 1),
        ):
            whole = b"".join(named(b"k%d" % number, ref) for number, ref in enumerate(refs))
            for road in self.compare(layout, [whole]):
                self.assertEqual(road.table.used, good)
                self.assertEqual(road.error is None, good == len(refs))
                if road.way in ("plain", "read"):
                    self.assertEqual(road.by_runs, by_runs, road.way)

    def test_text_not_said(self) -> None:
        """Where nothing is said of a text, by 0 or by an id that has none, it stays as it is."""
        for unsaid in (b"\x00", b"\x01\x03"):
            whole = named(b"new", b"\x04\x01\x02s1") + named(b"known", unsaid)
            whole += named(b"other", unsaid) + named(b"new", unsaid)
            for ours, text in ((None, "s0"), (WIDE.layout, "s0"), (WITHOUT.layout, None)):
                layout = ours or NAMES.layout
                record = blank(layout, text)
                known = [(b"known", 1 << 20, record), (b"other", 1, record)]
                for road in self.compare(NAMES.layout, [whole], ours, known):
                    if text is not None:
                        expected = {"new": "s1", "known": "s0", "other": None}
                        self.assertEqual(road.texts(), expected, (road.way, unsaid))
                    entry = road.table.get(b"known", NOW)
                    assert entry is not None
                    self.assertEqual(entry["gpc0"], 3)

    def test_text_said_to_be_empty(self) -> None:
        """An id with a text of length 0 clears, and so does the id alone from then on."""
        known = [(key, 1 << 20, blank(NAMES.layout, "s0")) for key in (b"a", b"b", b"c")]
        whole = (
            named(b"x", b"\x02\x05\x00") + named(b"a", b"\x02\x05\x00") + named(b"b", b"\x01\x05")
        )
        for road in self.compare(NAMES.layout, [whole], known=known):
            self.assertEqual(road.texts(), {"a": None, "b": None, "c": "s0", "x": None}, road.way)

    def test_text_said_earlier_in_the_read(self) -> None:
        """The latest text of a key counts, whether it is known or came in the same read."""
        known = [(b"a", 1 << 20, blank(NAMES.layout, "s0"))]
        whole = b"".join(
            named(key, value)
            for key, value in (
                (b"a", b"\x04\x01\x02s1"),
                (b"a", b"\x00"),
                (b"b", b"\x00"),
                (b"b", b"\x01\x01"),
                (b"b", b"\x01\x09"),
                (b"c", b"\x01\x01"),
                (b"c", b"\x02\x02\x00"),
                (b"c", b"\x00"),
            )
        )
        for road in self.compare(NAMES.layout, [whole], known=known):
            self.assertEqual(road.texts(), {"a": "s1", "b": "s1", "c": None}, road.way)

    def test_strings_with_nul(self) -> None:
        """A key of a string ends at its first NUL: what follows it in the read goes on with it."""
        whole = named(b"x", b"\x04\x01\x02s1")
        whole += named(b"a", b"\x01\x01") + named(b"a\x00b", b"\x00") + named(b"\x00", b"\x01\x01")
        for road in self.compare(NAMES.layout, [whole]):
            self.assertEqual(road.texts(), {"x": "s1", "a": "s1", "": "s1"}, road.way)
            self.assertEqual(road.table.used, 3)


class SessionTests(SynchronousTestCase):
    def test_lessons_are_read_by_runs(self) -> None:
        """A session reads an ordinary lesson of any kind of table frame by frame only where a
        text is new."""
        by_frames = 0

        def counting(*arguments: Any) -> Any:
            nonlocal by_frames
            by_frames += 1
            return read_update(*arguments)

        self.patch(receiving, "read_update", counting)
        for line, record, key in KINDS:
            _, whole = run(line, record, key, COUNT, 200)
            self.assertEqual(self.learnt(Declaration.parse("t", line), whole), COUNT)
            self.assertEqual(by_frames, 0, line)
        servers = [b"\x04%b\x02s%b" % (bytes((one,)), b"%d" % one) for one in range(1, 10)]
        whole = b"".join(
            named(b"k%d" % number, servers[number] if number < 9 else b"\x01\x03")
            for number in range(COUNT)
        )
        self.assertEqual(self.learnt(NAMES, whole), COUNT)
        self.assertEqual(by_frames, len(servers))

    def learnt(self, declaration: Declaration, updates: bytes) -> int:
        """How many entries a session takes from updates that come in reads of 4 KiB."""
        node = make_node([attrs.evolve(declaration, size=None)])
        session = begin(node, "them")
        whole = declaration.definition(1).encode() + updates
        for start in range(0, len(whole), 4096):
            take(node, session, whole[start : start + 4096], 0)
        self.assertIsNone(session.ended_by)
        return node.tables["t"].used


class HostileTests(SynchronousTestCase):
    def test_pieces_shrink(self) -> None:
        """Where separators stand in every payload, little is cut in vain."""
        if COMPILED:
            raise SkipTest("compiled, nothing is cut at separators")
        layout = RATES.layout
        reader = RunReader(4, 0, 1, -1, [b""] * 256)
        one = EntryUpdate(None, 9, b"\n\x86\n\x86", b"\x01").encode(layout.key_type)
        given_to_cut = 0
        cut = RunReader.cut

        def counting(self: RunReader, data: bytes, start: int, stamp: bytes) -> int:
            nonlocal given_to_cut
            given_to_cut += min(self.piece, len(data) - start)
            return cut(self, data, start, stamp)

        self.patch(RunReader, "cut", counting)
        stream = one * 20_000
        self.assertEqual(reader.read(stream, 0, stamp(NOW)), len(stream))
        self.assertLess(given_to_cut, len(stream) / 2)


RATES = Declaration.parse("t", "type ip size 9 store gpc0")
NAMES = Declaration.parse("t", "type string len 9 size 9 store gpc0,server_key")
WIDE = Declaration.parse("t", "type string len 9 size 9 store gpc0,conn_rate(1s),server_key,gpt(2)")
WITHOUT = Declaration.parse("t", "type string len 9 size 9 store gpc0,gpc1")
COUNT = 450


def named(key: bytes, text: bytes) -> bytes:
    """An update of `NAMES` with 3 in ``gpc0``."""
    return EntryUpdate(None, 9, key, b"\x03" + text).encode(NAMES.layout.key_type)


def blank(layout: Layout, text: Optional[str]) -> bytes:
    """A record of nothing but a text."""
    return layout.codec.encode(tuple(text if one is None else one for one in layout.codec.blank()))


def run(
    line: str, record: bytes, key: bytes, count: int = 13, every: int = 5
) -> tuple[Layout, bytes]:
    """A run as HAProxy sends it: with an id at its beginning, and again every so often."""
    layout = Declaration.parse("t", line).layout
    parts = []
    for number in range(count):
        update_id = None if number % every else 1000 + number
        raw = key + bytes((1 + number // 255, 1 + number % 255))
        parts.append(EntryUpdate(update_id, 9 + number, raw, record).encode(layout.key_type))
    return layout, b"".join(parts)


KINDS = (
    ("type ip size 9 store gpc0,http_req_rate(10s)", b"\x01\xf2\x03\x00\xff\x80\x01", b"ab"),
    ("type string len 32 size 9 store gpc0", b"\xf1\x05", b"key"),
    ("type binary len 8 size 9 store server_key,gpc(2)", b"\x00\x03\x04", b"abcdef"),
    ("type ipv6 size 9", b"", b"abcdefgh012345"),
)
RUNS = [run(*kind) for kind in KINDS]

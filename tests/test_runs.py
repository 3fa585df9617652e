from __future__ import annotations

from typing import Optional

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.reception import Reception
from peerproto.tables.stored import stamp
from peerproto.tables.table import StickTable
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.errors import RemoteProtocolError
from peerproto.wire.frames import STICK_TABLE, FrameBuffer
from peerproto.wire.layout import Layout
from peerproto.wire.messages import UPDATES, EntryUpdate, read_update
from peerproto.wire.runs import COMPILED, RunReader

from .strategies import layouts, raw_keys, values

NOW = 5
SEPARATORS = b"\n\x86", b"\n\x85"


class Road:
    """One way through a stream of updates of a table, and what it made of them."""

    def __init__(self, layout: Layout, way: str) -> None:
        self.way = way
        self.layout = layout
        self.dictionary = ReceivingDictionary()
        self.table = StickTable(Declaration("t", layout, 1 << 24, recv_only=True))
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
        update_id, *update = read_update(message_type, payload, self.layout, self.dictionary)
        self.id = self.id + 1 & 0xFFFFFFFF if update_id is None else update_id
        expiry, key, record = update
        assert expiry is None or isinstance(expiry, int)
        assert isinstance(key, bytes) and isinstance(record, bytes)
        self.reception.add((key, expiry, record), NOW)

    def run(self) -> None:
        reader = self.reception.reader
        if self.way == "frames" or reader is None:
            return
        before = len(reader.keys)
        frames = self.frames
        if self.way == "plain":
            end = reader.loop(frames.data, frames.position, stamp(NOW), 1 << 20)
        elif self.way == "cut":
            reader._piece = 1 << 16
            end = reader.cut(frames.data, frames.position, stamp(NOW))
        else:
            end = reader.read(frames.data, frames.position, stamp(NOW))
        frames.position = end
        if len(reader.keys) > before:
            self.by_runs += len(reader.keys) - before
            self.id = reader.take_ids(self.id)

    def result(self) -> tuple[object, ...]:
        """All there is to compare; the byte without meaning left out."""
        entries = {key: (value[:8], value[9:]) for key, value in self.table.scan()}
        return entries, self.id, self.error, len(self.frames), self.table.next_due()


WAYS = ("frames", "plain", "cut", "read")


@st.composite
def updates(draw: st.DrawFn, layout: Layout) -> bytes:
    """An update as it travels: of any type, most often of a run, sometimes not whole."""
    road = draw(st.sampled_from((None, None, None, 7, 1 << 31)))
    expiry = draw(st.sampled_from((None, 0, 9, 1 << 20, 0x0A860A86, 0xFFFFFFFF)))
    codec = layout.codec
    record = codec.encode(draw(values(layout)))
    key = draw(raw_keys(layout))
    sending = draw(st.sampled_from(("whole", "whole", "whole", "more", "less")))
    if len(codec.integers) > 1:
        # References need a cache of the sender's: see `test_known_texts`.
        record = b"".join(b"\x05" * count + b"\x00" for count in codec.integers)[:-1]
    if sending == "more":
        record += draw(st.sampled_from((b"\x00", *SEPARATORS)))
    elif sending == "less":
        record = record[:-1]
    return EntryUpdate(road, expiry, key, record).encode(layout.key_type)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Layout, bytes]:
    layout = draw(layouts())
    one = st.one_of(
        updates(layout), updates(layout), updates(layout), st.sampled_from((b"\x00\x04", b"\n\xff"))
    )
    return layout, b"".join(draw(st.lists(one, max_size=8)))


class SameResultTests(SynchronousTestCase):
    """Frame by frame, by the plain loop, cut at separators, and as it is done: all the same."""

    def compare(self, layout: Layout, pieces: list[bytes]) -> list[Road]:
        roads = [Road(layout, way) for way in WAYS]
        for road in roads:
            for piece in pieces:
                road.feed(piece)
        first = roads[0].result()
        for road in roads[1:]:
            self.assertEqual(road.result(), first, road.way)
        return roads

    @given(streams(), st.data())
    def test_random_streams(self, stream: tuple[Layout, bytes], data: st.DataObject) -> None:
        """Streams of updates of all kinds, whole or not, in pieces of any size."""
        layout, whole = stream
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        self.compare(layout, [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])])

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
                self.assertEqual((len(road.table._parts), road.id), (4, 160), road.way)

    def test_known_texts(self) -> None:
        """Dictionary values: new texts, references, none, and one never sent."""
        layout = Declaration.parse("t", "type string len 9 size 9 store gpc0,server_key").layout
        new, other = b"\x04\x01\x02s1", b"\x05\x02\x03s22"
        for refs, good, by_runs in (
            ([new, b"\x01\x01", b"\x00", b"\x01\x01", other, b"\x01\x02", new, b"\x01\x01"], 8, 5),
            ([new, b"\x01\x01", b"\x01\x03", b"\x01\x01"], 2, 1),
            ([new, b"\x01\x01", b"\x02\x01", b"\x01\x01"], 2, 1),
        ):
            whole = b"".join(
                EntryUpdate(None, 9, b"k%d" % number, b"\xf1\x02" + ref).encode(layout.key_type)
                for number, ref in enumerate(refs)
            )
            for road in self.compare(layout, [whole]):
                self.assertEqual(len(road.table._parts), good)
                self.assertEqual(road.error is None, good == len(refs))
                if road.way in ("plain", "read"):
                    self.assertEqual(road.by_runs, by_runs, road.way)


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
            given_to_cut += min(self._piece, len(data) - start)
            return cut(self, data, start, stamp)

        self.patch(RunReader, "cut", counting)
        stream = one * 20_000
        self.assertEqual(reader.read(stream, 0, stamp(NOW)), len(stream))
        self.assertLess(given_to_cut, len(stream) / 2)


RATES = Declaration.parse("t", "type ip size 9 store gpc0")
COUNT = 450


def run(
    line: str, record: bytes, key: bytes, count: int = 13, every: int = 5
) -> tuple[Layout, bytes]:
    """A run as HAProxy sends it: with an id at its beginning, and again every so often."""
    layout = Declaration.parse("t", line).layout
    parts = []
    for number in range(count):
        update_id = None if number % every else 1000 + number
        raw = key + number.to_bytes(2, "big")
        parts.append(EntryUpdate(update_id, 9 + number, raw, record).encode(layout.key_type))
    return layout, b"".join(parts)


KINDS = (
    ("type ip size 9 store gpc0,http_req_rate(10s)", b"\x01\xf2\x03\x00\xff\x80\x01", b"ab"),
    ("type string len 32 size 9 store gpc0", b"\xf1\x05", b"key"),
    ("type binary len 8 size 9 store server_key,gpc(2)", b"\x00\x03\x04", b"abcdef"),
    ("type ipv6 size 9", b"", b"abcdefgh012345"),
)
RUNS = [run(*kind) for kind in KINDS]

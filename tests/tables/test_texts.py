from __future__ import annotations

import gc
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.upkeep import FORGET_INTERVAL, Upkeep
from peerproto.tables.declaration import Declaration
from peerproto.tables.unused import forget_unused_texts
from peerproto.wire import varint
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from peerproto.wire.messages import Ack, EntryUpdate, Mark
from peerproto.wire.texts import SHORT, TEXTS, Texts
from tests.support import NodeTestCase, begin, make_node

NAMES = Declaration.parse("names", "type integer size 1m store gpc0,server_key")
_fresh = count()


def long_text() -> bytes:
    """A long text that no other test has."""
    return b"server %d " % next(_fresh) + b"x" * SHORT


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def update(number: int, value: bytes) -> bytes:
    return EntryUpdate(None, None, key(number), b"\x07" + value).encode(KeyType.INTEGER)


def said(number: int, text: bytes) -> bytes:
    """A dictionary value that says a text under an id."""
    value = bytes((number,)) + varint.encode(len(text)) + text
    return varint.encode(len(value)) + value


def forget() -> None:
    for _ in forget_unused_texts():
        pass


class TextsTests(SynchronousTestCase):
    @given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda raw: b"\xff\xfe" + raw))
    def test_round_trip(self, text: bytes) -> None:
        """Whatever a text is, what stands for it is short, the same each time, and leads back."""
        texts = Texts()
        kept = texts.keep(text)
        assert kept is not None
        self.assertLessEqual(len(kept), SHORT)
        self.assertEqual(texts.keep(text), kept)
        self.assertEqual(texts.text(kept), text)

    def test_limit(self) -> None:
        """There is room for so many bytes; what is there already needs none."""
        texts = Texts(limit=1000)
        first = texts.keep(b"x" * 500)
        self.assertIsNone(texts.keep(b"y" * 500))
        self.assertEqual(texts.keep(b"x" * 500), first)
        self.assertEqual(texts.keep(b"short"), b"short")
        self.assertEqual((len(texts), texts.refused), (1, 1))
        for _ in texts.forget_unused([]):
            pass
        self.assertIsNotNone(texts.keep(b"y" * 500))
        self.assertLess(texts.size, 1000)

    def test_limit_of_the_process(self) -> None:
        """All long texts of a process together have 64 MiB."""
        self.assertEqual(TEXTS.limit, 64 << 20)

    def test_forgotten(self) -> None:
        """What stands in a record is not forgotten, nor what a connection may refer to."""
        texts = Texts()
        used, known, unused = (texts.keep(one * 50) for one in (b"u", b"k", b"n"))
        assert used is not None and known is not None and unused is not None
        dictionary = texts.known(3)
        dictionary[2] = b"\x08" + known
        for _ in texts.forget_unused([[b"", b"\xff\xfehead" + used + b"\xff"]]):
            self.assertEqual(len(texts), 3)
        self.assertEqual((texts.text(used), texts.text(known)), (b"u" * 50, b"k" * 50))
        self.assertNotEqual(texts.keep(b"n" * 50), unused, "no token means two texts")
        del dictionary
        gc.collect()
        for _ in texts.forget_unused([[used]]):
            pass
        self.assertEqual(len(texts), 1)


class TablesTests(NodeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.node = make_node([NAMES])
        self.table = self.node.tables["names"]
        self.peer = self.node.expect("them", 0)
        self.session = self.node.begin(self.peer, 1, 0)
        self.take(self.session, NAMES.definition(1).encode(), 0)

    def text_of(self, number: int) -> object:
        entry = self.table.get(key(number), 0)
        return None if entry is None else entry["server_key"]

    def test_entries_stay_small(self) -> None:
        """However often a peer refers to a long text, it is there once."""
        text = b"x" * 1000
        whole = update(0, said(5, text)) + b"".join(update(one, b"\x01\x05") for one in range(99))
        self.take(self.session, whole, 0)
        self.assertEqual(self.table.used, 99)
        self.assertEqual({self.text_of(one) for one in range(99)}, {text.decode()})
        self.assertLess(max(len(stored) for _, stored in self.table.scan()), 64)
        for number in range(99):
            self.table.set(key(number), {"gpc0": 9, "server_key": "y" * 1000}, 0)
        self.assertLess(max(len(stored) for _, stored in self.table.scan()), 64)

    def test_taught(self) -> None:
        """A long text is sent as it is, once, and by reference then."""
        text = long_text()
        self.take(self.session, update(1, said(5, text)) + update(2, b"\x01\x05"), 0)
        pupil = begin(self.node, "pupil")
        self.take(pupil, b"\x00\x00", 0)
        sent = pupil.pull(1 << 16, 0)
        self.assertEqual((sent.count(text), sent.count(said(1, text))), (1, 1))

    @given(st.lists(st.sampled_from("dddrrrsscg!")), st.data())
    def test_forgotten_meanwhile(self, steps: list[str], data: st.DataObject) -> None:
        """Whatever happens while it is looked for what is used, each entry keeps its text."""
        self.setUp()
        # Who sends what it has changed alone may bring back what was there before, at once.
        self.take(self.session, Mark.TIES.encode(), 0)
        expected: dict[int, str] = {}
        ids: dict[int, bytes] = {}
        forgetting = forget_unused_texts()
        for step in steps:
            number = data.draw(st.integers(0, 3))
            if step == "d":
                ids[number + 1] = long_text()
                self.take(self.session, update(number, said(number + 1, ids[number + 1])), 0)
                expected[number] = ids[number + 1].decode()
            elif step == "r" and ids:
                place = data.draw(st.sampled_from(sorted(ids)))
                self.take(self.session, update(number, bytes((1, place))), 0)
                expected[number] = ids[place].decode()
            elif step == "s":
                text = data.draw(st.sampled_from(sorted(ids.values()) or [b"s"])).decode()
                self.table.set(key(number), {"server_key": text}, 0)
                # Until the peer acks it, what it sends is older than what was set here.
                self.session.pull(1 << 16, 0)
                self.take(self.session, Ack(1, self.table.log.head).encode(), 0)
                expected[number] = text
            elif step == "c":
                self.table.remove(key(number))
                expected.pop(number, None)
            elif step == "g":
                self.session = self.node.begin(self.peer, 1, 0)
                self.take(self.session, Mark.TIES.encode() + NAMES.definition(1).encode(), 0)
                ids = {}
            elif step == "!" and next(forgetting, forgetting) is forgetting:
                forgetting = forget_unused_texts()
            self.assertEqual({one: self.text_of(one) for one in expected}, expected)
        for _ in forgetting:
            pass
        self.assertEqual({one: self.text_of(one) for one in expected}, expected)
        gc.collect()
        forget()
        self.assertEqual({one: self.text_of(one) for one in expected}, expected)

    def test_no_room(self) -> None:
        """Without room for a long text nothing is said of it, and none can be set."""
        text = long_text()
        self.patch(TEXTS, "limit", TEXTS.size)
        self.take(self.session, update(1, said(5, text)) + update(2, b"\x01\x05"), 0)
        self.take(self.session, update(3, said(6, b"short")), 0)
        self.assertIsNone(self.session.ended_by)
        self.assertEqual([self.text_of(one) for one in (1, 2, 3)], [None, None, "short"])
        with self.assertRaises(LocalProtocolError) as caught:
            self.table.set(key(4), {"server_key": text.decode()}, 0)
        self.assertIn("room", str(caught.exception))

    def test_upkeep(self) -> None:
        """Once there are many, those that nothing uses are forgotten, but not all the time."""
        clock = Clock()
        upkeep = Upkeep(self.node, clock, lambda _: None)
        used, unused = long_text(), long_text()
        self.table.set(key(1), {"server_key": used.decode()}, 0)
        self.table.set(key(2), {"server_key": unused.decode()}, 0)
        self.table.remove(key(2))
        self.patch(TEXTS, "due_at", 1)
        self.patch(TEXTS, "refused", 3)
        with capturedLogs() as logs:
            upkeep.start()
            size = TEXTS.size
            self.assertEqual(TEXTS.keep(used), TEXTS.keep(used))
            clock.pump([0.01] * 5000)
        self.addCleanup(upkeep.stop)
        self.assertLess(TEXTS.size, size)
        self.assertEqual([one["count"] for one in logs if one["log_level"].name == "warn"], [3])
        self.assertEqual(self.text_of(1), used.decode())
        size = TEXTS.size
        TEXTS.keep(unused)
        TEXTS.due_at = 1
        clock.advance(1)
        self.assertGreater(TEXTS.size, size)
        clock.advance(FORGET_INTERVAL / 1000)
        clock.pump([0.01] * 5000)
        self.assertEqual(TEXTS.size, size)

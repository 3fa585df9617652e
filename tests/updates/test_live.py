from __future__ import annotations

from itertools import combinations, islice
from typing import Optional

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.live import Live, LiveBytes
from peerproto.updates.outgoing import Outgoing
from peerproto.wire.datatypes import BY_NAME
from peerproto.wire.dictionary import SendingDictionary

LINE = "type integer size 9 expire 10s store gpc0,http_req_rate(10s)"
OTHER = "type integer size 9 expire 20s store gpc1"


def table_of(line: str = LINE) -> TableStore:
    return TableStore(Declaration.parse("t", line))


def many(line: str = LINE.replace("size 9", "size 9k")) -> TableStore:
    """A table with many changes."""
    table = table_of(line)
    names = [cell.name for cell in table.layout.printed]
    for number in range(2000):
        table.set(key(number), dict.fromkeys(names, 1), 0)
    return table


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


class LiveUpdatesTests(SynchronousTestCase):
    def test_written_once(self) -> None:
        """Peers that have the same to come get the very same bytes."""
        table = table_of()
        outgoing = Outgoing(table)
        for number in range(5):
            table.set(key(number), {"gpc0": number}, 0)
        live = outgoing.live(1, 0)
        first = live.after(table, 2, 8192, 7)
        self.assertEqual((first.count, first.sent), (3, 5))
        self.assertIs(outgoing.live(1, 0).after(table, 2, 8192, 7), first)

    def test_not_for_others(self) -> None:
        """A peer that has other changes to come, less room, or asks at another time, gets others;
        so does one that asks after an entry was stored or removed."""
        table = table_of()
        outgoing = Outgoing(table)
        for number in range(5):
            table.set(key(number), {"http_req_rate": number}, 0)
        live = outgoing.live(1, 0)
        first = live.after(table, 2, 8192, 7)
        self.assertEqual(live.after(table, 3, 8192, 7).count, 2)
        self.assertEqual(live.after(table, 2, 20, 7).sent, 4)
        self.assertNotEqual(live.after(table, 2, 8192, 28).data, first.data)
        table.store([(key(4), 10000, b"\x07\x00\x08\x00")], 7)
        self.assertIn(b"\x00\x08\x00", live.after(table, 2, 8192, 7).data)
        table.remove(key(4))
        self.assertEqual(live.after(table, 2, 8192, 7).count, 2)
        table.set(key(9), {}, 7)
        self.assertEqual(live.after(table, 2, 8192, 7).count, 3)

    def test_late_by_life(self) -> None:
        """What is late is written for each life of the peers' own."""
        table = table_of()
        outgoing = Outgoing(table)
        table.set(key(1), {"gpc0": 1}, 0)
        said = {
            life: outgoing.live(1, life).after(table, 0, 8192, 1001).data
            for life in (None, 0, 5000, 60000)
        }
        self.assertEqual(said[None], said[0])
        self.assertIn((3999).to_bytes(4, "big"), said[5000])
        self.assertIn((58999).to_bytes(4, "big"), said[60000])

    def test_relayed_too_late(self) -> None:
        """What another peer has said and is over is sent with a life of 1 ms, and the rest as ever;
        to a peer that takes no lives, and of our own changes, it is not."""

        class Relayed:
            def spares(self, peer: object) -> bool:
                return peer == "source"

        table = table_of()
        whom = Relayed()
        for number in range(1, 5):
            life = 100 if number < 4 else 5000
            table.store([(key(number), life, bytes((number, 0, 0, 0)))], 0)
            table.log.mark(0)
            table.log.record(key(number), table.layout.bits, None if number == 3 else whom)
        over, left = (1).to_bytes(4, "big"), (4800).to_bytes(4, "big")
        live = LiveBytes(1, 0, {}).after(table, 0, 8192, 200, "other")
        self.assertEqual((live.count, live.sent), (3, 4))
        for number, said in ((1, over), (2, over), (4, left)):
            self.assertIn(said + key(number) + bytes((number,)), live.data)
        self.assertEqual(LiveBytes(1, 0, {}).after(table, 0, 8192, 200, "source").count, 0)
        self.assertEqual(LiveBytes(1, None, {}).after(table, 0, 8192, 200, "other").count, 1)

    def test_texts_are_a_peers_own(self) -> None:
        """What refers to the cache of a connection is written anew each time."""
        table = table_of("type integer size 9 store server_key")
        table.set(key(1), {"server_key": "web1"}, 0)
        one = LiveBytes(1, 0, {}, SendingDictionary())
        self.assertIn(b"web1", one.after(table, 0, 8192, 0).data)
        self.assertNotIn(b"web1", one.after(table, 0, 8192, 0).data)
        self.assertIn(b"web1", LiveBytes(1, 0, {}, SendingDictionary()).after(table, 0, 99, 0).data)

    def test_many_different_columns(self) -> None:
        """However many different columns are changed and lives asked for, all is written, a few
        definitions at a time, and little is kept."""
        names = [name for name in BY_NAME if not BY_NAME[name].array and "rate" not in name]
        table = table_of(f"type integer size 9k store {','.join(names)}")
        outgoing = Outgoing(table)
        chosen = list(islice(combinations(names[:-1], 3), 300))
        for number, columns in enumerate(chosen):
            table.set(key(number), dict.fromkeys(set(columns) - {"server_key"}, 1), 0)
        for life in range(3):
            sent = count = 0
            while sent < table.log.head:
                live = outgoing.live(1, life).after(table, sent, 8192, 0)
                self.assertLess(live.count, 100)
                sent, count = live.sent, count + live.count
            self.assertEqual(count, len(chosen))
        for life in range(100):
            outgoing.live(1, life)
        self.assertLess(outgoing.lives, 20)

    @given(st.data())
    def test_like_written_alone(self, data: st.DataObject) -> None:
        """Whatever changes or is learnt, and whoever asks when: the bytes are those that are
        written for one alone, or would have been, if they are not all, before something was changed
        here that follows."""
        table = table_of()
        outgoing = Outgoing(table)
        now = 0
        before: dict[tuple[Optional[int], int], list[Live]] = {}
        for _ in range(data.draw(st.integers(1, 30))):
            what = data.draw(
                st.sampled_from(("set", "learn", "remove", "wait", "declare", "ask", "ask", "ask"))
            )
            number = data.draw(st.integers(0, 3))
            if what in ("learn", "remove", "wait", "declare"):
                before.clear()
            if what == "set":
                names = [cell.name for cell in table.layout.printed]
                table.set(key(number), dict.fromkeys(names[: number % 3], number), now)
            elif what == "learn":
                blank = table.layout.codec.encode(table.layout.codec.blank())
                table.store([(key(number), 4000 * number, bytes((now % 99,)) + blank[1:])], now)
            elif what == "remove":
                table.remove(key(number))
            elif what == "wait":
                now += 1000 * number
            elif what == "declare":
                table.redeclare(Declaration.parse("t", data.draw(st.sampled_from((LINE, OTHER)))))
            else:
                life = data.draw(st.sampled_from((None, 0, 5000)))
                sent = data.draw(st.integers(0, table.log.head))
                room = data.draw(st.sampled_from((1, 30, 8192)))
                alone = LiveBytes(1, life, {}).after(table, sent, room, now)
                some = before.setdefault((life, sent), [])
                self.assertIn(outgoing.live(1, life).after(table, sent, room, now), (alone, *some))
                if alone.sent < table.log.head:
                    some.append(alone)

    def test_some_are_shared(self) -> None:
        """Of many changes, those that one peer is given are written once for all that have room for
        them, at about the same time."""
        table = many()
        live = Outgoing(table).live(1, 0)
        first = live.after(table, 0, 8192, 10)
        self.assertLess(first.sent, table.log.head)
        self.assertIs(live.after(table, 0, 8000, 30), first)
        self.assertIsNot(live.after(table, 0, 8000, 31), first)
        first = live.after(table, 0, 8192, 40)
        self.assertIsNot(live.after(table, 0, len(first.data) - 1, 40), first)
        second = live.after(table, first.sent, 8192, 40)
        self.assertIs(live.after(table, first.sent, 8192, 41), second)

    def test_old_ones_soon(self) -> None:
        """What is written for one is the sooner too old for another one, the shorter the period of
        a rate is."""
        table = many("type integer size 9k expire 10s store gpc0,http_req_rate(1s)")
        live = Outgoing(table).live(1, 0)
        first = live.after(table, 0, 8192, 10)
        self.assertIs(live.after(table, 0, 8192, 15), first)
        self.assertIsNot(live.after(table, 0, 8192, 16), first)

    def test_far_apart(self) -> None:
        """For peers that are not equally far, and while more is changed, each change is written
        twice at most, but for the first ones of each peer."""
        table = many()
        live = Outgoing(table).live(1, 0)
        places = [7 * peer for peer in range(10)]
        written: dict[int, Live] = {}
        for _ in range(100):
            for peer, sent in enumerate(places):
                piece = live.after(table, sent, 4000 + peer, 0)
                written[id(piece)] = piece
                places[peer] = piece.sent
            table.set(key(5000 + len(written)), {"gpc0": 1}, 0)
        self.assertEqual(set(places), {table.log.head - 1})
        count = sum(one.count for one in written.values())
        self.assertLess(count, 2 * table.log.head + 10 * 128)

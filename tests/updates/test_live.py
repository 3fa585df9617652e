from __future__ import annotations

from itertools import combinations, islice

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.live import LiveBytes
from peerproto.updates.outgoing import Outgoing
from peerproto.wire.datatypes import BY_NAME
from peerproto.wire.dictionary import SendingDictionary

LINE = "type integer size 9 expire 10s store gpc0,http_req_rate(10s)"
OTHER = "type integer size 9 expire 20s store gpc1"


def table_of(line: str = LINE) -> TableStore:
    return TableStore(Declaration.parse("t", line))


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
        self.assertNotEqual(live.after(table, 2, 8192, 13).data, first.data)
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
        written for one alone."""
        table = table_of()
        outgoing = Outgoing(table)
        now = 0
        for _ in range(data.draw(st.integers(1, 30))):
            what = data.draw(
                st.sampled_from(("set", "learn", "remove", "wait", "declare", "ask", "ask", "ask"))
            )
            number = data.draw(st.integers(0, 3))
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
                self.assertEqual(
                    outgoing.live(1, life).after(table, sent, room, now),
                    LiveBytes(1, life, {}).after(table, sent, room, now),
                )

    def test_some_are_shared(self) -> None:
        """Of many changes, those that one peer is given are written once for all that have about
        as much room, at about the same time."""
        table = table_of(LINE.replace("size 9", "size 9k"))
        names = [cell.name for cell in table.layout.printed]
        for number in range(2000):
            table.set(key(number), dict.fromkeys(names, 1), 0)
        live = Outgoing(table).live(1, 0)
        first = live.after(table, 0, 8192, 10)
        self.assertLess(first.sent, table.log.head)
        self.assertIs(live.after(table, 0, 8000, 14), first)
        self.assertIsNot(live.after(table, 0, 8000, 16), first)
        first = live.after(table, 0, 8192, 20)
        self.assertIsNot(live.after(table, 0, 7000, 20), first)
        second = live.after(table, first.sent, 8192, 20)
        self.assertIs(live.after(table, first.sent, 8192, 21), second)

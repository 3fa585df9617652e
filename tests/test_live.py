from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.live import LiveUpdates, live_of
from peerproto.tables.table import StickTable
from peerproto.wire.dictionary import SendingDictionary

LINE = "type integer size 9 expire 10s store gpc0,http_req_rate(10s)"
OTHER = "type integer size 9 expire 20s store gpc1"


def table_of(line: str = LINE) -> StickTable:
    return StickTable(Declaration.parse("t", line))


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


class LiveUpdatesTests(SynchronousTestCase):
    def test_written_once(self) -> None:
        """Peers that have the same to come get the very same bytes."""
        table = table_of()
        for number in range(5):
            table.set(key(number), {"gpc0": number}, 0)
        live = live_of(table, True)
        first = live.after(table, 2, 8192, 7)
        self.assertEqual((first.count, first.sent), (3, 5))
        self.assertIs(live_of(table, True).after(table, 2, 8192, 7), first)

    def test_not_for_others(self) -> None:
        """Whoever has other changes to come, less room, or asks at another time, gets others."""
        table = table_of()
        for number in range(5):
            table.set(key(number), {"gpc0": number}, 0)
        live = live_of(table, True)
        first = live.after(table, 2, 8192, 7)
        self.assertEqual(live.after(table, 3, 8192, 7).count, 2)
        self.assertEqual(live.after(table, 2, 30, 7).sent, 4)
        self.assertNotEqual(live.after(table, 2, 8192, 9).data, first.data)
        self.assertNotEqual(live_of(table, False).after(table, 2, 8192, 7).data, first.data)
        table.set(key(9), {}, 7)
        self.assertEqual(live.after(table, 2, 8192, 7).count, 4)

    def test_texts_are_a_peers_own(self) -> None:
        """What refers to the cache of a connection is written anew each time."""
        table = table_of("type integer size 9 store server_key")
        table.set(key(1), {"server_key": "web1"}, 0)
        one = LiveUpdates(True, SendingDictionary())
        self.assertIn(b"web1", one.after(table, 0, 8192, 0).data)
        self.assertNotIn(b"web1", one.after(table, 0, 8192, 0).data)
        self.assertIn(b"web1", LiveUpdates(True, SendingDictionary()).after(table, 0, 99, 0).data)

    @given(st.data())
    def test_like_written_alone(self, data: st.DataObject) -> None:
        """Whatever changes, and whoever asks when: the bytes are those written for one alone."""
        table = table_of()
        now = 0
        for _ in range(data.draw(st.integers(1, 30))):
            what = data.draw(st.sampled_from(("set", "remove", "wait", "declare", "ask", "ask")))
            number = data.draw(st.integers(0, 5))
            if what == "set":
                table.set(key(number), {}, now)
            elif what == "remove":
                table.remove(key(number))
            elif what == "wait":
                now += 1000 * number
            elif what == "declare":
                table.redeclare(Declaration.parse("t", data.draw(st.sampled_from((LINE, OTHER)))))
            else:
                timed = data.draw(st.booleans())
                sent = data.draw(st.integers(0, table.log.head))
                room = data.draw(st.sampled_from((1, 30, 8192)))
                self.assertEqual(
                    live_of(table, timed).after(table, sent, room, now),
                    LiveUpdates(timed).after(table, sent, room, now),
                )

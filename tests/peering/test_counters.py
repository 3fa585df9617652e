"""Counters of what two sessions say to each other."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.memory import Counters
from peerproto.peering.node import Node
from peerproto.peering.session import Session
from peerproto.tables.declaration import Declaration
from peerproto.wire.frames import FrameBuffer
from tests.support import act, begin, make_node, take

TABLES = [
    Declaration.parse(
        "rates", "type integer size 1m expire 10m store gpc0,gpc1,http_req_rate(10s)"
    ),
    Declaration.parse("texts", "type string len 32 size 1m expire 10m store gpc0,server_key"),
]


class CountersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.nodes: list[Node] = []
        self.sessions: list[Session] = []
        for name in ("one", "other"):
            node = make_node(TABLES)
            self.nodes.append(node)
            self.sessions.append(begin(node, name))
        self.frames = [FrameBuffer(), FrameBuffer()]
        self.seen = [0, 0]
        self.bytes = [0, 0]
        self.now = 0

    def counters(self, which: int) -> Counters:
        return self.sessions[which].peer.counters

    def carry(self, which: int, chance: random.Random) -> None:
        """What one has to say goes to the other, cut anywhere."""
        data = self.sessions[which].pull(chance.choice((100, 8192)), self.now)
        self.seen[which] += len(list(self.frames[which].feed(data)))
        self.bytes[which] += len(data)
        other = self.sessions[1 - which]
        while data:
            size = chance.randint(1, len(data))
            take(self.nodes[1 - which], other, data[:size], self.now)
            data = data[size:]
            while other.unread:
                act(self.nodes[1 - which], other, other.read_on(self.now), self.now)

    def change(self, which: int, chance: random.Random) -> None:
        tables = self.nodes[which].tables
        for _ in range(chance.randint(1, 30)):
            number = chance.randrange(50)
            columns = chance.choice(
                ({"gpc0": number}, {"gpc1": 1, "gpc0": 2}, {"http_req_rate": 3})
            )
            tables["rates"].set(number.to_bytes(4, "big"), columns, self.now)
            values = chance.choice(({"server_key": f"s{number % 4}"}, {"gpc0": 1}))
            tables["texts"].set(b"%d" % number, values, self.now)

    def test_both_sides_count_alike(self) -> None:
        """What one side counts as sent is what was sent, and what the other counts as received,
        in messages and in bytes: definitions, changes, acks, lessons, and heartbeats."""
        for seed in range(10):
            chance = random.Random(seed)
            self.setUp()
            for _ in range(60):
                which = chance.randrange(2)
                what = chance.randrange(4)
                if what == 0:
                    self.change(which, chance)
                elif what == 1:
                    self.now += chance.randrange(2500)
                    for one in (0, 1):
                        # Else one may hear nothing of the other for so long that it gives up.
                        self.sessions[one].wake(self.now)
                        self.carry(one, chance)
                elif what == 2 and not self.sessions[which].gives_lesson:
                    self.sessions[which].ask_for_lesson()
                self.carry(which, chance)
            for _ in range(200):
                for which in (0, 1):
                    self.carry(which, chance)
            for which in (0, 1):
                self.assertFalse(self.sessions[which].over, self.sessions[which].ended_by)
                here, there = self.counters(which), self.counters(1 - which)
                self.assertGreater(here.tx_updates, 50)
                self.assertEqual(here.tx_messages, self.seen[which])
                self.assertEqual(here.tx_bytes, self.bytes[which])
                self.assertEqual(there.rx_messages, here.tx_messages)
                self.assertEqual(there.rx_bytes, here.tx_bytes)
                self.assertEqual(there.rx_updates, here.tx_updates)

"""Tables of peers that are not as the sums need them: who has them so is said."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration
from peerproto.aggregation.lease import KEY
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.runtime.protocol import runtime_commands
from peerproto.runtime.words import split_commands
from peerproto.testing import MemoryNetwork, RawPeer
from peerproto.wire.messages import Control

LINE = "type integer size 1k expire 1m recv-only store gpc0,http_req_rate(10s),conn_cur"
OTHER = LINE.replace("10s", "20s")


class ComparisonTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.hub = self.network.peer("h", {"t": LINE})
        rules = Rules("t", "t.sum", expect=("a", "b"), lease="t.lease")
        aggregation = Aggregation(self.hub, [rules], self.network.clock)
        with capturedLogs() as self.logs:
            aggregation.startService()
        self.addCleanup(aggregation.stopService)
        self.network.start()
        self.a, self.b = self.comes("a"), self.comes("b")

    def comes(self, name: str) -> RawPeer:
        raw = self.network.raw_peer(name, "h", 10)
        raw.replies = Control.RESYNC_FINISHED
        self.network.advance(0.1)
        return raw

    def define(self, raw: RawPeer, name: str, line: str, table_id: int) -> None:
        """Define a table to the hub, which is in a lesson then."""
        raw.define(Declaration.parse(name, line), table_id)

    def gpt_of(self, element: int) -> int:
        entry = self.hub.table("t.lease").get(KEY)
        assert entry is not None
        return entry.number(f"gpt[{element}]")

    def vouched(self) -> bool:
        now = round(self.network.wall_clock() * 1000)
        return 0 < (self.gpt_of(1) - now) % 2**32 <= 1000

    def ask(self, command: str) -> list[str]:
        """The lines that the runtime socket of the hub answers."""
        commands = runtime_commands(self.hub)
        return "".join(commands.answer(split_commands(command)[0])).splitlines()

    def test_periods(self) -> None:
        """A source with another period of a rate costs the sum its authority, and nothing is
        vouched for; it is said who has which period, until the source has the same."""
        self.define(self.a, "t", LINE, 1)
        self.define(self.b, "t", OTHER, 1)
        self.network.advance(20)
        with self.assertRaises(KeyError):
            self.hub.table("t.lease")
        why = (
            "the period of http_req_rate in table t is 10000 ms here,"
            " 10000 ms with a, 20000 ms with b"
        )
        self.assertIn(f"authority: no ({why})", self.ask("show aggregate t")[0])
        self.define(self.b, "t", LINE, 1)
        self.network.advance(1)
        self.assertIn("authority: yes", self.ask("show aggregate t")[0])
        self.assertTrue(self.vouched())

    def test_output(self) -> None:
        """What the output of a peer has otherwise than ours is said of that peer; the sum has
        authority all the same."""
        for raw in (self.a, self.b):
            self.define(raw, "t", LINE, 1)
        self.define(self.a, "t.sum", "type integer size 1k store gpc0,http_req_rate(20s)", 2)
        self.define(self.b, "t.sum", LINE + ",gpt(1)", 2)
        self.network.advance(3)
        first, of_a, of_b = self.ask("show aggregate t")
        self.assertIn("authority: yes", first)
        self.assertEqual(
            of_a.split("; ")[1:],
            [
                "its table t.sum has no conn_cur",
                "its table t.sum has http_req_rate with a period of 20000 ms, here it is 10000 ms",
                "its table t.sum has no gpt",
            ],
        )
        self.assertEqual(of_b.split("; ")[1:], [])

    def test_conn_cur(self) -> None:
        """That HAProxy takes current connections from 3.2 on alone is logged once."""
        with capturedLogs() as later:
            self.hub.declare_table(Declaration.parse("t", LINE + ",gpc1"))
        (said,) = [one for one in map(formatEvent, [*self.logs, *later]) if "recv-only" in one]
        self.assertIn("conn_cur of table t.sum", said)

    def test_number(self) -> None:
        """An output that has no element for the number of a session is told of, too."""
        self.hub.declare_table(Declaration.parse("t", LINE + ",gpt(2)"))
        self.define(self.a, "t", LINE + ",gpt(2)", 1)
        self.define(self.a, "t.sum", LINE + ",gpt(2)", 2)
        self.network.advance(3)
        self.assertIn(
            "its table t.sum has 2 elements of gpt, here there are 3, the last of which is the"
            " number of its session",
            self.ask("show aggregate t")[1],
        )

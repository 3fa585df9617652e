"""Calls of two peers that cross: one session is left, and neither side waits for another call."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from peerproto.connections.handshake import CallingHandshake
from peerproto.connections.mesh import CROSSING
from peerproto.testing import MemoryNetwork
from peerproto.wire.messages import Control
from tests.connections.test_handshake import GREETING, HEARTBEAT, HELLO, HandshakeTestCase
from tests.scripted import Scripted

SETTLED = 0.2
"""Seconds after which calls that have crossed are settled."""

RATES = {"rates": "type ip size 1k expire 1m store gpc0"}


class GreetingTests(HandshakeTestCase):
    def call(self) -> CallingHandshake:
        """Call the peer, and say hello."""
        calling = CallingHandshake(self.mesh, self.them)
        self.connect(calling)
        return calling

    def test_ours_is_taken(self) -> None:
        """A caller whose hello comes before the answer to ours, and that takes our call and hangs
        up, disturbs nothing, and the log does not know it."""
        with capturedLogs() as events:
            calling = self.call()
            theirs = self.accept(HELLO)
            calling.dataReceived(b"200\n")
            session = self.session
            self.assertIsNotNone(session)
            self.protocol.connectionLost(Failure(ConnectionDone()))
            self.clock.advance(SETTLED)
        self.assertIs(self.session, session)
        self.assertEqual(theirs.value(), b"")
        self.assertEqual([formatEvent(one) for one in events if "caller" in formatEvent(one)], [])

    def test_theirs_stays(self) -> None:
        """A caller that stays gets the session, whatever became of our call."""
        for answer in (b"", b"200\n"):
            calling = self.call()
            theirs = self.accept(HELLO)
            calling.dataReceived(answer)
            before = self.session
            self.assertEqual(theirs.value(), b"")
            self.clock.advance(SETTLED)
            self.assertEqual(theirs.value(), b"200\n" + GREETING)
            self.assertIsNotNone(self.session)
            self.assertIsNot(self.session, before)

    def test_theirs_speaks(self) -> None:
        """A caller that goes on before it is answered is not about to hang up: nothing of what it
        says is lost."""
        self.call()
        theirs = self.accept(HELLO + HEARTBEAT * 2)
        self.assertTrue(theirs.value().startswith(b"200\n"))
        self.assertEqual(self.them.counters.rx_hbt, 2)

    def test_ours_is_over(self) -> None:
        """Once our call has failed, the next caller is taken at once."""
        self.call().dataReceived(b"504\n")
        self.assertTrue(self.accept(HELLO).value().startswith(b"200\n"))

    def test_no_peer_any_more(self) -> None:
        """A peer that is removed while its call waits gets no session."""
        self.call()
        theirs = self.accept(HELLO)
        self.mesh.forget(self.them, "it is no peer of ours any more")
        self.node.forget(self.them, 0)
        self.clock.advance(SETTLED)
        self.assertTrue(theirs.disconnecting)
        self.assertEqual(theirs.value(), b"")

    def test_calls_again(self) -> None:
        """Of two calls of the peer that wait, the newer one is taken, whichever is due first."""
        for _ in range(20):
            self.call()
            older, newer = self.accept(HELLO), self.accept(HELLO)
            self.assertTrue(older.disconnecting)
            self.clock.advance(SETTLED)
            self.assertEqual((older.value(), newer.value()), (b"", b"200\n" + GREETING))

    def test_we_stop(self) -> None:
        """When the node stops, a call that waits ends, and no timer is left."""
        calling = self.call()
        theirs = self.accept(HELLO)
        self.mesh.hang_up("we stop")
        self.assertTrue(theirs.disconnecting)
        for protocol in (calling, self.protocol):
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.calls, [])


class CrossingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.a = self.network.peer("a", RATES, calls=[])
        self.called = Scripted(b"200\n")
        self.network.listen("b", Factory.forProtocol(self.called.itself))
        self.network.start()
        self.a.add_peer("b", self.network.client("b"))
        self.network.advance(0)
        self.session = self.a.peers["b"].session
        self.assertIsNotNone(self.session)

    def caller(self) -> Scripted:
        """A call of the peer that we have called."""
        caller = Scripted(b"HAProxyS 2.1\na\nb 1 1\n")
        self.network.connect("a", Factory.forProtocol(caller.itself), "b")
        self.network.advance(0)
        return caller

    def test_hangs_up(self) -> None:
        """A call that the peer made before it took ours, and gives up, ends no session."""
        caller = self.caller()
        self.assertNotIn(b"200\n", caller.received)
        caller.hang_up()
        self.network.advance(SETTLED)
        self.assertIs(self.a.peers["b"].session, self.session)
        self.assertEqual(self.a.peers["b"].counters.new_conn, 1)

    def test_stays(self) -> None:
        """A call that the peer keeps takes over: the session on ours is dead at its side."""
        caller = self.caller()
        self.network.advance(SETTLED)
        self.assertIn(b"200\n", caller.received)
        self.assertIsNot(self.a.peers["b"].session, self.session)

    def test_later(self) -> None:
        """A session that has been there for long has crossed with nothing: the newer call is
        taken at once."""
        for _ in range(CROSSING // 1000):
            self.called.say(Control.HEARTBEAT.encode())
            self.network.advance(1)
        self.assertIn(b"200\n", self.caller().received)
        self.assertIsNot(self.a.peers["b"].session, self.session)

    def test_peerprotos(self) -> None:
        """Of two peerprotos that call each other at the same time, one gives way: nearly always
        both have a session within 0.2 s, where both took the other's call before and waited for up
        to 2 s."""
        soon = 0
        for seed in range(50):
            with MemoryNetwork(seed) as network, capturedLogs() as events:
                one, two = (network.peer(name, RATES, calls=[]) for name in "ab")
                network.start()
                one.add_peer("b", network.client("b", "a"))
                two.add_peer("a", network.client("a", "b"))
                for _ in range(20):
                    network.advance(SETTLED / 20)
                sessions = (one.peers["b"].session, two.peers["a"].session)
                counts = [s.peers[p].counters.new_conn for s, p in ((one, "b"), (two, "a"))]
                soon += None not in sessions and counts == [1, 1]
                self.assertEqual([e for e in events if e["log_level"] is LogLevel.critical], [])
        self.assertGreater(soon, 40)

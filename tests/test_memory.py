from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.service import StickTableService
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork
from peerproto.testing.network import MemoryClock, MemoryConnection
from peerproto.wire.messages import Ack, ErrorMessage

RATES = {"rates": "type integer size 10k store gpc0"}


class Ear(Protocol):
    """Notes what comes."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


class ConnectionTests(SynchronousTestCase):
    """Two protocols in memory, a calls b."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(pace=3)
        self.b = Ear()
        self.network.listen("b", Factory.forProtocol(lambda: self.b))
        self.a = Ear()
        self.network.connect("b", Factory.forProtocol(lambda: self.a), "a")

    @property
    def connection(self) -> MemoryConnection:
        (connection,) = self.network.between("b", "a")
        return connection

    def send(self, sender: Ear, data: bytes) -> None:
        assert sender.transport is not None
        sender.transport.write(data)

    def test_context(self) -> None:
        """Peers of a network that is left are stopped, also if a test fails in it."""
        with self.assertRaises(ZeroDivisionError), MemoryNetwork() as network:
            here = network.peer("here", {"t": "type integer size 1k"})
            network.start()
            self.assertTrue(here.running)
            self.assertEqual(repr(here.table("t")), "<StickTable t: integer, 0 entries>")
            table = here.table("t")
            here.remove_table("t")
            self.assertEqual(repr(table), "<StickTable t: integer, gone>")
            raise ZeroDivisionError
        self.assertFalse(here.running)
        self.assertEqual(network.clock.calls, [])

    def test_pace(self) -> None:
        """Each turn, which is one ms, carries so many bytes in each direction."""
        self.send(self.a, b"12345678")
        self.send(self.b, b"abc")
        self.network.turn()
        self.assertEqual((self.b.heard, self.a.heard), (b"123", b"abc"))
        self.assertEqual(self.connection.on_the_way, 5)
        self.network.advance(0.0015)
        self.assertEqual(self.b.heard, b"12345678")

    def test_cut_at_a_byte(self) -> None:
        """A connection breaks after any byte; what is on the way then is lost."""
        self.connection.cut(4, "a")
        self.send(self.a, b"123")
        self.network.settle()
        self.assertFalse(self.b.ended)
        self.send(self.a, b"45")
        self.network.settle()
        self.assertEqual(self.b.heard, b"1234")
        self.assertTrue(self.a.ended and self.b.ended)
        self.assertEqual(self.network.connections, [])

    def test_stall(self) -> None:
        """Of one direction neither bytes nor the end arrive while it is stalled."""
        connection = self.connection
        connection.stall("a")
        self.send(self.a, b"1")
        self.send(self.b, b"2")
        self.network.settle()
        self.assertEqual((self.a.heard, self.b.heard), (b"2", b""))
        assert self.a.transport is not None
        self.a.transport.abortConnection()  # type: ignore[attr-defined]
        self.network.settle()
        self.assertTrue(self.a.ended)
        self.assertFalse(self.b.ended)
        connection.flow("a")
        self.network.settle()
        self.assertTrue(self.b.ended)
        self.assertEqual(self.b.heard, b"")

    def test_last_words(self) -> None:
        """What was written before the end arrives, also where it takes many turns."""
        self.send(self.a, b"123456789")
        assert self.a.transport is not None
        self.a.transport.loseConnection()
        self.network.turn()
        self.assertFalse(self.b.ended)
        self.network.settle()
        self.assertEqual(self.b.heard, b"123456789")
        self.assertTrue(self.a.ended and self.b.ended)


class NetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork(room=512)
        self.addCleanup(self.network.stop)
        self.a = self.network.peer("a", RATES)
        self.b = self.network.peer("b", RATES)

    def test_parted(self) -> None:
        """Peers that are parted do not find each other until they may."""
        self.network.start()
        self.assertIsNotNone(self.b.peers["a"].session)
        self.network.part("b", "a")
        self.network.advance(10)
        self.assertIn("parted", self.b.peers["a"].out_of_step()[0])
        self.network.heal("a", "b")
        self.network.advance(6)
        self.assertEqual(self.b.peers["a"].out_of_step(), [])

    def test_lesson_at_a_pace(self) -> None:
        """A lesson takes as long as its bytes take, and can be looked at on its way."""
        for number in range(1000):
            self.a.table("rates").set(number, gpc0=number)
        self.network.pace = 50
        self.network.start()
        self.network.advance(0.1)
        self.assertIn(len(self.b.table("rates")), range(100, 900))
        self.network.advance(1)
        self.assertEqual(len(self.b.table("rates")), 1000)

    def test_soft_stop(self) -> None:
        """An old process hands over to a new one at the same address, and takes not its port."""
        self.network.start()
        self.network.advance(6)
        self.a.table("rates").set(1, gpc0=1)
        bind, way = self.network.server("a"), self.network.client("a", "a")
        new = StickTableService("a", {}, RATES, bind, reactor=self.network.clock, expect_old=True)
        self.addCleanup(new.stopService)
        new.expect_peer("b")
        new.startService()
        done = self.a.stop_softly(way)
        self.network.advance(1)
        self.assertTrue(self.successResultOf(done))
        self.a.stopService()
        self.assertEqual(new.table("rates")[1]["gpc0"], 1)
        self.network.advance(6)
        self.assertEqual(new.peers["b"].out_of_step(), [])


class Patient(TimeoutMixin):
    """Waits by a clock, and notes when that was in vain."""

    def __init__(self, clock: MemoryClock) -> None:
        self.clock = clock
        self.ended: list[float] = []

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        return self.clock.callLater(period, func)

    def timeoutConnection(self) -> None:
        self.ended.append(self.clock.seconds())


class ClockTests(SynchronousTestCase):
    def test_calls_that_are_moved(self) -> None:
        """A call that was put off holds up no other one, and is not made before its time; one
        that was brought forward is made in time."""
        clock = MemoryClock()
        one, other = Patient(clock), Patient(clock)
        one.setTimeout(1)
        other.setTimeout(2)
        clock.advance(0.5)
        one.resetTimeout()
        one.setTimeout(5)
        self.assertEqual(clock.next_call(), 2)
        clock.advance(1.5)
        self.assertEqual((one.ended, other.ended), ([], [2]))
        other.setTimeout(10)
        other.setTimeout(1)
        self.assertEqual(clock.next_call(), 3)
        clock.advance(1)
        clock.advance(2.5)
        self.assertEqual((one.ended, other.ended), ([5.5], [2, 3]))
        self.assertIsNone(clock.next_call())

    def test_moved_by_another_one(self) -> None:
        """A call that another one of the same moment puts off waits for its new time."""
        clock = MemoryClock()
        one = Patient(clock)
        clock.callLater(1, one.resetTimeout)
        one.setTimeout(1)
        clock.advance(1)
        self.assertEqual(one.ended, [])
        clock.advance(1)
        self.assertEqual(one.ended, [2])


class RawPeerTests(SynchronousTestCase):
    """A peer that speaks as the test tells it, beside a real service."""

    TABLE = Declaration.parse("rates", "type integer size 10k expire 10s store gpc0")

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.app = self.network.peer("app", learn_tables=True)

    def test_calls(self) -> None:
        """It calls a service, and what both say is understood."""
        self.network.start()
        raw = self.network.raw_peer("lb1", "app")
        self.network.advance(0)
        self.assertEqual(raw.lines, ["200"])
        raw.define(self.TABLE)
        raw.update(7, {"gpc0": 3}, 1)
        self.network.advance(0)
        self.assertEqual(self.app.table("rates")[7]["gpc0"], 3)
        self.assertIn(Ack(1, 1), raw.heard)
        self.app.table("rates").set(8, gpc0=4)
        self.network.advance(0)
        self.assertEqual([(one.key, one.values) for one in raw.updates], [(8, {"gpc0": 4})])
        self.assertEqual(len(raw.acked), 1)
        self.network.advance(7)
        self.assertTrue(self.app.peers["lb1"].connected)
        raw.beats = False
        self.network.advance(11)
        self.assertFalse(self.app.peers["lb1"].connected)

    def test_is_called(self) -> None:
        """It is called by a service, as often as the connection ends."""
        called = self.network.raw_peers("lb1")
        self.app.add_peer("lb1", self.network.client("lb1", "app"))
        self.network.start()
        self.network.advance(1)
        self.assertEqual([len(one.lines) for one in called], [3])
        self.assertTrue(self.app.peers["lb1"].connected)
        called[0].hang_up()
        self.network.advance(5)
        self.assertEqual(len(called), 2)

    def test_any_bytes(self) -> None:
        """It may say what nobody should say: the service ends the session, and tells why."""
        self.network.start()
        raw = self.network.raw_peer("lb1", "app")
        self.network.advance(0)
        raw.send(b"\x0a\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
        self.network.advance(2)
        self.assertTrue(raw.closed.called)
        self.assertIn(ErrorMessage.PROTOCOL, raw.heard)

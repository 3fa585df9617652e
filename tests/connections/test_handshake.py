from __future__ import annotations

from typing import NoReturn, Optional

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from peerproto.connections.admission import Admission
from peerproto.connections.clock import milliseconds
from peerproto.connections.handshake import AcceptingHandshake, CallingHandshake, Handshake
from peerproto.connections.mesh import Mesh
from peerproto.connections.protocol import SessionProtocol
from peerproto.peering.limits import Limits
from peerproto.peering.session import Session
from peerproto.tables.declaration import Declaration
from peerproto.testing.network import MemoryClock
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.handshake import Hello
from peerproto.wire.messages import Control, Mark
from tests.support import LOG, begin, make_node, take

HELLO = b"HAProxyS 2.1\nus\nthem 123 1\n"
HEARTBEAT = Control.HEARTBEAT.encode()
GREETING = HEARTBEAT + Mark.TIES.encode()


class TCPTransport(StringTransport):
    """A `StringTransport` that says whether small writes go out at once."""

    no_delay = False
    reading = "reading"

    def __init__(self, address: IAddress) -> None:
        super().__init__(peerAddress=address)
        alsoProvides(self, ITCPTransport)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def pauseProducing(self) -> None:
        self.reading = "paused"

    def resumeProducing(self) -> None:
        self.reading = "reading"


class HandshakeTestCase(SynchronousTestCase):
    protocol: Handshake

    def setUp(self) -> None:
        self.clock = Clock()
        self.address: IAddress = IPv4Address("TCP", "192.0.2.1", 1)
        self.protocols: list[Handshake] = []
        rates = Declaration.parse("rates", "type integer size 100k expire 10s store gpc0")
        self.node = make_node((rates,))
        self.mesh = Mesh(self.node, self.clock, lambda _: None, lambda: None, lambda *_: None)
        self.them = self.node.expect("them", 0)
        # Up to date, and taught to the end, so that no session is asked for a lesson.
        self.node.start(0)
        teacher = begin(self.node, "teacher")
        self.node.connected(teacher, 0)
        take(self.node, teacher, Control.RESYNC_FINISHED.encode())
        self.node.ended(teacher, "it left", 0)
        self.assertEqual(self.clock.calls, [])

    @property
    def session(self) -> Optional[Session]:
        """The session with the peer, if there is one."""
        return self.node.sessions.get(self.them)

    def connect(self, protocol: Handshake) -> TCPTransport:
        transport = TCPTransport(self.address)
        self.protocols.append(protocol)
        protocol.makeConnection(transport)
        return transport

    def accept(self, *pieces: bytes) -> TCPTransport:
        self.protocol = AcceptingHandshake(self.mesh)
        transport = self.connect(self.protocol)
        for piece in pieces:
            self.protocol.dataReceived(piece)
        return transport


class AcceptingTests(HandshakeTestCase):
    def test_success(self) -> None:
        """A good hello is answered with 200, and the session begins with a heartbeat."""
        transport = self.accept(HELLO)
        self.assertEqual(transport.value(), b"200\n" + GREETING)
        session = self.session
        assert session is not None
        self.assertEqual((session.minor, self.them.status), (1, 200))

    def test_byte_by_byte_and_more(self) -> None:
        """However the hello is cut, and with messages of the session right behind it."""
        self.accept(*(HELLO[i : i + 1] for i in range(len(HELLO))), HEARTBEAT)
        self.assertEqual(self.them.counters.rx_hbt, 1)
        self.accept(HELLO + HEARTBEAT * 3)
        self.assertEqual(self.them.counters.rx_hbt, 4)

    def test_carriage_returns(self) -> None:
        """A CR before each LF is tolerated."""
        transport = self.accept(HELLO.replace(b"\n", b"\r\n"))
        self.assertTrue(transport.value().startswith(b"200\n"))

    def test_version_2_0(self) -> None:
        """Who says 2.0 gets a session without timed updates."""
        self.accept(HELLO.replace(b"2.1", b"2.0"))
        assert self.session is not None
        self.assertEqual(self.session.minor, 0)

    def test_refusals(self) -> None:
        """Each cause has its status, in HAProxy's order, and the connection is closed."""
        for hello, status in (
            (b"HTTP/1.1 200\n", b"501\n"),
            (b"HAProxyS\n", b"501\n"),
            (b"HAProxyS 2.2\n", b"502\n"),
            (b"HAProxyS 3.0\n", b"502\n"),
            (b"HAProxyS 1.0\n", b"502\n"),
            (b"HAProxyS x\n", b"502\n"),
            (b"HAProxyS 2.1\nyou\n", b"503\n"),
            (b"HAProxyS 2.1\nus\nthem\n", b"501\n"),
            (b"HAProxyS 2.1\nus\nstranger 1 1\n", b"504\n"),
        ):
            transport = self.accept(hello)
            self.assertEqual(transport.value(), status, hello)
            self.assertTrue(transport.disconnecting)
            self.protocol.dataReceived(HELLO)
            self.assertEqual(transport.value(), status, "nothing after a refusal")
            self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(self.session)
        self.assertEqual(self.clock.calls, [])

    def test_a_caller_that_stays(self) -> None:
        """A caller that was refused and does not close its side is cut."""
        transport = self.accept(b"HTTP/1.1 200\n")
        self.clock.advance(0.9)
        self.assertFalse(transport.disconnected)
        self.clock.advance(0.1)
        self.assertTrue(transport.disconnected)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.calls, [])

    def test_overlong_line(self) -> None:
        """A line of over 1024 bytes is answered with 501, with or without its end."""
        for line in (b"x" * 2000, b"HAProxyS 2.1\n" + b"u" * 2000 + b"\n"):
            transport = self.accept(line)
            self.assertEqual(transport.value(), b"501\n")
            self.assertTrue(transport.disconnecting)

    def test_no_end(self) -> None:
        """A hello that is not complete after 5 s is cut without an answer."""
        transport = self.accept(b"HAProxyS 2.1\nu")
        self.clock.advance(4.9)
        self.assertFalse(transport.disconnected)
        self.clock.advance(0.1)
        self.assertTrue(transport.disconnected)
        self.assertEqual(transport.value(), b"")

    def test_too_many_open_handshakes(self) -> None:
        """Beyond the limit connections are closed at once, until handshakes end."""
        self.limit(Limits(handshakes=3))
        silent = [self.accept() for _ in range(3)]
        refused = self.accept(HELLO)
        self.assertTrue(refused.disconnected)
        self.assertEqual(refused.value(), b"")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.accept().disconnected)
        self.assertFalse(any(one.disconnected for one in silent))
        self.clock.advance(5)
        self.assertTrue(all(one.disconnected for one in silent))
        for protocol in self.protocols[:3]:
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.accept(HELLO).value().startswith(b"200\n"))

    def test_established_sessions_are_no_open_handshakes(self) -> None:
        """A handshake that succeeded makes room for another one."""
        self.limit(Limits(handshakes=1))
        for _ in range(3):
            self.assertTrue(self.accept(HELLO).value().startswith(b"200\n"))

    def test_too_many_connections_from_an_address(self) -> None:
        """One address cannot have all the connections; others still come in."""
        self.limit(Limits(connections_per_address=2))
        for _ in range(2):
            self.assertFalse(self.accept().disconnected)
        self.assertTrue(self.accept(HELLO).disconnected)
        mine, self.address = self.address, IPv4Address("TCP", "192.0.2.2", 1)
        self.assertTrue(self.accept(HELLO).value().startswith(b"200\n"))
        self.protocols[0].connectionLost(Failure(ConnectionDone()))
        self.address = mine
        self.assertTrue(self.accept(HELLO).value().startswith(b"200\n"), "given back")

    def limit(self, limits: Limits) -> None:
        self.mesh.admission = Admission(limits, LOG)

    def test_newer_session_wins(self) -> None:
        """A peer that calls again gets a new session; the old one is closed."""
        first = self.accept(HELLO)
        old = self.session
        second = self.accept(HELLO)
        self.assertTrue(first.disconnected)
        self.assertEqual(second.value(), b"200\n" + GREETING)
        assert self.session is not None and old is not None
        self.assertIsNot(self.session, old)
        self.assertTrue(old.over)
        self.assertEqual(self.them.counters.coll, 1)

    def test_second_session_under_our_own_name(self) -> None:
        """From our own name a second session gets 300, and the first one stays."""
        hello = HELLO.replace(b"them", b"us")
        self.accept(hello)
        transport = self.accept(hello)
        self.assertEqual(transport.value(), b"300\n")
        self.assertTrue(transport.disconnecting)
        self.assertIsNotNone(self.node.sessions.get(self.node.local))

    @given(st.lists(st.binary(max_size=40), max_size=5))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Any bytes give a status, a session or a wait, and never an exception."""
        self.setUp()
        transport = self.accept(*pieces)
        self.assertIn(transport.value()[:4], (b"", b"501\n", b"502\n", b"503\n", b"504\n"))


class CallingTests(HandshakeTestCase):
    def call(self, *pieces: bytes) -> TCPTransport:
        self.protocol = CallingHandshake(self.mesh, self.them)
        transport = self.connect(self.protocol)
        for piece in pieces:
            self.protocol.dataReceived(piece)
        return transport

    def test_success(self) -> None:
        """The hello is three lines; after 200 the session begins, in the same segment."""
        transport = self.call()
        lines = transport.value().split(b"\n")
        self.assertEqual(lines[:2], [b"HAProxyS 2.1", b"them"])
        self.assertRegex(lines[2], rb"\Aus \d+ 1\Z")
        transport.clear()
        self.protocol.dataReceived(b"200\n" + HEARTBEAT)
        self.assertEqual(transport.value(), GREETING)
        self.assertEqual((self.them.status, self.them.counters.rx_hbt), (200, 1))

    def test_refusals_in_words(self) -> None:
        """Any other status closes the connection, and is explained."""
        for status, words in (
            (300, "try again"),
            (501, "protocol error"),
            (502, "version"),
            (503, "its own name"),
            (504, "does not know us"),
            (999, "unknown status"),
        ):
            transport = self.call(b"%d\n" % status)
            self.assertTrue(transport.disconnecting)
            (why,) = self.node.out_of_step(self.them)
            self.assertIn(f"refused us with {status}", why)
            self.assertIn(words, why)
            self.assertIsNone(self.session)

    def test_downgrade(self) -> None:
        """After 502 the next hello says 2.0, and its session sends nothing timed."""
        self.call(b"502\n")
        transport = self.call()
        self.assertTrue(transport.value().startswith(b"HAProxyS 2.0\n"))
        self.protocol.dataReceived(b"200\n")
        assert self.session is not None
        self.assertEqual(self.session.minor, 0)

    def test_downgrade_is_for_a_peer_of_that_time(self) -> None:
        """A peer that calls with 2.1 after it answered 502 is another process by now: it is
        called with 2.1."""
        self.call(b"502\n")
        self.accept(HELLO.replace(b"2.1", b"2.0"))
        self.assertTrue(self.call().value().startswith(b"HAProxyS 2.0\n"))
        self.accept(HELLO)
        self.clock.advance(0.2)
        self.assertTrue(self.call().value().startswith(b"HAProxyS 2.1\n"))

    def test_no_status(self) -> None:
        """Anything else than a status line closes the connection, and is quoted."""
        for answer in (b"hello\n", b"20\n", b"\xff\xfe\n", b"x" * 2000):
            transport = self.call(answer)
            self.assertTrue(transport.disconnecting, answer)
            self.assertIn("its answer to our hello is none", self.node.out_of_step(self.them)[0])

    def test_no_answer(self) -> None:
        """A call that is not answered within 5 s is cut."""
        transport = self.call()
        self.clock.advance(5)
        self.assertTrue(transport.disconnected)
        self.assertEqual(self.node.out_of_step(self.them), ["no handshake within 5 s"])

    def test_it_called_meanwhile(self) -> None:
        """If the peer's own call was accepted meanwhile, ours is closed."""
        transport = self.call()
        self.accept(HELLO)
        self.clock.advance(0.2)
        session = self.session
        self.assertIsNotNone(session)
        calling = self.connect(CallingHandshake(self.mesh, self.them))
        self.assertFalse(calling.disconnecting)
        self.protocol = CallingHandshake(self.mesh, self.them)
        transport = self.connect(self.protocol)
        self.protocol.dataReceived(b"200\n")
        self.assertTrue(transport.disconnecting)
        self.assertIs(self.session, session)

    def test_small_writes_go_out_at_once(self) -> None:
        """No write waits for the ack of the one before, whoever called."""
        self.assertTrue(self.call().no_delay)
        self.assertTrue(self.accept(HELLO).no_delay)

    def test_no_delay_is_for_tcp(self) -> None:
        """A connection on a UNIX socket, which takes no option of TCP, is left as it is."""
        self.address = UNIXAddress(b"/tmp/peer")
        self.assertFalse(self.accept(HELLO).no_delay)
        self.assertIsNotNone(self.session)

    def test_names_that_cannot_be_sent(self) -> None:
        """A name with white space would be two words in a hello."""
        self.assertRaises(LocalProtocolError, Hello("a b", "c", 1).encode)
        self.assertRaises(LocalProtocolError, Hello("a", "", 1).encode)


class SessionProtocolTests(HandshakeTestCase):
    def begin(self) -> SessionProtocol:
        self.transport = self.accept(HELLO)
        self.transport.clear()
        binary = self.mesh.link(self.them).connection
        assert binary is not None
        return binary

    def begin_long_lesson(self) -> SessionProtocol:
        """The first slice of 20,000 entries is out, the others wait for their turns."""
        table = self.node.tables["rates"]
        for number in range(20000):
            table.set(number.to_bytes(4, "big"), {}, milliseconds(self.clock))
        self.them.acked[table.log] = table.log.head
        binary = self.begin()
        binary.dataReceived(Control.RESYNC_REQUEST.encode())
        return binary

    def test_error_is_answered_and_closed(self) -> None:
        """A malformed message is answered with 1/0, and the connection closed."""
        self.begin()
        self.protocol.dataReceived(b"\xff\x00")
        self.assertEqual(self.transport.value(), b"\x01\x00")
        self.assertTrue(self.transport.disconnecting)
        self.assertIsNone(self.session)
        self.assertIn("message class", self.node.out_of_step(self.them)[0])
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def test_backpressure(self) -> None:
        """A lesson stops while the transport is full, and goes on after; it is sent in slices."""
        binary = self.begin_long_lesson()
        binary.pauseProducing()
        sent = len(self.transport.value())
        self.assertTrue(0 < sent < 40_000)
        for _ in range(100):
            self.clock.advance(0.01)
        self.assertEqual(len(self.transport.value()), sent)
        binary.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.them.counters.tx_updates, 20000)
        self.assertTrue(self.transport.value().endswith(Control.RESYNC_FINISHED.encode()))

    def test_a_peer_that_does_not_read(self) -> None:
        """Nothing piles up for a peer that does not read, however long it sends."""
        binary = self.begin()
        binary.pauseProducing()
        for _ in range(300):
            self.clock.advance(1)
            self.protocol.dataReceived(HEARTBEAT)
        self.assertEqual(self.transport.value(), b"")
        binary.resumeProducing()
        self.assertEqual(self.transport.value(), HEARTBEAT)

    def test_costly_messages_are_read_in_turns(self) -> None:
        """While a peer's definitions wait for their turn nothing more is read from it, and
        others go on; in the end everything was read."""
        self.begin()
        tables = [Declaration.parse(f"t{n}", "type ip size 1k store gpc0") for n in range(1000)]
        data = b"".join(table.definition(n).encode() for n, table in enumerate(tables))
        self.protocol.dataReceived(data + HEARTBEAT)
        self.assertEqual(self.transport.reading, "paused")
        self.assertEqual(self.them.counters.rx_hbt, 0)
        while self.transport.reading == "paused":
            self.clock.advance(0)
        self.assertEqual(self.them.counters.rx_hbt, 1)

    def test_a_session_that_ends_with_messages_unread(self) -> None:
        """What a peer sent and was not read is dropped with its connection."""
        self.begin()
        tables = [Declaration.parse(f"t{n}", "type ip size 1k store gpc0") for n in range(1000)]
        data = b"".join(table.definition(n).encode() for n, table in enumerate(tables))
        self.protocol.dataReceived(data + HEARTBEAT)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        self.assertEqual(self.them.counters.rx_hbt, 0)
        self.assertEqual(self.clock.calls, [])

    def test_error_to_a_peer_that_does_not_read(self) -> None:
        """A connection that cannot be closed gently is cut."""
        binary = self.begin()
        binary.pauseProducing()
        binary.dataReceived(b"\xff\x00")
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnected)
        self.assertIsNone(self.session)

    def test_error_in_mid_lesson(self) -> None:
        """A peer that errs while it is taught gets its error, and no more of the lesson."""
        binary = self.begin_long_lesson()
        binary.dataReceived(b"\xff\x00")
        self.clock.advance(0)
        self.assertTrue(self.transport.value().endswith(b"\x01\x00"))
        self.assertLess(len(self.transport.value()), 40_000)
        self.assertTrue(self.transport.disconnecting)
        self.assertIsNone(self.session)

    def test_one_that_cannot_be_sent_to(self) -> None:
        """A failure of ours in sending to one peer is logged, and ends that session alone."""
        binary = self.begin()
        self.node.tables["rates"].set(b"\0\0\0\1", {}, 0)
        self.patch(self.node.tables["rates"].log, "after", None)
        binary.flush_safely()
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_one_that_cannot_be_woken(self) -> None:
        """A failure of ours in a session's own time is logged, and ends it: nothing would look
        after it any more."""
        self.begin()
        self.patch(self.session, "wake", None)
        self.clock.advance(5)
        self.assertTrue(self.transport.disconnected)
        self.assertIsNone(self.session)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_no_turn_for_long(self) -> None:
        """A peer is not dead of which something waits to be read: a reactor that had no turn for
        long runs what is due before it reads."""
        self.clock = MemoryClock()
        self.mesh.clock = self.clock
        self.begin()
        self.clock.advance(5)
        self.clock.advance(0)
        self.clock.advance(60)
        self.protocol.dataReceived(Control.HEARTBEAT.encode())
        self.clock.advance(0)
        self.assertIsNotNone(self.session)
        for _ in range(3):
            self.clock.advance(5)
            self.clock.advance(0)
        self.assertIsNone(self.session)

    def test_end_that_fails(self) -> None:
        """What goes wrong when a session ends keeps nobody waiting who waits for the end of all
        connections."""
        self.begin()
        closed = self.mesh.when_closed()

        def fail(*_: object) -> NoReturn:
            raise ZeroDivisionError

        self.patch(self.node, "ended", fail)
        end = Failure(ConnectionDone())
        self.assertRaises(ZeroDivisionError, self.protocol.connectionLost, end)
        self.successResultOf(closed)

    def test_dead_peer(self) -> None:
        """A peer from which nothing comes is cut, and nothing is left on the clock."""
        self.begin()
        for _ in range(11):
            self.clock.advance(1)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.clock.calls, [])
        self.assertIn("nothing came", self.node.out_of_step(self.them)[0])

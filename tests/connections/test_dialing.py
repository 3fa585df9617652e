from __future__ import annotations

import random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerproto.connections.dialing import Dialer
from tests.support import memory


@implementer(IStreamClientEndpoint)
class Dialed:
    """An endpoint that notes when it is asked for a connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.times: list[float] = []
        self.attempts: list[Deferred[IProtocol]] = []
        self.factories: list[IProtocolFactory] = []
        self.refuses = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.times.append(round(self._clock.seconds(), 3))
        self.factories.append(protocolFactory)
        attempt: Deferred[IProtocol] = (
            fail(ConnectionRefusedError()) if self.refuses else Deferred(self.cancelled)
        )
        self.attempts.append(attempt)
        return attempt

    def cancelled(self, attempt: Deferred[IProtocol]) -> None:
        """As Twisted's endpoints have it."""
        attempt.errback(ConnectingCancelledError(IPv4Address("TCP", "192.0.2.1", 10000)))


class DialerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.peer = memory("lb1")
        self.endpoint = Dialed(self.clock)
        self.dialer = Dialer(
            self.peer, self.endpoint, Factory.forProtocol(Protocol), self.clock, random.Random(1)
        )

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds * 16)):
            self.clock.advance(1 / 16)

    def answer(self) -> IProtocol:
        """The latest call is answered: its protocol."""
        protocol = self.endpoint.factories[-1].buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        protocol.makeConnection(StringTransport())
        self.endpoint.attempts[-1].callback(protocol)
        return protocol

    def hang_up(self, protocol: IProtocol) -> None:
        protocol.connectionLost(Failure(ConnectionDone()))

    def test_refused(self) -> None:
        """A peer that refuses is called every 5 s, and the reason is noted."""
        self.endpoint.refuses = True
        self.dialer.start()
        self.advance(14)
        self.assertEqual(self.endpoint.times, [0, 5, 10])
        self.assertIn("refused", self.peer.trouble or "")

    def test_black_hole(self) -> None:
        """A call that is not answered within a second is given up, and made again 5 s later."""
        self.dialer.start()
        self.advance(0.9)
        self.assertFalse(self.endpoint.attempts[0].called)
        self.advance(0.2)
        self.assertTrue(self.endpoint.attempts[0].called)
        self.assertIn("cannot connect: no answer within 1 s", self.peer.trouble or "")
        self.advance(5)
        self.assertEqual(self.endpoint.times, [0, 6])

    def test_again_after_a_connection(self) -> None:
        """When a connection is over the peer is called again after 5 s."""
        self.dialer.start()
        protocol = self.answer()
        self.advance(20)
        self.hang_up(protocol)
        self.advance(7)
        self.assertEqual(self.endpoint.times, [0, 25])

    def test_soon_after_a_session(self) -> None:
        """After a session the next call comes within 50 to 2050 ms, and the one after it 5 s
        later."""
        for seed in range(10):
            self.setUp()
            self.dialer = Dialer(
                self.peer,
                self.endpoint,
                Factory.forProtocol(Protocol),
                self.clock,
                random.Random(seed),
            )
            self.dialer.start()
            protocol = self.answer()
            self.dialer.call_soon()
            self.endpoint.refuses = True
            self.hang_up(protocol)
            self.advance(8)
            _, second, third = self.endpoint.times
            self.assertTrue(0.05 <= second < 2.15, second)
            self.assertEqual(round(third - second, 1), 5)

    def test_a_peer_that_called_and_left(self) -> None:
        """A peer that has called us is not called, until its own call is over."""
        self.dialer.start()
        self.dialer.suspend()
        self.assertTrue(self.endpoint.attempts[0].called, "hung up")
        self.advance(60)
        self.assertEqual(self.endpoint.times, [0])
        self.dialer.call_soon()
        self.dialer.resume()
        self.dialer.resume()
        self.advance(2.1)
        self.assertEqual(len(self.endpoint.times), 2)

    def test_a_call_that_is_broken_off(self) -> None:
        """Whoever hangs up itself has nothing to say of it, in the log or elsewhere."""
        for hang_up in (Dialer.suspend, Dialer.stop):
            self.setUp()
            self.dialer.start()
            with capturedLogs() as events:
                hang_up(self.dialer)
            self.assertEqual(events, [])
            self.assertIsNone(self.peer.trouble)

    def test_a_peer_that_has_called_before(self) -> None:
        """A peer that has called us before we could is called once its own call is over."""
        self.dialer.start(suspended=True)
        self.assertFalse(self.dialer.calling)
        self.advance(60)
        self.assertEqual(self.endpoint.times, [])
        self.dialer.resume()
        self.advance(6)
        self.assertEqual(self.endpoint.times, [65])
        self.assertTrue(self.dialer.calling)

    def test_called_again_while_the_next_call_waits(self) -> None:
        """A peer that calls again before our next call is not called by us."""
        self.dialer.start()
        self.dialer.suspend()
        self.dialer.resume()
        self.advance(4.9)
        self.dialer.suspend()
        self.advance(60)
        self.assertEqual(self.endpoint.times, [0])

    def test_stop(self) -> None:
        """Who was stopped calls no more, whatever happens, and leaves nothing on the clock."""
        self.dialer.start()
        self.dialer.stop()
        self.dialer.resume()
        self.advance(20)
        self.assertEqual(self.endpoint.times, [0])
        self.assertEqual(self.clock.calls, [])
        self.assertTrue(self.endpoint.attempts[0].called)

"""What clients of the runtime socket do with their end of a connection."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectError, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from peerproto import Command, Limits, Part, StickTableService
from peerproto.runtime.protocol import (
    IDLE_TIMEOUT,
    STALLED_TIMEOUT,
    RuntimeFactory,
    RuntimeProtocol,
    RuntimeService,
    runtime_commands,
    runtime_service,
)
from peerproto.testing import MemoryNetwork
from tests.runtime.test_runtime import RuntimeTestCase

MANY = 5000


class ClientTestCase(RuntimeTestCase):
    def fill(self) -> None:
        """A table whose answer takes many turns."""
        self.service.table("rates").clear()
        for number in range(MANY):
            self.service.table("rates").set(f"10.0.{number // 250}.{number % 250}", gpc0=1)

    def settle(self) -> None:
        """Let everything go on that waits for nothing but its turn."""
        self.clock.advance(0)

    def answered(self) -> bytes:
        value: bytes = self.transport.value()
        return value

    def factory(self) -> RuntimeFactory:
        """A factory for two clients."""
        return RuntimeFactory(self.commands, self.clock, self.service.mesh.turns, 2)

    def set_commands(self, count: int) -> bytes:
        return b";".join(b"set table ids key %d" % number for number in range(count))


class HalfCloseTests(ClientTestCase):
    def test_whole_answer(self) -> None:
        """A client that closes its sending side, as `echo … | socat` does, gets the whole
        answer, and then the end."""
        self.fill()
        protocol = self.connect()
        self.assertTrue(IHalfCloseableProtocol.providedBy(protocol))
        protocol.dataReceived(b"show table rates\n")
        protocol.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.settle()
        self.assertEqual(self.answered().count(b"key="), MANY)
        self.assertTrue(self.answered().endswith(b"\n\n"))
        self.assertTrue(self.transport.disconnecting)

    def test_last_line_without_newline(self) -> None:
        """The end of input is the end of the last line."""
        for prompt in (b"", b"prompt\n"):
            protocol = self.connect()
            protocol.dataReceived(prompt)
            self.settle()
            protocol.dataReceived(b"show table ids")
            protocol.readConnectionLost()
            self.settle()
            self.assertIn(b"# table: ids", self.answered())
            self.assertTrue(self.transport.disconnecting)

    def test_all_commands(self) -> None:
        """Each of the commands between semicolons is done and answered."""
        protocol = self.connect()
        protocol.dataReceived(self.set_commands(10) + b"\n")
        protocol.readConnectionLost()
        self.settle()
        self.assertEqual(len(self.service.table("ids")), 10)
        self.assertEqual(self.answered(), b"\n" * 10)

    def test_lines_behind_prompt(self) -> None:
        """With prompt, all lines that came before the end of input are answered."""
        protocol = self.connect()
        protocol.dataReceived(b"prompt\nset table ids key 1\nset table ids key 2\nshow table ids")
        protocol.readConnectionLost()
        self.settle()
        self.assertEqual(self.answered().count(b"key="), 2)
        self.assertTrue(self.transport.disconnecting)

    def test_nothing_said(self) -> None:
        """A client that closes its sending side without a word is hung up on."""
        self.connect().readConnectionLost()
        self.assertTrue(self.transport.disconnecting)

    def test_reads_no_more_after_the_end(self) -> None:
        """A transport whose input is over is not asked to read."""
        protocol = self.connect()
        protocol.dataReceived(b"prompt\n")
        self.settle()
        protocol.readConnectionLost()
        resumed: list[object] = []
        self.patch(self.transport, "resumeProducing", lambda: resumed.append(1))
        self.settle()
        self.assertEqual(resumed, [])

    def test_gone_altogether(self) -> None:
        """A client that has gone altogether reads no answers, but what it asked to be changed
        is changed, and nothing else is looked at."""
        self.fill()
        protocol = self.connect()
        protocol.dataReceived(
            b"show table rates;clear table rates data.gpc0 eq 1;" + self.set_commands(10) + b"\n"
        )
        protocol.connectionLost(Failure(ConnectionDone()))
        self.settle()
        self.assertEqual(self.answered(), b"")
        self.assertEqual(len(self.service.table("rates")), 0)
        self.assertEqual(len(self.service.table("ids")), 10)
        self.assertEqual(self.clock.calls, [])

    def test_gone_before_quit(self) -> None:
        """What stands behind `quit` is not done, whether the client stays or goes."""
        for stays in (True, False):
            protocol = self.connect()
            protocol.dataReceived(b"quit;set table ids key 1\n")
            if not stays:
                protocol.connectionLost(Failure(ConnectionDone()))
            self.settle()
            self.assertEqual(len(self.service.table("ids")), 0)


class SlowClientTests(ClientTestCase):
    def stop_reading(self) -> Any:
        """What the transport does once its buffer is full: the producer that it pauses."""
        producer: Any = self.transport.producer
        producer.pauseProducing()
        return producer

    def test_one_line_at_a_time(self) -> None:
        """While commands wait behind `prompt`, the socket is not read."""
        protocol = self.connect()
        protocol.dataReceived(b"prompt\n")
        self.settle()
        self.assertEqual(self.transport.producerState, "producing")
        producer = self.stop_reading()
        protocol.dataReceived(b"show table ids\n" * 3)
        self.settle()
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(self.answered(), b"\n> ")
        producer.resumeProducing()
        self.settle()
        self.assertEqual(self.answered().count(b"# table: ids"), 3)
        self.assertEqual(self.transport.producerState, "producing")

    def test_prompt_after_other_commands(self) -> None:
        """`prompt` counts wherever it stands in a line."""
        protocol = self.connect()
        protocol.dataReceived(b"show table ids;prompt\nshow table sixes\n")
        self.settle()
        self.assertIn(b"# table: sixes", self.answered())
        self.assertFalse(self.transport.disconnecting)
        protocol.dataReceived(b"prompt\nshow table ids\n")
        self.settle()
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.answered().count(b"# table: ids"), 1)

    def test_a_turn_is_short(self) -> None:
        """A turn of the reactor writes no more than the slice and one piece, however long
        the pieces are."""
        self.service.add_table(
            type(self.service.table("ids").declaration).parse(
                "long", "type integer size 1k store gpt(100)"
            )
        )
        for number in range(200):
            self.service.table("long").set(number)
        protocol = self.connect()
        protocol.dataReceived(b"show table long\n")
        written: list[int] = []
        write = self.transport.write

        def note(data: bytes) -> None:
            written.append(len(data))
            write(data)

        self.patch(self.transport, "write", note)
        self.settle()
        self.assertEqual(self.answered().count(b"key="), 200)
        self.assertLess(max(written), 8192 + 2000)

    def test_idle(self) -> None:
        """A client that says nothing for 10 s is hung up on."""
        self.connect()
        self.clock.advance(IDLE_TIMEOUT)
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.aborted())

    def test_idle_after_prompt(self) -> None:
        """The 10 s begin anew with each prompt."""
        protocol = self.connect()
        for line in (b"prompt\n", b"\n", b"show table ids\n"):
            protocol.dataReceived(line)
            self.settle()
            self.clock.advance(IDLE_TIMEOUT - 1)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)

    def aborted(self) -> bool:
        return self.transport.disconnected

    def test_reads_nothing(self) -> None:
        """A client that reads nothing for a minute is dropped; one that reads goes on."""
        self.fill()
        protocol = self.connect()
        protocol.dataReceived(b"show table rates\n")
        producer = self.stop_reading()
        for _ in range(3):
            self.clock.advance(STALLED_TIMEOUT - 1)
            self.assertFalse(self.aborted())
            producer.resumeProducing()
            producer.pauseProducing()
        self.clock.advance(STALLED_TIMEOUT)
        self.assertTrue(self.aborted())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.calls, [])

    def test_does_not_read_the_end(self) -> None:
        """A client that does not read the end of an answer is dropped, too."""
        protocol = self.connect()
        protocol.dataReceived(b"show table ids\n")
        self.settle()
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.aborted())
        self.clock.advance(STALLED_TIMEOUT)
        self.assertTrue(self.aborted())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.calls, [])

    def test_prompts_unread(self) -> None:
        """A client that reads no prompts is dropped, not hung up on."""
        protocol = self.connect()
        protocol.dataReceived(b"prompt\n")
        self.settle()
        self.stop_reading()
        self.clock.advance(IDLE_TIMEOUT)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(STALLED_TIMEOUT - IDLE_TIMEOUT)
        self.assertTrue(self.aborted())

    def test_stops_reading_at_a_prompt(self) -> None:
        """A client that does not take the prompt behind an answer has the time of one that reads
        nothing, and not that of one that says nothing."""
        protocol = self.connect()
        protocol.dataReceived(b"prompt\n")
        self.settle()
        write = self.transport.write

        def filled_by_prompt(data: bytes) -> None:
            write(data)
            if data.endswith(b"> "):
                self.stop_reading()

        self.patch(self.transport, "write", filled_by_prompt)
        protocol.dataReceived(b"show table ids\n")
        self.settle()
        self.clock.advance(STALLED_TIMEOUT - 1)
        self.assertFalse(self.transport.disconnecting or self.aborted())
        self.clock.advance(1)
        self.assertTrue(self.aborted())


class FactoryTests(ClientTestCase):
    def test_most_clients(self) -> None:
        """As many clients as the limit says; a further one is told so, and logged once."""
        factory = self.factory()
        protocols: list[Any] = []

        def connect() -> bytes:
            self.transport = StringTransport()
            protocols.append(factory.buildProtocol(None))
            protocols[-1].makeConnection(self.transport)
            return self.answered()

        self.assertEqual([connect(), connect()], [b"", b""])
        self.assertEqual(factory.clients, 2)
        with capturedLogs() as logs:
            for _ in range(3):
                self.assertEqual(connect(), b"There are 2 runtime clients already\n\n")
                self.assertTrue(self.transport.disconnecting)
        self.assertEqual(len(logs), 1)
        protocols[0].connectionLost(Failure(ConnectionDone()))
        self.assertEqual(connect(), b"")
        self.assertIsInstance(protocols[-1], RuntimeProtocol)

    def test_limit(self) -> None:
        """The limit is the one of the service."""
        reactor = MemoryReactorClock()
        service = StickTableService("us", reactor=reactor, limits=Limits(runtime_clients=1))
        runtime = runtime_service(service, TCP4ServerEndpoint(reactor, 0), reactor)
        runtime.startService()
        factory = reactor.tcpServers[0][1]
        for answer in (b"", b"There are 1 runtime clients already\n\n"):
            transport = StringTransport()
            protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
            assert protocol is not None
            protocol.makeConnection(transport)
            self.assertEqual(transport.value(), answer)

    def test_counted_to_the_end(self) -> None:
        """A client that has gone is counted until what it asked for is done."""
        factory = self.factory()
        protocol: Any = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(self.set_commands(10) + b"\n")
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(factory.clients, 1)
        self.settle()
        self.assertEqual((factory.clients, len(self.service.table("ids"))), (0, 10))
        self.assertEqual(self.clock.calls, [])


class OddPartTests(ClientTestCase):
    def test_takes_no_place(self) -> None:
        """A command that gives what is no text ends its answer, and not the socket."""

        class Odd(Part):
            def commands(self) -> Any:
                for word, piece in (("bytes", b"x"), ("number", 3), ("half", "\ud800")):
                    answer: Any = [piece]
                    yield Command((word,), "", "", partial(self.say, answer))

            def say(self, answer: Any, _: list[str]) -> Any:
                return iter(answer)

        self.service.add_part("odd", Odd())
        factory = RuntimeFactory(runtime_commands(self.service), self.clock, self.service.turns, 2)
        for word in ("bytes", "number", "half", "bytes"):
            protocol: Any = factory.buildProtocol(None)
            transport = StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(word.encode() + b"\n")
            self.clock.advance(0.1)
            answer = b"?" if word == "half" else b"Internal error"
            self.assertIn(answer, transport.value())
            protocol.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(factory.clients, 0)
        self.assertEqual(len(self.flushLoggedErrors()), 3)


class ListeningTests(ClientTestCase):
    def service_at(self, endpoint: Any) -> RuntimeService:
        return RuntimeService(endpoint, self.factory())

    def test_starts_and_stops(self) -> None:
        """Who connects while the service runs is answered; afterwards nobody listens."""
        network = MemoryNetwork()
        service = self.service_at(network.server("runtime"))
        service.startService()
        network.connect("runtime", self.factory())
        self.successResultOf(service.stopService())
        with self.assertRaises(ConnectError):
            network.connect("runtime", self.factory())

    def test_fails_at_once(self) -> None:
        """An address that is taken is raised."""
        service = self.service_at(_Endpoint(_failed()))
        self.assertRaises(CannotListenError, service.startService)

    def test_fails_later(self) -> None:
        """A failure that comes later is logged."""
        waiting: Deferred[Any] = Deferred()
        self.service_at(_Endpoint(waiting)).startService()
        waiting.errback(CannotListenError(None, "/r", OSError()))
        self.assertEqual(len(self.flushLoggedErrors(CannotListenError)), 1)

    def test_listens_when_stopped(self) -> None:
        """A port that is there only after the service was stopped is closed."""
        network = MemoryNetwork()
        waiting: Deferred[Any] = Deferred()
        service = self.service_at(_Endpoint(waiting))
        service.startService()
        self.successResultOf(service.stopService())
        waiting.callback(network.listen("runtime", self.factory()))
        with self.assertRaises(ConnectError):
            network.connect("runtime", self.factory())


def _failed() -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(CannotListenError(None, "/r", OSError()))
    return failed


class _Endpoint:
    """Listens with a result of the test's."""

    def __init__(self, result: Deferred[Any]) -> None:
        self._result = result

    def listen(self, factory: object) -> Deferred[Any]:
        return self._result

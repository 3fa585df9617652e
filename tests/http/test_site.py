"""What a client can make grow has a bound."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from peerproto.http.site import (
    IDLE_TIME,
    LONGEST_BODY,
    LONGEST_HEAD,
    MOST_CONNECTIONS,
    MOST_HEADERS,
    REQUEST_TIME,
)
from tests.http.client import WRITER, HttpTestCase, parse

PUT = (
    "PUT /v1/tables/rates/entries/192.0.2.7 HTTP/1.1\r\nHost: localhost\r\n"
    f"Authorization: Bearer {WRITER}\r\nContent-Type: application/json\r\n"
).encode()


class BoundTests(HttpTestCase):
    def refused(self, transport: StringTransport, status: int) -> None:
        """A whole answer, after which the connection ends."""
        reply, rest = parse(transport.value())
        self.assertEqual((reply.status, rest), (status, b""))
        self.assertEqual(reply.headers["content-type"], "application/problem+json")
        self.assertEqual(reply.json["status"], status)
        self.assertTrue(transport.disconnecting)

    def test_long_body(self) -> None:
        """A body that is announced as too long is refused before it comes, also if the client
        waits for a word."""
        for more in (b"", b"Expect: 100-continue\r\n"):
            channel, transport = self.connect()
            length = b"Content-Length: %d\r\n\r\n" % (LONGEST_BODY + 1)
            channel.dataReceived(PUT + more + length + b"x" * 100)
            self.refused(transport, 413)
            channel.dataReceived(b"x" * LONGEST_BODY)
            self.assertEqual(len(self.service.table("rates")), 0)

    def test_long_body_in_chunks(self) -> None:
        """A body whose length nobody has told is refused where it is too long."""
        channel, transport = self.connect()
        channel.dataReceived(PUT + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(LONGEST_BODY // 0x10000):
            channel.dataReceived(chunk)
        self.assertEqual(transport.value(), b"")
        channel.dataReceived(chunk * 3 + b"0\r\n\r\n")
        self.refused(transport, 413)

    def test_longest_body(self) -> None:
        """A body of the longest length is read."""
        body = b'{"values":{}}'.ljust(LONGEST_BODY)
        reply = self.send(PUT + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual(reply.status, 201)

    def test_continue(self) -> None:
        """A client that waits for a word before it sends its body gets that."""
        channel, transport = self.connect()
        channel.dataReceived(PUT + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_headers(self) -> None:
        """Neither many headers nor long ones are read."""
        first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        good = self.send(first + b"X: y\r\n" * (MOST_HEADERS - 1) + b"\r\n")
        self.assertEqual(good.status, 200)
        for bad in (b"X: y\r\n" * MOST_HEADERS, b"X: " + b"y" * LONGEST_HEAD + b"\r\n"):
            channel, transport = self.connect()
            channel.dataReceived(first + bad + b"\r\n")
            self.assertTrue(transport.disconnecting)
            self.assertNotIn(b"200", transport.value())

    def test_connections(self) -> None:
        """So many connections there may be; who is turned away is told, and the log once."""
        channels = [self.connect()[0] for _ in range(MOST_CONNECTIONS)]
        self.assertEqual(self.site.connections, MOST_CONNECTIONS)
        for _ in range(3):
            _, transport = self.connect()
            self.refused(transport, 503)
        self.assertEqual(sum("turned away" in one for one in self.lines), 1)
        channels.pop().connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.get("/healthz").status, 200)

    def test_idle(self) -> None:
        """A client that says nothing is hung up on."""
        _, transport = self.connect()
        self.clock.advance(IDLE_TIME - 1)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(transport.disconnecting)

    def test_trickle(self) -> None:
        """A request that trickles is not waited for any longer than one that stalls."""
        channel, transport = self.connect()
        channel.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(30):
            channel.dataReceived(b"X: y\r\n")
            if transport.disconnecting:
                break
            self.clock.advance(REQUEST_TIME / 20)
        self.refused(transport, 408)

    def test_many_requests(self) -> None:
        """A connection may have many requests, each with its own time."""
        channel, transport = self.connect()
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(10):
            channel.dataReceived(request)
            self.clock.advance(REQUEST_TIME / 4)
        channel.dataReceived(request * 3)
        self.assertEqual(transport.value().count(b"HTTP/1.1 200 OK"), 13)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(IDLE_TIME)
        self.assertTrue(transport.disconnecting)

    def test_hang_up(self) -> None:
        """When the service stops, all connections end."""
        transports = [self.connect()[1] for _ in range(3)]
        self.site.hang_up()
        self.assertTrue(all(one.disconnecting for one in transports))

    def test_protocols(self) -> None:
        """HTTP/2 is not offered: its streams have other bounds."""
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_slow_reader(self) -> None:
        """Of a client that does not read, no further request is read."""
        _, transport = self.connect()
        producer: Any = transport.producer
        producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")

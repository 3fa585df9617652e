"""What a client can make grow has a bound."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from peerproto.http.site import (
    IDLE_TIME,
    LEAVING,
    LONGEST_BODY,
    LONGEST_HEAD,
    MOST_CONNECTIONS,
    MOST_HEADERS,
    REQUEST_TIME,
    STALLED,
)
from tests.http.client import WRITER, HttpTestCase, parse

ABORT_TIME = HTTPChannel.abortTimeout
"""Seconds that a client has after it was hung up on."""

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

    def test_whole_url(self) -> None:
        """A request may name a whole URL, whose host then counts instead of the header's."""
        for target, header, status in (
            (b"http://localhost/healthz", b"localhost", 200),
            (b"HTTP://127.0.0.1:80/v1/tables/rates/entries?limit=1", b"elsewhere.example", 200),
            (b"https://localhost", b"localhost", 200),
            (b"http://elsewhere.example/healthz", b"localhost", 421),
            (b"http:///healthz", b"localhost", 400),
        ):
            request = b"GET " + target + b" HTTP/1.1\r\nHost: " + header + b"\r\n\r\n"
            self.assertEqual(self.send(request).status, status, target)

    def test_phrases(self) -> None:
        """The first line of an answer has the phrase that its document has, also where twisted.web
        knows none."""
        body = b'{"values":{"gpc9":1}}'
        channel, transport = self.connect()
        channel.dataReceived(PUT + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        first = transport.value().partition(b"\r\n")[0]
        self.assertEqual(first, b"HTTP/1.1 422 Unprocessable Content")
        reply, _ = parse(transport.value())
        self.assertEqual(reply.json["title"], "Unprocessable Content")

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

    def test_turned_away(self) -> None:
        """Who is turned away and does not go, as one that began TLS and says nothing more, is
        dropped; so many of them may be there at one time, others are dropped at once."""
        for _ in range(MOST_CONNECTIONS):
            self.connect()
        leaving = [self.connect() for _ in range(MOST_CONNECTIONS)]
        channel, transport = self.connect()
        self.assertTrue(transport.disconnected)
        self.assertEqual(transport.value(), b"")
        channel.connectionLost(Failure(ConnectionAborted()))
        gone, _ = leaving.pop()
        gone.connectionLost(Failure(ConnectionDone()))
        self.refused(self.connect()[1], 503)
        self.clock.advance(LEAVING - 1)
        self.assertFalse(any(transport.disconnected for _, transport in leaving))
        self.clock.advance(1)
        for channel, transport in leaving:
            self.assertTrue(transport.disconnected)
            channel.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.site.connections, MOST_CONNECTIONS)

    def test_turned_away_at_the_end(self) -> None:
        """Nothing is left of those who are turned away when the service stops."""
        for _ in range(MOST_CONNECTIONS):
            self.connect()
        _, transport = self.connect()
        self.site.hang_up()
        self.assertTrue(transport.disconnected)

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

    def half_close(self, channel: Any) -> None:
        """Do what the transport does when the client closes its sending side."""
        half = IHalfCloseableProtocol(channel, None)
        if half is None:
            channel.connectionLost(Failure(ConnectionDone()))
        else:
            half.readConnectionLost()

    def test_half_closed(self) -> None:
        """A client that closes its sending side gets the answers to all that it has asked, also
        those that take some turns, and is hung up on after them."""
        page = b"GET /v1/tables/rates/entries HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for requests in (1, 3):
            channel, transport = self.connect()
            channel.dataReceived(page * requests)
            self.half_close(channel)
            self.assertEqual(transport.value(), b"")
            self.assertFalse(transport.disconnecting)
            self.wait(partial(getattr, transport, "disconnecting"))
            self.assertEqual(transport.value().count(b'{"entries":[],"next":null}'), requests)
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.site.connections, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_closed_without_request(self) -> None:
        """One of whom nothing is to be answered any more is hung up on at once: of a request of
        which the end is missing, too, and a client that only listened to the stream is gone."""
        for data in (
            b"",
            b"GET /healthz HTTP/1.1\r\nHost: local",
            PUT + b"Content-Length: 5\r\n\r\n{",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            channel, transport = self.connect()
            channel.dataReceived(data)
            self.half_close(channel)
            self.assertTrue(transport.disconnecting or transport.disconnected, data)
            channel.connectionLost(Failure(ConnectionDone()))
        self.watching.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_protocols(self) -> None:
        """HTTP/2 is not offered: its streams have other bounds."""
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_end_not_read(self) -> None:
        """A client that does not read a whole answer is dropped, whether it wanted to go on after
        it or not; of one that reads it in time, nothing is left."""
        for last, bound in ((b"Connection: close\r\n", STALLED), (b"", IDLE_TIME + ABORT_TIME)):
            for reads in (False, True):
                channel, transport = self.connect()
                channel.pauseProducing()
                channel.dataReceived(
                    b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n" + last + b"\r\n"
                )
                self.assertEqual(parse(transport.value())[0].status, 200)
                self.clock.pump([1] * int(bound - 1))
                self.assertFalse(transport.disconnected)
                if reads:
                    channel.connectionLost(Failure(ConnectionDone()))
                self.clock.pump([1, 1])
                self.assertEqual(transport.disconnected, not reads)
                if not reads:
                    channel.connectionLost(Failure(ConnectionAborted()))
                self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_reader(self) -> None:
        """Of a client that does not read, no further request is read."""
        _, transport = self.connect()
        producer: Any = transport.producer
        producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")

"""A node in memory, and a client that speaks HTTP to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Optional

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerproto import StickTableService
from peerproto.http.access import Access
from peerproto.http.config import HttpSettings
from peerproto.http.openapi import document
from peerproto.http.service import routes_of
from peerproto.http.site import BoundedSite
from peerproto.http.tokens import Token
from peerproto.http.watching import Watching
from peerproto.http.writelog import WriteLog
from tests.http.contract import Contract

WRITER = "w" * 20
READER = "r" * 20

TABLES = {
    "rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)",
    "paths": "type string len 20 size 1k store gpt(2),gpc(2),gpc_rate(2,10s),server_key,server_id",
    "ids": "type integer size 1k store gpc0,bytes_out_cnt",
    "hashes": "type binary len 4 size 1k store gpc0",
    "sixes": "type ipv6 size 1k store bytes_out_cnt",
    "small": "type integer size 2 nopurge store gpc0",
}


@attrs.frozen
class Reply:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def parse(data: bytes) -> tuple[Reply, bytes]:
    """The first answer in what a transport was given, and the rest."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    if headers.get("transfer-encoding") == "chunked":
        body, rest = whole(rest)
        return Reply(int(first.split()[1]), headers, body), rest
    length = int(headers.get("content-length", "0"))
    return Reply(int(first.split()[1]), headers, rest[:length]), rest[length:]


def whole(data: bytes) -> tuple[bytes, bytes]:
    """A body that came in chunks, and what follows it; as far as it has come."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body += data[:length]
        data = data[length + 2 :]
        if not length:
            break
    return body, data


def is_whole(data: bytes) -> bool:
    """Whether all of an answer has come."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return bool(end) and (b"chunked" not in head or rest.endswith(b"0\r\n\r\n"))


class HttpTestCase(SynchronousTestCase):
    """Has a node, of which writers may write, and readers need no token."""

    here = "127.0.0.1"
    """The address that clients connect to."""
    settings = HttpSettings(writers=Token(WRITER.encode()), allow_writes=True)

    def setUp(self) -> None:
        self.clock = Clock()
        self.service = StickTableService("app", tables=TABLES, reactor=self.clock)
        self.lines: list[str] = []
        """What was logged, without what is of level *debug*."""
        self.details: list[str] = []
        """What is of that level."""

        @implementer(ILogObserver)
        def observer(event: LogEvent) -> None:
            is_detail = event.get("log_level") is LogLevel.debug
            (self.details if is_detail else self.lines).append(formatEvent(event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.begin()

    def begin(self, settings: Optional[HttpSettings] = None) -> None:
        """Serve HTTP for the node."""
        self.access = Access(settings or self.settings)
        self.watching = Watching(self.service, self.access, self.clock, self.timer)
        self.addCleanup(self.watching.stop)
        self.log = WriteLog(self.clock)
        self.routes = routes_of(self.service, self.access, self.watching, self.log)
        self.site = BoundedSite(self.routes.resource(), self.clock)
        self.contract = Contract(document(self.routes))

    def timer(self) -> float:
        """Seconds that work has cost: none."""
        return 0.0

    def connect(self) -> tuple[Any, StringTransport]:
        """A connection of a client."""
        channel = self.site.buildProtocol(None)
        transport = StringTransport(
            hostAddress=IPv4Address("TCP", self.here, 8404),
            peerAddress=IPv4Address("TCP", "192.0.2.9", 4711),
        )
        channel.makeConnection(transport)
        return channel, transport

    def send(self, data: bytes) -> Reply:
        """The answer to what is sent as it stands."""
        channel, transport = self.connect()
        channel.dataReceived(data)
        self.wait(lambda: is_whole(transport.value()))
        channel.connectionLost(Failure(ConnectionDone()))
        return parse(transport.value())[0]

    def wait(self, until: Callable[[], bool]) -> None:
        """Let what goes on in turns go on."""
        for _ in range(10_000):
            if until():
                return
            self.clock.advance(0)
        self.fail("no answer")

    def ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        token: Optional[str] = None,
        headers: Mapping[str, str] = {},
    ) -> Reply:
        """The answer to a request; ``content`` is sent as JSON."""
        lines = {"Host": "localhost:8404", **headers}
        if token is not None:
            lines.setdefault("Authorization", f"Bearer {token}")
        body = b""
        if content is not None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            lines.setdefault("Content-Type", "application/json")
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        reply = self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        if method != "HEAD":
            self.contract.check(method, path, reply.status, reply.headers, reply.body)
        return reply

    def get(self, path: str, **more: Any) -> Reply:
        return self.ask("GET", path, **more)

    def write(self, method: str, path: str, content: Any = None) -> Reply:
        """The answer to a writer."""
        return self.ask(method, path, content, WRITER)

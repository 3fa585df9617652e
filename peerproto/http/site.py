"""HTTP/1.1 on a transport: twisted.web, with a bound on everything that a client can make grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Optional

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from peerproto.http.answers import HEADERS, answer_of, as_json
from peerproto.http.problems import PROBLEM_TYPE, Problem, title

LONGEST_BODY: Final = 1 << 20
"""Bytes of the body of a request."""

LONGEST_HEAD: Final = 16384
"""Bytes of the request line and all headers."""

MOST_HEADERS: Final = 64
"""Headers of a request."""

MOST_CONNECTIONS: Final = 200
"""Connections at one time."""

IDLE_TIME: Final = 30.0
"""Seconds in which a client sends something, or reads the end of an answer."""

REQUEST_TIME: Final = 60.0
"""Seconds in which a whole request comes, however it trickles."""


class BoundedRequest(Request):
    """A request whose body has a longest length."""

    refused = False
    """Whether it was answered before it had come."""
    _length = 0
    _kinds: Sequence[bytes] = ()

    def gotLength(self, length: Optional[int]) -> None:
        """See ``Request``."""
        super().gotLength(length)
        if length is not None and length > LONGEST_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """See ``Request``."""
        self._length += len(data)
        if self._length > LONGEST_BODY:
            self._refuse()
        elif not self.refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """See ``Request``."""
        if not self.refused:
            # Forms are none of ours, and are not to be taken apart.
            self._kinds = self.requestHeaders.getRawHeaders(b"Content-Type", [])
            self.requestHeaders.removeHeader(b"Content-Type")
            super().requestReceived(command, path, version)

    def process(self) -> None:
        """See ``Request``."""
        self.requestHeaders.setRawHeaders(b"Content-Type", self._kinds)
        super().process()

    def _refuse(self) -> None:
        if not self.refused:
            self.refused = True
            channel: Any = self.channel
            channel.transport.write(_refusal(413, f"a body has {LONGEST_BODY} bytes at most"))
            channel.loseConnection()


class BoundedChannel(HTTPChannel):
    """A connection whose requests have an end."""

    maxHeaders = MOST_HEADERS
    totalHeadersSize = LONGEST_HEAD
    factory: BoundedSite
    _deadline: Optional[IDelayedCall] = None

    def dataReceived(self, data: bytes) -> None:
        """See ``Protocol``."""
        if data and self._deadline is None and not self.requests:
            self._deadline = self.callLater(REQUEST_TIME, self._too_slow)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        """See ``HTTPChannel``."""
        self._stop_deadline()
        super().allContentReceived()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``Protocol``."""
        self._stop_deadline()
        self.factory.left(self)
        super().connectionLost(reason)

    def _send100Continue(self) -> None:
        if not self.requests[-1].refused:
            super()._send100Continue()

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.write(_refusal(408, f"a request comes within {REQUEST_TIME:g} s"))
        self.timeoutConnection()


class BoundedSite(Site):
    """Makes a channel for each client, as many as there may be at one time."""

    _log = Logger()
    noisy = False
    displayTracebacks = False

    def __init__(self, resource: IResource, clock: IReactorTime) -> None:
        super().__init__(resource, BoundedRequest, timeout=IDLE_TIME, reactor=clock)
        self._complained = False
        self._channels: set[BoundedChannel] = set()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._channels)

    def buildProtocol(self, addr: Optional[IAddress]) -> Any:
        """See ``Factory``. HTTP/2 is not spoken: its streams would have other bounds."""
        if self.connections >= MOST_CONNECTIONS:
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "HTTP clients are turned away: there are {most}", most=MOST_CONNECTIONS
                )
            return _TurnedAway()
        channel: Any = BoundedChannel()
        self._channels.add(channel)
        channel.factory = channel.site = self
        channel.callLater = self.reactor.callLater
        channel.timeOut = self.timeOut
        channel.requestFactory = self.requestFactory
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """What is offered in a TLS handshake."""
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        """See ``HTTPFactory``: writes have their line, and reads have none."""

    def left(self, channel: BoundedChannel) -> None:
        """A client has gone."""
        self._channels.discard(channel)
        self._complained = False

    def hang_up(self) -> None:
        """End all connections, once what was written to them is sent."""
        channels, self._channels = self._channels, set()
        for channel in channels:
            channel.loseConnection()


class _TurnedAway(Protocol):
    """Tells a client that there are too many."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(_refusal(503, f"there are {MOST_CONNECTIONS} connections already"))
        transport.loseConnection()


def _refusal(status: int, detail: str) -> bytes:
    """A whole answer to what is no request yet."""
    answer = answer_of(Problem(status, detail))
    body = as_json(answer.value)
    headers = {
        **HEADERS,
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": len(body),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {title(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body

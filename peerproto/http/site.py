"""HTTP/1.1 on a transport: twisted.web, with a bound on everything that a client can make grow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Optional

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from peerproto.http.access import place_of
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

STALLED: Final = 120.0
"""Seconds in which a client takes what waits for it; one that does not is dropped."""

LEAVING: Final = 5.0
"""Seconds in which one that is turned away is told why and goes. `MOST_CONNECTIONS` of them may be
there at one time."""


_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
"""A target of a request that is a whole URL, with its host, and its path and query."""


class BoundedRequest(Request):
    """A request whose body has a longest length."""

    refused = False
    """Whether it was answered before it had come."""
    endless = False
    """Whether its answer goes on until the client goes."""
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
            path = self._in_origin_form(path)
            # Forms are none of ours, and are not to be taken apart.
            self._kinds = self.requestHeaders.getRawHeaders(b"Content-Type", [])
            self.requestHeaders.removeHeader(b"Content-Type")
            super().requestReceived(command, path, version)

    def _in_origin_form(self, target: bytes) -> bytes:
        """The path and query of a target that may be a whole URL, as clients of a proxy send it.

        The URL's host holds then, whatever the header says (RFC 9112, 3.2.2).
        """
        url = _ABSOLUTE.fullmatch(target)
        if url is None:
            return target
        host, path = url.groups()
        self.requestHeaders.setRawHeaders(b"Host", [host])
        return path if path.startswith(b"/") else b"/" + path

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


@implementer(IHalfCloseableProtocol)
class BoundedChannel(HTTPChannel):
    """A connection whose requests have an end.

    A client that closes its sending side has made its last request, and gets all answers; one that
    follows the stream has gone then, as most clients have that do so.
    """

    maxHeaders = MOST_HEADERS
    totalHeadersSize = LONGEST_HEAD
    factory: BoundedSite
    _deadline: Optional[IDelayedCall] = None
    _drop: Optional[IDelayedCall] = None
    """While something waits for the client to take it."""
    _is_over = False
    _input_over = False
    """Whether the client has closed its sending side."""
    _answering = False
    """Whether a whole request has come that is not answered yet."""

    def dataReceived(self, data: bytes) -> None:
        """See ``Protocol``."""
        if data and self._deadline is None and not self.requests:
            self._deadline = self.callLater(REQUEST_TIME, self._too_slow)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        """See ``HTTPChannel``."""
        self._stop_deadline()
        self._answering = True
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """See ``HTTPChannel``: the next request may begin in here."""
        self._answering = False
        super().requestDone(request)
        if self._input_over:
            self._end()

    def readConnectionLost(self) -> None:
        """See ``IHalfCloseableProtocol``: the client has closed its sending side."""
        self._input_over = True
        self._end()

    def writeConnectionLost(self) -> None:
        """See ``IHalfCloseableProtocol``: we close both sides at once, never this one alone."""

    def _end(self) -> None:
        """End the connection, unless there is something to answer."""
        if not self._answering:
            self.loseConnection()
        elif self.requests[0].endless:
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``Protocol``."""
        self._is_over = True
        self._stop_deadline()
        self._stop_drop()
        self.factory.left(self)
        super().connectionLost(reason)

    def pauseProducing(self) -> None:
        """See ``IPushProducer``: more waits for the client than is held for it."""
        if self._drop is None:
            self._drop_later()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """See ``IPushProducer``: the client has taken all that waited."""
        self._stop_drop()
        super().resumeProducing()

    def loseConnection(self) -> None:
        """See ``HTTPChannel``. The transport first sends what was written, and would wait for ever
        for a client that does not take it."""
        if not self._is_over:
            self._drop_later()
        super().loseConnection()

    def _drop_later(self) -> None:
        self._stop_drop()
        self._drop = self.callLater(STALLED, self._drop_it)

    def _stop_drop(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None

    def _drop_it(self) -> None:
        self._drop = None
        self.factory.drops(self)
        transport: Any = self.transport
        transport.abortConnection()

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
        self._leaving: set[_TurnedAway] = set()

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
            return _TurnedAway(self._leaving, self.reactor)
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

    def drops(self, channel: BoundedChannel) -> None:
        """A client does not read."""
        self._log.warn(
            "{place} has not taken an answer for {seconds:g} s, and is dropped",
            place=place_of(channel.getPeer(), channel.transport),
            seconds=STALLED,
        )

    def left(self, channel: BoundedChannel) -> None:
        """A client has gone."""
        self._channels.discard(channel)
        self._complained = False

    def hang_up(self) -> None:
        """End all connections, once what was written to them is sent."""
        channels, self._channels = self._channels, set()
        for channel in channels:
            channel.loseConnection()
        for one in list(self._leaving):
            one.drop()


class _TurnedAway(Protocol):
    """Tells a client that there are too many.

    One that began TLS is told when that is done, for which it might take for ever.
    """

    def __init__(self, leaving: set[_TurnedAway], clock: IReactorTime) -> None:
        """``leaving`` has all others."""
        self._leaving = leaving
        self._clock = clock
        self._call: Optional[IDelayedCall] = None

    def connectionMade(self) -> None:
        """See ``Protocol``."""
        transport: Any = self.transport
        if len(self._leaving) >= MOST_CONNECTIONS:
            transport.abortConnection()
            return
        self._leaving.add(self)
        self._call = self._clock.callLater(LEAVING, self.drop)
        transport.write(_refusal(503, f"there are {MOST_CONNECTIONS} connections already"))
        transport.loseConnection()

    def drop(self) -> None:
        """End the connection at once."""
        self._forget()
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``Protocol``."""
        self._forget()

    def _forget(self) -> None:
        self._leaving.discard(self)
        if self._call is not None and self._call.active():
            self._call.cancel()


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

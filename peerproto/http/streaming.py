"""An answer in pieces, at the pace of who reads it."""

from __future__ import annotations

from typing import Optional

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from peerproto.http.answers import JSON_TYPE, set_headers


@implementer(IPushProducer)
class Stream:
    """Writes to a request; who writes waits while the client reads slower than that.

    Fails with ``CancelledError`` once the client has gone.
    """

    def __init__(self, request: Request, content_type: str = JSON_TYPE) -> None:
        self._request = request
        self._content_type = content_type
        self._waiter: Optional[Deferred[None]] = None
        self._paused = self._gone = self.begun = False
        request.registerProducer(self, True)

    def write(self, data: bytes) -> Deferred[None]:
        """Write a piece; fires when there is room for the next one."""
        if self._gone:
            raise CancelledError("the client has gone")
        if not self.begun:
            self.begun = True
            set_headers(self._request, {"Content-Type": self._content_type})
        self._request.write(data)
        if self._gone:
            raise CancelledError("the client has gone")
        if not self._paused:
            return succeed(None)
        self._waiter = Deferred()
        return self._waiter

    def end(self) -> None:
        """Nothing more is written."""
        if self._request.channel is not None:
            self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        """See ``IPushProducer``."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See ``IPushProducer``."""
        self._paused = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def stopProducing(self) -> None:
        """See ``IPushProducer``: the client has gone."""
        self._gone = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.errback(CancelledError("the client has gone"))

"""Calling one peer, again and again, but not while it has called us."""

from __future__ import annotations

import random
from typing import Any, Final, Optional

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from peerproto.peering.peer import Peer

RECONNECT_TIMEOUT: Final = 5.0
"""Seconds between calls."""

CONNECT_TIMEOUT: Final = 1.0
"""Seconds that a connection may take to be made."""

_SOON: Final = (0.05, 2.05)
"""Bounds in s of the random wait after a dead session or a collision."""


class Caller:
    """A `ClientService` for one peer, that can be held back."""

    def __init__(
        self,
        peer: Peer,
        endpoint: IStreamClientEndpoint,
        factory: IProtocolFactory,
        clock: IReactorTime,
        chance: Optional[random.Random] = None,
    ) -> None:
        self._clock = clock
        self._chance = chance or random.Random()
        self._soon = False
        self._resuming: Optional[IDelayedCall] = None
        self._running = False
        self._service = _Redialing(
            _Attempt(peer, endpoint, clock), factory, retryPolicy=self._delay, clock=clock
        )

    def start(self) -> None:
        """Call, and call again whenever the connection ends."""
        self._running = True
        self._service.startService()

    def stop(self) -> Deferred[Any]:
        """Hang up and call no more; fires when the connection is closed."""
        self._running = False
        return self.suspend()

    def suspend(self) -> Deferred[Any]:
        """Hang up and do not call until `resume`: the peer has called us."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        stopped: Deferred[Any] = self._service.stopService()
        return stopped

    def call_soon(self) -> None:
        """The next call comes within a random 50 to 2050 ms, not after 5 s."""
        self._soon = True

    def resume(self) -> None:
        """The peer's call is over: call again after the usual wait."""
        if self._running and not self._service.running and self._resuming is None:
            self._resuming = self._clock.callLater(self._delay(0), self._resume)

    def _resume(self) -> None:
        self._resuming = None
        self._service.startService()

    def _delay(self, _failures: int) -> float:
        if self._soon:
            self._soon = False
            return self._chance.uniform(*_SOON)
        return RECONNECT_TIMEOUT


class _Redialing(ClientService):
    """A `ClientService` that does not log every single retry: `_Attempt` says why it fails."""

    _log = Logger(
        observer=FilteringLogObserver(globalLogPublisher, [LogLevelFilterPredicate(LogLevel.warn)])
    )


@implementer(IStreamClientEndpoint)
class _Attempt:
    """An endpoint that notes why a connection could not be made."""

    _log = Logger()

    def __init__(self, peer: Peer, endpoint: IStreamClientEndpoint, clock: IReactorTime) -> None:
        self._peer = peer
        self._endpoint = endpoint
        self._clock = clock

    def __repr__(self) -> str:
        return f"<peer {self._peer.name} at {self._peer.address}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt = self._endpoint.connect(protocolFactory)
        attempt.addTimeout(CONNECT_TIMEOUT, self._clock)
        attempt.addErrback(self._failed)
        return attempt

    def _failed(self, reason: Failure) -> Failure:
        why = f"cannot connect: {reason.getErrorMessage()}"
        if self._peer.trouble != why:
            self._peer.trouble = why
            self._log.warn("peer {peer}: {why}", peer=self._peer.name, why=why)
        return reason

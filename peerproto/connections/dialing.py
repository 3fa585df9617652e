"""Calling one peer, again and again, but not while it has called us.

Source: doc/protocol.md, "Dialing" and "Collisions".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Optional, Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.error import ConnectingCancelledError
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

from peerproto.peering.memory import PeerMemory

RECONNECT_TIMEOUT: Final = 5.0
"""Seconds between calls."""

CONNECT_TIMEOUT: Final = 1.0
"""Seconds that a connection may take to be made."""

_SOON: Final = (0.05, 2.05)
"""Bounds in s of the random wait after a dead session or a collision."""


class _Inputs(Protocol):
    """What may happen to a `Dialer`."""

    def call(self) -> Deferred[Any]:
        """Call, and call again whenever the connection ends."""

    def hold(self) -> Deferred[Any]:
        """Hang up and wait for `resume`; fires when the connection is closed."""

    def resume(self) -> Deferred[Any]:
        """Call again after the usual wait."""

    def over(self) -> Deferred[Any]:
        """The wait is over."""

    def stop(self) -> Deferred[Any]:
        """Hang up for good; fires when the connection is closed."""


@attrs.define(eq=False)
class _Core:
    """What the states of a `Dialer` have in common."""

    service: ClientService
    clock: IReactorTime
    delay: Callable[[], float]
    """How long to wait for the next call, in s."""


def _call(inputs: _Inputs, core: _Core) -> Deferred[Any]:
    core.service.startService()
    return succeed(None)


def _hang_up(inputs: _Inputs, core: _Core) -> Deferred[Any]:
    closed: Deferred[Any] = core.service.stopService()
    return closed


def _nothing(inputs: _Inputs, core: _Core) -> Deferred[Any]:
    return succeed(None)


def _give_up(inputs: _Inputs, core: _Core, waiting: IDelayedCall) -> Deferred[Any]:
    waiting.cancel()
    return succeed(None)


def _machine() -> Callable[[_Core], _Inputs]:
    builder = TypeMachineBuilder(_Inputs, _Core)
    idle = builder.state("idle")
    calling = builder.state("calling")
    held = builder.state("held")
    stopped = builder.state("stopped")

    def wait(inputs: _Inputs, core: _Core) -> IDelayedCall:
        return core.clock.callLater(core.delay(), inputs.over)

    waiting = builder.state("waiting", wait)
    idle.upon(_Inputs.call).to(calling)(_call)
    idle.upon(_Inputs.hold).to(held)(_nothing)
    idle.upon(_Inputs.stop).to(stopped)(_nothing)
    calling.upon(_Inputs.hold).to(held)(_hang_up)
    calling.upon(_Inputs.stop).to(stopped)(_hang_up)
    calling.upon(_Inputs.resume).loop()(_nothing)
    held.upon(_Inputs.resume).to(waiting)(_nothing)
    held.upon(_Inputs.hold).loop()(_hang_up)
    held.upon(_Inputs.stop).to(stopped)(_hang_up)

    @waiting.upon(_Inputs.over).to(calling)
    def over(inputs: _Inputs, core: _Core, waiting: IDelayedCall) -> Deferred[Any]:
        return _call(inputs, core)

    @waiting.upon(_Inputs.resume).loop()
    def resume(inputs: _Inputs, core: _Core, waiting: IDelayedCall) -> Deferred[Any]:
        return succeed(None)

    waiting.upon(_Inputs.hold).to(held)(_give_up)
    waiting.upon(_Inputs.stop).to(stopped)(_give_up)
    for late in (_Inputs.resume, _Inputs.hold):
        stopped.upon(late).loop()(_nothing)
    # A connection may still be closing.
    stopped.upon(_Inputs.stop).loop()(_hang_up)
    return builder.build()


_dialing = _machine()


class Dialer:
    """A ``ClientService`` for one peer, that can be held back."""

    def __init__(
        self,
        peer: PeerMemory,
        endpoint: IStreamClientEndpoint,
        factory: IProtocolFactory,
        clock: IReactorTime,
        chance: Optional[random.Random] = None,
    ) -> None:
        self._chance = chance or random.Random()
        self._soon = False
        self._service = _Redialing(
            _Attempt(peer, endpoint, clock),
            factory,
            retryPolicy=lambda _failures: self._delay(),
            clock=clock,
        )
        self._machine = _dialing(_Core(self._service, clock, self._delay))

    @property
    def calling(self) -> bool:
        """Whether it calls, or has called: it is neither suspended nor stopped."""
        return bool(self._service.running)

    def start(self, suspended: bool = False) -> None:
        """Call, and call again whenever the connection ends.

        ``suspended`` is whether the peer has called us, so that this waits for `resume`.
        """
        if suspended:
            self._machine.hold()
        else:
            self._machine.call()

    def stop(self) -> Deferred[Any]:
        """Hang up and call no more; fires when the connection is closed."""
        return self._machine.stop()

    def suspend(self) -> Deferred[Any]:
        """Hang up and do not call until `resume`: the peer has called us."""
        return self._machine.hold()

    def call_soon(self) -> None:
        """The next call comes within a random 50 to 2050 ms, not after 5 s."""
        self._soon = True

    def resume(self) -> None:
        """The peer's call is over: call again after the usual wait."""
        self._machine.resume()

    def _delay(self) -> float:
        if self._soon:
            self._soon = False
            return self._chance.uniform(*_SOON)
        return RECONNECT_TIMEOUT


class _Redialing(ClientService):
    """A ``ClientService`` that does not log every single retry: `_Attempt` says why it fails."""

    _log = Logger(
        observer=FilteringLogObserver(globalLogPublisher, [LogLevelFilterPredicate(LogLevel.warn)])
    )


@implementer(IStreamClientEndpoint)
class _Attempt:
    """An endpoint that notes why a connection could not be made."""

    _log = Logger()

    def __init__(
        self, peer: PeerMemory, endpoint: IStreamClientEndpoint, clock: IReactorTime
    ) -> None:
        self._peer = peer
        self._endpoint = endpoint
        self._clock = clock

    def __repr__(self) -> str:
        return f"<peer {self._peer.name} at {self._endpoint}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt = self._endpoint.connect(protocolFactory)
        attempt.addTimeout(CONNECT_TIMEOUT, self._clock, _no_answer)
        attempt.addErrback(self._failed)
        return attempt

    def _failed(self, reason: Failure) -> Failure:
        if reason.check(CancelledError, ConnectingCancelledError):
            return reason  # it was we who hung up
        why = f"cannot connect: {reason.getErrorMessage()}"
        if self._peer.trouble != why:
            self._peer.trouble = why
            self._log.warn("peer {peer}: {why}", peer=self._peer.shown, why=why)
        return reason


def _no_answer(result: Any, seconds: float) -> Any:
    """The result of a call that was given up: the connection, if it was made all the same."""
    if isinstance(result, Failure):
        return Failure(TimeoutError(f"no answer within {seconds:g} s"))
    return result

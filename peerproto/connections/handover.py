"""What an old process does once it is told to stop softly (doc/protocol.md, "Hand-over").

It calls its own address, where a new process of its name listens by now,
teaches that one all it has, and is done when the lesson is confirmed. Refused,
it tries again; without a session for 5 s, it gives up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.connections.factory import QuietFactory
from peerproto.connections.handshake import CallingHandshake
from peerproto.connections.mesh import Mesh
from peerproto.peering.session import Session

RETRY_TIMEOUT: Final = 0.5
"""Seconds after which a new process that refused is called again."""

GIVE_UP_TIMEOUT: Final = 5.0
"""Seconds without a session after which the old process gives up.

A lesson that has begun is not cut: it has no time limit of its own.
"""


class HandOver:
    """Calls the new process until it has learnt everything."""

    _log = Logger()

    def __init__(self, mesh: Mesh, endpoint: IStreamClientEndpoint) -> None:
        """``endpoint`` leads to our own address."""
        self._mesh = mesh
        self._clock = mesh.clock
        self._endpoint = endpoint
        self._done: Deferred[bool] = Deferred()
        self._calling: Optional[IDelayedCall] = None
        self._connecting: Optional[Deferred[IProtocol]] = None
        self._giving_up: Optional[IDelayedCall] = None

    def start(self) -> Deferred[bool]:
        """Fires with whether the new process has confirmed its lesson."""
        self._wait()
        self._call()
        return self._done

    def stop(self) -> None:
        """Give up at once: the old process ends, and teaches nobody any more."""
        self._finish(False)

    def _wait(self) -> None:
        if self._giving_up is None:
            self._giving_up = self._clock.callLater(GIVE_UP_TIMEOUT, self._give_up)

    def _call(self) -> None:
        self._calling = None
        self._connecting = self._endpoint.connect(QuietFactory(self._handshake))
        self._connecting.addErrback(self._refused)

    def _handshake(self) -> CallingHandshake:
        return _Teaching(self._mesh, self._teaching, self._over)

    def _teaching(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _over(self, taught: bool) -> None:
        if taught:
            self._finish(True)
        else:
            self._try_again()

    def _refused(self, reason: Failure) -> None:
        if not self._done.called:
            self._log.warn("the new process cannot be reached: {why}", why=reason.getErrorMessage())
            self._try_again()

    def _try_again(self) -> None:
        if not self._done.called and self._calling is None:
            self._wait()
            self._calling = self._clock.callLater(RETRY_TIMEOUT, self._call)

    def _give_up(self) -> None:
        self._giving_up = None
        self._log.error(
            "no new process took our tables over within {seconds:g} s", seconds=GIVE_UP_TIMEOUT
        )
        self._finish(False)

    def _finish(self, taught: bool) -> None:
        for call in (self._calling, self._giving_up):
            if call is not None:
                call.cancel()
        self._calling = self._giving_up = None
        if not self._done.called:
            self._done.callback(taught)
            if self._connecting is not None:
                self._connecting.cancel()


class _Teaching(CallingHandshake):
    """Calls a process of our own name, and teaches it without being asked."""

    def __init__(
        self,
        mesh: Mesh,
        teaching: Callable[[], None],
        over: Callable[[bool], None],
    ) -> None:
        super().__init__(mesh, mesh.node.local)
        self._teaching = teaching
        self._tell_over = over

    def established(self, session: Session) -> None:
        self._teaching()
        session.teach()

    def ended(self, session: Session, why: str) -> None:
        super().ended(session, why)
        self._tell_over(session.taught)

    def trouble(self, why: str) -> None:
        super().trouble(why)
        self._tell_over(False)

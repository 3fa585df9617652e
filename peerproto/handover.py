"""What an old process does once it is told to stop softly (specification, part III a).

It calls its own address, where a new process of its name listens by now,
teaches that one all it has, and is done when the lesson is confirmed. Refused,
it tries again; without a session for 5 s, it gives up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.peering.factory import QuietFactory
from peerproto.peering.handshake import CallingHandshake
from peerproto.peering.node import Node
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

    def __init__(self, node: Node, clock: IReactorTime, endpoint: IStreamClientEndpoint) -> None:
        """``endpoint`` leads to our own address."""
        self._node = node
        self._clock = clock
        self._endpoint = endpoint
        self._done: Deferred[bool] = Deferred()
        self._calling: Optional[IDelayedCall] = None
        self._giving_up: Optional[IDelayedCall] = None

    def start(self) -> Deferred[bool]:
        """Fires with whether the new process has confirmed its lesson."""
        self._wait()
        self._call()
        return self._done

    def _wait(self) -> None:
        if self._giving_up is None:
            self._giving_up = self._clock.callLater(GIVE_UP_TIMEOUT, self._give_up)

    def _call(self) -> None:
        self._calling = None
        self._endpoint.connect(QuietFactory(self._handshake)).addErrback(self._refused)

    def _handshake(self) -> CallingHandshake:
        return _Teaching(self._node, self._clock, self._teaching, self._over)

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


class _Teaching(CallingHandshake):
    """Calls a process of our own name, and teaches it without being asked."""

    def __init__(
        self,
        node: Node,
        clock: IReactorTime,
        teaching: Callable[[], None],
        over: Callable[[bool], None],
    ) -> None:
        super().__init__(node, clock, node.peers[node.localpeer])
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

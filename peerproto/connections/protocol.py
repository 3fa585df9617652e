"""The binary side of a connection: bytes to a session, and what it gives to the transport."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Optional, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from peerproto.connections.clock import milliseconds
from peerproto.connections.turns import Steps
from peerproto.peering.events import Event
from peerproto.peering.session import Session
from peerproto.tables.store import TableStore

SLICE: Final = 8192
"""Bytes drawn from a session at once: a ms or two of work."""

BUFFER: Final = 16384
"""Bytes that wait in a transport before it asks to pause: 64 KiB by default, which is
much for 50 peers that read slowly."""

LINGER: Final = 1.0
"""Seconds that a closed connection has to get rid of what was written."""


@implementer(IPushProducer)
class SessionProtocol(Protocol):
    """Feeds a session, runs its timer, and writes at the transport's pace."""

    _log = Logger()

    def __init__(
        self,
        session: Session,
        clock: IReactorTime,
        turns: Cooperator,
        took: Callable[[Session, Sequence[Event]], None],
        ended: Callable[[Session, str], None],
    ) -> None:
        """
        :param turns: shares the reactor among all with much to do.
        :param took: called with the events of the session.
        :param ended: called once, with the reason, when the session is over.
        """
        self.session = session
        self._transport: ITCPTransport
        self._clock = clock
        self._turns = turns
        self._took = took
        self._ended: Optional[Callable[[Session, str], None]] = ended
        self._paused = False
        self._alarm: Optional[IDelayedCall] = None
        self._slices: Optional[Steps] = None
        self._reading: Optional[Steps] = None
        self._lingering: Optional[IDelayedCall] = None

    def now(self) -> int:
        """The time in ms."""
        return milliseconds(self._clock)

    def connectionMade(self) -> None:
        if isinstance(self.transport, FileDescriptor):
            self.transport.bufferSize = BUFFER
        self._transport = cast(ITCPTransport, self.transport)
        cast(IConsumer, self.transport).registerProducer(self, True)
        self._set_alarm()
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        session = self.session
        events = session.receive(data, milliseconds(self._clock))
        if events:
            self._took(session, events)
        if session.unread and not session.over and self._reading is None:
            # What it sent costs much to read: others have their turn in between.
            cast(IPushProducer, self.transport).pauseProducing()
            self._reading = Steps(self._turns, self._read_slices(), self._failed)
        self.flush()

    def _read_slices(self) -> Iterator[None]:
        while self.session.unread and not self.session.over:
            yield
            self._happened(self.session.read_on(self.now()))
            self.flush()
        self._reading = None
        if self._ended is not None:
            cast(IPushProducer, self.transport).resumeProducing()

    def _happened(self, events: Sequence[Event]) -> None:
        if events:
            self._took(self.session, events)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish(f"connection lost: {reason.getErrorMessage()}")
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    # -- writing ---------------------------------------------------------

    def flush(self) -> None:
        """Write what the session has to send; the rest in turns with others, if it is much."""
        if self._ended is None or self._slices is not None:
            return
        more = not self._paused and self._write_slice()
        if self.session.over:
            self.close("")
        elif more:
            self._slices = Steps(self._turns, self._write_slices(), self._failed)

    def look_again(self, added: Collection[TableStore], adopt: bool) -> None:
        """Other tables are shared than before: see `Session.look_again`. What fails here is no
        fault of others."""
        try:
            self._happened(self.session.look_again(added, self.now(), adopt))
            self.flush()
        except Exception:
            self._failed(Failure())

    def flush_safely(self) -> None:
        """`flush`, when it is another's doing: what fails here is no fault of that one."""
        try:
            self.flush()
            if self._alarm is not None and self.session.ask_at is not None:
                # That may have been set meanwhile.
                self._alarm.cancel()
                self._set_alarm()
        except Exception:
            self._failed(Failure())

    def _write_slice(self) -> bool:
        """Write what the session gives at once: whether it has more, and the transport takes it."""
        data = self.session.pull(SLICE, milliseconds(self._clock))
        if data:
            self._transport.write(data)
        return not self._paused and self.session.wants_to_send

    def _write_slices(self) -> Iterator[None]:
        while not self._paused and self._write_slice():
            yield
        self._slices = None
        if self.session.over:
            self.close("")

    def _failed(self, reason: Failure) -> None:
        """Something of ours went wrong: this session ends, and no other."""
        self._log.failure(
            "the session with peer {peer} failed", reason, peer=self.session.peer.shown
        )
        self._abort()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        self._paused = True

    # -- the end ---------------------------------------------------------

    def drop(self) -> None:
        """The peer has a newer session: close this one without waiting for it."""
        self.session.replaced()
        self._abort()

    def close(self, why: str) -> None:
        """End the session: what was written goes out first, if the peer reads it soon."""
        if self._ended is not None:
            self._transport.loseConnection()
            self._lingering = self._clock.callLater(LINGER, self._linger_no_more)
            self._finish(why)

    def _linger_no_more(self) -> None:
        self._lingering = None
        self._transport.abortConnection()

    def _abort(self) -> None:
        self._transport.abortConnection()
        self._finish("")

    def _finish(self, why: str) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        for task in (self._slices, self._reading):
            if task is not None:
                task.stop()
        self._alarm = self._slices = self._reading = None
        ended, self._ended = self._ended, None
        if ended is not None:
            self.session.closed(why)
            cast(IConsumer, self.transport).unregisterProducer()
            ended(self.session, self.session.ended_by or why)

    # -- time ------------------------------------------------------------

    def _set_alarm(self) -> None:
        delay = max(0, self.session.next_wake() - self.now())
        self._alarm = self._clock.callLater(delay / 1000, self._wake)

    def _wake(self) -> None:
        """Judge in another turn: a reactor that had none for long runs what is due before it reads
        what has come meanwhile."""
        self._alarm = self._clock.callLater(0, self._judge)

    def _judge(self) -> None:
        self._alarm = None
        try:
            self._happened(self.session.wake(self.now()))
            if self.session.over:
                self._abort()
                return
            self._set_alarm()
            self.flush()
        except Exception:
            self._failed(Failure())

"""The runtime socket: lines of commands in, answers out, at the reader's pace.

As HAProxy's: ``;`` between commands, an empty line after each answer, and the
connection closed after one line of commands, unless ``prompt`` was said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Optional, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from peerproto.runtime.answers import Answers
from peerproto.runtime.commands import Commands
from peerproto.runtime.importing import import_commands
from peerproto.runtime.info import info_commands
from peerproto.runtime.jsonlines import json_commands
from peerproto.runtime.peers import peer_commands
from peerproto.runtime.tables import table_commands
from peerproto.runtime.words import split_commands
from peerproto.service.listening import ListeningService
from peerproto.service.service import StickTableService

MAX_LINE: Final = 16384
"""Longest line of commands in bytes, HAProxy's buffer size."""

IDLE_TIMEOUT: Final = 10.0
"""Seconds that a connection may wait for a command, as in HAProxy."""

STALLED_TIMEOUT: Final = 60.0
"""Seconds that a client may take to read what the buffers hold."""

BUFFER: Final = 16384
"""Bytes that wait in a transport before an answer pauses."""

PROMPT: Final = "\n> "


@implementer(IHalfCloseableProtocol)
class RuntimeProtocol(LineReceiver, TimeoutMixin):
    """One connection to the runtime socket.

    While commands of a line wait, no further line is read. A client that closes
    its sending side has said its last line, and gets all answers.
    """

    _log = Logger()

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(
        self,
        commands: Commands,
        clock: IReactorTime,
        turns: Cooperator,
        left: Callable[[], object] = lambda: None,
    ) -> None:
        """``left`` is called when the connection has ended, and what was asked for is done."""
        self._commands = commands
        self._clock = clock
        self._turns = turns
        self._left = left
        self._closing = self._input_over = self._stalled = self._lost = False

    def callLater(
        self, period: float, func: Callable[..., object], *arguments: object
    ) -> IDelayedCall:
        """What ``TimeoutMixin`` runs its timer with."""
        return self._clock.callLater(period, func, *arguments)

    def connectionMade(self) -> None:
        transport = self._transport
        if isinstance(transport, FileDescriptor):
            transport.bufferSize = BUFFER
        self._answers = Answers(
            self._commands, self._turns, transport, self._answered, self._moving
        )
        self.setTimeout(IDLE_TIMEOUT)
        cast(IConsumer, transport).registerProducer(self._answers, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._lost = True
        self._answers.gone()
        if not self._answers.busy:
            self._left()

    @property
    def _transport(self) -> ITCPTransport:
        return cast(ITCPTransport, self.transport)

    # -- reading ---------------------------------------------------------

    def lineReceived(self, line: bytes) -> None:
        if self._closing:
            return
        self.setTimeout(None)
        commands = split_commands(line.rstrip(b"\r").decode("utf-8", "surrogateescape"))
        if self._answers.stays(commands):
            self.pauseProducing()
        else:
            self.setRawMode()
        self._answers.begin(commands)

    def rawDataReceived(self, data: bytes) -> None:
        """Input after the last line, which is dropped."""

    def lineLengthExceeded(self, line: bytes) -> None:
        self._answers.write(f"A line of commands may have {MAX_LINE} bytes at most\n\n")
        self._hang_up()

    def readConnectionLost(self) -> None:
        """The client has closed its sending side."""
        self._input_over = True
        if not self._answers.busy:
            self._end_of_input()

    def writeConnectionLost(self) -> None:
        """We close both sides at once, never this one alone."""

    def _end_of_input(self) -> None:
        """A last line needs no newline; without one, there is nothing more to answer."""
        last = self.clearLineBuffer() if self.line_mode else b""
        if last:
            self.lineReceived(last)
        else:
            self._hang_up()

    # -- answering -------------------------------------------------------

    def _answered(self) -> None:
        if self._lost:
            self._left()
            return
        if not self._answers.interactive:
            self._hang_up()
            return
        self._answers.write(PROMPT)
        self.setTimeout(STALLED_TIMEOUT if self._stalled else IDLE_TIMEOUT)
        self._read_on()

    def _read_on(self) -> None:
        """Take the next line: it may have come already."""
        if not self._input_over:
            self.resumeProducing()
            return
        # The transport is not to be asked to read any more.
        self.paused = False
        self.dataReceived(b"")
        if not self._answers.busy and not self._closing:
            self._end_of_input()

    def _moving(self, moving: bool) -> None:
        """The client takes what is written, or has stopped doing so."""
        self._stalled = not moving
        if self._stalled:
            self.setTimeout(STALLED_TIMEOUT)
        elif not self._closing:
            self.setTimeout(None if self._answers.busy else IDLE_TIMEOUT)

    def _hang_up(self) -> None:
        """Close once all is written, for which a client has its time."""
        self._closing = True
        self.setTimeout(STALLED_TIMEOUT)
        cast(IConsumer, self.transport).unregisterProducer()
        self._transport.loseConnection()

    def timeoutConnection(self) -> None:
        if self._stalled or self._closing:
            self._log.warn(
                "a runtime client has read nothing for {seconds:g} s, and is dropped",
                seconds=STALLED_TIMEOUT,
            )
            self._transport.abortConnection()
        else:
            self._hang_up()


class RuntimeFactory(Factory):
    """Makes the protocol for each client, as many as there may be at one time."""

    _log = Logger()

    noisy = False

    def __init__(
        self, commands: Commands, clock: IReactorTime, turns: Cooperator, most: int
    ) -> None:
        """``most`` is how many clients there may be."""
        self._commands = commands
        self._clock = clock
        self._turns = turns
        self._most = most
        self._complained = False
        self.clients = 0
        """How many there are."""

    def buildProtocol(self, addr: Optional[IAddress]) -> Protocol:
        if self.clients >= self._most:
            if not self._complained:
                self._complained = True
                self._log.warn("runtime clients are turned away: there are {most}", most=self._most)
            return _TurnedAway(self._most)
        self.clients += 1
        return RuntimeProtocol(self._commands, self._clock, self._turns, self._left)

    def _left(self) -> None:
        self.clients -= 1
        self._complained = False


class _TurnedAway(Protocol):
    """Tells a client that there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most

    def connectionMade(self) -> None:
        transport = cast(ITCPTransport, self.transport)
        transport.write(f"There are {self._most} runtime clients already\n\n".encode())
        transport.loseConnection()


class RuntimeService(ListeningService):
    """Answers runtime commands at an endpoint."""

    def __init__(self, endpoint: IStreamServerEndpoint, factory: RuntimeFactory) -> None:
        super().__init__(endpoint, factory, "the runtime socket")


def runtime_commands(service: StickTableService) -> Commands:
    """All commands for this service and its parts."""
    own = [
        *table_commands(service),
        *peer_commands(service),
        *info_commands(service),
        *json_commands(service),
        *import_commands(service),
    ]
    return Commands(own, service.parts.commands)


def runtime_service(
    service: StickTableService, endpoint: IStreamServerEndpoint, clock: IReactorTime
) -> RuntimeService:
    """A service that answers runtime commands at ``endpoint``."""
    factory = RuntimeFactory(
        runtime_commands(service), clock, service.turns, service.limits.runtime_clients
    )
    return RuntimeService(endpoint, factory)

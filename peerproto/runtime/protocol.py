"""The runtime socket: lines of commands in, answers out, at the reader's pace.

As HAProxy's: ``;`` between commands, an empty line after each answer, and the
connection closed after one line of commands, unless ``prompt`` was said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Optional, cast

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from peerproto.peering.factory import QuietFactory
from peerproto.runtime.commands import Commands
from peerproto.runtime.info import info_commands
from peerproto.runtime.peers import peer_commands
from peerproto.runtime.tables import table_commands
from peerproto.runtime.words import split_commands
from peerproto.service import StickTableService

MAX_LINE: Final = 16384
"""Longest line of commands in bytes, HAProxy's buffer size."""

SLICE: Final = 250
"""Pieces of an answer, or entries looked at, in one turn of the reactor."""

IDLE_TIMEOUT: Final = 10.0
"""Seconds that a connection may wait for a command, as in HAProxy."""

PROMPT: Final = "\n> "


@implementer(IPushProducer)
class RuntimeProtocol(LineReceiver, TimeoutMixin):
    """One connection to the runtime socket."""

    _log = Logger()

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, commands: Commands, clock: IReactorTime) -> None:
        self._commands = commands
        self._clock = clock
        self._interactive = False
        self._queue: list[list[str]] = []
        self._answer: Optional[Iterator[str]] = None
        self._last_line = False
        self._paused = False
        self._turn: Optional[IDelayedCall] = None

    def callLater(
        self, period: float, func: Callable[..., object], *arguments: object
    ) -> IDelayedCall:
        """What `TimeoutMixin` runs its timer with."""
        return self._clock.callLater(period, func, *arguments)

    def connectionMade(self) -> None:
        self.setTimeout(IDLE_TIMEOUT)
        cast(IConsumer, self.transport).registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def lineReceived(self, line: bytes) -> None:
        if self._last_line:
            return
        self.setTimeout(None)
        text = line.rstrip(b"\r").decode("utf-8", "surrogateescape")
        self._queue += split_commands(text)
        self._go_on()
        self._last_line = not self._interactive

    def lineLengthExceeded(self, line: bytes) -> None:
        self._write(f"A line of commands may have {MAX_LINE} bytes at most\n\n")
        self._hang_up()

    # -- answering -------------------------------------------------------

    def _go_on(self) -> None:
        """Write a slice of the current answer, or begin the next one."""
        if self._paused or self._turn is not None:
            return
        if self._answer is None:
            if not self._queue:
                self._done()
                return
            words = self._queue.pop(0)
            if words == ["prompt"]:
                self._interactive = not self._interactive
            elif words == ["quit"]:
                self._hang_up()
                return
            else:
                self._answer = self._commands.answer(words)
        if self._answer is not None:
            self._write_slice(self._answer)
        self._turn = self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._go_on()

    def _write_slice(self, answer: Iterator[str]) -> None:
        try:
            pieces = list(islice(answer, SLICE))
        except Exception:
            self._log.failure("a runtime command failed")
            pieces = ["Internal error: see the log\n"]
        if len(pieces) < SLICE:
            self._answer = None
            pieces.append("\n")
        self._write("".join(pieces))

    def _done(self) -> None:
        if self._interactive:
            self._write(PROMPT)
            self.setTimeout(IDLE_TIMEOUT)
        else:
            self._hang_up()

    def _write(self, text: str) -> None:
        if text:
            transport = cast(ITransport, self.transport)
            transport.write(text.encode("utf-8", "surrogateescape"))

    def _hang_up(self) -> None:
        cast(IConsumer, self.transport).unregisterProducer()
        cast(ITransport, self.transport).loseConnection()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        self._paused = True


def runtime_commands(service: StickTableService) -> Commands:
    """All commands for this service."""
    return Commands([*table_commands(service), *peer_commands(service), *info_commands(service)])


def runtime_service(
    service: StickTableService, endpoint: IStreamServerEndpoint, clock: IReactorTime
) -> StreamServerEndpointService:
    """A service that answers runtime commands at ``endpoint``."""
    commands = runtime_commands(service)
    factory = QuietFactory(lambda: RuntimeProtocol(commands, clock))
    return StreamServerEndpointService(endpoint, factory)

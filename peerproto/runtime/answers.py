"""Runs the commands of a line, and writes their answers at the reader's pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Optional

from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.task import CooperativeTask, Cooperator, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from peerproto.runtime.commands import Commands

SLICE: Final = 50
"""Pieces of an answer, or entries looked at, before it is another client's turn."""

SLICE_LENGTH: Final = 8192
"""Characters of an answer after which it is another client's turn, too."""

Words = list[str]


@implementer(IPushProducer)
class Answers:
    """The commands of one connection that wait, and the answer that is being written.

    Commands that change something are carried out even if the client has gone.
    """

    _log = Logger()

    def __init__(
        self,
        commands: Commands,
        turns: Cooperator,
        transport: ITransport,
        done: Callable[[], None],
        moving: Callable[[bool], None],
    ) -> None:
        """
        :param turns: shares the reactor between all that have much to do.
        :param done: called when all commands of a line are answered, or done for a client
            that has gone.
        :param moving: called with whether the client takes what is written.
        """
        self._commands = commands
        self._turns = turns
        self._transport = transport
        self._done = done
        self._moving = moving
        self._queue: deque[Words] = deque()
        self._answer: Optional[Iterator[str]] = None
        self._changes = False
        self._paused = self._gone = False
        self._task: Optional[CooperativeTask[Iterator[None]]] = None
        self.interactive = False
        """Whether ``prompt`` was said."""

    @property
    def busy(self) -> bool:
        """Whether there is a line that is not answered to its end."""
        return self._task is not None

    def stays(self, commands: list[Words]) -> bool:
        """Whether the connection waits for a further line after these commands."""
        toggles = commands.count(["prompt"])
        return ["quit"] not in commands and self.interactive != (toggles % 2 == 1)

    def begin(self, commands: list[Words]) -> None:
        """Answer the commands of a line, in turns with others."""
        self._queue += commands
        self._task = self._turns.cooperate(self._slices())
        self._task.whenDone().addErrback(self._failed)
        if self._paused:
            self._task.pause()

    def gone(self) -> None:
        """The client has gone: only what changes something is done."""
        self._gone = True
        commands = list(self._queue)
        if ["quit"] in commands:
            commands = commands[: commands.index(["quit"])]
        self._queue = deque(words for words in commands if self._commands.changes(words))
        if not self._changes:
            self._answer = None
        if self._task is None:
            return
        if self._answer is None and not self._queue:
            self._task.stop()
            self._task = None
        elif self._paused:
            self._task.resume()

    # -- answering -------------------------------------------------------

    def _slices(self) -> Iterator[None]:
        """Write a slice of an answer in each turn, until all commands are answered."""
        while self._answer is not None or self._queue:
            if self._answer is None:
                self._next(self._queue.popleft())
            if self._answer is not None:
                self._write_slice(self._answer)
            yield
        self._task = None
        self._done()

    def _failed(self, reason: Failure) -> None:
        if not reason.check(TaskStopped):
            self._task = self._answer = None
            self._queue.clear()
            self._log.failure("the answers to a runtime client end early", reason)
            self._transport.loseConnection()
            if self._gone:
                self._done()

    def _next(self, words: Words) -> None:
        if words == ["prompt"]:
            self.interactive = not self.interactive
        elif words == ["quit"]:
            self.interactive = False
            self._queue.clear()
        else:
            self._changes = self._commands.changes(words)
            self._answer = self._commands.answer(words)

    def _write_slice(self, answer: Iterator[str]) -> None:
        pieces: list[bytes] = []
        length = 0
        try:
            for piece in islice(answer, SLICE):
                pieces.append(_encoded(piece))
                length += len(piece)
                if length >= SLICE_LENGTH:
                    break
            else:
                if len(pieces) < SLICE:
                    self._answer = None
        except Exception:
            self._log.failure("a runtime command failed")
            pieces.append(b"Internal error: see the log\n")
            self._answer = None
        if self._answer is None:
            pieces.append(b"\n")
        self._write(b"".join(pieces))

    def write(self, text: str) -> None:
        """Write a text, if the client is there."""
        self._write(_encoded(text))

    def _write(self, data: bytes) -> None:
        if data and not self._gone:
            self._transport.write(data)

    def pauseProducing(self) -> None:
        if not self._paused:
            self._paused = True
            if self._task is not None:
                self._task.pause()
            self._moving(False)

    def resumeProducing(self) -> None:
        if self._paused:
            self._paused = False
            self._moving(True)
            if self._task is not None:
                self._task.resume()

    def stopProducing(self) -> None:
        """The connection is lost, of which `gone` tells."""


def _encoded(text: str) -> bytes:
    """A text as it is sent: bytes that are no UTF-8 as they came."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")

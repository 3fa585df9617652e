"""The lines before the messages: a hello, or a status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from peerproto.terminal.decode.told import BREAKS, Told, remark, word
from peerproto.wire.errors import MalformedMessage, RefusedHello
from peerproto.wire.handshake import (
    MAJOR,
    MAX_LINE,
    PROTOCOL_WORD,
    Status,
    read_caller,
    read_status,
    read_version,
)
from peerproto.wire.printable import printable

HELLO_LINES: Final = 3


class Greeting:
    """The lines of one direction, as they come."""

    def __init__(self, wanted: int) -> None:
        """``wanted`` is 3 for a hello, 1 for a status."""
        self._wanted = wanted
        self._lines = 0
        self._rest = b""
        self.offset = 0
        """How many bytes were taken."""
        self.minor: int | None = None
        """The minor version that a hello has said."""
        self.status: int | None = None
        self.broken = False
        """Whether a line is so long that the end of it is not looked for."""

    @property
    def complete(self) -> bool:
        """Whether all lines have come."""
        return self._lines == self._wanted

    @property
    def unfinished(self) -> bytes:
        """The bytes of a line that has not ended."""
        return self._rest

    @property
    def missing(self) -> str:
        """What the next line would have been."""
        if self._wanted == 1:
            return "a status, three digits and a line feed"
        return (
            f"{PROTOCOL_WORD} <version> and two more lines",
            "the name of the peer that is called, and one more line",
            "<name> <process id> <relative id> and a line feed",
        )[self._lines]

    def receive(self, data: bytes) -> Iterator[Told]:
        """Take bytes: each whole line. What is behind the last one stays in `take_rest`."""
        self._rest += data
        while not self.complete and not self.broken:
            line, found, behind = self._rest.partition(b"\n")
            if len(line) > MAX_LINE:
                self.broken = True
                what = f"line {self._lines + 1} before the session"
                read = f"more than {MAX_LINE} bytes without a line feed"
                yield remark(BREAKS, self.offset, what, read, f"{MAX_LINE} at most")
            if self.broken or not found:
                return
            self._rest = behind
            yield self._status(line) if self._wanted == 1 else self._hello(line)
            self._lines += 1
            self.offset += len(line) + 1

    def take_rest(self) -> bytes:
        """What is behind the last line."""
        rest, self._rest = self._rest, b""
        return rest

    def _status(self, line: bytes) -> Told:
        try:
            number = read_status(line)
        except MalformedMessage as problem:
            read = printable(str(problem.read))
            return remark(BREAKS, self.offset, problem.what, read, problem.expected)
        self.status = number
        known = number in Status.__members__.values()
        meaning = Status(number).meaning if known else "not known: the session does not begin"
        return Told(self.offset, "status", f"{number}: {meaning}", {"status": number})

    def _hello(self, line: bytes) -> Told:
        try:
            if self._lines == 0:
                self.minor = read_version(line)
                version = f"{MAJOR}.{self.minor}"
                return self._line(f"{PROTOCOL_WORD} {version}", "version", version)
            text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
            if self._lines == 1:
                return self._line(f"calls {word(text)}", "called", word(text))
            name, _ = read_caller(line)
            process = printable(text.partition(" ")[2])
            return self._line(f"from {word(name)}, process {process}", "caller", word(name))
        except RefusedHello as problem:
            read = printable(str(problem.read))
            expected = f"{problem.expected} (answered with {int(problem.status)})"
            return remark(BREAKS, self.offset, problem.what, read, expected)

    def _line(self, text: str, name: str, value: str) -> Told:
        return Told(self.offset, "hello", text, {name: value})

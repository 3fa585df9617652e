"""What is told of a recording as lines: for people, or as JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import IO, Final, Optional

import click

from peerproto.terminal.decode.recording import (
    CONNECTION,
    CONNECTION_OVER,
    DAMAGED,
    RECORDING,
    Heard,
)
from peerproto.terminal.decode.told import BREAKS, ODD

_COLOURS: Final = {
    BREAKS: "red",
    DAMAGED: "red",
    ODD: "yellow",
    "cut": "yellow",
    "missing": "yellow",
    "skipped": "yellow",
    "unread": "yellow",
    CONNECTION: "green",
    CONNECTION_OVER: "green",
    RECORDING: "yellow",
    "definition": "cyan",
}

_FLUSHED: Final = 1 << 14
"""Characters of a connection that are kept before they are put into the file."""

_MOST: Final = 1 << 22
"""The same of all connections together."""


def as_json(heard: Heard) -> str:
    """One object, in one line."""
    head: dict[str, object] = {"message": heard.told.kind}
    if heard.connection:
        head["connection"] = heard.connection
    if heard.from_caller is not None:
        head["from_caller"] = heard.from_caller
    if heard.time is not None:
        head["time_ms"] = heard.time / 1e6
    if heard.told.offset is not None:
        head["offset"] = heard.told.offset
    return json.dumps({**head, **heard.told.fields, "text": heard.told.text})


def as_text(heard: Heard, colour: bool, numbered: bool) -> str:
    """One line for people; ``numbered`` has the connection in front."""
    told = heard.told
    kind = f"{told.kind:<18}"
    if colour and told.kind in _COLOURS:
        kind = click.style(kind, fg=_COLOURS[told.kind])
    if told.kind == CONNECTION:
        return f"{kind} {heard.connection}: {told.text}"
    parts = [f"{f'#{heard.connection}' if heard.connection else '':<5}"] if numbered else []
    if heard.time is not None:
        side = {True: ">", False: "<", None: " "}[heard.from_caller]
        parts.append(f"{heard.time / 1e6:>12.3f}ms {side}")
    parts.append(f"{'' if told.offset is None else told.offset:>9}")
    return " ".join([*parts, kind, told.text])


class Apart:
    """Lines of several connections, each connection's together.

    The first connection that is open is written at once. What is said in others meanwhile is kept
    in one temporary file, so that much of it takes little memory.
    """

    def __init__(self, write: Callable[[str], object], most: int = _MOST) -> None:
        """``most`` is how many characters are kept in memory."""
        self._write = write
        self._most = most
        self._size = 0
        """How many are."""
        self._kept: dict[int, list[tuple[int, int]]] = {}
        """By connection: where its pieces are in the file, and how long they are."""
        self._fresh: dict[int, list[str]] = {}
        self._sizes: dict[int, int] = {}
        self._over: set[int] = set()
        self._at: Optional[int] = None
        """The connection that is written now."""
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._end = 0

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        problem: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is None:
            self._finish()
        self._file.close()

    def add(self, heard: Heard, line: str) -> None:
        """One more line, of a connection, or of none: that comes behind all of them."""
        number = heard.connection
        if number and self._at is None:
            self._at = number
        if number == self._at:
            self._write(line)
        else:
            self._keep(number, line)
        if heard.told.kind == CONNECTION_OVER:
            self._over.add(number)
            while self._at in self._over:
                self._over.discard(self._at)
                waiting = sorted(one for one in self._fresh if one)
                self._at = waiting[0] if waiting else None
                if self._at is not None:
                    self._replay(self._at)

    def _keep(self, number: int, line: str) -> None:
        self._fresh.setdefault(number, []).append(line)
        self._sizes[number] = self._sizes.get(number, 0) + len(line)
        self._size += len(line)
        if self._sizes[number] >= _FLUSHED:
            self._put_aside(number)
        if self._size >= self._most:
            for one in list(self._fresh):
                self._put_aside(one)

    def _put_aside(self, number: int) -> None:
        piece = "".join(self._fresh[number]).encode("utf-8", "surrogateescape")
        if piece:
            self._file.seek(self._end)
            self._file.write(piece)
            self._kept.setdefault(number, []).append((self._end, len(piece)))
            self._end += len(piece)
        self._size -= self._sizes[number]
        self._fresh[number], self._sizes[number] = [], 0

    def _replay(self, number: int) -> None:
        for at, size in self._kept.pop(number, []):
            self._file.seek(at)
            self._write(self._file.read(size).decode("utf-8", "surrogateescape"))
        self._write("".join(self._fresh.pop(number, [])))
        self._size -= self._sizes.pop(number, 0)

    def _finish(self) -> None:
        """Write what is kept: connections by their numbers, then what is of none."""
        for number in sorted(self._fresh, key=lambda one: one or 1 << 60):
            self._replay(number)

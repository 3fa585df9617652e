"""A section of ``peers.ini``, as each part reads its own; every error names its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Optional, TypeVar

import attrs

from peerproto.connections.addresses import server_endpoint
from peerproto.tables import units
from peerproto.wire.errors import LocalProtocolError

T = TypeVar("T")

_PASSWORD: Final = re.compile(r"(?<=://)[^/?#\s]*:.*@|(?<=password=)[^&\s]*")
"""What may be a password in a URL, with the name of its user: a message does not have it."""


@attrs.define(auto_exc=True, str=False)
class ConfigError(Exception):
    """Something in the file is wrong: where, what was read and what was expected."""

    file: str
    line: int
    read: str
    expected: str

    def __str__(self) -> str:
        read = _PASSWORD.sub("…", self.read)
        read = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in read)
        return f"{self.file}:{self.line}: read '{read}', expected {self.expected}"


@attrs.frozen
class Line:
    """``key = value`` in a section."""

    path: str
    number: int
    key: str
    value: str

    @property
    def where(self) -> str:
        """The file and the line, for messages."""
        return f"{self.path}:{self.number}"

    def wrong(self, expected: str, read: Optional[str] = None) -> ConfigError:
        """The error to raise: the line is not as it should be."""
        read = f"{self.key} = {self.value}" if read is None else read
        return ConfigError(self.path, self.number, read, expected)

    def read_with(self, read: Callable[[str], T]) -> T:
        """What ``read`` makes of the value.

        :raises ConfigError: it raised `LocalProtocolError`.
        """
        try:
            return read(self.value)
        except LocalProtocolError as problem:
            raise self.wrong(problem.expected) from problem

    def choose(self, *words: str) -> str:
        """The value, one of these.

        :raises ConfigError: it is none of them.
        """
        if self.value not in words:
            raise self.wrong(" or ".join(words))
        return self.value


@attrs.define
class Section:
    """``[name]`` and the lines after it; they may stand in several places of the file."""

    name: str
    path: str
    number: int
    """The line of the first heading; 0 if there is none."""
    lines: dict[str, Line] = attrs.field(factory=dict)
    """By key, in the order of the file."""

    def wrong(self, expected: str, read: Optional[str] = None) -> ConfigError:
        """The error to raise: the section is not as it should be."""
        return ConfigError(self.path, self.number, read or f"[{self.name}]", expected)

    def add(self, line: Line) -> None:
        """One more line.

        :raises ConfigError: there is one with its key already.
        """
        first = self.lines.setdefault(line.key, line)
        if first is not line:
            raise line.wrong(f"{line.key} once in [{self.name}]: it is in line {first.number} too")

    def values(self, readers: Mapping[str, Callable[[Line], Any]]) -> dict[str, Any]:
        """By key, what a reader makes of each line.

        :raises ConfigError: there is no reader for a key, or it raised that.
        """
        values: dict[str, Any] = {}
        for key, line in self.lines.items():
            if key not in readers:
                raise line.wrong(f"one of {', '.join(readers)} in [{self.name}]")
            values[key] = readers[key](line)
        return values


def yes_or_no(line: Line) -> bool:
    """Whether a line says ``yes``.

    :raises ConfigError: it says neither that nor ``no``.
    """
    return line.choose("yes", "no") == "yes"


def text(line: Line) -> str:
    """The value as it stands there."""
    return line.value


def milliseconds(line: Line) -> int:
    """The value as a time in ms: ``20ms``, ``10s``, ``1m``.

    :raises ConfigError: it is none.
    """
    return line.read_with(units.milliseconds)


def server_address(line: Line) -> str:
    """The value as the description of a server endpoint: where to listen.

    :raises ConfigError: it is none.
    """
    return line.read_with(server_endpoint)

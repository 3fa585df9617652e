"""Hello and status lines (doc/protocol.md, "Hello" and "Statuses")."""

from __future__ import annotations

import enum
import re
from typing import Final, Optional

import attrs

from peerproto.wire.errors import LocalProtocolError, MalformedMessage, RefusedHello

PROTOCOL_WORD: Final = "HAProxyS"
MAJOR: Final = 2
MINOR: Final = 1
DOWNGRADED_MINOR: Final = 0
"""What is said to a peer that answered 502 before."""

MAX_LINE: Final = 1024
"""Longest line in bytes that is read before the session."""


class Status(enum.IntEnum):
    """Answers to a hello. After any but 200 the connection is closed."""

    SUCCEEDED = 200
    TRY_AGAIN = 300
    PROTOCOL_ERROR = 501
    BAD_VERSION = 502
    LOCAL_NAME_MISMATCH = 503
    REMOTE_NAME_MISMATCH = 504

    @property
    def meaning(self) -> str:
        """What it says, seen from the side that called."""
        return _MEANINGS[self]

    def encode(self) -> bytes:
        """The line as it travels."""
        return b"%d\n" % self.value


_MEANINGS = {
    Status.SUCCEEDED: "handshake succeeded",
    Status.TRY_AGAIN: "try again later",
    Status.PROTOCOL_ERROR: "it read a protocol error in our hello",
    Status.BAD_VERSION: "it does not speak our version of the protocol",
    Status.LOCAL_NAME_MISMATCH: "its own name is not the one that we call it by",
    Status.REMOTE_NAME_MISMATCH: "it does not know us by our name",
}


def check_name(name: str) -> str:
    """The name of a peer, if a hello can have it.

    :raises LocalProtocolError: it is empty, or has white space or control characters.
    """
    if not name or any(character <= " " for character in name):
        raise LocalProtocolError("peer name", name, "text without white space")
    return name


@attrs.frozen
class Hello:
    """The three lines with which a caller introduces itself.

    ``remote`` is the name of the peer called, ``local`` the caller's own.
    """

    remote: str
    local: str
    pid: int
    relative_pid: int = 1
    minor: int = MINOR

    def encode(self) -> bytes:
        """The three lines as they travel.

        :raises LocalProtocolError: a name has white space or control characters.
        """
        lines = (
            f"{PROTOCOL_WORD} {MAJOR}.{self.minor}\n"
            f"{check_name(self.remote)}\n"
            f"{check_name(self.local)} {self.pid} {self.relative_pid}\n"
        )
        return lines.encode("utf-8", "surrogateescape")


_VERSION = re.compile(r"(\d+)\.(\d+)")


def read_version(line: bytes) -> int:
    """The minor version in the first line of a hello.

    :raises RefusedHello: 501 without HAProxy's word, 502 for a version other
        than 2.0 and 2.1.
    """
    text = _text(line)
    word, space, version = text.partition(" ")
    if word != PROTOCOL_WORD or not space:
        raise RefusedHello(
            "first line of the hello", text, f"{PROTOCOL_WORD} <version>", Status.PROTOCOL_ERROR
        )
    match = _VERSION.fullmatch(version)
    if match is None or int(match[1]) != MAJOR or int(match[2]) > MINOR:
        raise RefusedHello(
            "version of the hello", version, f"2.0 to {MAJOR}.{MINOR}", Status.BAD_VERSION
        )
    return int(match[2])


def check_remote(line: bytes, localpeer: str) -> None:
    """Check the second line: the caller must mean us.

    :raises RefusedHello: with the status 503.
    """
    if _text(line) != localpeer:
        raise RefusedHello(
            "second line of the hello", _text(line), localpeer, Status.LOCAL_NAME_MISMATCH
        )


def read_caller(line: bytes) -> tuple[str, Optional[int]]:
    """The caller's name in the third line, and the id of its process, if it is one.

    :raises RefusedHello: 501 without a space after it.
    """
    name, space, rest = _text(line).partition(" ")
    if not space:
        raise RefusedHello(
            "third line of the hello",
            name,
            "<name> <process id> <relative id>",
            Status.PROTOCOL_ERROR,
        )
    process = rest.partition(" ")[0]
    return name, int(process) if re.fullmatch(r"[0-9]{1,10}", process, re.ASCII) else None


def read_status(line: bytes) -> int:
    """The three digits of an answer, whether it is a known `Status` or not.

    :raises MalformedMessage: it is something else.
    """
    text = _text(line)
    if not re.fullmatch(r"[1-9][0-9]{2}", text, re.ASCII):
        raise MalformedMessage("status line", text, "three digits")
    return int(text)


def _text(line: bytes) -> str:
    """A line without its LF, and without the CR that is tolerated before it."""
    if line.endswith(b"\r"):
        line = line[:-1]
    return line.decode("utf-8", "surrogateescape")

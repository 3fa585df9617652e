"""Connections that a test speaks on itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from testbed.waiting import reactor, until


class Conversation(Protocol):
    """A connection that a test speaks on, byte for byte."""

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def end(self) -> None:
        """Close the sending side: nothing more is said."""
        transport: Any = self.transport
        transport.loseWriteConnection()

    def stop_reading(self) -> None:
        """Leave everything that comes in the kernel's buffers."""
        transport: Any = self.transport
        transport.pauseProducing()

    def start_reading(self) -> None:
        """Take what has come, and what comes."""
        transport: Any = self.transport
        transport.resumeProducing()

    def hang_up(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


async def converse(port: int, source: str = "") -> Conversation:
    """Connect to a port, from an address of the loopback if not from that of everybody."""
    bound = (source, 0) if source else None
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=bound)
    conversation: Conversation = await connectProtocol(endpoint, Conversation())
    return conversation


async def closed(conversation: Conversation, what: object) -> bytes:
    """Wait until the other side hangs up: all that it has sent."""

    async def is_closed() -> bool:
        return bool(conversation.closed.called)

    await until(is_closed, f"the connection is closed after {what!r}")
    return conversation.received


async def get(port: int, path: str = "/", source: str = "") -> int:
    """The status of a request to a HAProxy: see `converse`."""
    return int((await _answer(port, path, source)).split(b" ")[1])


async def fields(port: int, path: str = "/") -> dict[str, str]:
    """The header of the answer to a request to a HAProxy; empty if it hangs up instead."""
    lines = (await _answer(port, path)).decode().split("\r\n")
    return dict(line.split(": ", 1) for line in lines if ": " in line)


async def _answer(port: int, path: str, source: str = "") -> bytes:
    conversation = await converse(port, source)
    conversation.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    await conversation.closed
    return conversation.received

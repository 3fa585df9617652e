"""A peer that says what a test tells it to say."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol


class Scripted(Protocol):
    """Says bytes, and reads without an answer."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

        self.received = b""

    def itself(self) -> Scripted:
        """This one: for a factory of one connection."""
        return self

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionMade(self) -> None:
        self.say(self.greeting)

    def say(self, data: bytes) -> None:
        cast(ITransport, self.transport).write(data)

    def hang_up(self) -> None:
        cast(ITransport, self.transport).loseConnection()

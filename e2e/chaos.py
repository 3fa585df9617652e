"""A small proxy between peers that delays what it carries and cuts it at random bytes."""

from __future__ import annotations

import random
from typing import Any, Optional

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from .mesh import reactor

DELAY = 0.02
"""Seconds that a segment waits: all alike, so that none overtakes another."""


class _Side(Protocol):
    """One side of a carried connection."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.other: Optional[_Side] = None
        self.waiting: list[bytes] = []
        self.left = link.chance.randrange(20, 20_000)
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        if self.link.hole:
            return
        if self.link.calm:
            self.carry(data)
            return
        self.left -= len(data)
        if self.left <= 0:
            # The last byte that goes through is anywhere in this segment.
            self.carry(data[: max(0, len(data) + self.left)])
            self.link.cut(self)
        else:
            reactor.callLater(DELAY, self.carry, data)

    def carry(self, data: bytes) -> None:
        if self.other is None:
            self.waiting.append(data)
        elif not self.other.gone:
            self.other.send(data)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def close(self) -> None:
        if not self.gone:
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        if self.other is not None and not self.link.hole:
            self.other.close()


@attrs.define(eq=False)
class Link:
    """The way from one peer to another: a port that leads to the other's."""

    target: int
    chance: random.Random
    calm: bool = False
    """Carry everything at once, and cut nothing."""
    hole: bool = False
    """Carry nothing, and close nothing: neither side learns that the other is gone."""
    sides: list[_Side] = attrs.Factory(list)
    listening: Any = None

    @property
    def port(self) -> int:
        if self.listening is None:
            factory = Factory.forProtocol(self._accept)
            factory.noisy = False
            self.listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        port: int = self.listening.getHost().port
        return port

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> _Side:
        near, far = _Side(self), _Side(self)
        self.sides = [side for side in self.sides if not side.gone] + [near]

        def connected(_: object) -> None:
            near.other, far.other = far, near
            if near.gone:
                far.close()
            for data in near.waiting:
                far.send(data)

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.target, timeout=1)
        connectProtocol(endpoint, far).addCallbacks(connected, lambda _: near.close())
        return near

    def cut(self, *_: object) -> None:
        """Break all connections."""
        for side in list(self.sides):
            side.close()

    def stop(self) -> None:
        self.cut()
        if self.listening is not None:
            self.listening.stopListening()

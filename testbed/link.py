"""A small proxy between peers that delays, cuts, stalls and swallows what it carries."""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from typing import Any, Optional

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from testbed.waiting import reactor

DELAY = 0.02
"""Seconds that a segment waits."""

BUFFER = 1 << 16
"""Bytes that each socket of a link takes: where it is stalled, its sender soon is."""


@implementer(IPushProducer)
class _Side(Protocol):
    """One side of a carried connection."""

    def __init__(self, link: Link, is_caller: bool) -> None:
        self.link = link
        self.is_caller = is_caller
        """Whether this is the side of who called the link."""
        self.other: Optional[_Side] = None
        self.waiting: list[bytes] = []
        """Segments to carry once there is another side."""
        self.delayed: deque[bytes] = deque()
        self.left = link.chance.randrange(20, 20_000)
        """Bytes until this side cuts the link, unless that is calm."""
        self.spent = False
        """Whether those have come: nothing that comes after them is carried."""
        self.gone = False
        self.full = False
        """Whether the other side takes no more for now."""
        self.carried = bytearray()
        """What was carried from this side, if the link records."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            transport.socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self.obey()
        if self.link.refuses:
            self.close()

    def obey(self) -> None:
        """Read, or read no more: the sender's buffers then fill, as with a slow reader."""
        transport: Any = self.transport
        if transport is None or self.gone:
            return
        stalled = self.link.stalled_there if self.is_caller else self.link.stalled_back
        if stalled or self.full:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    def feed(self, other: _Side) -> None:
        """Carry to another side from now on, at the pace at which that one takes it."""
        self.other = other
        transport: Any = other.transport
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.full = True
        self.obey()

    def resumeProducing(self) -> None:
        self.full = False
        self.obey()

    def stopProducing(self) -> None:
        """The other side is gone: it says so itself."""

    def dataReceived(self, data: bytes) -> None:
        if self.link.hole or self.spent:
            return
        if not self.is_caller:
            self.link.count_back(len(data))
        if not self.link.calm:
            self.left -= len(data)
            if self.left <= 0:
                # The last byte that goes through is anywhere in this segment.
                self.spent = True
                data = data[: len(data) + self.left]
        if self.link.calm and not self.delayed:
            self.carry(data)
        else:
            # No segment overtakes one before it, also when the link becomes calm meanwhile.
            self.delayed.append(data)
            reactor.callLater(DELAY, self.arrive)

    def arrive(self) -> None:
        """Carry the first of the segments that wait; after the last byte, cut."""
        self.carry(self.delayed.popleft())
        if self.spent and not self.delayed:
            # Aborting at once would drop what has just been written.
            reactor.callLater(DELAY, self.close)

    def carry(self, data: bytes) -> None:
        if self.other is None:
            self.waiting.append(data)
        elif not self.other.gone:
            self.link.note(self.is_caller)
            if self.link.records:
                self.carried += data
            self.other.send(data)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    @property
    def over(self) -> bool:
        """Whether neither side is there any more."""
        return self.gone and (self.other is None or self.other.gone)

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
    refuses: bool = False
    """Take no connections; see `refuse`."""
    stalled_there: bool = False
    """Take nothing from callers; see `stall`."""
    stalled_back: bool = False
    """Take nothing from the target."""
    last_there: float = 0.0
    """When (in seconds since the epoch) something was carried to the target last."""
    last_back: float = 0.0
    """The same for what came from the target."""
    most_back: Optional[int] = None
    """Bytes to take from the target, about, before it is stalled."""
    records: bool = False
    """Keep what is carried: see `recorded`."""
    sides: list[_Side] = attrs.Factory(list)
    listening: Any = None

    @property
    def settled(self) -> bool:
        """Whether it is calm, carries nothing late, and is about to cut nothing."""
        near = [side for side in self.sides if not side.gone]
        sides = near + [side.other for side in near if side.other is not None]
        return self.calm and not any(side.delayed or side.spent for side in sides)

    def recorded(self) -> list[tuple[bytes, bytes]]:
        """What each connection that is there has carried: from its caller, and back to it."""
        return [
            (bytes(near.carried), bytes(near.other.carried))
            for near in self.sides
            if near.other is not None
        ]

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
        near, far = _Side(self, True), _Side(self, False)
        self.sides = [side for side in self.sides if not side.over] + [near]

        def connected(_: object) -> None:
            if near.gone:
                far.close()
                return
            near.feed(far)
            far.feed(near)
            for data in near.waiting:
                near.carry(data)

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.target, timeout=1)
        connectProtocol(endpoint, far).addCallbacks(connected, lambda _: near.close())
        return near

    def stall(self, there: bool = False, back: bool = False) -> None:
        """Stop carrying in these directions, and carry on in the others; close nothing."""
        self.stalled_there, self.stalled_back = there, back
        for near in self.sides:
            near.obey()
            if near.other is not None:
                near.other.obey()

    def count_back(self, size: int) -> None:
        """So many bytes came from the target."""
        if self.most_back is not None:
            self.most_back -= size
            if self.most_back <= 0:
                self.most_back = None
                self.stall(back=True)

    def note(self, there: bool) -> None:
        """Something is carried now, to the target or from it."""
        if there:
            self.last_there = time.time()
        else:
            self.last_back = time.time()

    def cut(self, *_: object) -> None:
        """Break all connections, on both sides."""
        for near in list(self.sides):
            near.close()
            if near.other is not None:
                near.other.close()

    def refuse(self) -> None:
        """Break all connections, and each that comes, until it is healed."""
        self.refuses = True
        self.cut()

    def heal(self) -> None:
        """Carry everything again. Connections that have lost bytes are broken."""
        self.refuses = False
        if self.hole:
            self.hole = False
            self.cut()
        self.stall()

    def stop(self) -> None:
        self.cut()
        if self.listening is not None:
            self.listening.stopListening()

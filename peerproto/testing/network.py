"""Connections in memory, and the clock that goes with them: what `peerproto.testing` is made of.

A connection carries bytes when it is told to, so many at a time, in each direction by
itself. It can be stalled in one direction, and cut at any byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Optional

import attrs
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IProtocol,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

ROOM: Final = 65536
"""Bytes that wait in a transport before it asks a producer to pause, as in Twisted."""


class MemoryClock(Clock):
    """A clock with turns like a reactor's: what a call schedules for now waits for the next."""

    def advance(self, amount: float) -> None:
        """Move on by ``amount`` seconds, and run what is due then."""
        self.rightNow += amount
        due = [call for call in self.calls if _due(call) <= self.rightNow]
        # A call that was moved has kept its place among the others.
        for call in sorted(due, key=_due):
            if call.active() and _due(call) <= self.rightNow:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def next_call(self) -> Optional[float]:
        """When, by this clock, the next call is due; ``None`` if there is none."""
        return min(map(_due, self.calls), default=None)


def _due(call: IDelayedCall) -> float:
    return call.getTime()


@implementer(IAddress)
@attrs.frozen
class MemoryAddress:
    """The name of a peer, as an address."""

    name: str


@implementer(ITCPTransport, IConsumer)
class MemoryTransport:
    """One end of a `MemoryConnection`: what is written to it goes to the other end."""

    disconnecting = False
    """Whether it closes once all that was written is carried."""

    def __init__(self, name: str, protocol: IProtocol, host: IAddress, peer: IAddress) -> None:
        """``name`` says whose end it is."""
        self.name = name
        self.protocol = protocol
        self.waiting = bytearray()
        """What was written and not carried yet."""
        self.stalled = False
        """Whether what is written here does not arrive; neither does the end of the connection."""
        self.cut_after: Optional[int] = None
        """The connection breaks when so many more bytes of this end have arrived."""
        self.room = ROOM
        self.closed = False
        """Whether the protocol was told of the end."""
        self._aborted = False
        self._reading = True
        self._host, self._peer = host, peer
        self._producer: Any = None
        self._streaming = self._paused = False

    # -- for the protocol ------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.closed or self._aborted:
            return
        self.waiting += data
        if len(self.waiting) > self.room and self._streaming and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.disconnecting = self._aborted = True
        self.waiting.clear()

    def loseWriteConnection(self) -> None:
        """Not in memory: the end of one direction alone."""
        raise NotImplementedError

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer, self._streaming, self._paused = producer, streaming, False

    def unregisterProducer(self) -> None:
        self._producer, self._streaming, self._paused = None, False, False

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getHost(self) -> Any:
        return self._host

    def getPeer(self) -> Any:
        return self._peer

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits for more here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """There is nothing to keep alive."""

    # -- for the connection ----------------------------------------------

    @property
    def reads(self) -> bool:
        """Whether bytes may come in now."""
        return self._reading and not self.disconnecting and not self.closed

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done for this end."""
        return not (
            self.waiting or self.disconnecting or self._paused or self.cut_after is not None
        ) and (self._producer is None or self._streaming)

    @property
    def done(self) -> bool:
        """Whether this end closes now."""
        return not self.closed and (
            self._aborted or (self.disconnecting and not self.waiting and not self._paused)
        )

    @property
    def gone(self) -> bool:
        """Whether the other end is to learn of the end of the connection."""
        return self.closed and not self.stalled and not self.waiting

    def take(self, most: Optional[int]) -> bytes:
        """The next bytes to carry, at most so many."""
        if self.stalled:
            return b""
        counts = [len(self.waiting)]
        counts += [count for count in (most, self.cut_after) if count is not None]
        data = bytes(self.waiting[: min(counts)])
        del self.waiting[: len(data)]
        if self.cut_after is not None:
            self.cut_after -= len(data)
        return data

    def carried(self) -> bool:
        """Let a producer go on, if all was carried: whether there is one."""
        if self._producer is None or self.waiting or not (self._paused or not self._streaming):
            return False
        self._paused = False
        self._producer.resumeProducing()
        return True

    def lose(self, reason: Exception) -> None:
        """Tell the protocol that the connection is over."""
        if not self.closed:
            self.closed = self.disconnecting = True
            if not isinstance(reason, ConnectionDone):
                self.waiting.clear()
            self.protocol.connectionLost(Failure(reason))

    def over(self) -> Exception:
        """Why this end is closed, for its own protocol."""
        return ConnectionAborted() if self._aborted else ConnectionDone()


class MemoryConnection:
    """Two transports, and what is on the way between them."""

    def __init__(self, caller: MemoryTransport, called: MemoryTransport) -> None:
        self.caller = caller
        self.called = called
        self._cut = False

    def __repr__(self) -> str:
        return f"<connection from {self.caller.name} to {self.called.name}>"

    @property
    def names(self) -> tuple[str, str]:
        """Who called, and who was called."""
        return self.caller.name, self.called.name

    @property
    def closed(self) -> bool:
        """Whether both ends are told that it is over."""
        return self.caller.closed and self.called.closed

    @property
    def on_the_way(self) -> int:
        """Bytes that were written and did not arrive yet."""
        return len(self.caller.waiting) + len(self.called.waiting)

    def end(self, name: str) -> MemoryTransport:
        """The end of a peer.

        :raises KeyError: it has none.
        """
        for end in (self.caller, self.called):
            if end.name == name:
                return end
        raise KeyError(name)

    def stall(self, sender: str) -> None:
        """Let nothing of ``sender`` arrive, until it may `flow`."""
        self.end(sender).stalled = True

    def flow(self, sender: str) -> None:
        """Let arrive what ``sender`` has sent and sends."""
        self.end(sender).stalled = False

    def cut(self, after: int = 0, sender: Optional[str] = None) -> None:
        """Break, with the next turn or ``after`` so many bytes of ``sender`` have arrived.

        What is on the way is lost.
        """
        if sender is None:
            self._cut = True
        else:
            self.end(sender).cut_after = after

    def carry(self, most: Optional[int] = None) -> bool:
        """Carry ``most`` bytes in each direction, or all that wait: whether anything happened."""
        if self.caller.idle and self.called.idle and not self._cut:
            return False
        ways = ((self.caller, self.called), (self.called, self.caller))
        if self._cut:
            return self._break()
        happened = False
        taken = [
            (receiver, sender.take(most) if receiver.reads or receiver.disconnecting else b"")
            for sender, receiver in ways
        ]
        for receiver, data in taken:
            if data:
                happened = True
                if receiver.reads:  # what comes after it has closed is lost
                    receiver.protocol.dataReceived(data)
        if any(sender.cut_after == 0 for sender, _ in ways):
            return self._break()
        for sender, receiver in ways:
            happened |= sender.carried()
            if sender.done:
                happened = True
                sender.lose(sender.over())
            if sender.gone and not receiver.closed:
                happened = True
                receiver.lose(ConnectionDone())
        return happened

    def _break(self) -> bool:
        for end in (self.caller, self.called):
            end.lose(ConnectionLost())
        return True

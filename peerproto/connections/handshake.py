"""The text side of a connection: hello and status, then over to a session.

Source: doc/protocol.md, "Handshake". After 200 a ``LineReceiver`` goes raw and hands
every further byte, the rest of the segment included, to a `SessionProtocol`
that it holds.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any, Final, Optional, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IDelayedCall, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from peerproto.connections.clock import milliseconds
from peerproto.connections.mesh import Link, Mesh
from peerproto.connections.protocol import LINGER, SessionProtocol
from peerproto.peering.memory import PeerMemory
from peerproto.peering.session import Session
from peerproto.wire.errors import RefusedHello, RemoteProtocolError
from peerproto.wire.handshake import (
    Hello,
    Status,
    check_remote,
    read_caller,
    read_status,
    read_version,
)

HANDSHAKE_TIMEOUT: Final = 5.0
"""Seconds after which a handshake is cut."""


class Handshake(LineReceiver):
    """What both directions have in common."""

    _log = Logger()

    delimiter = b"\n"

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._node = mesh.node
        self._clock = mesh.clock
        self.MAX_LENGTH = mesh.node.limits.line_length
        self._timer: Optional[IDelayedCall] = None
        self._binary: Optional[SessionProtocol] = None
        self._over = False

    def now(self) -> int:
        """The time in ms."""
        return milliseconds(self._clock)

    def connectionMade(self) -> None:
        self._mesh.opened(self)
        transport = self.transport
        # Those on UNIX sockets say that they are TCP, too.
        if ITCPTransport.providedBy(transport) and not isinstance(transport.getPeer(), UNIXAddress):
            # A change is a small write: it must not wait for the ack of the one before.
            transport.setTcpNoDelay(True)
        self._timer = self._clock.callLater(HANDSHAKE_TIMEOUT, self._timed_out)
        self._mesh.handshakes.add(self)

    def lineReceived(self, line: bytes) -> None:
        if self._over or cast(Any, self.transport).disconnecting:
            # With TLS lines come in, too, after we have hung up.
            return
        try:
            self.take(line)
        except RemoteProtocolError as problem:
            self.wrong(problem)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.wrong(
            RefusedHello(
                "length of a line",
                line[:40],
                f"at most {self.MAX_LENGTH} bytes",
                Status.PROTOCOL_ERROR,
            )
        )

    def take(self, line: bytes) -> None:
        """Read the next line of the peer, which has no LF any more.

        :raises RemoteProtocolError: it is not what should come here.
        """
        raise NotImplementedError

    def wrong(self, problem: RemoteProtocolError) -> None:
        """The peer erred: close, after saying so where the protocol has words for it."""
        raise NotImplementedError

    def trouble(self, why: str) -> None:
        """The connection is over before a session: note it."""
        raise NotImplementedError

    def begin(self, peer: PeerMemory, minor: int, process: Optional[int] = None) -> None:
        """The handshake succeeded: from here on everything goes to the session."""
        self._is_over()
        self._binary = self._mesh.begin(peer, minor, self.ended, process)
        self.established(self._binary.session)
        self._binary.makeConnection(self.transport)
        self.setRawMode()

    def established(self, session: Session) -> None:
        """A session has just begun."""
        self._mesh.connected(session)

    def ended(self, session: Session, why: str) -> None:
        """The session is over."""
        self._mesh.ended(session, why)

    def rawDataReceived(self, data: bytes) -> None:
        if self._binary is not None:
            self._binary.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_over()
        try:
            self._lost(reason)
        finally:
            self._mesh.closed(self)

    def _lost(self, reason: Failure) -> None:
        if self._binary is not None:
            self._binary.connectionLost(reason)
        elif not self._over:
            credentials = self._mesh.credentials
            trouble = credentials and credentials.trouble(self.transport, reason.value)
            if trouble:
                self.trouble(trouble)
            else:
                self.hung_up(f"the connection ended in the handshake: {reason.getErrorMessage()}")

    def disbelief(self, peer: PeerMemory) -> Optional[str]:
        """Why this is not the peer that it says, in words: see `Credentials.disbelief`."""
        credentials = self._mesh.credentials
        return None if credentials is None else credentials.disbelief(self.transport, peer.name)

    def hung_up(self, why: str) -> None:
        """The peer ended the connection before a session."""
        self.trouble(why)

    def close(self, why: str) -> None:
        """Close before there is a session."""
        self._over = True
        self._is_over()
        self.trouble(why)
        # TLS waits for a word of the other side.
        self._timer = self._clock.callLater(LINGER, self._linger_no_more)
        cast(ITCPTransport, self.transport).loseConnection()

    def _linger_no_more(self) -> None:
        self._timer = None
        cast(ITCPTransport, self.transport).abortConnection()

    def _timed_out(self) -> None:
        self._timer = None
        self._is_over()
        self._over = True
        self.trouble(f"no handshake within {HANDSHAKE_TIMEOUT:g} s")
        cast(ITCPTransport, self.transport).abortConnection()

    def _is_over(self) -> None:
        self._mesh.handshakes.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AcceptingHandshake(Handshake):
    """Answers the hello of a peer that called."""

    def connectionMade(self) -> None:
        self._silent = True
        self._settling: Optional[IDelayedCall] = None
        self._caller: tuple[PeerMemory, int, Optional[int]]
        self._link: Link
        self._address = getattr(cast(ITCPTransport, self.transport).getPeer(), "host", None)
        self._entered = self._shaking = self._mesh.admission.enter(self._address, self.now())
        if not self._entered:
            self._mesh.opened(self)
            self._over = True
            cast(ITCPTransport, self.transport).abortConnection()
            return
        super().connectionMade()
        self._steps = self._read_hello()
        next(self._steps)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._shaken()
        if self._entered:
            self._entered = False
            self._mesh.admission.leave(self._address)
        super().connectionLost(reason)

    def established(self, session: Session) -> None:
        self._shaken()
        self._mesh.admission.welcomed(self._address)
        super().established(session)

    def _shaken(self) -> None:
        if self._shaking:
            self._shaking = False
            self._mesh.admission.shake_hands()

    def take(self, line: bytes) -> None:
        self._silent = False
        self._steps.send(line)

    def hung_up(self, why: str) -> None:
        # Port checks come, say nothing and go.
        if not self._silent:
            self.trouble(why)

    def _read_hello(self) -> Generator[None, bytes, None]:
        """The checks in HAProxy's order: each line as soon as it is there."""
        minor = read_version((yield))
        check_remote((yield), self._node.localpeer)
        name, process = read_caller((yield))
        peer = self._node.peers.get(name)
        if peer is None:
            raise RefusedHello(
                "caller in the hello", name, "a configured peer", Status.REMOTE_NAME_MISMATCH
            )
        disbelief = self.disbelief(peer)
        if disbelief is not None:
            # No status: HAProxy would not call again, even with another certificate.
            self.close(disbelief)
        elif peer.local and peer in self._node.sessions:
            # Two sessions under our own name would be two old processes.
            self._answer(Status.TRY_AGAIN)
            self.close("a second session under our own name")
        else:
            self._accept(peer, minor, process)
        yield

    def _accept(self, peer: PeerMemory, minor: int, process: Optional[int]) -> None:
        """Let the caller in; where its call may have crossed ours, only if it stays.

        A HAProxy that has taken our call hangs up on its own one: to take that instead would end
        both.
        """
        self._caller = peer, minor, process
        self._link = link = self._mesh.link(peer)
        if link.caller is not None:
            link.caller.close("it has called again meanwhile")
        if link.crosses(peer.established_at, self.now()):
            link.caller = self
            self._silent = True
            self._settling = self._clock.callLater(self._mesh.settling(), self._take_over)
            self.setRawMode()
        else:
            self._take_over()

    def rawDataReceived(self, data: bytes) -> None:
        if self._settling is not None:
            # One that goes on is not about to hang up.
            self._take_over()
        super().rawDataReceived(data)

    def _is_over(self) -> None:
        if self._settling is not None:
            if self._settling.active():
                self._settling.cancel()
            self._settling = None
            self._link.caller = None
        super()._is_over()

    def _take_over(self) -> None:
        """The newer session wins: whatever else there is with this peer ends."""
        self._is_over()
        peer, minor, process = self._caller
        if self._link.connection is not None:
            self._link.connection.drop()
        if self._link.dialer is not None:
            self._link.dialer.suspend()
        self._answer(Status.SUCCEEDED)
        peer.called(minor)
        self.begin(peer, minor, process)

    def wrong(self, problem: RemoteProtocolError) -> None:
        status = Status(getattr(problem, "status", Status.PROTOCOL_ERROR))
        self._answer(status)
        self.close(f"refused with {int(status)}: {problem}")

    def trouble(self, why: str) -> None:
        self._mesh.admission.turned_away(self._address, why, self.now())

    def _answer(self, status: Status) -> None:
        cast(ITCPTransport, self.transport).write(status.encode())


class CallingHandshake(Handshake):
    """Says hello to a peer that we call."""

    def __init__(self, mesh: Mesh, peer: PeerMemory) -> None:
        super().__init__(mesh)
        self._peer = peer
        self._link = mesh.link(peer)
        self._minor = peer.minor

    def connectionMade(self) -> None:
        super().connectionMade()
        hello = Hello(self._peer.name, self._node.localpeer, os.getpid(), minor=self._minor)
        cast(ITCPTransport, self.transport).write(hello.encode())
        self._link.greeting = self

    def _is_over(self) -> None:
        if self._link.greeting is self:
            self._link.greeting = None
        super()._is_over()

    def take(self, line: bytes) -> None:
        refusal = self._peer.answered(read_status(line)) or self.disbelief(self._peer)
        if refusal is not None:
            self.close(refusal)
        elif self._link.connection is not None:
            self.close("it has called us meanwhile")
        else:
            self.begin(self._peer, self._minor)

    def wrong(self, problem: RemoteProtocolError) -> None:
        self.close(f"its answer to our hello is none: {problem}")

    def trouble(self, why: str) -> None:
        if self._peer.trouble != why:
            self._peer.trouble = why
            self._peer.log.warn(self.now(), "peer {peer}: {why}", peer=self._peer.shown, why=why)

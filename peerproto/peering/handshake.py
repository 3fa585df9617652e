"""The text side of a connection: hello and status, then over to a session.

Source: PROTOCOL.md, "Handshake". After 200 a `LineReceiver` goes raw and hands
every further byte, the rest of the segment included, to a `SessionProtocol`
that it holds.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Final, Optional, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.peering.protocol import SessionProtocol
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

    def __init__(self, node: Node, clock: IReactorTime) -> None:
        self._node = node
        self._clock = clock
        self.MAX_LENGTH = node.limits.line_length
        self._timer: Optional[IDelayedCall] = None
        self._binary: Optional[SessionProtocol] = None
        self._over = False

    def connectionMade(self) -> None:
        self._timer = self._clock.callLater(HANDSHAKE_TIMEOUT, self._timed_out)

    def lineReceived(self, line: bytes) -> None:
        if self._over:
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
        """:raises RemoteProtocolError: it is not what should come here."""
        raise NotImplementedError

    def wrong(self, problem: RemoteProtocolError) -> None:
        """The peer erred: close, after saying so where the protocol has words for it."""
        raise NotImplementedError

    def trouble(self, why: str) -> None:
        """The connection is over before a session: note it."""
        raise NotImplementedError

    def begin(self, peer: Peer, minor: int) -> None:
        """The handshake succeeded: from here on everything goes to the session."""
        self._stop_timer()
        peer.trouble = None
        session = Session(self._node, peer, minor, int(self._clock.seconds() * 1000))
        self._binary = peer.connection = SessionProtocol(session, self._clock, self.ended)
        self._binary.makeConnection(self.transport)
        self._log.info(
            "session with peer {peer} established, version 2.{minor}", peer=peer.name, minor=minor
        )
        self.established(session)
        self._binary.flush()
        self.setRawMode()

    def established(self, session: Session) -> None:
        """A session has just begun."""
        self._node.resync.connected(session)

    def ended(self, session: Session, why: str) -> None:
        """The session is over."""
        peer = session.peer
        self._log.warn("session with peer {peer} ended: {why}", peer=peer.name, why=why)
        if peer.session is session:
            peer.session = peer.connection = None
            peer.trouble = why
        self._node.resync.disconnected(session)
        if peer.caller is not None:
            if session.call_soon:
                peer.caller.call_soon()
            peer.caller.resume()

    def rawDataReceived(self, data: bytes) -> None:
        if self._binary is not None:
            self._binary.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timer()
        if self._binary is not None:
            self._binary.connectionLost(reason)
        elif not self._over:
            credentials = self._node.credentials
            trouble = credentials and credentials.trouble(self.transport, reason.value)
            if trouble:
                self.trouble(trouble)
            else:
                self.hung_up(f"the connection ended in the handshake: {reason.getErrorMessage()}")

    def disbelief(self, peer: Peer) -> Optional[str]:
        """Why this is not the peer that it says, in words: see `Credentials.disbelief`."""
        credentials = self._node.credentials
        return None if credentials is None else credentials.disbelief(self.transport, peer.name)

    def hung_up(self, why: str) -> None:
        """The peer ended the connection before a session."""
        self.trouble(why)

    def close(self, why: str) -> None:
        """Close before there is a session."""
        self._over = True
        self._stop_timer()
        self.trouble(why)
        cast(ITCPTransport, self.transport).loseConnection()

    def _timed_out(self) -> None:
        self._timer = None
        self._over = True
        self.trouble(f"no handshake within {HANDSHAKE_TIMEOUT:g} s")
        cast(ITCPTransport, self.transport).abortConnection()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AcceptingHandshake(Handshake):
    """Answers the hello of a peer that called."""

    def connectionMade(self) -> None:
        self._silent = True
        self._address = getattr(cast(ITCPTransport, self.transport).getPeer(), "host", None)
        self._entered = self._shaking = self._node.door.enter(self._address)
        if not self._entered:
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
            self._node.door.leave(self._address)
        super().connectionLost(reason)

    def established(self, session: Session) -> None:
        self._shaken()
        self._node.door.welcomed(self._address)
        super().established(session)

    def _shaken(self) -> None:
        if self._shaking:
            self._shaking = False
            self._node.door.shake_hands()

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
        name = read_caller((yield))
        peer = self._node.peers.get(name)
        if peer is None:
            raise RefusedHello(
                "caller in the hello", name, "a configured peer", Status.REMOTE_NAME_MISMATCH
            )
        disbelief = self.disbelief(peer)
        if disbelief is not None:
            # No status: HAProxy would not call again, even with another certificate.
            self.close(disbelief)
        elif peer.local and peer.session is not None:
            # Two sessions under our own name would be two old processes.
            self._answer(Status.TRY_AGAIN)
            self.close("a second session under our own name")
        else:
            self._accept(peer, minor)
        yield

    def _accept(self, peer: Peer, minor: int) -> None:
        """The newer session wins: whatever else there is with this peer ends."""
        if peer.connection is not None:
            peer.connection.drop()
        if peer.caller is not None:
            peer.caller.suspend()
        self._answer(Status.SUCCEEDED)
        peer.status = Status.SUCCEEDED
        self.begin(peer, minor)

    def wrong(self, problem: RemoteProtocolError) -> None:
        status = Status(getattr(problem, "status", Status.PROTOCOL_ERROR))
        self._answer(status)
        self.close(f"refused with {int(status)}: {problem}")

    def trouble(self, why: str) -> None:
        self._node.door.turned_away(self._address, why)

    def _answer(self, status: Status) -> None:
        cast(ITCPTransport, self.transport).write(status.encode())


class CallingHandshake(Handshake):
    """Says hello to a peer that we call."""

    def __init__(self, node: Node, clock: IReactorTime, peer: Peer) -> None:
        super().__init__(node, clock)
        self._peer = peer
        self._minor = peer.minor

    def connectionMade(self) -> None:
        super().connectionMade()
        hello = Hello(self._peer.name, self._node.localpeer, os.getpid(), minor=self._minor)
        cast(ITCPTransport, self.transport).write(hello.encode())

    def take(self, line: bytes) -> None:
        refusal = self._peer.answered(read_status(line)) or self.disbelief(self._peer)
        if refusal is not None:
            self.close(refusal)
        elif self._peer.connection is not None:
            self.close("it has called us meanwhile")
        else:
            self.begin(self._peer, self._minor)

    def wrong(self, problem: RemoteProtocolError) -> None:
        self.close(f"its answer to our hello is none: {problem}")

    def trouble(self, why: str) -> None:
        if self._peer.trouble != why:
            self._peer.trouble = why
            self._log.warn("peer {peer}: {why}", peer=self._peer.name, why=why)

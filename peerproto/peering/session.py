"""One session with one peer, from the status 200 to its end. No I/O.

Bytes that came go in with `Session.receive`, bytes to send are drawn with
`Session.pull`, and `Session.next_wake` says when `Session.wake` must be called.
Toward the peer a session is in one of these states (specification, part III;
PROTOCOL.md, "Resync"); in all of them it takes updates:

====================  ===================  ====================  ==========================
in state              on                   to state              and
====================  ===================  ====================  ==========================
``LIVE``              resync request       ``TEACHING``          begins a lesson
``TEACHING``          resync request       ``TEACHING``          begins it again
``TEACHING``          the last entry       ``AWAITING_CONFIRM``  sends finished or partial
``AWAITING_CONFIRM``  resync request       ``TEACHING``          begins it again
``AWAITING_CONFIRM``  confirm              ``LIVE``              what was taught is acked
``AWAITING_CONFIRM``  new process confirm  ``ENDED``             (the old one's work is done)
any                   malformed message    ``ENDED``             sends error 1/0
any                   message too long     ``ENDED``             sends error 1/1
any                   an error message     ``ENDED``
any                   5 s without a byte   ``ENDED``
====================  ===================  ====================  ==========================

Local changes are sent in ``LIVE`` alone. Whether this session is also the one
that the node learns from is for the resync of the node to say.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final, Optional

from twisted.logger import Logger

from peerproto.peering.node import Node
from peerproto.peering.peer import Peer
from peerproto.peering.receiving import Receiver, SharedTable
from peerproto.peering.sending import Sender
from peerproto.wire.errors import RemoteProtocolError
from peerproto.wire.frames import STICK_TABLE, Frame, FrameBuffer
from peerproto.wire.handshake import MINOR
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Control,
    ErrorMessage,
    TableSwitch,
    read_message,
)

HEARTBEAT_TIMEOUT: Final = 3000
"""Send a heartbeat after so many ms without sending anything."""

DEAD_TIMEOUT: Final = 5000
"""A period of so many ms without a byte received ends the session."""


class SessionState(enum.Enum):
    LIVE = "live"
    TEACHING = "teaching"
    AWAITING_CONFIRM = "awaiting confirm"
    ENDED = "ended"


class Session:
    """See the module."""

    _log = Logger()

    def __init__(self, node: Node, peer: Peer, minor: int, now: int) -> None:
        """``minor`` is the lower version of both sides; ``now`` in ms."""
        self.node = node
        self.peer = peer
        self.minor = minor
        self.since = now
        self.state = SessionState.LIVE
        self.learning = False
        """Whether the node learns a lesson from this peer."""
        self.taught = False
        """Whether the peer has confirmed a lesson on this session."""
        self.ended_by: Optional[str] = None
        """Why the session is in ``ENDED``, in words."""
        self.call_soon = False
        """Whether the peer is to be called soon after the end (dead, or a collision)."""
        self._frames = FrameBuffer(node.limits.message_length)
        self._receiver = Receiver(node, peer)
        self._urgent = bytearray()
        self._sender = Sender(timed=minor >= MINOR)
        self._lesson: Optional[Iterator[bytes]] = None
        self._origins: list[tuple[SharedTable, int]] = []
        self._now = now
        self._sent_at = now
        self._alive = True
        self._period_end = now + DEAD_TIMEOUT
        peer.session = self
        peer.counters.new_conn += 1
        # At once: HAProxy may have lost its mark that we are alive in a collision.
        self._heartbeat(now)

    @property
    def over(self) -> bool:
        return self.state is SessionState.ENDED

    @property
    def teaching(self) -> bool:
        return self.state in (SessionState.TEACHING, SessionState.AWAITING_CONFIRM)

    @property
    def tables(self) -> list[SharedTable]:
        """All tables, as far as this session knows them."""
        return self._receiver.tables

    def behind(self) -> int:
        """How many changes were not sent yet."""
        return sum(sum(1 for _ in shared.table.log.after(shared.sent)) for shared in self.tables)

    # -- receiving -------------------------------------------------------

    def receive(self, data: bytes, now: int) -> None:
        """Take bytes from the peer. What they bring is stored and told at the end.

        A protocol error ends the session, after what came before it was taken.
        """
        self._alive = True
        frames = self._frames
        if not frames.add(data):
            return
        if self.over:
            frames.position = len(frames.data)  # nobody reads on
            return
        self._now = now
        receiver = self._receiver
        try:
            while True:
                frames.position = receiver.read_run(frames.data, frames.position, now)
                frame = frames.next()
                if frame is None:
                    break
                self._take(frame)
                if self.over:
                    break
        except RemoteProtocolError as problem:
            self._urgent += ErrorMessage(problem.code).encode()
            self.peer.counters.proto_err += 1
            self._end(str(problem))
        receiver.store(now)
        batches = receiver.take_batches()
        if batches:
            self.node.announce(batches, now)

    def _take(self, frame: Frame) -> None:
        if frame.message_class == STICK_TABLE and frame.message_type in UPDATES:
            self._receiver.update(frame, self._now)
            return
        message = read_message(frame)
        if message is None:
            return
        if isinstance(message, Control):
            self._control(message)
        elif isinstance(message, TableSwitch):
            self._receiver.switch(message.id, self._now)
        elif isinstance(message, Ack):
            self._acked(message)
        elif isinstance(message, ErrorMessage):
            self.peer.counters.proto_err += 1
            what = {ErrorMessage.PROTOCOL: "protocol error", ErrorMessage.SIZE_LIMIT: "size limit"}
            self._end(f"it reported a {what[message]} in what we sent")
        else:
            self._receiver.define(message, self._now)

    def _acked(self, ack: Ack) -> None:
        """Move on to what the peer has taken, if it is something that we sent.

        HAProxy 3.3 and later may send other numbers: those did not come. What
        comes during a lesson does not count either.
        """
        if self.teaching:
            return
        for shared in self.tables:
            if shared.local_id == ack.table_id:
                name = shared.table.name
                number = shared.table.log.number_of_id(ack.update_id, shared.sent)
                if number is not None and number > self.peer.acked.get(name, 0):
                    self.peer.acked[name] = number

    # -- resync ----------------------------------------------------------

    def ask_for_lesson(self) -> None:
        """Send a resync request: the node wants to learn from this peer."""
        self.expect_lesson()
        self._urgent += Control.RESYNC_REQUEST.encode()

    def expect_lesson(self) -> None:
        """What comes now is a lesson: the old process teaches without being asked."""
        self.learning = True

    def teach(self) -> None:
        """Begin a lesson, or begin it again."""
        self.state = SessionState.TEACHING
        tables = self.tables
        self._origins = [(shared, shared.table.log.head) for shared in tables]
        self._lesson = self._sender.lesson([(one.local_id, one.table) for one in tables])

    def _control(self, message: Control) -> None:
        if message is Control.RESYNC_REQUEST:
            self.teach()
            self._log.info("peer {peer} asked for a lesson", peer=self.peer.name)
        elif message is Control.RESYNC_CONFIRM:
            if self.teaching:
                self._taught()
        elif message is Control.HEARTBEAT:
            self.peer.counters.rx_hbt += 1
        else:
            self._learnt(message)

    def _taught(self) -> None:
        """The peer confirmed: it has all that we had when the lesson began."""
        self.state = SessionState.LIVE
        self.taught = True
        self._lesson = None
        for shared, origin in self._origins:
            self.peer.acked[shared.table.name] = shared.sent = origin
        self._log.info("peer {peer} confirmed its lesson", peer=self.peer.name)
        if self.peer.local:
            self._end("the new process has learnt everything")

    def _learnt(self, message: Control) -> None:
        """A lesson is over: it is confirmed, whether it was asked for or not."""
        self._receiver.store(self._now)
        self._urgent += Control.RESYNC_CONFIRM.encode()
        self.peer.counters.confirm += 1
        for shared in self.tables:
            shared.got = shared.acked = None
        if self.learning:
            self.learning = False
            if message is Control.RESYNC_FINISHED:
                self.node.resync.finished(self)
            else:
                self.node.resync.partial(self)

    # -- sending ---------------------------------------------------------

    @property
    def wants_to_send(self) -> bool:
        """Whether `pull` has something to give."""
        if self._urgent or self.state is SessionState.TEACHING or any(self._unacked()):
            return True
        return self.state is SessionState.LIVE and any(
            one.table.log.head > one.sent for one in self.tables
        )

    def pull(self, room: int, now: int) -> bytes:
        """Bytes to send now: about ``room`` of them, or fewer if there are no more."""
        self._now = self._sender.now = now
        out, self._urgent = self._urgent, bytearray()
        for shared in self._unacked():
            assert shared.remote_id is not None and shared.got is not None
            out += Ack(shared.remote_id, shared.got).encode()
            shared.acked = shared.got
        if self.state is SessionState.LIVE:
            for shared in self.tables:
                if shared.table.log.head > shared.sent and len(out) < room:
                    changes, shared.sent, count = self._sender.changes(
                        shared.local_id, shared.table, shared.sent, room - len(out)
                    )
                    out += changes
                    self.peer.counters.tx_updates += count
        elif self.state is SessionState.TEACHING:
            self._teach(out, room)
        if out:
            self._sent_at = now
        return bytes(out)

    def _unacked(self) -> Iterator[SharedTable]:
        """The tables of which updates came since the last ack.

        Not during a lesson, whose ids are not in the order of changes.
        """
        if self.learning or self.over:
            return
        for shared in self.tables:
            if shared.got is not None and shared.got != shared.acked:
                yield shared

    def _teach(self, out: bytearray, room: int) -> None:
        assert self._lesson is not None
        before = self._sender.taught
        for message in self._lesson:
            out += message
            if len(out) >= room:
                break
        else:
            self._lesson = None
            self.state = SessionState.AWAITING_CONFIRM
            finished = self.node.resync.up_to_date
            end = Control.RESYNC_FINISHED if finished else Control.RESYNC_PARTIAL
            out += end.encode()
            self._log.info(
                "peer {peer} was taught {count} entries ({how})",
                peer=self.peer.name,
                count=self._sender.taught,
                how=end.name.partition("_")[2].lower(),
            )
        self.peer.counters.tx_updates += self._sender.taught - before

    # -- time ------------------------------------------------------------

    def next_wake(self) -> int:
        """When (in ms) to call `wake`."""
        return min(self._sent_at + HEARTBEAT_TIMEOUT, self._period_end)

    def wake(self, now: int) -> None:
        """Time has passed: a heartbeat may be due, or the peer may be dead."""
        if self.over:
            return
        if now >= self._period_end:
            if not self._alive:
                self.peer.counters.no_hbt += 1
                self.call_soon = True
                self._end(f"nothing came from it for {DEAD_TIMEOUT / 1000:g} s")
                return
            self._alive = False
            self._period_end = now + DEAD_TIMEOUT
        if now >= self._sent_at + HEARTBEAT_TIMEOUT:
            self._heartbeat(now)

    def _heartbeat(self, now: int) -> None:
        self._sent_at = now
        if not self._urgent:
            self._urgent += Control.HEARTBEAT.encode()
            self.peer.counters.tx_hbt += 1

    def replaced(self) -> None:
        """The peer has a newer session: this one is over."""
        self.peer.counters.coll += 1
        self.call_soon = True
        self._end("it has a newer session")

    def closed(self, why: str) -> None:
        """The connection is over, whatever the session thought of it."""
        if not self.over:
            self._end(why)

    def _end(self, why: str) -> None:
        self.state = SessionState.ENDED
        self.ended_by = why

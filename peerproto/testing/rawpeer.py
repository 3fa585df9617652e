"""A peer that does as a test tells it: caller or callee, over any transport."""

from __future__ import annotations

import enum
from typing import Any, Optional, Union

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from peerproto.tables.declaration import Declaration
from peerproto.testing import entries
from peerproto.testing.entries import Update, Values
from peerproto.wire.frames import STICK_TABLE, FrameBuffer
from peerproto.wire.keys import Key
from peerproto.wire.layout import Layout
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Control,
    Message,
    TableDefinition,
    TableSwitch,
    read_message,
)

Heard = Union[Message, Update]
"""A message of the other side, decoded."""


class Acks(enum.Enum):
    """How a raw peer acks updates; once for all that come in one read."""

    NONE = "not at all"
    RIGHT = "the last id, in a lesson too"
    SWAPPED = "as HAProxy 3.3 to 3.5 do"
    """The last id; after an update without id in the wrong byte order; not during a lesson."""


@attrs.define
class _Progress:
    """What has come of one table of the other side."""

    last_id: int = 0
    to_ack: Optional[int] = None


class RawPeer(Protocol):
    """One connection. What is sent is up to the test, but for heartbeats, acks and confirms.

    Everything that comes is in `heard`, in its order, with the table of each update.
    """

    def __init__(self, name: str, called: str = "", clock: Optional[IReactorTime] = None) -> None:
        """``clock`` is what its heartbeats go by: the reactor, if nothing is said."""
        self.name = name
        """Its own name."""
        self.called = called
        """The name that it calls; empty if it is called."""
        self.version = "2.1"
        self.lines: list[str] = []
        """Lines before the session that have come: a status, or a hello."""
        self.answer = "200"
        """The status with which it answers a hello."""
        self.heard: list[Heard] = []
        self.acks = Acks.RIGHT
        self.acked: list[Ack] = []
        """Acks that it has sent by itself."""
        self.confirms = True
        """Whether it confirms each finished or partial."""
        self.beats = True
        """Whether it sends a heartbeat each second."""
        self.replies: Optional[Control] = Control.RESYNC_PARTIAL
        """What it answers to a resync request."""
        self.closed: Deferred[None] = Deferred()
        self.tables: dict[int, TableDefinition] = {}
        """Definitions of the other side, by its ids."""
        self.texts: dict[int, bytes] = {}
        """Texts of the other side, by their ids."""
        self._layout: Optional[Layout] = None
        self._table: Optional[TableDefinition] = None
        self._progress: dict[int, _Progress] = {}
        self._taught = False
        self._text = b""
        self._frames = FrameBuffer()
        self._beat = LoopingCall(self._heartbeat)
        if clock is not None:
            self._beat.clock = clock

    def greet(self, hello: Optional[bytes] = None, process: int = 1) -> None:
        """Say hello to whom it calls; ``hello`` instead of the right one. ``process`` is the id of
        the process that it is."""
        right = f"HAProxyS {self.version}\n{self.called}\n{self.name} {process} 1\n".encode()
        self.send(right if hello is None else hello)

    # -- saying ----------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Any bytes."""
        transport: Any = self.transport
        transport.write(data)

    def say(self, *messages: Union[Control, Ack, TableSwitch]) -> None:
        """Send messages."""
        for message in messages:
            if message is Control.RESYNC_REQUEST:
                self._taught = True
            self.send(message.encode())

    def define(self, table: Declaration, table_id: int = 1) -> None:
        """Define a table; the next updates are for it."""
        self._layout = table.layout
        self.send(table.definition(table_id).encode())

    def update(
        self,
        key: Key,
        values: Values = {},
        update_id: Optional[int] = None,
        expiry: Optional[int] = None,
    ) -> None:
        """Send an entry of the table that was defined last, timed if it has an ``expiry`` (ms)."""
        assert self._layout is not None, "define a table first"
        self.send(entries.write(self._layout, key, values, update_id, expiry))

    def hang_up(self) -> None:
        """Close the connection at once."""
        transport: Any = self.transport
        transport.abortConnection()

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffers, until `read_on`."""
        transport: Any = self.transport
        transport.pauseProducing()

    def read_on(self) -> None:
        transport: Any = self.transport
        transport.resumeProducing()

    # -- hearing ---------------------------------------------------------

    @property
    def updates(self) -> list[Update]:
        """The updates that have come."""
        return [one for one in self.heard if isinstance(one, Update)]

    # -- the connection --------------------------------------------------

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        wanted = 1 if self.called else 3
        if len(self.lines) < wanted:
            self._text += data
            *lines, _ = self._text.split(b"\n", wanted - len(self.lines))
            for line in lines[: wanted - len(self.lines)]:
                self._text = self._text[len(line) + 1 :]
                self.lines.append(line.decode())
            if len(self.lines) < wanted:
                return
            if not self.called:
                self.send(f"{self.answer}\n".encode())
            if (self.lines[0] if self.called else self.answer) == "200":
                self._beat.start(1)
            data = self._text
        for frame in self._frames.feed(data):
            if frame.message_class == STICK_TABLE and frame.message_type in UPDATES:
                self._take(frame)
            else:
                message = read_message(frame)
                if message is not None:
                    self.heard.append(message)
                    self._obey(message)
        self._ack()

    def _take(self, frame: Any) -> None:
        table = self._table
        assert table is not None, "an update before any definition"
        progress = self._progress.setdefault(table.id, _Progress())
        update = entries.read(frame, table.name, table.layout, progress.last_id)
        self.heard.append(update)
        for value in update.values.values():
            if isinstance(value, entries.Text) and value.text is not None:
                self.texts[value.id] = value.text
        progress.last_id = update.id
        if self.acks is Acks.SWAPPED:
            if self._taught:
                return
            if not update.with_id:
                # What is stored is wrong, and the next one is counted from there.
                progress.last_id = int.from_bytes(progress.last_id.to_bytes(4, "big"), "little")
        progress.to_ack = progress.last_id

    def _obey(self, message: Message) -> None:
        if isinstance(message, TableDefinition):
            self.tables[message.id] = self._table = message
        elif isinstance(message, TableSwitch):
            self._table = self.tables[message.id]
        elif message is Control.RESYNC_REQUEST:
            if self.replies is not None:
                self.say(self.replies)
        elif message in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL):
            self._taught = False
            if self.confirms:
                self.say(Control.RESYNC_CONFIRM)

    def _ack(self) -> None:
        for table_id, progress in self._progress.items():
            if progress.to_ack is not None and self.acks is not Acks.NONE:
                self.acked.append(Ack(table_id, progress.to_ack))
                self.say(self.acked[-1])
            progress.to_ack = None

    def _heartbeat(self) -> None:
        if self.beats:
            self.say(Control.HEARTBEAT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._beat.running:
            self._beat.stop()
        self.closed.callback(None)

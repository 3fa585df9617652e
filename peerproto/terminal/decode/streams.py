"""TCP segments put together again: what each side of each connection has said, in its order."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import Final, Optional, Union

import attrs

from peerproto.terminal.decode.packets import ACK, FIN, RST, SYN, Place, Segment

WAITING: Final = 256
"""Segments that wait for one before them, until that is taken for missing."""

WAITING_BYTES: Final = 1 << 20
"""The same in bytes."""

HELD: Final = 16
"""Segments of a direction whose begin was not seen that are put in order before it is read."""

CONNECTIONS: Final = 4096
"""Connections that are remembered; of more, the one that was used longest ago counts as over."""

_LATE: Final = 1 << 20
"""Bytes by which the begin of a connection may come late in the file."""


@attrs.frozen
class Came:
    """Bytes of a direction."""

    data: bytes


@attrs.frozen
class Lost:
    """Bytes that the recording has not got."""

    count: int
    exact: bool = True
    """Whether it is so many; else there may be one less, or more at the end."""


@attrs.frozen
class Opened:
    """A connection is there, and which side has called, if that was seen."""


@attrs.frozen
class Over:
    """Nothing more of a direction is in the recording."""


What = Union[Opened, Came, Lost, Over]


@attrs.define
class _Waiting:
    at: int
    segment: Segment = attrs.field(eq=False, order=False)


@attrs.define(eq=False)
class Stream:
    """One direction of a connection."""

    source: Place
    begins: bool = False
    """Whether its begin is in the recording."""
    closed: bool = False
    """Whether all of it has come, up to its end."""
    reset: bool = False
    """Whether its sender has broken the connection."""
    again: int = 0
    """Segments that came once more."""
    overlapping: int = 0
    """Segments of which a part had come: what came first counts."""
    disordered: int = 0
    """Segments that came before one that belongs before them."""
    _first: Optional[int] = None
    """Sequence number of its first byte, once it is known where to begin."""
    _next: int = 0
    """Sequence number of the byte that is due."""
    _position: int = 0
    """How many bytes have come, or are lost."""
    _end: Optional[int] = None
    """Where its end is, if that was seen."""
    _acked: int = 0
    """How far the other side has acknowledged it."""
    _held: list[Segment] = attrs.Factory(list)
    _waiting: list[_Waiting] = attrs.Factory(list)
    _bytes: int = 0

    @property
    def waits(self) -> bool:
        """Whether bytes have come that are not due yet."""
        return bool(self._waiting or self._held)

    def continues(self, segment: Segment) -> bool:
        """Whether a segment with SYN belongs to this connection, and not to the next one."""
        if self._first is None:
            return True
        distance = _distance(segment.sequence + 1, self._first)
        return distance == 0 if self.begins else -_LATE < distance <= 0

    def add(self, segment: Segment) -> Iterator[What]:
        """Take a segment of this direction: what can be read now."""
        if segment.flags & RST:
            self.reset = True
        if segment.flags & SYN:
            if self._first is None:
                self.begins = True
                self._begin(segment.sequence + 1)
            segment = segment._replace(sequence=segment.sequence + 1 & 0xFFFFFFFF)
        if self._first is None:
            if segment.length or segment.flags & FIN:
                self._held.append(segment)
            if len(self._held) < HELD:
                return
            self._begin_anywhere()
        else:
            self._wait(segment)
        yield from self._ready()
        while len(self._waiting) > WAITING or self._bytes > WAITING_BYTES:
            yield from self._skip()

    def acknowledge(self, number: int) -> None:
        """The other side has taken all before this sequence number."""
        if self._first is not None:
            self._acked = max(self._acked, self._position + _distance(number, self._next))

    def finish(self) -> Iterator[What]:
        """What can be read of it though bytes are missing, and that it is over."""
        if self._first is None and self._held:
            self._begin_anywhere()
        yield from self._ready()
        while self._waiting:
            yield from self._skip()
        if self._end is not None:
            if self._end > self._position:
                yield Lost(self._end - self._position)
        elif self._acked > self._position + 1:
            # An end that was not seen may be one of them.
            yield Lost(self._acked - self._position, exact=False)
        yield Over()

    def _begin(self, number: int) -> None:
        self._first = self._next = number & 0xFFFFFFFF
        held, self._held = self._held, []
        for segment in held:
            self._wait(segment)

    def _begin_anywhere(self) -> None:
        number = self._held[0].sequence
        self._begin(number + min(_distance(one.sequence, number) for one in self._held))

    def _wait(self, segment: Segment) -> None:
        at = self._position + _distance(segment.sequence, self._next)
        if segment.flags & FIN:
            self._end = at + segment.length
            self._check_closed()
        if segment.length:
            if at > self._position:
                self.disordered += 1
            self._bytes += len(segment.data)
            insort(self._waiting, _Waiting(at, segment), key=lambda one: one.at)

    def _ready(self) -> Iterator[What]:
        while self._waiting and self._waiting[0].at <= self._position:
            one = self._waiting.pop(0)
            data, length = one.segment.data, one.segment.length
            self._bytes -= len(data)
            known = self._position - one.at
            if known >= length:
                self.again += 1
                continue
            if known:
                self.overlapping += 1
            if known < len(data):
                yield self._go_on(Came(data[known:]), len(data) - known)
            if len(data) < length:
                count = length - max(len(data), known)
                yield self._go_on(Lost(count), count)
        self._check_closed()

    def _skip(self) -> Iterator[What]:
        count = self._waiting[0].at - self._position
        if count > 0:
            yield self._go_on(Lost(count), count)
        yield from self._ready()

    def _go_on(self, what: What, count: int) -> What:
        self._position += count
        self._next = self._next + count & 0xFFFFFFFF
        return what

    def _check_closed(self) -> None:
        self.closed = self._end is not None and self._position >= self._end


def _distance(number: int, other: int) -> int:
    """How far a sequence number is behind another one: they wrap."""
    return (number - other + 0x80000000 & 0xFFFFFFFF) - 0x80000000


@attrs.define(eq=False)
class Connection:
    """Both directions of a connection."""

    number: int
    """The first one of the file is 1."""
    caller: Stream
    """The side that called; where that was not seen, the side that was heard first."""
    callee: Stream
    began: int
    """When its first packet was seen, in ns since the epoch."""
    over: bool = False
    opened: bool = False
    """Whether it was told of, so that its sides are called what they are called."""

    def begins(self, segment: Segment) -> None:
        """Take from a segment with SYN which side has called."""
        called = bool(segment.flags & ACK)
        if not self.opened and called == (segment.source == self.caller.source):
            self.caller, self.callee = self.callee, self.caller

    def streams(self, segment: Segment) -> tuple[Stream, Stream]:
        """The direction of a segment, and the other one."""
        if segment.source == self.caller.source:
            return self.caller, self.callee
        return self.callee, self.caller


Happened = tuple[Connection, Stream, What]


class Connections:
    """All connections of a recording."""

    def __init__(self) -> None:
        self._open: dict[frozenset[Place], Connection] = {}
        """Used longest ago first."""
        self._count = 0

    def add(self, segment: Segment) -> Iterator[Happened]:
        """Take a segment: what can be read now."""
        places = frozenset((segment.source, segment.target))
        connection = self._open.pop(places, None)
        if connection is not None and segment.flags & SYN:
            stream, _ = connection.streams(segment)
            if not stream.continues(segment):
                yield from _finish(connection)
                connection = None
        if connection is None:
            connection = self._new(segment)
        self._open[places] = connection
        if len(self._open) > CONNECTIONS:
            yield from _finish(self._open.pop(next(iter(self._open))))
        if segment.flags & SYN:
            connection.begins(segment)
        stream, other = connection.streams(segment)
        found = stream.add(segment)
        if segment.flags & SYN and not connection.opened:
            connection.opened = True
            yield connection, stream, Opened()
        for what in found:
            if not connection.opened:
                connection.opened = True
                yield connection, stream, Opened()
            yield connection, stream, what
        if segment.flags & ACK:
            other.acknowledge(segment.acknowledged)
        if stream.closed and other.closed and not connection.over:
            yield from _finish(connection)

    def finish(self) -> Iterator[Happened]:
        """The recording has ended."""
        for connection in sorted(self._open.values(), key=lambda one: one.number):
            yield from _finish(connection)
        self._open.clear()

    def _new(self, segment: Segment) -> Connection:
        self._count += 1
        sides = Stream(segment.source), Stream(segment.target)
        return Connection(self._count, *sides, segment.time)


def _finish(connection: Connection) -> Iterator[Happened]:
    if connection.over:
        return
    connection.over = True
    if not connection.opened:
        connection.opened = True
        yield connection, connection.caller, Opened()
    for stream in (connection.caller, connection.callee):
        for what in stream.finish():
            yield connection, stream, what

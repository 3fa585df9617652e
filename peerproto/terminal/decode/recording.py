"""A whole recording: which side of which connection has said what, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Final, Optional

import attrs

from peerproto.terminal.decode.capture import CaptureError, is_capture, records
from peerproto.terminal.decode.direction import Direction
from peerproto.terminal.decode.packets import Segment, segment_of
from peerproto.terminal.decode.source import Source
from peerproto.terminal.decode.streams import (
    Came,
    Connection,
    Connections,
    Lost,
    Opened,
    Stream,
    What,
)
from peerproto.terminal.decode.told import Told, counted

CHUNK: Final = 1 << 16
"""Bytes of a file that are read at once."""

_GZIP: Final = b"\x1f\x8b"

CONNECTION, CONNECTION_OVER, RECORDING = "connection", "connection-over", "recording"
"""Kinds of what is about more than one message."""

DAMAGED: Final = "damaged"
"""Kind of what says that a file cannot be read on."""


class NotReadable(Exception):
    """A file is no recording; its text says why."""


@attrs.frozen
class Heard:
    """What is told of one side of one connection."""

    told: Told
    connection: int = 0
    """The first one of the recording is 1; 0 where there are none, or all are meant."""
    from_caller: Optional[bool] = None
    """Which side; ``None`` if it is not known, or both are meant."""
    time: Optional[int] = None
    """Nanoseconds since the first packet of the recording."""


def heard(source: Source, longest: int) -> Iterator[Heard]:
    """All that is told of a recording, in the order in which it came.

    ``longest`` is the most bytes that a payload has: HAProxy's ``tune.bufsize``.

    :raises NotReadable: it is none.
    """
    if source.peek(2) == _GZIP:
        raise NotReadable("read a file of gzip, expected what is in it: zcat FILE | … decode -")
    if not source.peek(1):
        raise NotReadable("read an empty file, expected a recording")
    return _Capture(source, longest).heard() if is_capture(source) else _bytes(source, longest)


def _bytes(source: Source, longest: int) -> Iterator[Heard]:
    """Of raw bytes: they are what one side has said."""
    direction = Direction(None, longest, None)

    def all_of(found: Iterator[Told]) -> Iterator[Heard]:
        return (Heard(told, from_caller=direction.is_caller) for told in found)

    while data := source.some(CHUNK):
        yield from all_of(direction.receive(data))
    yield from all_of(direction.finish())


class _Capture:
    """Both directions of all connections in a file with packets."""

    def __init__(self, source: Source, longest: int) -> None:
        self._source = source
        self._longest = longest
        self._directions: dict[tuple[int, bool], Direction] = {}
        """By the number of the connection, and whether it is the caller's."""
        self._first = 0
        """When the recording began, in ns since the epoch."""
        self._now = 0
        self._others: Counter[str] = Counter()
        """Packets that could not be read, by the reason why."""
        self._packets = 0
        self._segments = 0

    def heard(self) -> Iterator[Heard]:
        connections = Connections()
        problem: Optional[CaptureError] = None
        try:
            for record in records(self._source):
                self._packets += 1
                self._first = self._first or record.time
                self._now = max(self._now, record.time)
                found = segment_of(record)
                if isinstance(found, Segment):
                    self._segments += 1
                    for happened in connections.add(found):
                        yield from self._happened(*happened)
                elif found is not None:
                    self._others[found] += 1
        except CaptureError as broken:
            problem = broken
        for happened in connections.finish():
            yield from self._happened(*happened)
        if problem is not None:
            is_cut = "and the end" in problem.read
            text = f"the file {'ends too early' if is_cut else 'cannot be read on'}: {problem}"
            yield Heard(Told(None, "cut" if is_cut else DAMAGED, text, {"file_offset": problem.at}))
        for why, count in sorted(self._others.items()):
            text = f"{counted(count, 'packet')} could not be read: {why}"
            yield Heard(Told(None, RECORDING, text, {"packets": count, "why": why}))
        if not self._segments:
            text = f"there is no TCP in {counted(self._packets, 'packet')}"
            yield Heard(Told(None, RECORDING, text, {"packets": self._packets}))

    def _happened(self, connection: Connection, stream: Stream, what: What) -> Iterator[Heard]:
        number = connection.number
        from_caller = stream is connection.caller
        if isinstance(what, Opened):
            yield self._begins(connection)
            return
        direction = self._direction(connection, stream, from_caller)
        other = connection.callee if from_caller else connection.caller
        direction.other_waits = other.waits
        if isinstance(what, Came):
            found = direction.receive(what.data)
        elif isinstance(what, Lost):
            found = direction.lost(what.count, what.exact)
        else:
            found = direction.finish()
        for told in found:
            yield Heard(told, number, from_caller, self._now - self._first)
        if connection.over and not isinstance(what, (Came, Lost)) and not from_caller:
            for side in (True, False):
                self._directions.pop((number, side), None)
            yield self._ends(connection)

    def _direction(self, connection: Connection, stream: Stream, from_caller: bool) -> Direction:
        """What is known of a direction; only now it is known whether its begin is there."""
        direction = self._directions.get((connection.number, from_caller))
        if direction is None:
            known = connection.caller.begins or connection.callee.begins
            direction = Direction(stream.begins, self._longest, from_caller if known else None)
            self._directions[connection.number, from_caller] = direction
            other = self._directions.get((connection.number, not from_caller))
            if other is not None:
                direction.heard_from, other.heard_from = other, direction
        return direction

    def _begins(self, connection: Connection) -> Heard:
        caller, callee = str(connection.caller.source), str(connection.callee.source)
        began = _moment(connection.began)
        text = f"{caller} (>) to {callee} (<), first seen {began}"
        fields = {"from": caller, "to": callee, "began": began}
        told = Told(None, CONNECTION, text, fields)
        return Heard(told, connection.number, time=max(0, connection.began - self._first))

    def _ends(self, connection: Connection) -> Heard:
        parts = []
        fields: dict[str, object] = {}
        sides = (("caller", ">", connection.caller), ("callee", "<", connection.callee))
        for name, sign, stream in sides:
            if stream.reset:
                parts.append(f"reset by {sign}")
            elif stream.closed:
                parts.append(f"closed by {sign}")
            counts = {
                "disordered": stream.disordered,
                "again": stream.again,
                "overlapping": stream.overlapping,
            }
            how = "reset" if stream.reset else "closed" if stream.closed else "open"
            fields[name] = {"end": how, **counts}
            words = ("out of order", "once more", "overlapping")
            for count, word in zip(counts.values(), words):
                if count:
                    parts.append(f"{counted(count, 'segment')} of {sign} came {word}")
        text = ", ".join(parts) or "the recording ends before it"
        time = self._now - self._first
        return Heard(Told(None, CONNECTION_OVER, text, fields), connection.number, time=time)


def _moment(nanoseconds: int) -> str:
    """A time as ISO 8601 has it, in UTC, to the microsecond."""
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    moment = epoch + timedelta(microseconds=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

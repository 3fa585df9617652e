"""A client of the stream of events, that notes when each event came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Optional

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from testbed.conversation import Conversation
from testbed.waiting import reactor, until


@attrs.frozen
class Event:
    """One event."""

    name: str
    data: Any
    place: str
    """What a client that comes back says it has seen."""
    at: float
    """When it came, as ``time.perf_counter`` has it."""


class EventStream(Conversation):
    """A connection on which events come."""

    def __init__(self) -> None:
        super().__init__()
        self.status: Optional[int] = None
        self.events: list[Event] = []
        self.comments = 0
        self._text = b""
        self._place = ""

    @classmethod
    async def open(cls, port: int, query: str = "", since: Optional[str] = None) -> EventStream:
        """Follow the events of a node at a port of HTTP, once it listens there.

        :raises AssertionError: it answers with another status than 200.
        """

        async def connected() -> EventStream:
            stream: EventStream = await connectProtocol(
                TCP4ClientEndpoint(reactor, "127.0.0.1", port), cls()
            )
            return stream

        opened: EventStream = await until(connected, f"port {port} answers")
        last = "" if since is None else f"Last-Event-ID: {since}\r\n"
        opened.send(
            f"GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n"
            f"Accept: text/event-stream\r\n{last}\r\n".encode()
        )

        async def answered() -> Optional[int]:
            return opened.status

        status = await until(answered, "an answer comes")
        assert status == 200, (status, opened.received)
        await opened.named("hello")
        return opened

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.status is None:
            head, found, rest = self.received.partition(b"\r\n\r\n")
            if not found:
                return
            self.status, self.received = int(head.split()[1]), rest
        while (end := self.received.find(b"\r\n")) >= 0:
            size = int(self.received[:end], 16)
            if len(self.received) < end + 4 + size:
                break
            self._text += self.received[end + 2 : end + 2 + size]
            self.received = self.received[end + 4 + size :]
        *blocks, self._text = self._text.split(b"\n\n")
        now = time.perf_counter()
        for block in blocks:
            self._take(block.decode("ascii"), now)

    def _take(self, block: str, now: float) -> None:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        self._place = fields.get("id", self._place)
        if "event" in fields:
            data = json.loads(fields["data"])
            self.events.append(Event(fields["event"], data, self._place, now))
        else:
            self.comments += 1

    @property
    def place(self) -> str:
        """That of the latest event."""
        return self._place

    def entries(self, table: Optional[str] = None) -> dict[str, Any]:
        """By key, the latest entry that was told, ``None`` if it was gone."""
        return {
            one.data["key"]: one.data["entry"]
            for one in self.events
            if one.name == "entry" and table in (None, one.data["table"])
        }

    async def entry(self, key: str) -> Event:
        """Wait for the first event of a key."""
        return await self.named("entry", lambda data: data["key"] == key)

    async def named(
        self, name: str, fits: Callable[[Any], bool] = lambda _: True, after: int = 0
    ) -> Event:
        """Wait for an event of a name whose data fits: the first behind so many events."""

        async def came() -> Optional[Event]:
            found = (one for one in self.events[after:] if one.name == name and fits(one.data))
            return next(found, None)

        event: Event = await until(came, f"an event {name} comes")
        return event

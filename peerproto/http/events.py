"""``/v1/events``: the stream of what happens, for each client at its own pace.

One feed is read for each table, whoever follows it, and each event is made once. All of this may
take `SHARE` of the time: what happens meanwhile is folded, so that no number of clients keeps the
node from learning.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Optional

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from peerproto import Filter, IObserver, Metric, StickTableService
from peerproto.http.answers import Answer, set_headers
from peerproto.http.channel import Channel
from peerproto.http.follower import Follower
from peerproto.http.news import News
from peerproto.http.problems import Problem
from peerproto.http.routes import Call
from peerproto.http.sse import CONTENT_TYPE, Place, event
from peerproto.http.standing import Standing
from peerproto.http.text import written
from peerproto.http.wanted import Wanted

SHARE: Final = 1 / 40
"""What part of the time may be taken."""

SLICE: Final = 0.004
"""Seconds that are worked at once, and a step more at most."""

WRITE: Final = 20e-6
"""Seconds that a write costs the reactor and the kernel, after it was asked for."""

LOOK: Final = 1.0
"""Seconds from one look at peers and parts to the next."""

HEARTBEAT: Final = 15.0
"""Seconds after which a client is told that the node is there."""

LINGER: Final = 60.0
"""Seconds for which what changes is remembered after the last client has left."""


class Events:
    """All clients of the stream, and what is told to them."""

    def __init__(
        self,
        service: StickTableService,
        clock: IReactorTime,
        most: Callable[[], int],
        timer: Callable[[], float] = time.thread_time,
        epoch: Optional[str] = None,
    ) -> None:
        """
        :param most: gives how many clients there may be.
        :param timer: measures in s what work costs.
        :param epoch: tells processes from each other; hexadecimal digits.
        """
        self._service = service
        self._clock = clock
        self._most = most
        self._timer = timer
        self._epoch = secrets.token_hex(6) if epoch is None else epoch
        self._number = 0
        """Of what was told last."""
        self._followers: dict[Follower, Deferred[None]] = {}
        """By each client, what fires when it is let go."""
        self._channels: dict[str, Channel] = {}
        """By the names of tables."""
        self._standing = Standing(service)
        self._observer: IObserver = News(self._look_soon, self._open_all)
        self._rounds = self._work()
        self._call: Optional[IDelayedCall] = None
        """When there is work to do."""
        self._not_before = 0.0
        self._looking: Optional[IDelayedCall] = None
        self._beat_at = 0.0
        self._sent = self._merged = self._turned_away = 0
        """Of those that are let go, and how many were not let in."""

    # -- clients -----------------------------------------------------------

    async def follow(self, call: Call) -> Optional[Answer]:
        """Write events to a client until it goes, or the node stops.

        :raises Problem: there are too many, or what is asked for cannot be read.
        """
        wanted = Wanted.of(call, self._service)
        request: Any = call.request
        if request.method == b"HEAD":
            return Answer(b"", content_type=CONTENT_TYPE)
        if len(self._followers) >= self._most():
            self._turned_away += 1
            detail = f"{len(self._followers)} clients follow the events already"
            raise Problem(503, detail, headers={"Retry-After": "5"})
        headers = {"Content-Type": CONTENT_TYPE, "X-Accel-Buffering": "no"}
        set_headers(request, headers)
        request.endless = True
        follower = Follower(wanted, request.write, self._clock.seconds, self._place, self._wake)
        ended: Deferred[None] = Deferred()
        self._enter(follower, ended)
        since = request.requestHeaders.getRawHeaders(b"Last-Event-ID")
        self._begin(follower, None if since is None else since[-1].decode("latin-1"))
        request.registerProducer(follower, True)
        try:
            await ended
        except CancelledError:
            return None  # the client has gone
        finally:
            self._leave(follower)
        request.unregisterProducer()
        if follower.paused:
            transport: Any = request.transport
            transport.abortConnection()
        else:
            request.write(event("end", {"why": written(follower.ended or "")}))
        return None

    def _enter(self, follower: Follower, ended: Deferred[None]) -> None:
        if not self._followers:
            self._service.add_observer(self._observer)
            self._beat_at = self._clock.seconds() + HEARTBEAT
            self._standing.look()
            self._look_in(LOOK)
        self._followers[follower] = ended

    def _leave(self, follower: Follower) -> None:
        del self._followers[follower]
        self._sent += follower.sent
        self._merged += follower.merged_in_all
        if not self._followers:
            self._service.remove_observer(self._observer)
        for channel in self._channels.values():
            if not any(self._following(channel)):
                channel.left_at = channel.left_at or self._clock.seconds()

    def _begin(self, follower: Follower, since: Optional[str]) -> None:
        """Greet a client, and tell it how all stands; what has changed since it was here last, if
        that is known."""
        wanted = follower.wanted
        channels = self._open(follower)
        lost = {} if since is None else self._resume(follower, channels, since)
        tables = None if wanted.tables is None else [written(one) for one in wanted.tables]
        hello = {
            "node": written(self._service.localpeer),
            "resumed": since is not None and not lost,
            "tables": tables,
            "kinds": sorted(wanted.kinds),
            "interval": wanted.interval,
        }
        for why in dict.fromkeys(lost.values()):
            follower.lose((name for name, one in lost.items() if one == why), why)
        follower.begin(event("hello", hello))
        for (kind, name), text in self._standing.texts.items():
            self._tell_state(follower, kind, name, text)
        self._wake()

    def _resume(self, follower: Follower, channels: list[Channel], since: str) -> dict[str, str]:
        """Let a client have what has changed since it was here last: by table, why that is not
        known."""
        place = Place.parse(since.strip())
        if place is None or place.epoch != self._epoch or place.number > self._number:
            why = "the last event was one of another process"
            return {channel.name: why for channel in channels}
        if any(isinstance(one, Filter) for one in follower.wanted.conditions):
            why = "it is not known which entries matched the filter"
            return {channel.name: why for channel in channels}
        known = [one for one in channels if place.number >= one.lost_up_to]
        missed = [told for one in known for told in one.told if told.number > place.number]
        for told in sorted(missed, key=lambda one: one.number):
            follower.hold(told)
        follower.merged = 0
        why = "it is not known any more what has changed since the last event"
        return {one.name: why for one in channels if one not in known}

    def _open(self, follower: Follower) -> list[Channel]:
        """The channels that a client follows, some of which may be new."""
        wanted = follower.wanted
        if "entry" not in wanted.kinds:
            return []
        names = wanted.tables
        if names is None:
            names = tuple(table.name for table in self._service.tables)
        for name in names:
            if name not in self._channels:
                self._channels[name] = Channel(
                    self._service,
                    name,
                    self._next_number,
                    self._clock.seconds,
                    self._wake,
                    self._number,
                )
            self._channels[name].left_at = None
            self._channels[name].listen()
        return [self._channels[name] for name in names]

    def _open_all(self) -> None:
        """Follow what is followed of a table that has just come: its entries may change at once."""
        for follower in self._followers:
            self._open(follower)

    def _following(self, channel: Channel) -> Iterator[Follower]:
        return (
            one
            for one in self._followers
            if "entry" in one.wanted.kinds and one.wanted.follows(channel.name)
        )

    def stop(self, why: str = "the node stops") -> None:
        """Let all clients go, and read nothing more."""
        self.let_go(why)
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        for call in (self._call, self._looking):
            if call is not None:
                call.cancel()
        self._call = self._looking = None

    def let_go(self, why: str) -> None:
        """Let all clients go, for a reason in words: they may come back, and go on."""
        for follower in list(self._followers):
            self._let_go(follower, why)

    def _let_go(self, follower: Follower, why: str) -> None:
        follower.ended = follower.ended or why
        ended = self._followers[follower]
        if not ended.called:
            ended.callback(None)

    # -- numbers -----------------------------------------------------------

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _place(self) -> Place:
        return Place(self._epoch, self._number)

    # -- work --------------------------------------------------------------

    def _wake(self) -> None:
        """There may be something to do: do it as soon as it may be done."""
        self._work_at(self._clock.seconds())

    def _work_at(self, when: float) -> None:
        when = max(when, self._not_before)
        if self._call is not None:
            if self._call.getTime() <= when:
                return
            self._call.cancel()
        self._call = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._run)

    def _run(self) -> None:
        self._call = None
        began = self._timer()
        writes = self._writes()
        busy = True
        while busy and self._timer() - began < SLICE:
            busy = next(self._rounds)
        used = self._timer() - began + WRITE * (self._writes() - writes)
        self._not_before = self._clock.seconds() + used * (1 / SHARE - 1)
        due = [one.paused_until for one in self._channels.values() if one.paused_until is not None]
        due += [at for one in self._followers if (at := one.next_due) is not None]
        if busy:
            due.append(self._clock.seconds())
        if due:
            self._work_at(min(due))

    def _writes(self) -> int:
        return sum(one.writes for one in self._followers)

    def _work(self) -> Iterator[bool]:
        """One step after the other, of each channel and each client in turns: whether there was
        anything to do since the last one."""
        while True:
            busy = False
            for channel in list(self._channels.values()):
                if channel.waits:
                    busy = True
                    self._tell(channel)
                    yield True
            for follower in list(self._followers):
                if follower.flush():
                    busy = True
                    self._see(follower)
                    yield True
            if not busy:
                yield False

    def _tell(self, channel: Channel) -> None:
        followers = list(self._following(channel))
        told = channel.take()
        merged = channel.merged()
        for follower in followers:
            if told is None:
                follower.lose([channel.name], "more changed than could be told")
                continue
            follower.merged += merged
            for one in told:
                follower.tell(one)
            self._see(follower)
        for one in told or ():
            one.release()

    def _see(self, follower: Follower) -> None:
        if follower.ended is not None and follower in self._followers:
            self._let_go(follower, follower.ended)

    # -- how all stands ----------------------------------------------------

    def _look_soon(self) -> None:
        """Something has happened: look at the end of this turn."""
        self._look_in(0)

    def _look_in(self, seconds: float) -> None:
        when = self._clock.seconds() + seconds
        if self._looking is not None:
            if self._looking.getTime() <= when:
                return
            self._looking.cancel()
        self._looking = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._looking = None
        now = self._clock.seconds()
        if self._followers:
            self._tell_news(self._standing.look())
            if now >= self._beat_at:
                self._beat_at = now + HEARTBEAT
                for follower in self._followers:
                    follower.beat()
        for name, channel in list(self._channels.items()):
            if self._service.find_table(name) is None:
                channel.left_at = channel.left_at or now
            if channel.left_at is not None and now >= channel.left_at + LINGER:
                channel.close()
                del self._channels[name]
        if self._followers or self._channels:
            self._look_in(LOOK)

    def _tell_news(self, news: dict[tuple[str, str], bytes]) -> None:
        for follower in self._followers:
            for (kind, name), text in news.items():
                self._tell_state(follower, kind, name, text)
        if news:
            self._wake()

    def _tell_state(self, follower: Follower, kind: str, name: str, text: bytes) -> None:
        wanted = follower.wanted
        if kind in wanted.kinds and (kind != "table" or wanted.follows(name)):
            follower.tell_state(kind, name, text)

    # -- for who looks at it -----------------------------------------------

    def metrics(self) -> Iterable[Metric]:
        """What is measured of the stream."""
        sent = self._sent + sum(one.sent for one in self._followers)
        merged = self._merged + sum(one.merged_in_all for one in self._followers)
        paused = sum(one.paused for one in self._followers)
        for name, words, value in (
            ("clients", "Clients that follow the events", len(self._followers)),
            ("clients_limit", "How many of them there may be", self._most()),
            ("clients_behind", "Those that take nothing at the moment", paused),
        ):
            yield Metric(f"peerproto_events_{name}", words, value)
        for name, words, value in (
            ("sent", "Events that were written to clients", sent),
            ("merged", "Changes that were folded into others for a client", merged),
            (
                "refused",
                "Clients that were turned away, since there were too many",
                self._turned_away,
            ),
        ):
            yield Metric(f"peerproto_events_{name}_total", words, value, counter=True)

"""One client of the stream of events: what waits for it, and what it is written.

What a client does not take at once waits in one place for each key, however often that changes; the
number of changes that were folded so is told. When too many keys wait, they are dropped, and the
client is told to read the tables anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Optional
from weakref import WeakKeyDictionary

import attrs
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from peerproto import Entry, LocalProtocolError, StickTable
from peerproto.http.sse import HEARTBEAT, Place, event, placed
from peerproto.http.telling import Told, Why, entries_of, entry_event
from peerproto.http.text import written
from peerproto.http.wanted import Sieve, Wanted

MOST_WAITING: Final = 20_000
"""Changed keys that wait for one client; also keys that are known to match its filters."""

AT_ONCE: Final = 50
"""Keys that are written to one client in one step."""

STATES_AT_ONCE: Final = 200
"""The same for events of peers, tables, parts and the resync."""

Key = tuple[StickTable, bytes]


@attrs.frozen
class Waiting:
    """Why a key waits."""

    number: int
    """Of what was told of it first."""
    why: Why


@implementer(IPushProducer)
class Follower:
    """See the module."""

    def __init__(
        self,
        wanted: Wanted,
        write: Callable[[bytes], None],
        now: Callable[[], float],
        latest: Callable[[], Place],
        wake: Callable[[], None],
    ) -> None:
        """
        :param write: takes what the client is sent.
        :param now: the time in s.
        :param latest: gives the place of what was told last.
        :param wake: called when the client takes more.
        """
        self.wanted = wanted
        self._write = write
        self._now = now
        self._latest = latest
        self._wake = wake
        self.paused = False
        """Whether the client takes nothing at the moment."""
        self._waiting: dict[Key, Waiting] = {}
        self._states: dict[tuple[str, str], bytes] = {}
        self._matching: set[Key] = set()
        """Keys that matched the filters when the client was told of them last."""
        self._sieves: WeakKeyDictionary[StickTable, Sieve] = WeakKeyDictionary()
        self._left = 0
        """Keys that are still to be written in this pass; those that come after them wait for the
        next one, an interval later."""
        self._next_pass = 0.0
        self.merged = 0
        """Changes that were folded into others since that was told last."""
        self._merged_before = 0
        self._lost: dict[str, str] = {}
        """By table, why the client has to read it anew."""
        self._wrote = False
        """Whether anything was written since the last heartbeat."""
        self.writes = 0
        """How often anything was written."""
        self.sent = 0
        """How many events were."""
        self.ended: Optional[str] = None
        """Why nothing more will be written, in words."""

    @property
    def merged_in_all(self) -> int:
        """Changes that were folded into others."""
        return self._merged_before + self.merged

    # -- for the transport -------------------------------------------------

    def pauseProducing(self) -> None:
        """See ``IPushProducer``."""
        self.paused = True

    def resumeProducing(self) -> None:
        """See ``IPushProducer``."""
        self.paused = False
        self._wake()

    def stopProducing(self) -> None:
        """See ``IPushProducer``: the end of the connection is told otherwise, too."""

    # -- what is told ------------------------------------------------------

    def tell(self, told: Told) -> None:
        """Write what has changed, or let it wait."""
        if told.table.name in self._lost:
            return  # it will be read later than this
        if not self._may_write or self._waiting or self._states or self._lost:
            self.hold(told)
            return
        texts = list(self._meant(told)) if self.wanted.conditions else told.texts()
        if self.ended is None and texts:
            self._send(texts, attrs.evolve(self._latest(), number=told.number))
            self._end_pass()

    def hold(self, told: Told) -> None:
        """Let what has changed wait."""
        waiting, why, table = self._waiting, told.why, told.table
        for raw_key in told.raw_keys:
            key = (table, raw_key)
            before = waiting.get(key)
            if before is None:
                waiting[key] = Waiting(told.number, why)
            else:
                self.merged += 1
                waiting[key] = Waiting(before.number, why)
        if len(waiting) > MOST_WAITING:
            names = {table.name for table, _ in waiting}
            self.lose(names, f"more than {MOST_WAITING} changed entries waited")

    def lose(self, tables: Iterable[str], why: str) -> None:
        """Changes of tables are lost: the client is to read them anew."""
        self._lost.update((name, why) for name in tables)
        self._waiting = {
            key: one for key, one in self._waiting.items() if key[0].name not in self._lost
        }
        self._matching = {key for key in self._matching if key[0].name not in self._lost}
        self._left = min(self._left, len(self._waiting))

    def tell_state(self, kind: str, name: str, text: bytes) -> None:
        """Write how something stands; of what waits, the latest alone."""
        if (kind, name) in self._states:
            self.merged += 1
        self._states[kind, name] = text

    # -- what is written ---------------------------------------------------

    @property
    def _may_write(self) -> bool:
        if self.paused or self.ended is not None:
            return False
        return not self.wanted.interval or self._left > 0 or self._now() >= self._next_pass

    @property
    def next_due(self) -> Optional[float]:
        """When (in s) something is to be written; ``None`` if nothing is, or the client takes
        nothing."""
        if self.paused or self.ended is not None:
            return None
        if self._states or self._lost:
            return self._now()
        if not self._waiting:
            return None
        return self._now() if self._may_write else self._next_pass

    def flush(self) -> bool:
        """Write some of what waits: whether there was something."""
        due = self.next_due
        if due is None or due > self._now():
            return False
        texts = []
        if self._lost:
            lost, self._lost = self._lost, {}
            for why in dict.fromkeys(lost.values()):
                names = [written(name) for name, one in lost.items() if one == why]
                texts.append(event("reset", {"tables": names, "why": why}))
        for state in list(self._states)[:STATES_AT_ONCE]:
            texts.append(self._states.pop(state))
        if self._waiting and self._may_write:
            if not self._left:
                self._left = len(self._waiting)
            texts += self._taken(min(AT_ONCE, self._left))
            if not self._left:
                self._end_pass()
        if self.ended is None and texts:
            self._send(texts, self._place())
        return True

    def _taken(self, most: int) -> list[bytes]:
        texts = []
        for key in list(self._first(most)):
            waiting = self._waiting.pop(key, None)
            self._left = max(0, self._left - 1)
            if waiting is None:
                continue  # it was lost meanwhile
            table, raw_key = key
            if (text := self._text(table, raw_key, waiting.why)) is not None:
                texts.append(text)
        return texts

    def _first(self, most: int) -> Iterable[Key]:
        for _, key in zip(range(most), self._waiting):
            yield key

    def _end_pass(self) -> None:
        self._next_pass = self._now() + self.wanted.interval / 1000

    def _place(self) -> Place:
        """The place up to which all was written."""
        latest = self._latest()
        for one in self._waiting.values():
            return attrs.evolve(latest, number=one.number - 1)
        return latest

    def _send(self, texts: list[bytes], place: Place) -> None:
        self.sent += len(texts)
        if self.merged:
            texts = [event("merged", {"merged": self.merged}), *texts]
            self._merged_before += self.merged
            self.merged = 0
        self._put(placed(texts, place))

    def _put(self, data: bytes) -> None:
        self._wrote = True
        self.writes += 1
        self._write(data)

    def begin(self, text: bytes) -> None:
        """Write the first event. What waits already, or is lost, comes after it."""
        first = text if self._lost else placed([text], self._place())
        self._put(b"retry: 1000\n" + first)

    def beat(self) -> None:
        """Write a heartbeat, if nothing else was written since the last one."""
        if not self._wrote and not self.paused:
            self._put(HEARTBEAT)
        self._wrote = False

    # -- what is meant -----------------------------------------------------

    def _meant(self, told: Told) -> Iterable[bytes]:
        for raw_key, found, text in told:
            mine = self._pick(told.table, raw_key, told.why, found, text)
            if mine is not None:
                yield mine

    def _text(self, table: StickTable, raw_key: bytes, why: Why) -> Optional[bytes]:
        found = entries_of(table, raw_key)
        if not self.wanted.conditions:
            return entry_event(table, raw_key, why, found)
        return self._pick(table, raw_key, why, found, None)

    def _pick(
        self,
        table: StickTable,
        raw_key: bytes,
        why: Why,
        found: list[Entry],
        text: Optional[bytes],
    ) -> Optional[bytes]:
        """The event of an entry; ``None`` if it is not meant, and was not when the client was told
        of it last."""
        try:
            sieve = self._sieve(table)
            if not sieve.takes_key(raw_key):
                return None
            if not sieve.filters:
                return text or entry_event(table, raw_key, why, found)
            takes = sieve.takes(found)
        except LocalProtocolError as problem:
            self.ended = self.ended or str(problem)
            return None
        key = (table, raw_key)
        if takes:
            self._matching.add(key)
            if len(self._matching) > MOST_WAITING:
                self.lose([table.name], f"more than {MOST_WAITING} entries matched the filters")
            return text or entry_event(table, raw_key, why, found)
        if key not in self._matching:
            return None
        self._matching.discard(key)
        return entry_event(table, raw_key, why, found, matches=not found)

    def _sieve(self, table: StickTable) -> Sieve:
        sieve = self._sieves.get(table)
        if sieve is None or sieve.layout is not table.layout:
            if not table.shared and sieve is not None:
                return sieve
            sieve = self._sieves[table] = Sieve(self.wanted.conditions, table)
        return sieve

"""A stick table: raw records by raw key, decoded when they are read.

What is stored for a key is one ``bytes``: when it came and how long it lives
(`peerproto.tables.stored`), then the record (`peerproto.wire.codec`). That is quick to store and
small, and the garbage collector does not look into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Optional
from weakref import WeakValueDictionary

import attrs

from peerproto.tables import stored as head
from peerproto.tables.change import changed
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.expiry import NEVER, ExpirySlots
from peerproto.tables.log import ChangeLog
from peerproto.tables.parts import Parts, Sweep
from peerproto.tables.redeclaration import Generations
from peerproto.tables.stored import UNENDING
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import Layout

if TYPE_CHECKING:
    from peerproto.tables.lesson import TableLesson
    from peerproto.tables.live import LiveUpdates

SLICE: Final = 2048
"""Entries that are expired or discarded at once: a few ms."""


class TableFull(LocalProtocolError):
    """The table is full, and declared with ``nopurge``."""


@attrs.define
class Quota:
    """How many entries several tables may hold together, and how many they do."""

    limit: int
    used: int = 0


class StickTable:
    """The entries of one table, and the log of what was changed here."""

    def __init__(
        self,
        declaration: Declaration,
        log: Optional[ChangeLog] = None,
        quota: Optional[Quota] = None,
    ) -> None:
        self.declaration = declaration
        self._quota = Quota(NEVER) if quota is None else quota
        self.log = ChangeLog() if log is None else log
        self.used = 0
        """Number of entries, those included that are due to be removed."""
        self.trashed = 0
        """Entries removed so far to make room for others."""
        self._trashed_keys: list[bytes] = []
        self.refused = 0
        """Entries that a full ``nopurge`` table did not take so far."""
        self._parts = Parts(declaration.layout.fixed_key_length)
        self.record_at = head.record_at(declaration.layout)
        """Where the record begins in what is stored."""
        self._expiry = ExpirySlots(declaration.expire)
        self._generations = Generations()
        self._unconverted: Iterator[tuple[bytes, bytes]] = iter(())
        self._unslotted = False
        """Whether keys wait for their expiry only once they are converted."""
        self._discarded: list[dict[bytes, bytes]] = []
        self._waited: list[Sequence[bytes]] = []
        self.lessons: WeakValueDictionary[tuple[bool, bytes], TableLesson] = WeakValueDictionary()
        """Those under way that others can join (`peerproto.tables.lesson`)."""
        self.live: dict[bool, LiveUpdates] = {}
        """What writes changes for all peers, by whether with expiry (`peerproto.tables.live`)."""

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def layout(self) -> Layout:
        return self.declaration.layout

    # -- reading ---------------------------------------------------------

    def stored(self, key: bytes) -> Optional[bytes]:
        """What is stored for a raw key, head and record, expired or not."""
        stored = self._parts.of(key).get(key)
        return None if stored is None else self._generations.convert(stored)

    def record(self, key: bytes, now: int, aged: bool) -> Optional[bytes]:
        """The record of a raw key, unless it has expired; ``aged`` to have ages as of now."""
        stored = self.stored(key)
        if stored is None:
            return None
        came, deadline = self.lifetime(stored)
        if deadline <= now:
            return None
        if aged and now > came:
            codec = self.layout.codec
            return codec.encode(codec.decode(stored, self.record_at, now - came))
        return stored[self.record_at :]

    def get(self, key: bytes, now: int) -> Optional[Entry]:
        """The entry of a raw key, unless it has expired."""
        stored = self.stored(key)
        return None if stored is None else self.entry(key, stored, now)

    def entry(self, key: bytes, stored: bytes, now: int) -> Optional[Entry]:
        """Decode what is stored; ``None`` if it has expired."""
        came, deadline = self.lifetime(stored)
        if deadline <= now:
            return None
        expires_in = None if deadline == NEVER else deadline - now
        values = self.layout.codec.decode(stored, self.record_at, now - came)
        return Entry(self.layout, key, values, expires_in)

    def lifetime(self, stored: bytes) -> tuple[int, int]:
        """When an entry came, and its deadline (or `NEVER`), both in ms."""
        came, life = head.unpack(stored)
        came -= self.origin
        expire = self.declaration.expire
        return came, came + min(life, expire) if expire else NEVER

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys with what is stored for them, in no order.

        The table may change meanwhile: what is there from beginning to end
        comes once, as it is when it comes; what comes or goes may be missed.
        """
        convert = self._generations.convert
        return ((key, convert(stored)) for key, stored in self._parts.items())

    def sweep(self) -> Sweep:
        """The same for a lesson: a few at a time, in about the order in which they came.

        An entry may come twice if others are removed meanwhile. What comes is to be
        made `present`.
        """
        return self._parts.sweep()

    def present(self, entries: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What a sweep gave, as the present declaration has it."""
        if not self.converting:
            return entries
        return [(key, self._generations.convert(stored)) for key, stored in entries]

    @property
    def origin(self) -> int:
        """What times in what is stored have more than the time in ms."""
        return self._generations.origin

    def stamp(self, now: int) -> bytes:
        """What is stored begins with this if it came now."""
        return head.stamp(self._generations.origin + now)

    # -- changing --------------------------------------------------------

    def store(self, updates: Iterable[tuple[bytes, int, bytes]], now: int) -> list[bytes]:
        """Store records: raw key, life in ms (or `UNENDING`), record. See `put`."""
        keys, values, shortest = [], [], UNENDING
        fixed = self.layout.fixed_key_length
        for key, life, record in updates:
            keys.append(key)
            values.append(head.pack(self.origin + now, life) + (key + record if fixed else record))
            shortest = min(shortest, life)
        return self.put(keys, values, shortest, now)

    def put(self, keys: list[bytes], values: list[bytes], shortest: int, now: int) -> list[bytes]:
        """Store values as `peerproto.tables.stored` has them; ``shortest`` of their lives in ms.

        These are not local changes. Returns the keys that were taken: all, but
        for new ones in a table that is full and declared with ``nopurge``.
        """
        if len(keys) > self._room:
            return self._put_each(keys, values, shortest, now)
        new, count = self._parts.put(keys, values)
        self.used += count
        self._quota.used += count
        self._wait_for_expiry(new, now, shortest)
        return keys

    def _put_each(
        self, keys: list[bytes], values: list[bytes], shortest: int, now: int
    ) -> list[bytes]:
        """The same where not all may fit in."""
        taken: list[bytes] = []
        new: list[bytes] = []
        room = self._room
        for key, value in zip(keys, values):
            part = self._parts.of(key)
            if key not in part:
                if room <= 0:
                    self._wait_for_expiry(new, now, shortest)
                    new = []
                    if not self._make_room():
                        self.refused += 1
                        continue
                    room = self._room
                room -= 1
                self.used += 1
                self._quota.used += 1
                new.append(key)
            part[key] = value
            taken.append(key)
        self._wait_for_expiry(new, now, shortest)
        return taken

    def set(self, key: bytes, values: Mapping[str, Any], now: int) -> Entry:
        """Create or change an entry here: a local change, which all peers get.

        Values not named stay as they are. A rate may be given as a number of
        events, which then happened just now, or as a `Frequency`. The entry
        lives for the table's ``expire`` from now.

        :raises LocalProtocolError: a name or value that the table cannot store.
        :raises TableFull: see `Declaration`.
        """
        entry = self.get(key, now)
        codec = self.layout.codec
        before = codec.blank() if entry is None else entry.values
        record = codec.encode(changed(self.declaration, before, values))
        if not self.store([(key, self.life(None), record)], now):
            raise TableFull(f"table {self.name}", f"a new entry, with {self.used} in it", "room")
        self.log.record(key)
        result = self.get(key, now)
        assert result is not None
        return result

    def life(self, expiry: Optional[int]) -> int:
        """Life of an entry in ms: ``expiry`` if given, at most the table's own."""
        expire = self.declaration.expire
        if not expire:
            return UNENDING
        return expire if expiry is None or expiry > expire else expiry

    def remove(self, key: bytes) -> bool:
        """Remove an entry, here only: whether it was there."""
        if self._parts.pop(key) is None:
            return False
        self.used -= 1
        self._quota.used -= 1
        self.log.forget(key)
        return True

    def clear(self) -> int:
        """Remove all entries, here only: how many there were.

        Their memory is given back by `discard`.
        """
        self._discarded += self._parts.take_all()
        self._waited += self._expiry.take_all()
        self.log.clear()
        self._quota.used -= self.used
        cleared, self.used = self.used, 0
        return cleared

    @property
    def discarding(self) -> bool:
        """Whether `discard` has something left to do."""
        return bool(self._discarded or self._waited)

    def discard(self, limit: int = SLICE) -> list[bytes]:
        """Give back the memory of about ``limit`` cleared entries: their keys, but for new ones."""
        gone: list[bytes] = []
        while self._discarded and len(gone) < limit:
            part = self._discarded.pop()
            gone += [key for key in part if key not in self._parts.of(key)]
        freed = 0
        while self._waited and freed < 4 * limit:
            freed += len(self._waited.pop())
        return gone

    def redeclare(self, declaration: Declaration) -> None:
        """Take a new declaration of the same key: entries keep what both store.

        Call `convert` then, while `converting`.
        """
        old, self.declaration = self.declaration, declaration
        other_expiry = old.expire != declaration.expire
        if old.layout.stores_like(self.layout) and not other_expiry:
            return
        while self._generations.full:
            self.convert()
        self._generations.begin(old, declaration)
        self._unconverted = self._parts.items()
        if other_expiry:
            self._waited += self._expiry.take_all()
            self._expiry = ExpirySlots(declaration.expire)
            self._unslotted = True

    @property
    def converting(self) -> bool:
        """Whether `convert` has something left to do."""
        return len(self._generations) > 0

    def convert(self, limit: int = SLICE // 2) -> None:
        """Rewrite about ``limit`` entries that were stored under earlier declarations."""
        looked_at = 0
        for key, _ in islice(self._unconverted, limit):
            looked_at += 1
            stored = self.stored(key)
            assert stored is not None
            self._parts.of(key)[key] = stored
            if self._unslotted:
                self._expiry.add((key,), self.lifetime(stored)[1])
        if looked_at < limit:
            self._generations.end_earlier()
            self._unslotted = False

    # -- expiry ----------------------------------------------------------

    def next_due(self) -> Optional[int]:
        """When (in ms) `expire` has something to look at; ``None`` for never."""
        return self._expiry.next_due()

    def expire(self, now: int, limit: int = SLICE) -> list[bytes]:
        """Remove entries whose time has come: their keys.

        Looks at about ``limit`` entries, so call it again while `next_due` is
        in the past.
        """
        expired: list[bytes] = []
        due: dict[bytes, None] = {}
        while len(due) < limit:
            _, keys = self._expiry.take(limit - len(due), now)
            if not keys:
                break
            due |= dict.fromkeys(keys)
        for key in due:
            deadline = self._deadline(key)
            if deadline is None:
                continue
            if deadline <= now:
                self.remove(key)
                expired.append(key)
            else:
                self._expiry.add((key,), deadline)
        return expired

    def take_trashed(self) -> list[bytes]:
        """Keys of entries that made room for others since the last call."""
        trashed = self._trashed_keys
        if trashed:
            self._trashed_keys = []
        return trashed

    def _deadline(self, key: bytes) -> Optional[int]:
        stored = self.stored(key)
        if stored is None:
            return None
        return self.lifetime(stored)[1]

    def _wait_for_expiry(self, new: Sequence[bytes], now: int, shortest: int) -> None:
        if new:
            expire = self.declaration.expire
            self._expiry.add(new, now + min(shortest, expire) if expire else NEVER)

    @property
    def _room(self) -> int:
        """How many more entries fit in."""
        left = self._quota.limit - self._quota.used
        size = self.declaration.size
        return left if size is None else min(left, size - self.used)

    def _make_room(self) -> bool:
        """Trash the entries that expire first, a 256th of the table at a time."""
        if self.declaration.nopurge:
            return False
        wanted = ((self.declaration.size or self.used) >> 8) + 1
        while wanted:
            slot_end, waiting = self._expiry.take(wanted)
            if not waiting and self._unslotted:
                self.convert()
                continue
            if not waiting:
                break
            for key in waiting:
                deadline = self._deadline(key)
                if deadline is not None and deadline > slot_end:
                    self._expiry.add((key,), deadline)
                elif self.remove(key):
                    self.trashed += 1
                    self._trashed_keys.append(key)
                    wanted -= 1
        return self._room > 0

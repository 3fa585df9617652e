"""The rows of a stick table: raw records by raw key, decoded when they are read.

What is stored for a key is one ``bytes``: when it came and how long it lives
(`peerproto.tables.row`), then the record (`peerproto.wire.codec`). That is quick to store and
small, and the garbage collector does not look into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import ClassVar, Final, Optional
from weakref import WeakSet

from peerproto.tables import row as head
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.expiry import NEVER, EarlierSlots, ExpirySlots
from peerproto.tables.partitions import Partitions
from peerproto.tables.redeclaration import Generations
from peerproto.tables.room import Quota, make_room
from peerproto.tables.row import UNENDING
from peerproto.tables.tombstones import Tombstones
from peerproto.wire.layout import Layout

SLICE: Final = 2048
"""Entries that are expired or discarded at once: a few ms."""

_SPARE: Final = 2048
"""So many places of removed keys wait for their expiry before anything is done about them,
and as many again as there are entries."""


class RowStore:
    """The rows of one table, and how long each is kept."""

    all: ClassVar[WeakSet[RowStore]] = WeakSet()
    """Those of this process: all of them may refer to the same texts."""

    def __init__(
        self,
        declaration: Declaration,
        quota: Optional[Quota] = None,
    ) -> None:
        """``quota`` is what several tables may hold together."""
        self.all.add(self)
        self.declaration = declaration
        self.quota = Quota(NEVER) if quota is None else quota
        self.quota.tables.add(self)
        self.used = 0
        """Number of entries, those included that are due to be removed."""
        self.stored_so_far = 0
        """How often an entry was stored so far, new or changed."""
        self.trashed = 0
        """Entries removed so far to make room for others."""
        self.refused = 0
        """Entries that a full ``nopurge`` table did not take so far."""
        self._parts = Partitions(declaration.layout.fixed_key_length)
        self.record_at = head.record_at(declaration.layout)
        """Where the record begins in what is stored."""
        self._expiry = ExpirySlots(declaration.expire)
        self._wait_elsewhere = False
        """Whether keys in the present slots may wait for another end than that of their life."""
        self._earlier_expiry: Optional[EarlierSlots] = None
        """Keys that wait as an earlier declaration had it, or with places of keys that were
        removed among them, until `convert` has moved them."""
        self.generations = Generations(declaration)
        """How entries are stored, under this declaration and earlier ones."""
        self._lap: Optional[Iterator[tuple[bytes, bytes]]] = None
        """What `convert` has still to look at."""
        self._clearing = self._parts.clearing
        self.tombstones = Tombstones()
        """What was forgotten, and was not stored again since."""
        self.revision = 0
        """Another one whenever an entry is stored or removed."""

    @property
    def name(self) -> str:
        """The name under which peers share the table."""
        return self.declaration.name

    @property
    def layout(self) -> Layout:
        """The type and length of its keys, and its columns."""
        return self.declaration.layout

    # -- reading ---------------------------------------------------------

    def stored(self, key: bytes) -> Optional[bytes]:
        """What is stored for a raw key, head and record, expired or not."""
        stored = self._parts.of(key).get(key)
        return None if stored is None else self.generations.convert(stored)

    def stored_each(
        self, keys: Sequence[bytes], places: Optional[list[int]] = None
    ) -> list[Optional[bytes]]:
        """The same for each of ``keys``; see `peerproto.tables.partitions.Partitions.of_each`."""
        rows = self._parts.of_each(keys, places)
        if not self.generations.mixed:
            return rows
        convert = self.generations.convert
        return [None if row is None else convert(row) for row in rows]

    def unconverted(self, key: bytes) -> Optional[bytes]:
        """The same as it was stored, of any of the `generations`."""
        return self._parts.of(key).get(key)

    def has(self, key: bytes, now: int) -> bool:
        """Whether there is an entry of a raw key that has not expired: nothing is decoded."""
        deadline = self._deadline(key)
        return deadline is not None and deadline > now

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
        return Entry(self.layout, key, values, expires_in, self.declaration.brates_factor)

    def lifetime(self, stored: bytes) -> tuple[int, int]:
        """When an entry came, and its deadline (or `NEVER`), both in ms."""
        came, life = head.unpack(stored)
        came &= head.TIME
        expire = self.declaration.expire
        if not expire:
            return came, NEVER
        generations = self.generations
        if generations.mixed and not generations.form(stored[0]).lives:
            return came, came + expire
        return came, came + min(life, expire)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys with what is stored for them: see `Partitions.walk`."""
        convert = self.generations.convert
        return ((key, convert(stored)) for key, stored in self._parts.items())

    def parts(self) -> Iterator[dict[bytes, bytes]]:
        """What is stored, in parts that may each be gone through at once."""
        return (part for part in self._parts.dicts if part)

    @property
    def partitions(self) -> Partitions:
        """The rows themselves, of any of the `generations`: to be read, and not to be changed."""
        return self._parts

    @property
    def origin(self) -> int:
        """What times in what is stored have more than the time in ms."""
        return self.generations.origin

    def stamp(self, now: int) -> bytes:
        """What is stored begins with this if it came now."""
        return head.stamp(self.generations.origin + now)

    # -- changing --------------------------------------------------------

    def store(
        self,
        updates: Iterable[tuple[bytes, int, bytes]],
        now: int,
        cause: Cause = Cause.LEARNT,
    ) -> list[Changes]:
        """Store records: raw key, life in ms (or `UNENDING`), record. See `put`."""
        keys, values, shortest = [], [], UNENDING
        fixed = self.layout.fixed_key_length
        for key, life, record in updates:
            keys.append(key)
            values.append(head.pack(self.origin + now, life) + (key + record if fixed else record))
            shortest = min(shortest, life)
        return self.put(keys, values, shortest, now, cause)

    def put(
        self,
        keys: list[bytes],
        values: list[bytes],
        shortest: int,
        now: int,
        cause: Cause = Cause.LEARNT,
        origin: Optional[str] = None,
    ) -> list[Changes]:
        """Store values as `peerproto.tables.row` has them; ``shortest`` of their lives in ms.

        This notes no local changes. Returns what happened, in that order: which keys were
        taken, for this ``cause``, and which entries made room for them. New ones that
        find no room in a table that is full are refused.
        """
        if cause is not Cause.SET or len(keys) > self.room:
            self.revision += 1
        if len(keys) > self.room:
            return self._put_each(keys, values, shortest, now, cause, origin)
        self.stored_so_far += len(keys)
        new, count = self._parts.put(keys, values)
        if count:
            self.used += count
            self.quota.used += count
            self._came(new, now, shortest)
        # Of what was cleared, nobody may have been told yet.
        all_new = count == len(keys) and not self._clearing.under_way
        return [Changes(self, cause, keys, now, origin, all_new)]

    def add(
        self, keys: list[bytes], values: list[bytes], shortest: int, now: int, cause: Cause
    ) -> tuple[Changes, list[bytes]]:
        """Store values for keys that have no entry, where there is room for all: what happened, and
        which keys have one, whose entries stay. See `put`."""
        self.revision += 1
        new, there = self._parts.add(keys, values)
        self.stored_so_far += len(new)
        self.used += len(new)
        self.quota.used += len(new)
        self._came(new, now, shortest)
        all_new = not there and not self._clearing.under_way
        return Changes(self, cause, new, now, None, all_new), there

    def _put_each(
        self,
        keys: list[bytes],
        values: list[bytes],
        shortest: int,
        now: int,
        cause: Cause,
        origin: Optional[str],
    ) -> list[Changes]:
        """The same where not all may fit in."""
        batches: list[Changes] = []
        taken: list[bytes] = []
        new: list[bytes] = []
        self._parts.replaced(keys)
        room = self.room
        wanted = self._new_among(keys)
        is_full = False
        for key, value in zip(keys, values):
            part = self._parts.of(key)
            if key not in part:
                if room <= 0 and not is_full:
                    self._came(new, now, shortest)
                    batches += self._batch(cause, taken, now, origin)
                    taken, new = [], []
                    room, trashed = make_room(self, max(1, wanted), now)
                    batches += trashed
                    # What can give up nothing now can give up nothing for the rest either.
                    is_full = room <= 0
                if is_full:
                    self.refused += 1
                    continue
                wanted -= 1
                room -= 1
                self.used += 1
                self.quota.used += 1
                new.append(key)
            part[key] = value
            taken.append(key)
        self._came(new, now, shortest)
        return batches + self._batch(cause, taken, now, origin)

    def _new_among(self, keys: list[bytes]) -> int:
        """How many of them have no entry yet."""
        part_of = self._parts.of
        return len({key for key in keys if key not in part_of(key)})

    def _batch(
        self, cause: Cause, keys: list[bytes], now: int, origin: Optional[str] = None
    ) -> list[Changes]:
        """One batch of what was stored, or none without keys."""
        self.stored_so_far += len(keys)
        return [Changes(self, cause, keys, now, origin)] if keys else []

    def remove(self, key: bytes) -> bool:
        """Remove an entry, here only: whether it was there."""
        if self._parts.pop(key) is None:
            return False
        self.revision += 1
        self.used -= 1
        self.quota.used -= 1
        return True

    def _remove_each(self, keys: Iterable[bytes]) -> list[bytes]:
        """`remove` for many: the ones that were there."""
        removed = self._parts.pop_each(keys)
        self.revision += 1
        self.used -= len(removed)
        self.quota.used -= len(removed)
        return removed

    def clear(self) -> int:
        """Remove all entries, here only: how many there were.

        Their memory is given back by `discard`.
        """
        self.revision += 1
        self._clearing.add(self._parts.take_all())
        self._clearing.add_pieces(self._expiry.take_all())
        if self._earlier_expiry is not None:
            self._clearing.add_pieces(self._earlier_expiry.take_all())
            self._earlier_expiry = None
            self._slot_anew()
        self.quota.used -= self.used
        cleared, self.used = self.used, 0
        return cleared

    def drop(self) -> None:
        """Remove all entries for good: the table is no other's neighbour any more.

        What somebody stores in it all the same takes no room from the others.
        """
        self.clear()
        self.quota.tables.discard(self)
        self.quota = Quota(NEVER)

    @property
    def discarding(self) -> bool:
        """Whether `discard` has something left to do."""
        return self._clearing.under_way

    def discard(self, limit: int = SLICE) -> list[bytes]:
        """Give back the memory of about ``limit`` cleared entries: which keys went.

        A key that was stored again since is left out. The memory of what lessons have
        read ahead is given back, too.
        """
        return self._clearing.discard(limit)

    def redeclare(self, declaration: Declaration) -> bool:
        """Take a new declaration of the same key: entries keep what both store.

        Returns whether it was taken: it is not when entries are stored under as many
        declarations as can be told from each other. Call `convert` then, while
        `converting`, and ask again.
        """
        if not self.generations.begin(declaration, empty=not self.used):
            return False
        self.declaration = declaration
        self._slot_anew()
        return True

    @property
    def converting(self) -> bool:
        """Whether `convert` has something left to do."""
        return (
            self._lap is not None
            or self.generations.wants_lap
            or self._earlier_expiry is not None
            or self._too_many_places()
        )

    def convert(self, limit: int = SLICE // 2) -> None:
        """Look at about ``limit`` entries that were stored under earlier declarations.

        Those with values that the present one does not store are rewritten without them,
        and all wait for the end of their life as it is now. Keys that were removed wait
        no longer.
        """
        if self._earlier_expiry is not None or self._too_many_places():
            self._move(limit)
            return
        generations = self.generations
        if self._lap is None:
            generations.begin_lap()
            self._lap = self._parts.items()
        looked_at = 0
        others: list[bytes] = []
        for key, stored in islice(self._lap, limit):
            looked_at += 1
            rewritten = generations.rewritten(stored)
            if rewritten is not None:
                self._parts.of(key)[key] = rewritten
                others.append(key)
        self._parts.replaced(others)
        if looked_at < limit:
            generations.end_lap()
            self._lap = None

    def _slot_anew(self) -> None:
        """Let keys wait in slots that are right for the present expiry."""
        other = self._expiry.expire != self.declaration.expire
        if self._earlier_expiry is not None:
            # Until the earlier slots are empty, keys wait in the present ones for other ends.
            self._wait_elsewhere |= other
        elif other or self._wait_elsewhere:
            self._wait_elsewhere = False
            self._empty_slots()

    def _empty_slots(self) -> None:
        """Have all keys that wait moved to other slots."""
        if self._expiry:
            self._earlier_expiry = EarlierSlots(self._expiry)
        self._expiry = ExpirySlots(self.declaration.expire)

    def _move(self, limit: int) -> None:
        """Move keys from about ``limit`` places of the earlier slots, or else of the present
        ones, to new slots."""
        if self._earlier_expiry is None:
            self._empty_slots()
        earlier = self._earlier_expiry
        if earlier is None:
            return
        self._expiry.add_each(
            [
                (deadline, key)
                for key in earlier.take(limit)
                if (deadline := self._deadline(key)) is not None
            ]
        )
        if not earlier:
            self._earlier_expiry = None
            self._slot_anew()

    # -- expiry ----------------------------------------------------------

    def next_due(self) -> Optional[int]:
        """When (in ms) `expire` has something to look at; ``None`` for never."""
        return self._expiry.next_due()

    def expire(self, now: int, limit: int = SLICE) -> list[bytes]:
        """Remove entries whose time has come: their keys.

        Looks at about ``limit`` entries, so call it again while `next_due` is
        in the past.
        """
        expired = self._expiry.due(now, limit, self._deadline)
        self._remove_each(expired)
        return expired

    def trash(self, wanted: int) -> list[bytes]:
        """Remove ``wanted`` entries, about those that expire first: their keys."""
        trashed: list[bytes] = []
        if self._earlier_expiry is not None:
            trashed = self._earlier_expiry.slots.first(wanted, self._earlier_deadline)
        if len(trashed) < wanted:
            more = self._expiry.first(wanted - len(trashed), self._deadline)
            trashed = list(dict.fromkeys(trashed + more))
        self._remove_each(trashed)
        if len(trashed) < wanted:
            # Nobody knows when the others expire without looking at more than there is time for.
            others = [key for key, _ in islice(self._parts.items(), wanted - len(trashed))]
            self._remove_each(others)
            trashed += others
        self.trashed += len(trashed)
        return trashed

    @property
    def places(self) -> int:
        """How many places of keys wait for their expiry, those of removed keys included."""
        earlier = self._earlier_expiry
        return self._expiry.places + (0 if earlier is None else earlier.slots.places)

    def _too_many_places(self) -> bool:
        return self.places > 2 * self.used + _SPARE

    @property
    def excess(self) -> int:
        """How many entries are to go since the table's size was made smaller."""
        size = self.declaration.size
        return 0 if size is None or self.declaration.nopurge else max(0, self.used - size)

    def _deadline(self, key: bytes) -> Optional[int]:
        stored = self.unconverted(key)
        return None if stored is None else self.lifetime(stored)[1]

    def _earlier_deadline(self, key: bytes) -> Optional[int]:
        """The deadline of an entry as its slot was chosen by, or as of its last refresh."""
        stored = self.unconverted(key)
        if stored is None or self._earlier_expiry is None:
            return None
        came, life = head.unpack(stored)
        expire = self._earlier_expiry.slots.expire
        deadline: int = (came & head.TIME) + min(life, expire) if expire else NEVER
        return deadline

    def _came(self, new: Sequence[bytes], now: int, shortest: int) -> None:
        """Keys have an entry that had none, with so many ms as the ``shortest`` of their lives."""
        if not new:
            return
        if self._clearing.under_way:
            self._clearing.stored(new)
        if len(self.tombstones):
            self.tombstones.take(new)
        expire = self.declaration.expire
        self._expiry.add(new, now + min(shortest, expire) if expire else NEVER)
        if self._too_many_places():
            # For each place that comes another one goes, whether there is upkeep or not.
            self._move(2 * len(new))

    @property
    def room(self) -> int:
        """How many more entries fit in."""
        quota, size = self.quota, self.declaration.size
        left = quota.limit - quota.used
        if size is not None and size - self.used < left:
            return size - self.used
        return left

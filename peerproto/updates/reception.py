"""Taking a peer's updates into a table whose declaration may differ from its own.

Source: doc/protocol.md, "Tables that differ": the key's type and length must agree,
or the table is not shared; data types need not. What the peer sends and the
table does not store is dropped, what the peer does not send stays as it is, and
so does a text of which an update says nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final, Optional

from peerproto.tables import row as head
from peerproto.tables.before import Old
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.row import GENERATION, UNENDING, unending
from peerproto.tables.store import TableStore
from peerproto.tables.transcoding import Transcoder
from peerproto.updates.runs import RunReader
from peerproto.wire.codec import EMPTY_TEXT
from peerproto.wire.datatypes import DATA_TYPES, Kind
from peerproto.wire.layout import Layout
from peerproto.wire.sizes import LONGEST_UPDATE, always_fits, longest_update

_NONE: Final[Mapping[bytes, Old]] = {}

Update = tuple[bytes, Optional[int], bytes, bool]
"""Raw key, expiry in ms of a timed update, the record in the peer's layout, and whether
something was said of its text, if it has one."""


def disagreement(table: TableStore, layout: Layout) -> Optional[str]:
    """Why a peer's table of this name is not the same one, in words."""
    ours, theirs = table.layout, layout
    if theirs.key_type is not ours.key_type:
        return (
            f"table {table.name} differs in key type:"
            f" {theirs.key_type.word} there, {ours.key_type.word} here"
        )
    if theirs.key_length != ours.key_length:
        return (
            f"table {table.name} differs in key length:"
            f" {theirs.key_length} there, {ours.key_length} here"
        )
    return None


class Reception:
    """How updates of a peer's definition go into a table.

    Records are stored as they came, where the peer sends nothing that the table does not
    store; where it does, they are transcoded when all that came in one read is stored.
    What the peer does not send has no place in what is stored for new entries, and for
    those that have nothing of it either.
    """

    def __init__(
        self,
        table: TableStore,
        layout: Layout,
        expire: Optional[int],
        texts: Optional[list[bytes]] = None,
    ) -> None:
        """``texts`` are those that values may refer to, as `RunReader` has them."""
        self.table = table
        self.layout = layout
        self.expire = expire
        self._strings = not layout.fixed_key_length
        self._looked_at = 0
        """How many of the keys have no NUL in them, if they are strings."""
        self.longest_refused = 0
        """Bytes of the longest update so far that was not taken, since it could not be sent on."""
        self.left_aside: dict[bytes, int] = {}
        """Keys of which other values came than the table keeps, and the columns, as bits."""
        self.echoed: dict[bytes, int] = {}
        """The same, where what came is what a change of ours has replaced."""
        self._way: Optional[_Way] = None
        self.reader = _reader(layout, texts or [b""] * 256)
        """What reads runs of updates."""

    @property
    def keys(self) -> list[bytes]:
        """The keys of what was read and added, and is to be stored."""
        reader = self.reader
        if self._strings and self._looked_at < len(reader.keys):
            if b"\x00" in b"".join(reader.keys):
                # HAProxy never sends one, and ends a key there; some versions crash on receipt.
                reader.keys = [key.partition(b"\x00")[0] for key in reader.keys]
            self._looked_at = len(reader.keys)
        return reader.keys

    def stamp(self, now: int) -> bytes:
        """What is stored begins with this if the peer sent it now."""
        way = self._way
        if way is None or way.version != self.table.generations.version:
            way = self._way_now()
        return head.stamp(way.origin + now)

    def add(self, update: Update, now: int) -> None:
        """Take one update, to be stored with others."""
        key, expiry, record, said = update
        life = UNENDING if expiry is None else expiry
        self.reader.add(key, self.stamp(now), life, record, said)

    def store(
        self,
        now: int,
        origin: Optional[str] = None,
        but: Container[bytes] = (),
        ours: Optional[Mapping[bytes, int]] = None,
        cause: Cause = Cause.LEARNT,
        replaced: Mapping[bytes, Old] = _NONE,
    ) -> list[Changes]:
        """Store what was read and added, except for some keys: what happened in the table.

        Of some keys, those columns stay that ``ours`` has as bits, and those of which the values
        that were ``replaced`` came. ``origin`` is the name of the peer.
        """
        keys, values, shortest = self.take(now, but, ours, replaced)
        return self.table.put(keys, values, shortest, now, cause, origin) if keys else []

    def take(
        self,
        now: int,
        but: Container[bytes] = (),
        ours: Optional[Mapping[bytes, int]] = None,
        replaced: Mapping[bytes, Old] = _NONE,
    ) -> tuple[list[bytes], list[bytes], int]:
        """Take what `store` would store: keys, values, and the shortest of the lives in ms."""
        reader = self.reader
        keys = self.keys if self._strings else reader.keys
        values, shortest, unsaid = reader.values, reader.shortest, reader.unsaid
        if not keys:
            return [], [], shortest
        reader.clear()
        self._looked_at = 0
        if unsaid:
            self._keep_texts(keys, values, unsaid, now)
        if but:
            pairs = [pair for pair in zip(keys, values) if pair[0] not in but]
            keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        if self.expire == 0 and self.table.declaration.expire:
            # A table without expiry sends lives of 0.
            values = list(map(unending, values))
            shortest = UNENDING
        way = self._way_now()
        if way.alters:
            values = way.values(keys, values, now)
        if ours or replaced:
            self._keep_columns(keys, values, ours or {}, replaced, now)
        if way.may_be_long:
            keys, values = self._fitting(keys, values)
        return keys, values, shortest

    def forget(self) -> None:
        """Drop what was read and added."""
        self.reader.clear()
        self._looked_at = 0

    def _way_now(self) -> _Way:
        """The way into the table as it is declared now."""
        way, table = self._way, self.table
        if way is None or way.version != table.generations.version:
            way = self._way = _Way(table, self.layout)
        return way

    def _keep_columns(
        self,
        keys: list[bytes],
        values: list[bytes],
        ours: Mapping[bytes, int],
        replaced: Mapping[bytes, Old],
        now: int,
    ) -> None:
        """Put the values that the table has in place of those of ``ours``, and of those that were
        ``replaced``."""
        layout, at = self.table.layout, self.table.record_at
        codec = layout.codec
        for place, key in enumerate(keys):
            bits, old = ours.get(key, 0), replaced.get(key, {})
            entry = self.table.get(key, now) if bits or old else None
            if entry is None and not (old and self.table.forgotten(key, now)):
                continue
            value = self.table.generations.convert(values[place])
            merged = list(codec.decode(value, at))
            aside = echoed = 0
            here = codec.blank() if entry is None else entry.decoded
            for number, (column, mine) in enumerate(zip(layout.columns, here)):
                bit = 1 << column.data_type.bit
                if entry is not None and bits & bit:
                    aside |= bit if merged[number] != mine else 0
                    merged[number] = mine
                elif merged[number] in old.get(bit, ()):
                    echoed |= bit
                    merged[number] = mine
            if aside:
                self.left_aside[key] = self.left_aside.get(key, 0) | aside
            if echoed:
                self.echoed[key] = self.echoed.get(key, 0) | echoed
            if bits:
                value = unending(value)
            if bits or echoed:
                values[place] = value[:at] + codec.encode(tuple(merged))

    def _keep_texts(
        self, keys: list[bytes], values: list[bytes], unsaid: list[int], now: int
    ) -> None:
        """Put in the texts that nothing was said of: those of the same keys until now."""
        table, at = self.table, self.table.record_at
        if not table.layout.codec.has_texts:
            return
        latest: dict[bytes, bytes] = {}
        places: Iterable[int] = unsaid
        repeated = len(set(keys)) < len(keys)
        if repeated:
            # A text may have been said a few updates before.
            places = range(len(keys))
        elif not table.used:
            return
        missing = set(unsaid)
        for place in places:
            key, value = keys[place], values[place]
            start, end = self.layout.codec.text(value, at)
            text = value[start:end]
            if place in missing:
                text = latest.get(key) or self._text(key, now)
                if text != EMPTY_TEXT:
                    values[place] = value[:start] + text + value[end:]
            if repeated:
                latest[key] = text

    def _fitting(self, keys: list[bytes], values: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Those that fit into a message when they are sent on, whatever their age is then."""
        layout, at = self.table.layout, self.table.record_at
        fitting: tuple[list[bytes], list[bytes]] = [], []
        convert = self.table.generations.convert
        for key, value in zip(keys, values):
            size = longest_update(layout, key, convert(value)[at:])
            if size <= LONGEST_UPDATE:
                fitting[0].append(key)
                fitting[1].append(value)
            else:
                self.longest_refused = max(self.longest_refused, size)
        return fitting

    def columns_of(self, key: bytes, now: int) -> int:
        """The columns, as bits, that the peer has sent of an entry that was just stored.

        A text is not among them if there is none: nothing may have been said of it.
        """
        sent = self.layout.bits
        if self.layout.codec.has_texts and self._text(key, now) == EMPTY_TEXT:
            sent &= ~_TEXTS
        return sent

    def _text(self, key: bytes, now: int) -> bytes:
        """The text that the table has for a key, as it stands in a record."""
        stored = self.table.stored(key)
        if stored is None or self.table.lifetime(stored)[1] <= now:
            return EMPTY_TEXT
        start, end = self.table.layout.codec.text(stored, self.table.record_at)
        return stored[start:end]


_TEXTS: Final = sum(1 << one.bit for one in DATA_TYPES if one.kind is Kind.DICTIONARY)
"""The bits of the columns that are texts."""


class _Way:
    """From records of a peer's layout to those of a table, as it is declared now."""

    def __init__(self, table: TableStore, theirs: Layout) -> None:
        declaration, generations = table.declaration, table.generations
        ours = declaration.layout
        self._table = table
        self.declaration = declaration
        """That of the table."""
        self._theirs = theirs
        self.version = generations.version
        """Another one when the table's entries are stored otherwise."""
        self.may_be_long = not always_fits(ours)
        """Whether an entry of the table may be too long to be sent on."""
        self._places: list[Optional[int]] = [None] * len(ours.columns)
        """For each column of ours: the one of theirs that is taken, if any."""
        columns = []
        for place, column in enumerate(theirs.columns):
            own = ours.place_of(column.data_type.bit)
            if own is not None and (declaration.recv_only or not column.data_type.local):
                self._places[own] = place
                columns.append(ours.columns[own].shortened(column.elements or 1))
        sent = Layout(ours.key_type, ours.key_length, tuple(columns))
        self._sent = sent
        """The layout of what the peer sends and the table stores."""
        generation = generations.generation_of(sent)
        self._transcoder: Optional[Transcoder] = None
        self._merging: Optional[Transcoder] = None
        """Made when the peer does not send all that there is of an entry."""
        if generation is None:
            generation = generations.present
            self._transcoder = self._merging = Transcoder(theirs, ours, self._places)
        elif not sent.stores_like(theirs):
            self._transcoder = Transcoder(theirs, sent)
        self.origin = generation * GENERATION
        """What times in what is stored for new entries have more than the time in ms."""
        self._covers: Optional[dict[int, bool]] = None if sent.stores_like(ours) else {}
        """By the generation of entries: whether they have nothing that the peer does not send.

        ``None`` if none has.
        """
        self.alters = self._transcoder is not None or self._covers is not None
        """Whether anything may be stored otherwise than it came."""

    def values(self, keys: list[bytes], values: list[bytes], now: int) -> list[bytes]:
        """What is to be stored for values as `RunReader` has them.

        What the peer does not send stays as it is.
        """
        if self._covers is None or not self._table.used:
            return values if self._transcoder is None else list(map(self._new, values))
        made = []
        for value, before in zip(values, map(self._table.unconverted, keys)):
            elapsed = None if before is None else self._elapsed(before, value, now, self._covers)
            if before is not None and elapsed is not None:
                made.append(self._merge(value, self._table.generations.convert(before), elapsed))
            else:
                made.append(self._new(value))
        return made

    def _new(self, value: bytes) -> bytes:
        """What is to be stored for a value where there is nothing to keep."""
        if self._transcoder is None:
            return value
        at = self._table.record_at
        return value[:at] + self._transcoder.transcode(value, at)

    def _elapsed(
        self, before: bytes, value: bytes, now: int, covers: dict[int, bool]
    ) -> Optional[int]:
        """How many ms an entry came before a value, if it has something that the peer does not
        send."""
        covered = covers.get(before[0])
        if covered is None:
            covered = covers[before[0]] = self._covered(before[0])
        if covered:
            return None
        came, deadline = self._table.lifetime(before)
        later = head.unpack(value)[0] & head.TIME
        return max(0, later - came) if deadline > now else None

    def _covered(self, generation: int) -> bool:
        has = self._table.generations.form(generation).layout.cells_of_bits
        ours, sent = self.declaration.layout.elements, self._sent.elements
        return all(min(elements, ours.get(bit, 0)) <= sent.get(bit, 0) for bit, elements in has)

    def _merge(self, value: bytes, before: bytes, elapsed: int) -> bytes:
        """What is to be stored for a value in place of ``before``, which came so many ms ago."""
        if self._merging is None:
            self._merging = Transcoder(self._theirs, self.declaration.layout, self._places)
        at = self._table.record_at
        return before[:1] + value[1:at] + self._merging.merge(value, at, before[at:], elapsed)


def _reader(layout: Layout, texts: list[bytes]) -> RunReader:
    before, after = (*layout.codec.integers, -1)[:2]  # no table has two texts
    longest = layout.key_length - 1
    return RunReader(layout.fixed_key_length, longest, before, after, texts)

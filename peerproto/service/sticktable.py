"""A stick table as an application uses it: with the service's clock and observers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional, Protocol, TypeVar, Union

import attrs
from twisted.internet.defer import Deferred

from peerproto.peering.node import Node
from peerproto.service.filters import Condition
from peerproto.service.nodetime import NodeTime
from peerproto.service.query import AT_ONCE, Cursor, Page, Query, Rank, Steps, finish
from peerproto.service.status import TableStatus
from peerproto.tables.change import changed, counted
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.record import Record
from peerproto.tables.snapshot import Snapshot
from peerproto.tables.store import How, TableFull, TableStore
from peerproto.tables.storedrows import StoredRows
from peerproto.updates.restoring import check, check_rows, restore, restore_rows
from peerproto.wire import keys
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import Key, KeyType
from peerproto.wire.layout import Cell, Layout

T = TypeVar("T")


class Holder(Protocol):
    """What holds the table: a `StickTableService`."""

    node: Node
    time: NodeTime

    def now(self) -> int:
        """The time in ms by which lives go."""

    def public(self, store: TableStore) -> StickTable:
        """The one object that an application has for a table."""

    def changed(self, batches: list[Changes]) -> None:
        """Tell observers of changes, and let sessions send what was changed here."""

    def turn(self) -> Deferred[None]:
        """Fires in another turn of the reactor."""

    def in_turns(self, steps: Steps[T]) -> Deferred[T]:
        """Do work in short steps, in turns with others; fires with its result."""


class StickTable:
    """One of the tables of a `StickTableService`; get it from `StickTableService.table`.

    Keys are what the table's type asks for: ``int``, ``str``, ``bytes``, an
    ``ipaddress`` object or an address as text.

    A table is gone once it was removed, or has begun anew with other keys: another one has
    its name then, if any. One that is gone has no entries, and to ask it for one, or to
    change one, raises `LocalProtocolError`.
    """

    def __init__(self, service: Holder, table: TableStore) -> None:
        self._service = service
        self._table = table
        self.peer = service.node.tables.peer_of(table)
        """The peer whose share of the table this is; ``None`` if it is a whole table."""

    def __repr__(self) -> str:
        state = f"{len(self)} entries" if self.shared else "gone"
        of = "" if self.peer is None else f" of {self.peer}"
        return f"<StickTable {self.name}{of}: {self.key_type.word}, {state}>"

    @property
    def per_peer(self) -> bool:
        """Whether each peer has a share of its own: see `contributions`."""
        return self.peer is None and self._service.node.tables.sharing(self.name).per_peer

    def contributions(self) -> dict[str, StickTable]:
        """By the names of peers, their shares of a table that is shared per peer."""
        if not self.per_peer:
            return {}
        return {peer: self._service.public(one) for peer, one in self.stores().items() if peer}

    def share(self, peer: Optional[str]) -> StickTable:
        """The share of a peer; without a name, the table itself.

        :raises LocalProtocolError: a name is missing, or there is no such share.
        """
        if peer is None and not self.per_peer:
            return self
        shares = self.contributions()
        if peer is None or peer not in shares:
            names = ", ".join(shares) or "none yet"
            raise LocalProtocolError(f"table {self.name}", f"peer {peer}", f"one of {names}")
        return shares[peer]

    def stores(self) -> Mapping[Optional[str], TableStore]:
        """For this package: what stores the entries, by the peers whose shares these are."""
        if self.per_peer:
            shares = self._service.node.tables.shares_of(self.name)
            return dict(shares.items())
        return {self.peer: self._table}

    @property
    def shared(self) -> bool:
        """Whether it is one of the service's tables: if not, it is gone."""
        return self._service.node.tables.shares(self._table)

    def _here(self) -> TableStore:
        """The table within the node.

        :raises LocalProtocolError: the table is gone.
        """
        if not self.shared:
            raise LocalProtocolError(
                f"table {self.name}", "one that is gone", "one that the service has"
            )
        return self._table

    def now(self) -> int:
        """The time in ms by which its entries live."""
        return self._service.now()

    @property
    def time(self) -> NodeTime:
        """The same time as people and disks read it."""
        return self._service.time

    @property
    def name(self) -> str:
        """The name under which peers share the table."""
        return self._table.name

    @property
    def declaration(self) -> Declaration:
        """Key type, data types and limits."""
        return self._table.declaration

    @property
    def key_type(self) -> KeyType:
        """The type of the keys."""
        return self._table.layout.key_type

    @property
    def cells(self) -> Mapping[str, Cell]:
        """By its name, and by each other name that it goes by, a value that entries have."""
        return self._table.layout.cells

    @property
    def layout(self) -> Layout:
        """The type and length of its keys, and its columns."""
        return self._table.layout

    def status(self) -> TableStatus:
        """What can be said of it now."""
        return TableStatus.of(self._table, self._service.node.tables.shares_of(self.name))

    def __len__(self) -> int:
        """Number of entries, those of all shares, expired ones included that were not removed
        yet."""
        return sum(store.used for store in self.stores().values())

    def __contains__(self, key: Key) -> bool:
        return bool(self.entries_of(self._raw(key)))

    def __getitem__(self, key: Key) -> Entry:
        """:raises KeyError: there is no such entry."""
        entry = self.get(key)
        if entry is None:
            raise KeyError(key)
        return entry

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in no order of theirs. The table may change meanwhile: see `walk`."""
        return (entry for _, entry in self.walk() if entry is not None)

    def walk(
        self, after: Optional[Cursor] = None, *conditions: Condition
    ) -> Iterator[tuple[Cursor, Optional[Entry]]]:
        """All entries that the conditions hold for, each with a cursor behind it, and ``None`` for
        each that is not meant or has expired.

        So each step is short, and the walk may be left at any step, and begun again behind it.
        The table may change meanwhile: an entry that is there from beginning to end comes
        exactly once, others once or not at all.

        :raises StaleCursor: the cursor is not one of this table, or is of another process.
        :raises LocalProtocolError: the table is gone, also if it goes meanwhile; or it has
            not what a condition is about.
        """
        return self._query(conditions).walk(after)

    async def walk_in_turns(
        self, after: Optional[Cursor] = None, *conditions: Condition
    ) -> AsyncIterator[tuple[Cursor, Optional[Entry]]]:
        """`walk` in turns with others, for ``async for``."""
        for looked, step in enumerate(self.walk(after, *conditions), 1):
            yield step
            if looked % AT_ONCE == 0:
                await self._service.turn()

    def page(self, limit: int, after: Optional[Cursor] = None, *conditions: Condition) -> Page:
        """The first entries that the conditions hold for, ``limit`` of them at most, behind a
        cursor; see `walk`."""
        return finish(self._query(conditions).page(limit, after))

    def page_in_turns(
        self,
        limit: int,
        after: Optional[Cursor] = None,
        *conditions: Condition,
        looks: Optional[int] = None,
    ) -> Deferred[Page]:
        """`page` in turns with others: of many entries, the conditions may hold for few.

        Fails with ``CancelledError`` when the service stops.

        :param looks: how many keys are looked at, about: the page ends then with what it has, and
            a cursor. A million takes a second or so.
        """
        return self._service.in_turns(self._query(conditions).page(limit, after, looks))

    def top(self, count: int, by: str, *conditions: Condition, lowest: bool = False) -> list[Entry]:
        """The entries with the highest values of one name, or the ``lowest``, those first.

        :raises LocalProtocolError: as `walk` does, or ``by`` is not the name of a number that
            the table stores.
        """
        return finish(self._query(conditions).top(count, by, lowest))

    def top_in_turns(
        self, count: int, by: str, *conditions: Condition, lowest: bool = False
    ) -> Deferred[list[Entry]]:
        """`top` in turns with others.

        Fails with ``CancelledError`` when the service stops.
        """
        return self._service.in_turns(self._query(conditions).top(count, by, lowest))

    def top_in_steps(
        self, count: int, by: str, *conditions: Condition, lowest: bool = False
    ) -> Steps[list[Entry]]:
        """`top` in short steps, for who takes turns with others by itself: a generator whose
        value are the entries."""
        return self._query(conditions).top(count, by, lowest)

    def ranked_in_turns(
        self,
        count: int,
        by: str,
        *conditions: Condition,
        lowest: bool = False,
        after: Optional[Rank] = None,
    ) -> Deferred[list[tuple[Rank, Entry]]]:
        """`top` in turns with others, each entry with its rank, from the rank of one on: so all
        entries come in their order, some at a time.

        Fails with `StaleCursor` if the rank is not one of this table, and with ``CancelledError``
        when the service stops.
        """
        return self._service.in_turns(self._query(conditions).ranked(count, by, lowest, after))

    def _query(self, conditions: Sequence[Condition]) -> Query:
        return Query(self._here, self.stores, self.now, conditions)

    def records(self, raw_keys: Optional[Iterable[bytes]] = None) -> Iterator[Record]:
        """The records of these raw keys, or of all entries: what is to be kept elsewhere.

        The table may change meanwhile: see `walk`. Each costs some us: of a large table, take
        some at a time (``itertools.islice``).

        :raises LocalProtocolError: the table is gone, when the next one is asked for.
        """
        self._here()
        wanted = None if raw_keys is None else list(raw_keys)
        ahead = self._service.time.ahead
        for peer, store in self.stores().items():
            keys = (one for _, one in store.partitions.walk()) if wanted is None else wanted
            for raw_key in keys:
                record = Record.of(store, raw_key, self.now(), ahead, peer)
                if record is not None:
                    yield record
                self._here()

    def raw_keys(self) -> Iterator[bytes]:
        """The raw keys of all entries, those included that are due to expire. The table may change
        meanwhile: see `walk`. Of a table that is shared per peer, ask the shares.

        :raises LocalProtocolError: the table is gone, when the next one is asked for.
        """
        for _, raw_key in self._here().partitions.walk():
            yield raw_key
            self._here()

    def snapshot(self, raw_keys: Sequence[bytes]) -> Snapshot:
        """What is stored for some raw keys, to be decoded in a thread: of a table that is shared
        per peer, ask the shares. About 1 us a key, but for tables with texts: 4 us.

        :raises LocalProtocolError: the table is gone.
        """
        store = self.share(None)._here()
        return Snapshot.of(store, raw_keys, self.now(), self._service.time.ahead, self.peer)

    def restore(self, records: Union[Iterable[Record], StoredRows], shift: int = 0) -> int:
        """Bring back entries that were kept elsewhere: how many were stored.

        Each is as old as it was and ends when it was to end; no peer is told. An entry that is
        here and is newer stays, and one that was forgotten is not brought back. Nothing makes room
        for what is restored; records of shares of somebody who is no peer are left out.

        :param shift: what to add to the times of the records, in ms: how far the wall clock had
            gone away from the time of the node that made them (`NodeTime.step`).
        :raises LocalProtocolError: a record has keys of another type or length, or the table is
            gone. Nothing is stored then.
        """
        ahead = self._service.time.ahead - shift
        if isinstance(records, StoredRows):
            batches = self._restore_rows(records, ahead)
        else:
            batches = self._restore_records(records, ahead)
        self._service.changed(batches)
        return sum(len(one) for one in batches if one.cause is Cause.RESTORED)

    def _restore_rows(self, rows: StoredRows, ahead: int) -> list[Changes]:
        check_rows(self._here(), rows)
        store = self._store_of(rows.peer if self.per_peer else None)
        return [] if store is None else restore_rows(store, rows, self.now(), ahead)

    def _restore_records(self, records: Iterable[Record], ahead: int) -> list[Changes]:
        by_peer: dict[Optional[str], list[Record]] = {}
        for record in records:
            by_peer.setdefault(record.peer if self.per_peer else None, []).append(record)
        for some in by_peer.values():
            check(self._here(), some)
        return [
            batch
            for peer, some in by_peer.items()
            if (store := self._store_of(peer)) is not None
            for batch in restore(store, some, self.now(), ahead)
        ]

    def _store_of(self, peer: Optional[str]) -> Optional[TableStore]:
        """Where records of a peer are to be stored; ``None`` if that is no peer."""
        if not self.per_peer:
            return self._here()
        return self._service.node.tables.shares_of(self.name).get(peer or "")

    def get(self, key: Key, peer: Optional[str] = None) -> Optional[Entry]:
        """The entry of this key, or ``None``.

        :param peer: whose, where the table is shared per peer: see `entries_of`.
        :raises LocalProtocolError: the key is not one of the table's type, or the table
            is gone.
        """
        return self.share(peer).get_raw(self._raw(key))

    def entries_of(self, raw_key: bytes) -> list[Entry]:
        """The entry of a raw key, if there is one; where the table is shared per peer, that of
        each peer who has one.

        :raises LocalProtocolError: the table is gone.
        """
        self._here()
        return _entries_of(raw_key, self.stores(), self.now())

    def entries(self, raw_keys: Iterable[bytes]) -> Iterator[Entry]:
        """The entries of raw keys, as they are when the first is asked for, without those that
        are not there; none if the table is gone."""
        if self.shared:
            now, stores = self.now(), self.stores()
            for raw_key in raw_keys:
                yield from _entries_of(raw_key, stores, now)

    def get_raw(self, raw_key: bytes) -> Optional[Entry]:
        """The entry of a raw key (`peerproto.wire.keys`), or ``None``."""
        found = self.share(None).entries_of(raw_key)
        return found[0] if found else None

    def set(
        self,
        key: Key,
        values: Mapping[str, Any] = {},
        /,
        *,
        expires_in: Optional[int] = None,
        peer: Optional[str] = None,
        **more: Any,
    ) -> Entry:
        """Create or change an entry, here and on all peers: ``set("192.0.2.7", gpc0=3)``.

        Names that are none in Python go into a mapping: ``{"gpc[0]": 1}``.
        Values not named stay as they are: those of an entry that is new here are 0 here, and
        what they were on peers that have one.

        :param expires_in: how long the entry lives from now, in ms, up to the table's expiry,
            which it is if nothing is said. HAProxy changes values at once, but does not let an
            entry go before the time that it had for it; a peer that speaks 2.0 goes by its table.
        :param peer: in whose share, where the table is shared per peer: no other peer gets it.
        :raises LocalProtocolError: a key, value or life that the table cannot store, or the
            table is gone.
        :raises TableFull: the table is full and declared with ``nopurge``.
        """
        return self.share(peer).set_raw(self._raw(key), {**values, **more}, expires_in)

    def set_raw(
        self, raw_key: bytes, values: Mapping[str, Any], expires_in: Optional[int] = None
    ) -> Entry:
        """`set` for a raw key."""
        return self._change({raw_key: values}, changed, expires_in)[0]

    def set_at(
        self, now: int, raw_key: bytes, values: Mapping[str, Any], expires_in: Optional[int] = None
    ) -> Entry:
        """`set` for a raw key at a moment (`now`) that the caller has taken before, to reckon ages
        and lives from it."""
        return self._change({raw_key: values}, changed, expires_in, now)[0]

    def update(
        self, entries: Mapping[Key, Mapping[str, Any]], /, *, expires_in: Optional[int] = None
    ) -> list[Entry]:
        """`set` for many keys, as one change: ``update({"192.0.2.7": {"gpc0": 3}})``.

        It is told to observers at once, and sent to peers together. What cannot be stored of one
        entry leaves all of them as they are.

        :raises TableFull: the table is full and declared with ``nopurge``: some of the entries
            were not taken, the others were.
        """
        by_raw_key: dict[bytes, dict[str, Any]] = {}
        for key, values in entries.items():
            # Two texts may be of one address, or of one string that is cut.
            by_raw_key.setdefault(self._raw(key), {}).update(values)
        return self.update_raw(by_raw_key, expires_in)

    def update_raw(
        self, entries: Mapping[bytes, Mapping[str, Any]], expires_in: Optional[int] = None
    ) -> list[Entry]:
        """`update` for raw keys."""
        return self._change(entries, changed, expires_in)

    def replace_raw(self, entries: Iterable[tuple[bytes, bytes, Optional[int]]]) -> int:
        """Store whole entries, as one change: how many were stored.

        Each is a raw key, a record as `Sums` makes it, and the life from now in ms, ``None`` for
        that of the table. Those that find no room are left out: the table is full, and declared
        with ``nopurge``.

        :raises LocalProtocolError: an entry that is too long for a message, or the table is gone.
            Nothing is stored then.
        """
        batches = self.share(None)._here().replace(entries, self.now())
        self._service.changed(batches)
        return sum(len(one) for one in batches if one.cause is Cause.SET)

    def count(
        self,
        key: Key,
        events: Mapping[str, int] = {},
        /,
        *,
        peer: Optional[str] = None,
        **more: int,
    ) -> Entry:
        """Count events that happen now, here and on all peers: ``count(key, http_req_rate=1)``.

        Counters grow by the number, up to their largest value; rates as HAProxy's own do. The
        entry is created if there is none. Peers get the counters as they are then.

        :param peer: in whose share, where the table is shared per peer: no other peer gets it.
        :raises LocalProtocolError: a key that the table cannot store, a name that is neither a
            counter nor a rate, a number that is none, or the table is gone.
        :raises TableFull: see `set`.
        """
        return self.share(peer).count_raw(self._raw(key), {**events, **more})

    def count_raw(self, raw_key: bytes, events: Mapping[str, int]) -> Entry:
        """`count` for a raw key."""
        return self._change({raw_key: events}, counted, None)[0]

    def _change(
        self,
        entries: Mapping[bytes, Mapping[str, Any]],
        how: How,
        expires_in: Optional[int],
        now: Optional[int] = None,
    ) -> list[Entry]:
        now = self.now() if now is None else now
        table = self.share(None)._here()
        refused = table.refused
        batches = table.change(entries, now, how, expires_in)
        here = {self.peer: table}
        after = [one for raw_key in entries for one in _entries_of(raw_key, here, now)]
        refused = table.refused - refused
        self._service.changed(batches)
        if refused:
            many = "a new entry" if refused == 1 else f"{refused} new entries"
            raise TableFull(f"table {self.name}", f"{many}, with {len(self)} in it", "room")
        return after

    def forget(self, key: Key) -> bool:
        """Remove an entry here, and make peers forget it: whether it was here.

        Peers get zeros for all its values, which HAProxy's rules see at once, and a life of
        1 ms; but HAProxy drops an entry no earlier than it was to end before, so ``in_table``
        stays true until then. A peer that speaks 2.0 gets the zeros alone; ``conn_cur``
        is not changed there. As long as the entry would have lived, peers that were away are told
        when they come, and no lesson brings it back; what a peer counts after it was told
        makes it anew.

        :raises LocalProtocolError: as `get` does.
        """
        return bool(self.forget_raw([self._raw(key)]))

    def forget_raw(self, raw_keys: Iterable[bytes]) -> int:
        """`forget` for raw keys: how many of the entries were here."""
        now, raw_keys, count = self.now(), list(raw_keys), 0
        self._here()
        for table in self.stores().values():
            count += sum([table.forget(raw_key, now) for raw_key in raw_keys])
            self._service.changed([Changes(table, Cause.FORGOTTEN, raw_keys, now)])
        return count

    def remove(self, key: Key) -> bool:
        """Remove an entry, here only, as in HAProxy: whether it was there."""
        return bool(self.remove_raw([self._raw(key)]))

    def remove_raw(self, raw_keys: list[bytes]) -> int:
        """`remove` for raw keys: how many there were."""
        self._here()
        count = 0
        for table in self.stores().values():
            self._service.node.keys_removed(table, raw_keys)
            removed = [raw_key for raw_key in raw_keys if table.remove(raw_key)]
            self._service.changed([Changes(table, Cause.CLEARED, removed, self.now())])
            count += len(removed)
        return count

    def clear(self) -> int:
        """Remove all entries, here only, as in HAProxy: how many there were."""
        self._here()
        count = 0
        for table in self.stores().values():
            count += table.clear()
            self._service.node.cleared(table)
            # Observers are told of the first now, of the rest in slices.
            first = table.discard()
            self._service.changed([Changes(table, Cause.CLEARED, first, self.now())])
        return count

    def _raw(self, key: Key) -> bytes:
        return keys.to_raw(key, self.layout.key_type, self.layout.key_length)


def _entries_of(
    raw_key: bytes, stores: Mapping[Optional[str], TableStore], now: int
) -> list[Entry]:
    found = []
    for peer, store in stores.items():
        entry = store.get(raw_key, now)
        if entry is not None:
            found.append(entry if peer is None else attrs.evolve(entry, peer=peer))
    return found

"""Frames to tables, for one session: who defined what, and whose update is whose.

What comes in one read is collected and stored in one go for each table, however
often the peer goes from one to another. Whose value holds, if both sides changed the same, is
for `peerproto.peering.precedence` to say.
"""

from __future__ import annotations

from typing import Final, Optional

from peerproto.peering.adoption import Adoption, Refusal
from peerproto.peering.definitions import Definitions, Unshared
from peerproto.peering.events import (
    Echoed,
    Event,
    Learnt,
    Overwritten,
    TableShared,
    TieLost,
)
from peerproto.peering.memory import PeerMemory
from peerproto.peering.peertables import PeerTables
from peerproto.peering.precedence import ALL, Precedence, Verdict
from peerproto.peering.relaying import is_forgotten, pass_on, rows_of
from peerproto.peering.sharedtable import SharedTable
from peerproto.peering.sharing import EVENLY, Passes, Relayed
from peerproto.peering.waiting import WaitingShares
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.log import ID_MASK
from peerproto.tables.store import LAST_MOMENT, TableStore
from peerproto.updates.reception import Reception
from peerproto.wire.dictionary import LONGEST_TEXT, ReceivingDictionary
from peerproto.wire.errors import MalformedMessage
from peerproto.wire.frames import STICK_TABLE, Frame
from peerproto.wire.layout import Layout
from peerproto.wire.messages import UPDATES, Definition, TableDefinition, read_update
from peerproto.wire.sizes import LONGEST_UPDATE

_LEARNT: Final = Cause.LEARNT
"""To look up a member of an enum takes long."""


class Receiver:
    """What the peer said on this session so far, as far as decoding depends on it."""

    def __init__(
        self,
        peer: PeerMemory,
        adoption: Adoption,
        tables: PeerTables,
        precedence: Precedence,
        events: list[Event],
        other_names: dict[int, str],
    ) -> None:
        """``events`` is where what happens is put, for the node; ``other_names`` is where those of
        tables are put that go by another name with the peer, by our ids of them."""
        self._peer = peer
        self._adoption = adoption
        self._directory = tables
        self._other_names = other_names
        self._precedence = precedence
        self.differences = peer.differences
        self.not_taken = peer.not_taken
        self.lesson_from = 0
        """How many updates had come when the latest lesson began."""
        self._names: set[str] = set()
        """The tables that the peer has defined on this session."""
        self._dictionary = ReceivingDictionary()
        self._tables: dict[str, SharedTable] = {}
        self._version = -1
        self._all: list[SharedTable] = []
        """Those of `_tables` that are shared, as of this version."""
        self._sent: list[SharedTable] = []
        """Those of them that the peer is sent changes of."""
        self._definitions = Definitions(self._directory, adoption.limits, self.differences)
        self._current: SharedTable | Unshared = Unshared(None)
        self._definition: Optional[Definition] = None
        """The definition of the table that the next updates are for."""
        self.to_ack: dict[SharedTable, None] = {}
        """The tables of which updates may have come since the last ack."""
        self._collecting: dict[SharedTable, None] = {}
        """The tables of which updates may wait to be stored, in order."""
        self._events = events
        self._relayed: Optional[Relayed] = None
        self.waiting: Optional[WaitingShares] = None
        """Where what the peer says of its shares waits, if it does."""

    @property
    def tables(self) -> list[SharedTable]:
        """All tables of the node, as far as this session knows them."""
        if self._version != self._directory.version:
            self._version = self._directory.version
            self._all = [self.shared(table) for table in self._directory.values()]
            for shared in self._all:
                shared.sharing = self._directory.sharing(shared.table) or EVENLY
            self._sent = [
                shared
                for shared in self._all
                if shared.sharing.teach and shared.local_id not in self._other_names
            ]
            by_name = {shared.table.name: shared for shared in self._sent}
            for shared in self._sent:
                shared.after = by_name.get(shared.sharing.after or "")
            self.to_ack = {one: None for one in self.to_ack if one in self._all}
        return self._all

    @property
    def sent(self) -> list[SharedTable]:
        """The tables of which the peer is sent changes."""
        if self._version != self._directory.version:
            _ = self.tables
        return self._sent

    def shared(self, table: TableStore) -> SharedTable:
        """What is known of a table."""
        name = self._directory.wire_name(table)
        shared = self._tables.get(name)
        if shared is None or shared.table is not table:
            if shared is not None:
                self._definitions.forget(shared)
                self.to_ack.pop(shared, None)
            sent = self._peer.acked.get(table.log, 0)
            shared = SharedTable(
                self._directory.outgoing(table), self._directory.local_id(table), sent
            )
            shared.expire = self._peer.expires.get(table)
            shared.sharing = self._directory.sharing(table) or EVENLY
            self._tables[name] = shared
            if name != table.name:
                self._other_names[shared.local_id] = name
        return shared

    def define_again(self, definition: Definition, now: int) -> bool:
        """Take the next updates for a table that is known: whether it is, and is as it was."""
        known = self._definitions.again(definition)
        if known is None:
            return False
        self._definition = definition
        if isinstance(known, Unshared):
            self._current = known
        else:
            self._receive_by(known.reception, known.definition, known.shared, now)
        return True

    def define(self, definition: Definition, now: int) -> None:
        """Take the next updates for the table that is defined, as of ``now`` (ms)."""
        self.store(now)  # before the table may follow this definition
        self._definition = definition
        meaning = self._share(definition, now)
        if isinstance(meaning, SharedTable) and isinstance(definition, TableDefinition):
            columns = definition.layout.columns
            meaning.columns.update((one.data_type.bit, one) for one in columns)
        self._definitions.remember(definition, meaning)

    def look_again(self, now: int, adopt: bool) -> None:
        """Look up again what the peer has defined, since other tables are shared now.

        A table that is gone is not adopted anew: for that, the peer must define it. With
        ``adopt``, what is not shared is looked at as if the peer had just defined it: more
        of it may be taken from now on.
        """
        current = self._definition
        for known in self._definitions.under_ids():
            if adopt:
                self.define(known, now)
            elif known.name in self._directory:
                self._define_known(known, now)
        if current is not None and current.name in self._directory:
            self._define_known(current, now)
        else:
            # The peer goes on with a table that is gone, or with none.
            self.store(now)
            self._definition = current
            self._current = Unshared(getattr(current, "layout", None))

    def _define_known(self, definition: Definition, now: int) -> None:
        if not self.define_again(definition, now):
            self.define(definition, now)

    def switch(self, table_id: int, now: int) -> None:
        """Take the next updates for the table that was defined under this id."""
        definition = self._definitions.under_id(table_id)
        if definition is None:
            self._current = Unshared(None)
            self._definition = None
        else:
            self._define_known(definition, now)

    def update(self, frame: Frame, now: int) -> None:
        """Read an update for the table that was defined last; ``now`` is in ms.

        :raises MalformedMessage: see `read_update`.
        """
        current = self._current
        if isinstance(current, Unshared):
            if current.layout is not None:
                self._read_texts(frame, current.layout)
            return
        reception = current.reception
        assert reception is not None
        update_id, expiry, key, record, said = read_update(
            frame.message_type, frame.payload, reception.layout, self._dictionary
        )
        if self._dictionary.longest_refused:
            self._note_not_taken(
                current.table, "a server_key", self._dictionary.longest_refused, LONGEST_TEXT, now
            )
            self._dictionary.longest_refused = 0
        if update_id is None:
            update_id = ((current.got or 0) + 1) & ID_MASK
        current.got = update_id
        self.to_ack[current] = None
        self._peer.counters.rx_updates += 1
        reception.add((key, expiry, record, said), now)

    def _read_texts(self, frame: Frame, layout: Layout) -> None:
        """Take what an update to skip puts into the dictionary.

        HAProxy does not look into one at all: so an error in it does not end the session.
        """
        try:
            read_update(frame.message_type, frame.payload, layout, self._dictionary)
        except MalformedMessage as problem:
            self._peer.log.debug(
                "peer {peer}: an update of a table that is not shared: {problem}",
                peer=self._peer.shown,
                problem=problem,
            )

    def read_run(self, data: bytes, start: int, now: int) -> int:
        """Take as many updates as can be taken at once: where the rest of ``data`` begins."""
        rest = len(data) - start
        if rest < 3 or data[start] != STICK_TABLE or rest < 3 + data[start + 2]:
            return start
        if data[start + 1] not in UPDATES:
            return start
        current = self._current
        if isinstance(current, Unshared):
            return start
        assert current.reception is not None
        reader = current.reception.reader
        before = len(reader.keys)
        end = reader.read(data, start, current.reception.stamp(now))
        count = len(reader.keys) - before
        if count:
            counters = self._peer.counters
            counters.rx_updates += count
            counters.rx_messages += count
            current.got = reader.take_ids(current.got or 0)
            self.to_ack[current] = None
        return end

    def store(self, now: int) -> None:
        """Put the updates read so far into the tables that they are for."""
        for shared in self._collecting:
            self._store(shared, now)
        if len(self._collecting) > 1:
            self._collecting.clear()
            if isinstance(self._current, SharedTable):
                self._collecting[self._current] = None

    def _store(self, shared: SharedTable, now: int) -> None:
        table, reception = shared.table, shared.reception
        assert reception is not None
        reader = reception.reader
        if not reader.keys:
            return
        sharing = self._directory.sharing(table)
        if sharing is None or not sharing.learn:
            reception.forget()  # the table may have been removed here since it was defined
            return
        if self.waiting is not None and sharing.per_peer:
            standing = table.tombstones.standing(reception.keys, now)
            keys, rows, shortest = reception.take(now, standing)
            if keys:
                changes = self.waiting.put(shared, keys, rows, shortest, now)
                if changes:
                    self._events.append(Learnt(changes))
            if reception.longest_refused:
                self._note_refused(reception, now)
            return
        relay = sharing.relay
        before = None if relay is None else rows_of(table, reception.keys)
        precedence = self._precedence
        verdict = precedence.judge(shared, reception, now)
        newer = verdict.newer
        if reader.shortest <= LAST_MOMENT:
            newer = {*newer, *self._forget(table, reception, now)}
        keys, rows, shortest = reception.take(now, newer, verdict.stays, verdict.replaced)
        name = self._peer.name
        batches = table.put(keys, rows, shortest, now, _LEARNT, name) if keys else []
        if reception.longest_refused:
            self._note_refused(reception, now)
        for batch in batches:
            if batch.cause is _LEARNT:
                overwritten = precedence.taken(reception, batch.raw_keys, verdict, now)
                if relay is None:
                    # A HAProxy sends what it has not changed, too, again and again.
                    if overwritten and precedence.is_peerproto:
                        columns = reception.layout.bits
                        self._events.append(Overwritten(table, overwritten, columns))
                elif before is not None:
                    whom, lesson = self._whom(relay), precedence.learning
                    gone = pass_on(
                        reception, before, batch.raw_keys, verdict.ours, whom, lesson, now
                    )
                    if gone:
                        batches = [*batches, Changes(table, Cause.FORGOTTEN, gone, now, name)]
        if batches:
            self._events.append(Learnt(batches, relay is not None))
        if verdict is not ALL:  # as it is for most reads
            self._settle(table, reception, verdict)

    def _settle(self, table: TableStore, reception: Reception, verdict: Verdict) -> None:
        """Tell of what was not taken as it came, and of what of ours gave way to it."""
        if verdict.lost:
            self._events.append(TieLost(table, verdict.lost))
        if reception.left_aside:
            left, reception.left_aside = reception.left_aside, {}
            self._precedence.left_aside(table, left)
        if reception.echoed:
            echoed, reception.echoed = reception.echoed, {}
            self._events.append(Echoed(table, echoed))

    def _whom(self, relay: Passes) -> Relayed:
        """Whom what the peer says is for: the same thing each time, as long as the rule is."""
        if self._relayed is None or self._relayed.passes is not relay:
            self._relayed = Relayed(self._peer.name, relay)
        return self._relayed

    def _forget(self, table: TableStore, reception: Reception, now: int) -> list[bytes]:
        """The keys that the peer has forgotten, as we have: nothing is to be stored of them.

        An old process tells so of what it has forgotten: that goes on here.
        """
        over = [
            key
            for key, row in zip(reception.keys, reception.reader.values)
            if is_forgotten(reception, row)
        ]
        if not (self._peer.local and self._precedence.learning):
            return table.tombstones.standing(over, now)
        for key in over:
            if not table.has(key, now):
                table.forget(key, now)
        return over

    def take_waiting(self, now: int, is_up_to_date: bool) -> None:
        """What the peer says of its shares waits no longer: see `WaitingShares.take`."""
        self.store(now)
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            changes = waiting.take(now, is_up_to_date)
            if changes:
                self._events.append(Learnt(changes))

    def begin_lesson(self) -> None:
        """The updates to come belong to a lesson that the node wants."""
        self._precedence.learning = True
        self.lesson_from = self._peer.counters.rx_updates
        self.not_taken.clear()  # what was too long comes again, if it is still there

    def end_lesson(self, finished: bool, now: int) -> None:
        """The lesson is over."""
        if finished:
            # A whole lesson has every table of the peer: the others are gone there.
            for name in self.differences.keys() - self._names - {""}:
                del self.differences[name]
        self._precedence.end_lesson(now)

    def _note_refused(self, reception: Reception, now: int) -> None:
        """Note the updates that were too long to be sent on."""
        longest, reception.longest_refused = reception.longest_refused, 0
        self._note_not_taken(reception.table, "an update", longest, LONGEST_UPDATE, now)

    def _note_not_taken(self, table: TableStore, what: str, size: int, most: int, now: int) -> None:
        """Say once in a session that something was too long to be taken."""
        name = f"{what} of table {table.name}"
        if name not in self.not_taken:
            why = f"{name} was not taken: read {size} bytes, expected {most} at most"
            self.not_taken[name] = why
            self._peer.log.warn(now, "peer {peer}: {why}", peer=self._peer.shown, why=why)

    def _table_for(self, definition: Definition, now: int) -> Optional[TableStore]:
        """The table that the next updates are for, if it is shared; the log says why not."""
        self._names.add(definition.name)
        in_lesson = self._precedence.learning
        found, events = self._adoption.table_for(definition, self._peer, now, in_lesson)
        self._events += events
        if isinstance(found, Refusal):
            self._peer.counters.refused_definitions += 1
            self._note_difference(definition.name, found.why, now)
            return found.table
        if self.differences.pop(definition.name, None) is not None:
            self._events.append(TableShared(found, in_lesson))
        return found

    def _note_difference(self, name: str, why: str, now: int) -> None:
        """Remember and log a reason once; of very many reasons, that there are more."""
        if (
            name not in self.differences
            and len(self.differences) >= self._adoption.limits.tables_per_peer
        ):
            name, why = "", "it defines more tables that are not shared"
        if self.differences.get(name) != why:
            self.differences[name] = why
            self._peer.log.warn(now, "peer {peer}: {why}", peer=self._peer.shown, why=why)

    def _share(self, definition: Definition, now: int) -> SharedTable | Unshared:
        table = self._table_for(definition, now)
        if not isinstance(definition, TableDefinition) or table is None:
            self._current = Unshared(getattr(definition, "layout", None))
            return self._current
        shared = self.shared(table)
        reception = self._definitions.reception(definition, shared, self._dictionary.known)
        self._receive_by(reception, definition, shared, now)
        return shared

    def _receive_by(
        self, reception: Reception, definition: TableDefinition, shared: SharedTable, now: int
    ) -> None:
        """Take the next updates for a shared table, as a definition says."""
        if shared.definition is None and not self._precedence.learning:
            # Of what the peer had in it before, a lesson may tell.
            self._events.append(TableShared(shared.table, in_lesson=False))
        if shared.definition is not definition:
            if shared in self._collecting:
                self._store(shared, now)  # what came by another definition comes first
            if shared.definition is not None and shared.definition.id != definition.id:
                # Another table of the peer, whose changes begin anew.
                shared.got = shared.acked = None
            shared.reception, shared.definition = reception, definition
            if definition.expire is not None:
                shared.expire = self._peer.expires[shared.table] = definition.expire
        self._current = shared
        self._collecting[shared] = None

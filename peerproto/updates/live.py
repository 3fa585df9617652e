"""Live changes of one table, written once for all peers that have the same to come.

A change goes to all peers in the same turn of the reactor, and most of them have
got the same before: so what was written for one is kept for the next. Records
with texts are written for each peer, since they refer to the cache of its connection.

An update has only those columns that were changed: HAProxy leaves the others as they
are, and may have counted them up meanwhile. A definition tells which they are, so
there is one wherever an update has others than the one before it.

As with HAProxy, updates have no life, so that the peer's own ``expire`` holds. But a
change that goes out late is not to live longer there than it would have lived: its
update has the life that the peer's definition gives, less the age of the change. An
entry that was stored with a life of its own is sent with what is left of that; what another
peer has said and is over by now is sent with a life of 1 ms. Of an entry
that was forgotten, all columns are sent as zeros, with a life of 1 ms.
"""

from __future__ import annotations

from typing import Final, Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.log import ID_MASK
from peerproto.tables.row import KEY_AT, has_own_life, pack
from peerproto.tables.store import LAST_MOMENT, TableStore
from peerproto.updates.selection import Selection
from peerproto.updates.writer import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary

ON_TIME: Final = 1000
"""Age in ms up to which a change goes out without a life."""

_SAME: Final = 5
_LONGEST_SAME: Final = 20
_PART_OFF: Final = 500
"""Ages in ms from which on what was written for one peer is not given to another one, since lives
and ages are as of its writing: one in so many of the shortest period of a rate, within bounds."""

_GRID: Final = 128
"""What is written at once ends at a change whose number is a multiple of this, once it has as many
updates: wherever peers are, they come to the same places."""

_MOST_KEPT: Final = 32
"""Pieces that were written and are kept: peers read at a pace of their own."""

_MOST_SELECTIONS: Final = 64

_MADE_AT_ONCE: Final = 8
"""Selections of columns that are made at once: some ms of work at most."""


@attrs.frozen
class Live:
    """Updates for some changes, with definitions between them."""

    first: Optional[Declaration]
    """What the first update is of; ``None`` if there are no updates."""
    definition: bytes
    """The message that announces this."""
    data: bytes
    last: Optional[Declaration]
    """What the last update is of."""
    count: int
    """How many updates there are."""
    sent: int
    """The latest change that needs no further update."""
    said: int = 0
    """The latest change of which there is an update."""
    definitions: int = 0
    """How many definitions are between the updates."""


@attrs.frozen
class _Kept:
    """What was written for one peer, and may be given to the next one that has come as far."""

    revision: int
    """How the table was."""
    head: Optional[int]
    """The latest change, if these were all changes: there is more to say by now if there is another
    one."""
    now: int
    room: int
    live: Live
    cut: bool
    """Whether it ends where the room did."""

    def will_do(self, table: TableStore, room: int, now: int, longest: int) -> bool:
        """Whether it is right for a peer with so many bytes of room, at ``now`` (ms), if it may be
        as old as ``longest`` (ms)."""
        if now - self.now > longest or self.revision != table.revision:
            return False
        if self.head is not None and self.head != table.log.head:
            return False
        return room == self.room if self.cut else len(self.live.data) <= room


class LiveBytes:
    """Writes the changes of a table for peers that hold them equally long."""

    def __init__(
        self,
        local_id: int,
        life: Optional[int],
        left_out: dict[bytes, int],
        dictionary: Optional[SendingDictionary] = None,
    ) -> None:
        """``life`` is that of an entry of the peers in ms: 0 if it is endless or not known,
        ``None`` if they take no update with a life. See `Outgoing` for ``left_out``. A
        ``dictionary`` is one peer's alone."""
        self.life = life
        self._local_id = local_id
        self._left_out = left_out
        self._alone = dictionary is not None
        self._dictionary = dictionary or SendingDictionary()
        self._declaration: Optional[Declaration] = None
        self._selections: dict[int, Selection] = {}
        """By their columns, as bits."""
        self._made = 0
        self._same = _SAME
        self._kept: dict[int, _Kept] = {}
        """By the change that it follows, what was written of late."""

    def after(
        self,
        table: TableStore,
        sent: int,
        room: int,
        now: int,
        peer: object = None,
    ) -> Live:
        """Some changes after ``sent`` as of ``now`` (ms), until they have ``room`` bytes at most.

        What has changed again in the last few ms may be told as it was: its change comes later.
        With a ``peer``, what is not for it is left out.
        """
        if self._declaration is not table.declaration:
            self._declaration = table.declaration
            self._selections = {}
            self._kept.clear()
            self._same = _same(table.declaration)
        if peer is not None and table.log.spares(peer, sent):
            return self._written(table, sent, room, now, peer)[0]
        kept = self._kept.get(sent)
        if kept is not None and kept.will_do(table, room, now, self._same):
            return kept.live
        live, is_cut = self._written(table, sent, room, now, None)
        if not self._alone:
            head = table.log.head if live.sent == table.log.head else None
            self._keep(sent, _Kept(table.revision, head, now, room, live, is_cut))
        return live

    def _keep(self, sent: int, kept: _Kept) -> None:
        self._kept.pop(sent, None)
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[sent] = kept

    def _written(
        self,
        table: TableStore,
        sent: int,
        room: int,
        now: int,
        peer: object,
    ) -> tuple[Live, bool]:
        """See `after`; and whether it ends where the room does."""
        stretches = _Stretches()
        declaration, moment = table.declaration, table.origin + now
        bits = table.layout.bits
        count = self._made = said = 0
        head, columns, is_cut = b"", -1, False
        selection: Optional[Selection] = None
        end = -1
        for number, changed, key in table.log.after(sent, peer):
            if end < 0:
                end = -(-number // _GRID) * _GRID
            elif number > end:
                if count >= _GRID:
                    sent = end
                    break
                end = -(-number // _GRID) * _GRID
            sent = number
            stored = table.stored(key) or table.zeroed(key, now)
            if stored is None:
                continue
            if stored[:KEY_AT] != head:
                # What is changed in one turn has the same age and life.
                head = stored[:KEY_AT]
                came, deadline = table.lifetime(stored)
                timed = self._is_timed(stored, declaration, now - came)
                selection = None
            if deadline <= now:
                if self.life is None or table.log.sparing(key) is None:
                    continue
                # What another peer has said and is passed on comes all the same, to end at once.
                stored = pack(moment, LAST_MOMENT) + stored[KEY_AT:]
                head, deadline = stored[:KEY_AT], now + LAST_MOMENT
                timed = self._is_timed(stored, declaration, 0)
                selection = None
            if changed != columns or selection is None:
                columns = changed
                selection = self._selections.get(columns & bits)
                if selection is None:
                    selection = self._select(table, columns & bits)
                writer = selection.writers[timed]
                if writer is not stretches.writer:
                    stretches.begin(selection, writer)
            said = number
            update_id = (number & ID_MASK).to_bytes(4, "big")
            count += writer.write_one(key, selection.of(stored), moment, update_id)
            is_cut = stretches.size + writer.size >= room
            if is_cut or self._made >= _MADE_AT_ONCE:
                break
        else:
            sent = table.log.head
        return stretches.end(count, sent, said), is_cut

    def _is_timed(self, stored: bytes, declaration: Declaration, age: int) -> bool:
        """Whether the update for a change of this age (ms) tells how long it is to live."""
        if self.life is None or not declaration.expire:
            return False
        return has_own_life(stored) or (age > ON_TIME and self.life > 0)

    def _select(self, table: TableStore, columns: int) -> Selection:
        if len(self._selections) >= _MOST_SELECTIONS:
            self._selections.clear()
        self._made += 1
        selection = Selection(
            table.declaration,
            columns,
            self._local_id,
            self.life or 0,
            self._dictionary,
            self._left_out,
        )
        self._selections[columns] = selection
        return selection


def _same(declaration: Declaration) -> int:
    """Age in ms up to which what was written is given to another peer."""
    periods = [one.period for one in declaration.layout.columns if one.period is not None]
    return max(_SAME, min([_LONGEST_SAME, *(period // _PART_OFF for period in periods)]))


class _Stretches:
    """Gathers updates, with a definition wherever their columns change."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes gathered, but for those that the present writer has."""
        self.writer: Optional[UpdateWriter] = None
        self._first: Optional[Selection] = None
        self._last: Optional[Selection] = None
        self._definitions = 0
        self._pieces: list[bytes] = []

    def begin(self, selection: Selection, writer: UpdateWriter) -> None:
        """The next updates are of these columns, and come from this writer."""
        self._take()
        if self._last is None:
            self._first = selection
        elif selection.declaration is not self._last.declaration:
            self._add(selection.definition)
            self._definitions += 1
        self._last, self.writer = selection, writer

    def end(self, count: int, sent: int, said: int) -> Live:
        """All that was gathered: so many updates."""
        self._take()
        if self._first is None or self._last is None:
            return Live(None, b"", b"", None, 0, sent)
        first, last = self._first, self._last
        data = b"".join(self._pieces)
        return Live(
            first.declaration,
            first.definition,
            data,
            last.declaration,
            count,
            sent,
            said,
            self._definitions,
        )

    def _take(self) -> None:
        if self.writer is not None:
            self._add(self.writer.take())

    def _add(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)

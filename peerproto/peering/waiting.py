"""What a peer says of its shares while it may not have got back what it had.

A HAProxy that has just been started counts from 0 until somebody has taught it what it had
counted before: that overwrites what it has counted meanwhile. So on a session with a process that
is not known to have it all, what the peer says of its shares waits beside them. It is taken once
the peer

- has ended a lesson of its own with *finished*: it counts itself up to date;
- has confirmed our lesson: what it counted for an entry that we have taught, and sent before our
  lesson overwrote it, is less than that, and is left out.

Until then the shares stay as they are, and are what the peer is taught. What a share has nothing
of need not wait.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Optional

from peerproto.peering.memory import PeerMemory
from peerproto.peering.sharedtable import SharedTable
from peerproto.tables import row as head
from peerproto.tables.changes import Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.wire.datatypes import DATA_TYPES, Kind

LONGEST_WAIT: Final = 30_000
"""Time in ms after which what a peer says is taken, though nobody knows whether it has got back
what it had: a HAProxy counts itself up to date after 10 s."""

_GROWING: Final = frozenset(
    one.bit
    for one in DATA_TYPES
    if one.kind in (Kind.UNSIGNED32, Kind.UNSIGNED64) and not (one.local or one.name[:3] == "gpt")
)
"""The bits of the columns that only grow."""


class Return:
    """Whether the peer of one session has got back what it had: it may be another process than the
    one before."""

    def __init__(self, peer: PeerMemory, process: Optional[int], now: int) -> None:
        """``process`` is the id of the peer's process, if it has told; ``now`` in ms."""
        self._peer = peer
        self._process = process
        self.until: Optional[int] = None
        """When (in ms) it is not waited for any longer; ``None`` if the peer has got it back."""
        if peer.began(process):
            self.until = now + LONGEST_WAIT

    def begin(self, now: int) -> None:
        """The peer has nothing, though its process has the id of one that had it."""
        self._process = None
        self.until = now + LONGEST_WAIT

    def is_in(self, shares: Collection[TableStore]) -> bool:
        """Whether these shares of the peer are known to have all that it had."""
        return self._peer.whole.issuperset(shares)

    def end(self, shares: Collection[TableStore] = ()) -> None:
        """The peer has got it back, and ``shares`` have all of it; or nobody knows, and it is
        waited for no longer."""
        self._peer.whole.update(shares)
        self._peer.process = self._process
        self.until = None


class WaitingShares:
    """The rows of one session that wait, by their table."""

    def __init__(self, peer: PeerMemory) -> None:
        self._peer = peer
        self._rows: dict[SharedTable, tuple[Declaration, dict[bytes, bytes]]] = {}

    def put(
        self, shared: SharedTable, keys: list[bytes], rows: list[bytes], shortest: int, now: int
    ) -> list[Changes]:
        """Have rows wait; the latest of each key is kept. Those of which the share has nothing are
        stored at ``now`` (ms): what happened in the table.

        ``shortest`` is that of their lives, in ms.
        """
        table = shared.table
        declaration, waiting = self._rows.get(shared, (None, {}))
        if declaration is not table.declaration:
            # They are not as the table has them now.
            waiting = {}
            self._rows[shared] = table.declaration, waiting
        new: tuple[list[bytes], list[bytes]] = [], []
        for key, row in zip(keys, rows):
            if table.unconverted(key) is not None:
                waiting[key] = row
            else:
                # What waits of an entry that has gone meanwhile is older.
                waiting.pop(key, None)
                new[0].append(key)
                new[1].append(row)
        return table.put(*new, shortest, now, origin=self._peer.name) if new[0] else []

    def take(self, now: int, is_up_to_date: bool) -> list[Changes]:
        """Store them at ``now`` (ms): what happened in the tables.

        ``is_up_to_date`` is whether the peer counts itself so; if not, rows with a counter
        below that of the share are left out.
        """
        changes: list[Changes] = []
        for shared, (declaration, rows) in self._rows.items():
            table = shared.table
            if table.declaration is declaration:
                ours = table.log.later(rows.keys(), self._peer.acked.get(table.log, 0))
                but = {*ours, *table.tombstones.standing(list(rows), now)}
                taken = [
                    (key, row)
                    for key, row in rows.items()
                    if key not in but
                    and table.lifetime(row)[1] > now
                    and (is_up_to_date or not self._is_less(table, key, row, now))
                ]
                if taken:
                    keys, values = [key for key, _ in taken], [row for _, row in taken]
                    shortest = min(head.unpack(row)[1] for row in values)
                    changes += table.put(keys, values, shortest, now, origin=self._peer.name)
        self._rows.clear()
        return changes

    @staticmethod
    def _is_less(table: TableStore, key: bytes, row: bytes, now: int) -> bool:
        """Whether a counter of a row is below what the table has."""
        known = table.get(key, now)
        if known is None:
            return False
        # A row has the columns that the peer has sent, or the share has had.
        layout = table.generations.form(row[0]).layout
        for column, one in zip(layout.columns, layout.codec.decode(row, table.record_at)):
            place = table.layout.place_of(column.data_type.bit)
            if column.data_type.bit in _GROWING and place is not None:
                other = known.decoded[place]
                pairs = zip(one, other) if column.elements is not None else ((one, other),)
                if any(mine < theirs for mine, theirs in pairs):
                    return True
        return False

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

from typing import Final, Optional

from peerproto.peering.memory import PeerMemory
from peerproto.peering.sharedtable import SharedTable
from peerproto.tables import row as head
from peerproto.tables.changes import Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.row import UNENDING
from peerproto.tables.store import TableStore
from peerproto.wire.datatypes import DATA_TYPES, Kind

LONGEST_WAIT: Final = 30_000
"""Time in ms after which what a peer says is taken, though nobody knows whether it has got back
what it had: a HAProxy counts itself up to date after 10 s."""

_FIRST: Final = 1
"""The id of a process in a container: the next container has the same."""

_GROWING: Final = frozenset(
    one.bit
    for one in DATA_TYPES
    if one.kind in (Kind.UNSIGNED32, Kind.UNSIGNED64) and not (one.local or one.name[:3] == "gpt")
)
"""The bits of the columns that only grow."""


class WaitingShares:
    """The rows of one session that wait, by their table."""

    def __init__(self, peer: PeerMemory, process: Optional[int], now: int) -> None:
        """``process`` is the id of the peer's process, if it has told; ``now`` in ms."""
        self._peer = peer
        self._process = process
        self.until = now + LONGEST_WAIT
        """When (in ms) nothing waits any longer."""
        self._rows: dict[SharedTable, tuple[Declaration, dict[bytes, bytes]]] = {}

    @classmethod
    def of(cls, peer: PeerMemory, process: Optional[int], now: int) -> Optional[WaitingShares]:
        """Those of a session that begins; ``None`` if its process is known to have what it had,
        or is our own old or new one."""
        if peer.local or (process not in (None, _FIRST) and process == peer.process):
            return None
        peer.process = None
        return cls(peer, process, now)

    def put(
        self, shared: SharedTable, keys: list[bytes], rows: list[bytes], shortest: int, now: int
    ) -> list[Changes]:
        """Have rows wait; the latest of each key is kept. Those of which the share has nothing are
        stored at ``now`` (ms): what happened in the table.

        ``shortest`` is that of their lives, in ms.
        """
        table = shared.table
        new = [place for place, key in enumerate(keys) if table.unconverted(key) is None]
        if new:
            some = set(new)
            new_keys, new_rows = [keys[place] for place in new], [rows[place] for place in new]
            keys = [key for place, key in enumerate(keys) if place not in some]
            rows = [row for place, row in enumerate(rows) if place not in some]
            self._wait(shared, keys, rows)
            return table.put(new_keys, new_rows, shortest, now, origin=self._peer.name)
        self._wait(shared, keys, rows)
        return []

    def _wait(self, shared: SharedTable, keys: list[bytes], rows: list[bytes]) -> None:
        if not keys:
            return
        declaration = shared.table.declaration
        known, waiting = self._rows.get(shared, (declaration, {}))
        if known is not declaration:
            # They are not as the table has them now.
            waiting = {}
        waiting.update(zip(keys, rows))
        self._rows[shared] = declaration, waiting

    def take(self, now: int, is_up_to_date: bool) -> list[Changes]:
        """Store them at ``now`` (ms): what happened in the tables.

        ``is_up_to_date`` is whether the peer counts itself so; if not, rows with a counter
        below that of the share are left out.
        """
        changes: list[Changes] = []
        for shared, (declaration, rows) in self._rows.items():
            table = shared.table
            if table.declaration is declaration:
                ours = table.log.later(list(rows), self._peer.acked.get(table.log, 0))
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
                    shortest = min((head.unpack(row)[1] for row in values), default=UNENDING)
                    changes += table.put(keys, values, shortest, now, origin=self._peer.name)
        self._rows.clear()
        self._peer.process = self._process
        return changes

    @staticmethod
    def _is_less(table: TableStore, key: bytes, row: bytes, now: int) -> bool:
        """Whether a counter of a row is below what the table has."""
        known = table.get(key, now)
        if known is None:
            return False
        values = table.layout.codec.decode(row, table.record_at)
        for column, one, other in zip(table.layout.columns, values, known.decoded):
            if column.data_type.bit in _GROWING:
                pairs = zip(one, other) if column.elements is not None else ((one, other),)
                if any(mine < theirs for mine, theirs in pairs):
                    return True
        return False

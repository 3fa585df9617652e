"""Room for new entries: what several tables may hold together, and which entries go.

A full table trashes those of its own that expire first. Where all tables together have
reached their limit, the entries of one go that was adopted, of the largest; if there is
none, those of the largest that was declared here. So a peer that fills tables of its own
choice drives out nothing of what was declared, and of tables of equal rank none is starved
by another. A table with ``nopurge`` gives up nothing.

However many are to go, so many go at once that it takes a few ms: a table whose size was
made smaller gives up more than comes in, and the rest in slices (`peerproto.service.upkeep`).
"""

from __future__ import annotations

from typing import Final, Optional, Protocol
from weakref import WeakSet

import attrs

from peerproto.tables.changes import Cause, Changes, Changing
from peerproto.tables.declaration import Declaration

_AT_ONCE: Final = 2048
"""Entries that are trashed ahead of those that are to come, at most."""


class Roomy(Changing, Protocol):
    """A table that holds entries, and may give some up: a `TableStore`."""

    declaration: Declaration
    quota: Quota
    used: int

    def trash(self, wanted: int) -> list[bytes]:
        """Remove ``wanted`` entries: their keys."""


@attrs.define(eq=False)
class Quota:
    """How many entries several tables may hold together, and how many they do."""

    limit: int
    used: int = 0
    tables: WeakSet[Roomy] = attrs.field(factory=WeakSet)

    @property
    def left(self) -> int:
        """Entries that there is room for; below 0 when there are too many."""
        return self.limit - self.used

    def giver(self, taker: Roomy) -> Optional[Roomy]:
        """The table whose entries make room for one of ``taker``; ``None`` if none can."""
        adopted = taker.declaration.adopted_from is not None
        givers = (
            table
            for table in self.tables
            if table.used
            and not table.declaration.nopurge
            and (table.declaration.adopted_from is not None or not adopted)
        )
        return max(givers, key=_rank, default=None)


def _rank(table: Roomy) -> tuple[bool, int, str]:
    return table.declaration.adopted_from is not None, table.used, table.name


def _share(giver: Roomy, taker: Roomy) -> int:
    """How many entries one table may give up for another: so many that both have the same."""
    if giver is taker or _rank(giver)[0] is not _rank(taker)[0]:
        return giver.used
    return max(1, (giver.used - taker.used) >> 1)


def _at_once(entries: int) -> int:
    """How many of a table's entries go at once, that there is room for more than one."""
    return min(entries >> 8, _AT_ONCE) + 1


def make_room(table: Roomy, wanted: int, now: int) -> tuple[int, list[Changes]]:
    """Trash entries so that new ones fit in: for how many there is room now, and which.

    That may be for fewer than ``wanted``, or for more. There is room for none if nothing
    can be given up.
    """
    quota, size = table.quota, table.declaration.size
    batches: list[Changes] = []

    def trash(giver: Roomy, count: int) -> None:
        trashed = giver.trash(count)
        if trashed:
            batches.append(Changes(giver, Cause.TRASHED, trashed, now))

    room = max(wanted, _at_once(table.used))
    if size is not None:
        if table.used >= size and not table.declaration.nopurge:
            excess = table.used - size
            # The table was made smaller: it shrinks by one for each that comes, at least.
            trash(
                table, min(2 * wanted, wanted + excess) if excess else max(wanted, _at_once(size))
            )
            room = wanted if excess >= wanted else size - table.used
        else:
            room = min(room, size - table.used)
    if quota.left < room:
        giver = quota.giver(table)
        if giver is not None:
            trash(giver, min(max(room - quota.left, _at_once(giver.used)), _share(giver, table)))
    return min(room, quota.left), batches

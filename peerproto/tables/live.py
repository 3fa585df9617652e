"""Live changes of one table, written once for all peers that have the same to come.

A change goes to all peers in the same turn of the reactor, and most of them have
got the same before: so what was written for one is kept for the next. Records
with texts are written for each peer, since they refer to the cache of its connection.
"""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto.tables.log import ID_MASK
from peerproto.tables.table import StickTable
from peerproto.tables.updates import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary


@attrs.frozen
class Live:
    """Updates for some changes."""

    data: bytes
    count: int
    """How many they are."""
    sent: int
    """The latest change that is behind whoever gets them."""


class LiveUpdates:
    """Writes the changes of a table as updates of one kind."""

    def __init__(self, timed: bool, dictionary: Optional[SendingDictionary] = None) -> None:
        """``timed`` is whether updates carry their expiry; a ``dictionary`` is one peer's alone."""
        self._timed = timed
        self._alone = dictionary is not None
        self._dictionary = dictionary or SendingDictionary()
        self._writer: Optional[UpdateWriter] = None
        self._kept: Optional[tuple[tuple[int, int, int, int], Live]] = None
        """What was asked for last, and what that was."""

    def after(self, table: StickTable, sent: int, room: int, now: int) -> Live:
        """The changes after ``sent`` as of ``now`` (ms), until they have ``room`` bytes."""
        writer = self._writer
        if writer is None or writer.declaration is not table.declaration:
            writer = self._writer = UpdateWriter(table.declaration, self._dictionary, self._timed)
            self._kept = None
        asked = (sent, table.log.head, len(table.log), now)
        if self._kept is not None and self._kept[0] == asked and len(self._kept[1].data) <= room:
            return self._kept[1]
        live = _written(writer, table, sent, room, now)
        whole = live.sent == table.log.head
        self._kept = (asked, live) if whole and not self._alone else None
        return live


def _written(writer: UpdateWriter, table: StickTable, sent: int, room: int, now: int) -> Live:
    count = 0
    for number, key in table.log.after(sent):
        sent = number
        stored = table.stored(key)
        if stored is None:
            continue
        update_id = (number & ID_MASK).to_bytes(4, "big")
        count += writer.write([(key, stored)], table.origin + now, update_id)
        if writer.size >= room:
            break
    else:
        sent = table.log.head
    return Live(writer.take(), count, sent)


def live_of(table: StickTable, timed: bool) -> LiveUpdates:
    """Those of a table without texts, for all peers."""
    live = table.live.get(timed)
    if live is None:
        live = table.live[timed] = LiveUpdates(timed)
    return live

"""A stick table: its rows, and the changes that were made here, which peers are to hear of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, Final, Optional

from peerproto.tables import row as head
from peerproto.tables.before import Before
from peerproto.tables.change import changed
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import NEVER
from peerproto.tables.log import ChangeLog, Sparing
from peerproto.tables.room import Quota
from peerproto.tables.row import UNENDING
from peerproto.tables.rowstore import SLICE, RowStore
from peerproto.wire.codec import Values
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.sizes import LONGEST_UPDATE, always_fits, longest_update

How = Callable[[Declaration, Values, Mapping[str, Any]], tuple[Values, int]]
"""What makes a change: the values after it, and the columns that it is of, as bits."""

LAST_MOMENT: Final = 1
"""Life in ms with which an entry is sent that is to end at once: 0 would be endless for some."""


class TableFull(LocalProtocolError):
    """The table is full, and declared with ``nopurge``."""


class TableStore(RowStore):
    """The entries of one table, the log of what was changed here, and what was forgotten."""

    def __init__(
        self,
        declaration: Declaration,
        log: Optional[ChangeLog] = None,
        quota: Optional[Quota] = None,
    ) -> None:
        super().__init__(declaration, quota)
        self.log = ChangeLog() if log is None else log
        self.before = Before()
        """What entries had before they were changed here."""
        self._declared_anew = False
        """Whether tombstones may stand longer than entries live now."""

    # -- changes here ----------------------------------------------------

    def set(self, key: bytes, values: Mapping[str, Any], now: int) -> list[Changes]:
        """Create or change an entry here: see `change`.

        :raises TableFull: see `Declaration`.
        """
        batches = self.change({key: values}, now)
        if not batches:
            raise TableFull(f"table {self.name}", f"a new entry, with {self.used} in it", "room")
        return batches

    def change(
        self,
        entries: Mapping[bytes, Mapping[str, Any]],
        now: int,
        how: How = changed,
        expires_in: Optional[int] = None,
    ) -> list[Changes]:
        """Create or change entries here: local changes, which all peers get.

        Returns what happened, as `RowStore.put` does: new ones that find no room are refused.

        Values not named stay as they are. A rate may be given as a number of events, which then
        happened just now, or as a `Frequency`; ``how`` may be `counted` to count events. The
        entries live for the table's ``expire`` from now, or for ``expires_in`` ms.

        :raises LocalProtocolError: a name or value that the table cannot store, an entry that is
            too long for a message, or a life that the table cannot give. Nothing is changed.
        """
        life = UNENDING if expires_in is None else self._life(expires_in)
        updates: list[tuple[bytes, int, bytes]] = []
        changes: list[int] = []
        replaced: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = []
        for key, values in entries.items():
            before, after, columns = self._changed(key, values, now, how)
            record = self.layout.codec.encode(after)
            self._check_size(key, record)
            updates.append((key, life, record))
            changes.append(columns)
            replaced.append((before, after))
        batches = self._store_changes(updates, changes, now)
        for (key, _, _), (before, after) in zip(updates, replaced):
            self.before.note(key, self.layout, before, after, now)
        return batches

    def replace(
        self, entries: Iterable[tuple[bytes, bytes, Optional[int]]], now: int
    ) -> list[Changes]:
        """Store whole entries here: local changes of all columns, which all peers get.

        Each is a raw key, a record of the table's layout, and the life from now in ms, ``None``
        for that of the table. Returns what happened, as `RowStore.put` does: new ones that find
        no room are refused.

        :raises LocalProtocolError: an entry that is too long for a message. Nothing is changed.
        """
        expire = self.declaration.expire
        may_be_long = not always_fits(self.layout)
        updates: list[tuple[bytes, int, bytes]] = []
        for key, record, life in entries:
            if may_be_long:
                self._check_size(key, record)
            updates.append((key, UNENDING if life is None or life >= expire else life, record))
        return self._store_changes(updates, repeat(self.layout.bits), now)

    def _store_changes(
        self, updates: list[tuple[bytes, int, bytes]], columns: Iterable[int], now: int
    ) -> list[Changes]:
        """Store what was changed here, and note which columns of each it is, as bits."""
        batches = self.store(updates, now, Cause.SET)
        taken = {key for batch in batches if batch.cause is Cause.SET for key in batch.raw_keys}
        self.log.mark(now)
        for (key, _, _), bits in zip(updates, columns):
            # Others of them may have made room for it, and it for them.
            if key in taken and self.unconverted(key) is not None:
                self.log.record(key, bits)
        return batches

    def _life(self, ms: int) -> int:
        expire = self.declaration.expire
        if type(ms) is not int or not 0 < ms <= expire:
            most = f"an int from 1 to {expire} (ms)" if expire else "none: it has no expire"
            raise LocalProtocolError(f"life of an entry of table {self.name}", ms, most)
        return ms

    def _changed(
        self, key: bytes, values: Mapping[str, Any], now: int, how: How
    ) -> tuple[tuple[Any, ...], tuple[Any, ...], int]:
        """The values of an entry before and after a change, and the columns that this is of, as
        bits."""
        entry = self.get(key, now)
        before = self.layout.codec.blank() if entry is None else entry.decoded
        after, columns = how(self.declaration, before, values)
        return before, after, columns

    def _check_size(self, key: bytes, record: bytes) -> None:
        size = longest_update(self.layout, key, record)
        if size > LONGEST_UPDATE:
            raise LocalProtocolError(
                f"entry of table {self.name}",
                f"an update of up to {size} bytes",
                f"{LONGEST_UPDATE} at most: HAProxy takes no longer one",
            )

    def change_again(self, changes: Mapping[bytes, int], now: int, as_before: bool = False) -> None:
        """Note local changes once more at ``now`` (ms): keys, with the columns of the change.

        They are for all peers, or with ``as_before`` not for those that they were not for.
        """
        self.log.mark(now)
        for key, columns in changes.items():
            if self.tells_of(key):
                self.log.record(key, columns, self.log.sparing(key) if as_before else None)

    def forget(
        self,
        key: bytes,
        now: int,
        sparing: Optional[Sparing] = None,
        until: Optional[int] = None,
    ) -> bool:
        """Remove an entry here, and have peers zero theirs: whether it was there.

        Until it would have expired, or for the table's ``expire`` if there was none, a tombstone
        stands for it: peers that were away hear of it, too. ``sparing`` tells who does not;
        ``until`` is the end of the tombstone (ms), if that is another one.
        """
        deadline, entry = self._deadline(key), self.get(key, now)
        was_there = entry is not None
        if entry is not None:
            blank = self.layout.codec.blank()
            self.before.note(key, self.layout, entry.decoded, blank, now)
        if deadline is None or not was_there:
            expire = self.declaration.expire
            deadline = now + expire if expire else NEVER
        super().remove(key)
        self.revision += 1
        for fallen in self.tombstones.put(key, deadline if until is None else until):
            self.log.forget(fallen)
        self.log.mark(now)
        self.log.record(key, self.layout.bits, sparing)
        return was_there

    def forgotten(self, key: bytes, now: int) -> bool:
        """Whether a tombstone stands for a key at ``now`` (ms)."""
        return self.tombstones.stands(key, now)

    def zeroed(self, key: bytes, now: int) -> Optional[bytes]:
        """What peers are to store for an entry that was forgotten; ``None`` if it was not."""
        if not self.tombstones.stands(key, now):
            return None
        codec = self.layout.codec
        begin = head.pack(self.origin + now, LAST_MOMENT)
        key_again = key if self.layout.fixed_key_length else b""
        return begin + key_again + codec.encode(codec.blank())

    def tells_of(self, key: bytes) -> bool:
        """Whether there is something to say of a key: it has an entry, or was forgotten."""
        return self.unconverted(key) is not None or key in self.tombstones

    # -- what becomes of rows --------------------------------------------

    def remove(self, key: bytes) -> bool:
        """Remove an entry, here only: whether it was there."""
        removed = super().remove(key)
        if removed:
            self.log.forget(key)
        return removed

    def _remove_each(self, keys: Iterable[bytes]) -> list[bytes]:
        """See `RowStore._remove_each`."""
        removed = super()._remove_each(keys)
        if len(self.log):  # most tables have few changes of their own
            for key in removed:
                self.log.forget(key)
        return removed

    def clear(self) -> int:
        """See `RowStore.clear`: nothing is forgotten any more, and there are no changes."""
        self.tombstones.clear()
        self.before = Before()
        self._clearing.add_pieces(self.log.clear())
        return super().clear()

    def redeclare(self, declaration: Declaration) -> bool:
        """See `RowStore.redeclare`."""
        taken = super().redeclare(declaration)
        self._declared_anew |= taken
        return taken

    def next_due(self) -> Optional[int]:
        """When (in ms) `expire` has something to look at; ``None`` for never."""
        if self._declared_anew and len(self.tombstones):
            return 0
        due = [one for one in (super().next_due(), self.tombstones.next_due()) if one is not None]
        return min(due, default=None)

    def expire(self, now: int, limit: int = SLICE) -> list[bytes]:
        """See `RowStore.expire`: tombstones fall, too, of which nobody needs to be told."""
        if self._declared_anew:
            self._declared_anew = False
            if self.declaration.expire:
                self.tombstones.shorten(now + self.declaration.expire)
        for key in self.tombstones.due(now, limit):
            self.log.forget(key)
        return super().expire(now, limit)

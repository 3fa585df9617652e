"""The log of local changes (PROTOCOL.md, "Updates, ids and acks").

Changes are numbered from 1 without end; on the wire travels the low half, an
update id of 32 bits that wraps. An entry has one place in the log: that of its
latest change, so that ten quick changes travel as one update.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final, Optional

ID_MASK: Final = 0xFFFFFFFF

_SLACK = 64


class ChangeLog:
    """The order in which entries were last changed here."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        """Number of the latest change."""
        self._place: dict[bytes, int] = {}
        # Parallel and in order; places that an entry has left stay until compaction.
        self._numbers: list[int] = []
        self._keys: list[bytes] = []

    def __len__(self) -> int:
        """How many entries have a place."""
        return len(self._place)

    def record(self, key: bytes) -> int:
        """Note a change of ``key``: its number."""
        self.head += 1
        self._place[key] = self.head
        self._numbers.append(self.head)
        self._keys.append(key)
        if len(self._numbers) > 2 * len(self._place) + _SLACK:
            self._compact()
        return self.head

    def forget(self, key: bytes) -> None:
        """The entry is gone: it has no place any more."""
        self._place.pop(key, None)

    def clear(self) -> None:
        """All entries are gone. Numbers go on from where they are."""
        self._place.clear()
        self._compact()

    def after(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Changes later than ``number``, oldest first, one for each entry.

        The log must not change while the iterator is in use.
        """
        start = bisect_right(self._numbers, number)
        place = self._place
        for one, key in zip(islice(self._numbers, start, None), islice(self._keys, start, None)):
            if place.get(key) == one:
                yield one, key

    def number_of_id(self, update_id: int, latest: int) -> Optional[int]:
        """The change that an update id means, at or before ``latest``.

        ``None`` if the id lies more than half the numbers behind it, which is
        ahead of it in serial-number arithmetic.
        """
        distance = (latest - update_id) & ID_MASK
        return None if distance > ID_MASK >> 1 else latest - distance

    def _compact(self) -> None:
        kept = sorted((number, key) for key, number in self._place.items())
        self._numbers = [number for number, _ in kept]
        self._keys = [key for _, key in kept]

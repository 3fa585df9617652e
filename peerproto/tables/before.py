"""The values that the latest changes of ours have replaced, each for a second.

HAProxies send all columns of an entry, also those that they have not changed. So one that has not
read a change of ours yet sends the value of before to the others, and these send it on with what
they count themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from peerproto.wire.layout import Layout

WHILE: Final = 1_000
"""How long a value may come back from a peer that has not read the change, in ms."""

MOST: Final = 10_000
"""Changes of which the keys are kept: the latest."""

VALUES: Final = 8
"""Changes of a key of which the values are kept: the latest."""

_AGAIN: Final = ("server_id", "server_key")
"""Columns that are not kept: a HAProxy that is free to choose a server may choose the same one."""

Old = Mapping[int, Collection[Any]]
"""By columns, as bits: the values that were replaced."""

Values = tuple[Any, ...]
"""Those of an entry, one for each column."""

_Replaced = tuple[int, Layout, tuple[Values, ...], Values]
"""Until when (in ms) something is kept, what it was of, what was replaced, and what is there."""


class Before:
    """The replaced values of one table."""

    def __init__(self) -> None:
        self._replaced: dict[bytes, _Replaced] = {}
        self._ends: deque[tuple[int, bytes]] = deque()
        """Until when (in ms) which key is kept, in order."""

    def __len__(self) -> int:
        """How many keys are kept, some of them for too long."""
        return len(self._replaced)

    def note(self, key: bytes, layout: Layout, before: Values, after: Values, now: int) -> None:
        """Note the values of an entry ``before`` and ``after`` a change at ``now`` (ms)."""
        if before == after:
            return
        until, known = now + WHILE, self._replaced.get(key)
        values: tuple[Values, ...] = (before,)
        if known is not None and known[0] > now and known[1] is layout:
            values = (*known[2][1 - VALUES :], before)
        self._replaced[key] = until, layout, values, after
        self._ends.append((until, key))
        if self._ends[0][0] <= now:
            self._drop(now)
        elif len(self._ends) > MOST:
            self._forget_first()

    def of(self, keys: Iterable[bytes], now: int) -> dict[bytes, Old]:
        """The values of before, of the ones of ``keys`` that were changed within a second."""
        self._drop(now)
        replaced = self._replaced
        if replaced.keys().isdisjoint(keys):  # as they mostly are
            return {}
        return {key: _old(*replaced[key]) for key in keys if key in replaced}

    def _drop(self, now: int) -> None:
        """Forget what is over."""
        while self._ends and self._ends[0][0] <= now:
            self._forget_first()

    def _forget_first(self) -> None:
        until, key = self._ends.popleft()
        known = self._replaced.get(key)
        if known is not None and known[0] == until:
            del self._replaced[key]


def _old(_: int, layout: Layout, replaced: tuple[Values, ...], present: Values) -> Old:
    old: dict[int, list[Any]] = {}
    for place, column in enumerate(layout.columns):
        if column.name in _AGAIN:
            continue
        values = {one[place]: None for one in replaced if one[place] != present[place]}
        if values:
            old[1 << column.data_type.bit] = [*values]
    return old

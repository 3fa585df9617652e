"""The values that changes of ours have replaced, each for a second.

HAProxies send all columns of an entry, also those that they have not changed. So one that has not
read a change of ours yet sends the value of before to the others, and these send it on with what
they count themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from peerproto.wire.layout import Column

WHILE: Final = 1_000
"""How long a value may come back from a peer that has not read the change, in ms."""

Old = Mapping[int, Collection[Any]]
"""By columns, as bits: the values that were replaced."""


@attrs.define
class _Replaced:
    until: int
    values: dict[int, list[Any]]


class Before:
    """The replaced values of one table."""

    def __init__(self) -> None:
        self._replaced: dict[bytes, _Replaced] = {}
        self._ends: deque[tuple[int, bytes]] = deque()
        """Until when (in ms) which key is kept, in order."""

    def __len__(self) -> int:
        """How many keys are kept, some of them for too long."""
        return len(self._replaced)

    def note(
        self,
        key: bytes,
        columns: Sequence[Column],
        before: Sequence[Any],
        after: Sequence[Any],
        now: int,
    ) -> None:
        """Note the values of an entry ``before`` and ``after`` a change at ``now`` (ms)."""
        self._drop(now)
        if before == after:
            return
        replaced = self._replaced.get(key)
        values = {} if replaced is None else replaced.values
        for column, old, new in zip(columns, before, after):
            if old != new:
                some = values.setdefault(1 << column.data_type.bit, [])
                values[1 << column.data_type.bit] = [one for one in (*some, old) if one != new]
        self._replaced[key] = _Replaced(now + WHILE, values)
        self._ends.append((now + WHILE, key))

    def of(self, keys: Iterable[bytes], now: int) -> dict[bytes, Old]:
        """The values of before, of the ones of ``keys`` that were changed within a second."""
        self._drop(now)
        replaced = self._replaced
        return {key: replaced[key].values for key in keys if key in replaced}

    def _drop(self, now: int) -> None:
        """Forget what is over."""
        ends, replaced = self._ends, self._replaced
        while ends and ends[0][0] <= now:
            until, key = ends.popleft()
            if key in replaced and replaced[key].until == until:
                del replaced[key]

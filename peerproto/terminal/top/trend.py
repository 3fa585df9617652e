"""How values went: the latest of each entry, drawn with letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Optional

from peerproto.terminal.values import EntryInfo

LENGTH: Final = 12
"""Values that are drawn."""

_BARS: Final = "▁▂▃▄▅▆▇█"

Place = tuple[Optional[str], str]


def sparkline(values: Iterable[int]) -> str:
    """Bars from 0 up to the highest of the values."""
    values = list(values)
    most = max([*values, 1])
    last = len(_BARS) - 1
    return "".join(_BARS[max(0, min(last, round(last * one / most)))] for one in values)


class Trends:
    """The latest values of the entries that are shown; of others nothing is kept."""

    def __init__(self) -> None:
        self._of: Optional[tuple[str, str]] = None
        self._values: dict[Place, deque[int]] = {}

    def add(self, table: str, by: str, entries: Iterable[EntryInfo]) -> None:
        """Take what entries have now."""
        before = self._values if self._of == (table, by) else {}
        self._of, self._values = (table, by), {}
        for entry in entries:
            values = before.get(entry.place)
            if values is None:
                values = deque(maxlen=LENGTH)
            value = entry.values.get(by)
            values.append(value if isinstance(value, int) else 0)
            self._values[entry.place] = values

    def of(self, entry: EntryInfo) -> str:
        """What is drawn for an entry."""
        return sparkline(self._values.get(entry.place, ()))

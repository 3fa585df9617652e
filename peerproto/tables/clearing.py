"""What was cleared, until its keys are told and its memory is given back.

A table of a million entries is cleared at once, but it takes a second to go over what
it had: that is done in slices, while the table is in use again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class _Cleared:
    """The dicts of one clear, and which of their keys were stored again since."""

    def __init__(self, parts: list[dict[bytes, bytes]]) -> None:
        self.parts = parts
        self.again: set[bytes] = set()


class Clearing:
    """The clears that are not over yet, in their order."""

    def __init__(self) -> None:
        self._cleared: list[_Cleared] = []
        self._pieces: list[Collection[bytes]] = []
        self.under_way = False
        """Whether `discard` has something left to do. Each read asks for it."""

    def add(self, parts: list[dict[bytes, bytes]]) -> None:
        """All that the table had."""
        if parts:
            self._cleared.append(_Cleared(parts))
            self.under_way = True

    def add_pieces(self, pieces: Iterable[Collection[bytes]]) -> None:
        """Keys of which nobody needs to be told, in pieces that are not long."""
        self._pieces += pieces
        self.under_way = bool(self._cleared or self._pieces)

    def stored(self, keys: Iterable[bytes]) -> None:
        """These are in the table anew: that they were cleared is not told any more."""
        for cleared in self._cleared:
            cleared.again.update(keys)

    def discard(self, limit: int) -> list[bytes]:
        """Give back the memory of about ``limit`` entries: their keys, less those stored anew."""
        gone: list[bytes] = []
        looked_at = 0
        while self._cleared and looked_at < limit:
            first = self._cleared[0]
            part = first.parts.pop()
            looked_at += len(part)
            gone += [key for key in part if key not in first.again] if first.again else part
            if not first.parts:
                del self._cleared[0]
        freed = 0
        while self._pieces and freed < 4 * limit:
            freed += len(self._pieces.pop())
        self.under_way = bool(self._cleared or self._pieces)
        return gone

"""Rows of a table, read ahead for lessons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peerproto.tables.follower import Follower
from peerproto.tables.partitions import Sweep

_FEW: Final = 4096

_SHARE: Final = 8
"""One row in so many may be replaced, and a `_FEW` more."""


class Rows(Follower):
    """Rows in an order that `peerproto.updates.order.Order` gives them, a slice at a time.

    They are kept in tuples, since the garbage collector would look into a million of them
    again and again in lists. A row that is replaced meanwhile stays in memory, so there may
    not be many: all rows are given up then, and lessons read the table in no order. Then they
    are plain: there are keys alone.
    """

    __slots__ = (
        "_most",
        "_plain",
        "buckets",
        "ended",
        "keys_from",
        "others",
        "pieces",
        "ready",
        "sweep",
    )

    def __init__(self, sweep: Sweep, plain: bool = False) -> None:
        self.sweep = sweep
        """It finds the rows, and goes on with those that were stored after them."""
        self._plain = plain
        self.ready = plain
        self.ended = False
        """Whether they are of no use any more."""
        self.buckets: list[list[tuple[bytes, ...]]] = [[]]
        """Pieces by bucket, until all are `ready`."""
        self.pieces: list[tuple[bytes, ...]] = []
        """Rows in their order, once it is ready. A key stands before its row if that does not
        have it."""
        self.keys_from = 0
        """From which piece on there are keys alone."""
        self.others: set[bytes] = set()
        """Keys for which another row is stored by now, or none."""
        self._most = len(sweep.parts) // _SHARE + _FEW

    def replaced(self, keys: Iterable[bytes]) -> None:
        """Remember which rows are not to be taught."""
        if not self.ended and not self._plain:
            self.others.update(keys)
            if len(self.others) > self._most:
                self._end()

    def cleared(self) -> None:
        """Keep nothing of what is gone."""
        self.sweep.let_go()
        if self._plain:
            self.sweep.parts.clearing.add_pieces(self.pieces)
            self.pieces = [()] * len(self.pieces)
        else:
            self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        """Leave all rows to the upkeep of the table: to let go of a million takes many ms."""
        self.ended = True
        for pieces in (self.pieces, *self.buckets):
            self.sweep.parts.clearing.add_pieces(pieces)
        self.pieces, self.buckets, self.others = [], [], set()

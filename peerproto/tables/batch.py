"""What observers are told: which entries of one table changed, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Optional

import attrs

from peerproto.tables.entry import Entry
from peerproto.tables.table import StickTable
from peerproto.wire import keys


class Cause(enum.Enum):
    """Why entries changed."""

    LEARNT = "learnt"
    """A peer sent them."""
    SET = "set"
    """They were changed here."""
    EXPIRED = "expired"
    """Their time came."""
    TRASHED = "trashed"
    """They made room in a full table."""
    CLEARED = "cleared"
    """They were removed here."""


@attrs.frozen
class Batch:
    """Changes to one table, told after the table is consistent.

    A key may come more than once when it changed more than once. ``origin`` is
    the name of the peer, for what was learnt.
    """

    table: StickTable
    cause: Cause
    raw_keys: Sequence[bytes] = attrs.field(repr=False)
    now: int
    """When it happened, in ms of the service's clock."""
    origin: Optional[str] = None

    def __len__(self) -> int:
        return len(self.raw_keys)

    def keys(self) -> Iterator[keys.Key]:
        """The keys in their Python form."""
        key_type = self.table.layout.key_type
        return (keys.to_python(raw, key_type) for raw in self.raw_keys)

    def entries(self) -> Iterator[Entry]:
        """The entries as they are now, decoded one by one; none for removals."""
        for raw in dict.fromkeys(self.raw_keys):
            entry = self.table.get(raw, self.now)
            if entry is not None:
                yield entry

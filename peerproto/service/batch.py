"""What observers are told: which entries of one table changed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

import attrs

from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause
from peerproto.tables.entry import Entry
from peerproto.wire import keys


@attrs.frozen
class Batch:
    """Changes to one table, told after the table is consistent.

    A key may come more than once when it changed more than once. Batches come in the
    order in which their changes happened, also within one read or one `StickTable.set`: a
    mirror that takes over what was stored, and drops what expired, was trashed or cleared,
    has what the table has.

    What a table had that is gone was cleared, too, and is told in slices. Another table of
    its name may have entries by then: a mirror goes by the table, not by its name.
    """

    table: StickTable
    """The one object for it; `StickTable.shared` says whether it is gone meanwhile."""
    cause: Cause
    raw_keys: Sequence[bytes] = attrs.field(repr=False)
    """The keys as on the wire."""
    now: int
    """When it happened, in ms of the service's clock."""
    origin: Optional[str] = None
    """Name of the peer, for what was learnt."""
    all_new: bool = False
    """Whether none of the keys had an entry before, and no key is there twice; it may be so
    though it is not said."""

    def __len__(self) -> int:
        return len(self.raw_keys)

    def keys(self) -> Iterator[keys.Key]:
        """The keys in their Python form."""
        key_type = self.table.key_type
        return (keys.to_python(raw, key_type) for raw in self.raw_keys)

    def entries(self) -> Iterator[Entry]:
        """The entries as they are now, decoded one by one; none for those that are gone."""
        return self.table.entries(dict.fromkeys(self.raw_keys))

"""What observers are told: which entries of one table changed, and why."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import ChangedKeys
from peerproto.tables.entry import Entry
from peerproto.wire import keys


@attrs.frozen
class Batch(ChangedKeys[StickTable]):
    """Changes to one table, told after the table is consistent.

    A key may come more than once when it changed more than once. Batches come in the
    order in which their changes happened, also within one read or one `StickTable.set`: a
    mirror that takes over what was stored, and drops what expired, was trashed or cleared,
    has what the table has.

    What a table had that is gone was cleared, too, and is told in slices. Another table of
    its name may have entries by then: a mirror goes by the table, which is the one object for
    it, and not by its name. `StickTable.shared` says whether it is gone meanwhile.
    """

    def keys(self) -> Iterator[keys.Key]:
        """The keys in their Python form."""
        key_type = self.table.key_type
        return (keys.to_python(raw, key_type) for raw in self.raw_keys)

    def entries(self) -> Iterator[Entry]:
        """The entries as they are now, decoded one by one; none for those that are gone."""
        return self.table.entries(dict.fromkeys(self.raw_keys))

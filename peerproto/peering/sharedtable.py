"""A shared table: what one session knows of a table that both sides have."""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto.peering.sharing import EVENLY, Sharing
from peerproto.tables.columns import not_kept
from peerproto.tables.store import TableStore
from peerproto.updates.outgoing import Outgoing
from peerproto.updates.reception import Reception
from peerproto.wire.layout import Column
from peerproto.wire.messages import TableDefinition


@attrs.define(eq=False)
class SharedTable:
    """What this session knows of a table that both sides have.

    ``sent`` is the latest of our changes that went out, ``said`` the latest of which there was
    an update in this session. ``got`` is the id of
    the latest live update that came, ``acked`` the one that we acked. ``expire`` (ms) is
    that of the peer's table, as far as it is known.
    """

    outgoing: Outgoing
    """What is written of the table for all peers."""
    local_id: int
    sent: int
    definition: Optional[TableDefinition] = None
    """What the peer defined it as; ``None`` as long as it did not."""
    columns: dict[int, Column] = attrs.field(factory=dict, init=False)
    """What the peer stores, by the bits of the data types, as it has defined each last: a peerproto
    defines just what it changes."""
    reception: Optional[Reception] = None
    got: Optional[int] = None
    acked: Optional[int] = None
    expire: Optional[int] = None
    said: int = 0
    sharing: Sharing = EVENLY
    """The rules of the table."""
    after: Optional[SharedTable] = None
    """The table of which nothing may wait when this one is sent."""
    table: TableStore = attrs.field(init=False)
    """The table of this node."""

    def __attrs_post_init__(self) -> None:
        self.table = self.outgoing.store

    @property
    def has_more(self) -> bool:
        """Whether changes of it are to be sent, and may be now."""
        if self.table.log.head <= self.sent:
            return False
        after = self.after
        return after is None or after.table.log.head <= after.sent

    @property
    def remote_id(self) -> Optional[int]:
        """The peer's number for it."""
        return None if self.definition is None else self.definition.id

    def notes(self) -> list[str]:
        """In words, what the peer stores in it and we do not keep."""
        if self.definition is None:
            return []
        lost = not_kept(self.definition, self.table.layout)
        return [f"table {self.table.name}: {one} is not kept here" for one in lost]

"""What a peer has defined on one session, and what that meant when it was looked up.

Changed columns travel under definitions with just these columns, so a peer may go from
one definition of a table to another with each update. What is known need not be looked
up again, and the reception of a definition is made once. How much is known is bounded,
since a peer may define something new without an end.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, Optional

import attrs

from peerproto.peering.limits import Limits
from peerproto.peering.peertables import PeerTables
from peerproto.peering.sharedtable import SharedTable
from peerproto.tables.declaration import Declaration
from peerproto.updates.reception import Reception
from peerproto.wire.layout import Layout
from peerproto.wire.messages import Definition, TableDefinition

_OVERHEAD: Final = 16
"""What is known of a definition takes so much beside what it takes for each value."""

_SIZE: Final = 128
"""Of what is known at most, for each table that a peer may have."""


@attrs.frozen
class Unshared:
    """Updates to skip: of a table that is not shared, or before any definition."""

    layout: Optional[Layout]
    """For the texts that they put into the dictionary."""


@attrs.frozen(eq=False)
class Known:
    """A definition of a shared table."""

    definition: TableDefinition
    shared: SharedTable
    reception: Reception
    declaration: Optional[Declaration]
    """How the table was declared here when it was looked up; ``None`` to look again."""
    size: int = attrs.field(init=False)
    """About how much memory it takes: the values of an entry there and here, and a bit more."""

    @size.default
    def _size(self) -> int:
        there, here = self.definition.layout, self.shared.table.layout
        return _OVERHEAD + there.codec.segments.count + here.codec.segments.count


@attrs.frozen
class _Defined:
    """What was defined under an id."""

    definition: Definition
    unshared: Optional[Unshared]
    """What it meant, if its table is not shared while `tables_version` is this one."""
    tables_version: int


class Definitions:
    """Those of one session."""

    def __init__(self, tables: PeerTables, limits: Limits, differences: Container[str]) -> None:
        """``differences`` are the names of tables that are not as the peer has them."""
        self._limits = limits
        self._directory = tables
        self._differences = differences
        self._defined: dict[int, _Defined] = {}
        self._id_of: dict[str, int] = {}
        """By the name of a table: the id under which it was defined last."""
        self._known: dict[Definition, Known] = {}
        """Used longest ago first, once they are half of what may be known."""
        self._size = 0
        """Of all that is known."""
        self._most = _SIZE * limits.tables_per_peer
        """What that may be."""

    def under_id(self, table_id: int) -> Optional[Definition]:
        """What was defined last under an id."""
        defined = self._defined.get(table_id)
        return None if defined is None else defined.definition

    def under_ids(self) -> list[Definition]:
        """The latest definition of each table."""
        return [defined.definition for defined in self._defined.values()]

    def again(self, definition: Definition) -> Optional[Known | Unshared]:
        """What a definition means, if looking it up again would change nothing."""
        known = self._known.get(definition)
        if known is None:
            defined = self._defined.get(definition.id)
            same = (
                defined is not None
                and defined.tables_version == self._directory.version
                and defined.definition == definition
            )
            return defined.unshared if defined is not None and same else None
        table = known.shared.table
        if table.declaration is not known.declaration or not self._directory.shares(table):
            return None
        if definition.name in self._differences:
            return None
        if 2 * self._size > self._most:
            # With less nothing is forgotten soon, and a peer may switch for each update.
            self._known[definition] = self._known.pop(definition)
        defined = self._defined.get(definition.id)
        if defined is None or defined.definition is not known.definition:
            self._put_under_id(known.definition, None)
        return known

    def reception(
        self, definition: TableDefinition, shared: SharedTable, texts: list[bytes]
    ) -> Reception:
        """That of a definition: the same again if it is known, however its table is declared."""
        known = self._known.get(definition)
        if known is not None and known.shared is shared:
            return known.reception
        return Reception(shared.table, definition.layout, definition.expire, texts)

    def remember(self, definition: Definition, meaning: SharedTable | Unshared) -> None:
        """Keep what a definition means, and that it is the latest one under its id."""
        before = self._known.pop(definition, None)
        if before is not None:
            self._size -= before.size
        if isinstance(meaning, Unshared):
            self._put_under_id(definition, meaning)
            return
        differs = definition.name in self._differences
        assert isinstance(definition, TableDefinition) and meaning.reception is not None
        declared = None if differs else meaning.table.declaration
        known = Known(definition, meaning, meaning.reception, declared)
        self._known[definition] = known
        self._size += known.size
        while self._size > self._most and len(self._known) > 1:
            self._size -= self._known.pop(next(iter(self._known))).size
        self._put_under_id(definition, None)

    def forget(self, shared: SharedTable) -> None:
        """Drop what is known of a table: another one has its name now."""
        self._known = {key: one for key, one in self._known.items() if one.shared is not shared}
        self._size = sum(one.size for one in self._known.values())

    def _put_under_id(self, definition: Definition, unshared: Optional[Unshared]) -> None:
        """Keep what was defined under an id, unless there are too many.

        An id under which the same table was defined before means nothing any more.
        """
        for known_id in (definition.id, self._id_of.get(definition.name)):
            known = None if known_id is None else self._defined.pop(known_id, None)
            if known is not None:
                del self._id_of[known.definition.name]
        if len(self._defined) < 2 * self._limits.tables_per_peer:
            self._defined[definition.id] = _Defined(definition, unshared, self._directory.version)
            self._id_of[definition.name] = definition.id

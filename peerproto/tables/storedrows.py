"""Entries outside of their table as it stores them: many are brought back at once."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import compress
from typing import Optional

import attrs

from peerproto.tables import row as head
from peerproto.tables.declaration import Declaration
from peerproto.tables.expiry import NEVER
from peerproto.tables.record import Record


@attrs.frozen
class StoredRows:
    """Rows of one table, or of one share of a table. They may come from a thread.

    A row is 8 bytes for when the values came, in ms, 1 without meaning, 4 for the life in ms (all
    ones is as long as the table says), the key if all keys have one length, and the values as
    `Record.values` has them; numbers are big-endian.
    """

    declaration: Declaration
    """That of the table."""
    peer: Optional[str]
    """The peer whose share they are of, where the table is shared per peer."""
    raw_keys: list[bytes] = attrs.field(repr=False)
    """The keys, each once."""
    rows: list[bytes] = attrs.field(repr=False)
    """What is stored for each. None has a long text."""
    ahead: int
    """What the time since the epoch has more than that of the rows, in ms (`NodeTime.ahead`)."""
    until: int = NEVER
    """When the first of them ends, in ms since the epoch. None of them is looked at before: one
    that ends sooner stays until then, though nobody sees it."""

    def __len__(self) -> int:
        return len(self.rows)

    def without(self, raw_keys: Container[bytes]) -> StoredRows:
        """Those of other keys."""
        return self._those(one not in raw_keys for one in self.raw_keys)

    def only(self, raw_keys: Container[bytes]) -> StoredRows:
        """Those of some keys."""
        return self._those(one in raw_keys for one in self.raw_keys)

    def _those(self, chosen: Iterable[bool]) -> StoredRows:
        left = list(compress(zip(self.raw_keys, self.rows), chosen))
        return attrs.evolve(self, raw_keys=[key for key, _ in left], rows=[row for _, row in left])

    def records(self) -> Iterator[Record]:
        """The same as records."""
        declaration, ahead = self.declaration, self.ahead
        at, expire = head.record_at(declaration.layout), declaration.expire
        for raw_key, row in zip(self.raw_keys, self.rows):
            came, life = head.unpack(row)
            arrived = came + ahead
            expires = arrived + min(life, expire) if expire else None
            yield Record(declaration, raw_key, arrived, expires, row[at:], None, self.peer)

"""What is written at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import attrs

from peerproto import Declaration, Snapshot


@attrs.frozen
class Moment:
    """The same moment by two clocks."""

    node: int
    """By the time of the file, in ms since the epoch: see `peerproto.storage.database`."""
    wall: int
    """By the wall clock, in ms since the epoch."""


@attrs.frozen
class Declared:
    """A table is to be in the file, as it is declared now."""

    declaration: Declaration
    per_peer: bool
    anew: bool
    """Whether it is another table than the one of this name before: what is kept of that goes."""


@attrs.frozen
class Transaction:
    """What is written at once: tables that come, go or change, then entries."""

    moment: Moment
    """When it was made."""
    ahead: int = 0
    """What the time of the file has more than that of the snapshots, in ms."""
    dropped: tuple[str, ...] = ()
    """Names of tables that are not kept any more."""
    declared: tuple[Declared, ...] = ()
    snapshots: tuple[tuple[str, Snapshot], ...] = ()
    """By the names of tables: keys that changed. Those without an entry are removed."""
    cleared: Mapping[tuple[str, Optional[str]], Mapping[bytes, int]] = attrs.Factory(dict)
    """By table and peer: keys without an entry that somebody removed, and when, in ms by the time
    of the snapshots. Others have expired, or made room."""

    def __len__(self) -> int:
        """How many keys it is about."""
        return sum(len(snapshot.raw_keys) for _, snapshot in self.snapshots)


@attrs.frozen
class Place:
    """How far a table was gone through, in the order of its keys."""

    raw_key: bytes = b""
    peer: Optional[str] = ""

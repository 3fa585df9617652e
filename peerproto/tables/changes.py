"""What happened in a table: which keys changed, and why."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Generic, Optional, Protocol, TypeVar

import attrs


class Changing(Protocol):
    """The table in which something happens: a `TableStore`."""

    @property
    def name(self) -> str:
        """As the wire and the configuration have it."""


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
    """They were removed here alone."""
    RESTORED = "restored"
    """They were kept elsewhere, and brought back."""
    FORGOTTEN = "forgotten"
    """They were removed here, and peers are told to zero theirs."""

    @property
    def removes(self) -> bool:
        """Whether entries are gone by it."""
        return self in (Cause.EXPIRED, Cause.TRASHED, Cause.CLEARED, Cause.FORGOTTEN)


Table = TypeVar("Table", bound=Changing)


@attrs.define  # what is frozen takes three times as long to make, and this is made for each read
class ChangedKeys(Generic[Table]):
    """Keys of one table that changed for one cause."""

    table: Table
    cause: Cause
    raw_keys: Sequence[bytes] = attrs.field(repr=False)
    """The keys as on the wire."""
    now: int
    """When it happened, in ms of the service's clock."""
    origin: Optional[str] = None
    """Name of the peer, for what was learnt."""
    all_new: bool = False
    """Whether none of the keys had an entry before, no key is there twice, and what was
    cleared is told; it may be so though it is not said."""

    def __len__(self) -> int:
        return len(self.raw_keys)


@attrs.define  # as above
class Changes(ChangedKeys[Changing]):
    """Changes to one table for one cause, after which the table is consistent.

    A key may come more than once when it changed more than once.
    """

"""Events: what comes of the bytes that a peer sends, for the node to act upon.

A session returns them in the order in which they happened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Union

import attrs

from peerproto.tables.changes import Changes
from peerproto.tables.store import TableStore


@attrs.define  # what is frozen takes twice as long to make, and this is made for each read
class Learnt:
    """Updates were stored: what happened in the tables, in that order."""

    batches: list[Changes]
    relayed: bool = False
    """Whether some of it is to be sent to other peers."""


@attrs.frozen
class TableShared:
    """The peer has defined a table that is shared with it from now on."""

    table: TableStore
    in_lesson: bool
    """Whether a lesson of the peer is under way, which has the table."""


@attrs.frozen
class TableBegun:
    """An adopted table has begun anew on the peer's word, with other keys than before."""

    table: TableStore


@attrs.frozen
class LessonOver:
    """The peer's lesson, for which it was asked, has come to its end."""

    finished: bool
    """Whether the peer counts itself up to date; if not, the lesson was *partial*."""


@attrs.frozen
class TaughtInPart:
    """The peer has confirmed a lesson that may have lacked some of what it had itself."""


@attrs.frozen
class TieLost:
    """The peer's changes won over ours (`peerproto.peering.receiving`): by key, the columns."""

    table: TableStore
    changes: Mapping[bytes, int]


@attrs.frozen
class TieSettled:
    """The peer has changed in vain what we had changed; others may have its values. By key, the
    columns."""

    table: TableStore
    changes: Mapping[bytes, int]


@attrs.frozen
class AckedLate:
    """The peer has acked changes of ours that another one has changed since. By key, the
    columns."""

    table: TableStore
    changes: Mapping[bytes, int]


@attrs.frozen
class Echoed:
    """The peer has sent what changes of ours have replaced: it got it from somebody who had not
    read them. By key, the columns."""

    table: TableStore
    changes: Mapping[bytes, int]


@attrs.frozen
class Overwritten:
    """The peer, a peerproto, has changed what was changed here last."""

    table: TableStore
    keys: Collection[bytes]
    columns: int
    """The columns that it has sent, as bits."""


@attrs.frozen
class Moved:
    """Something was read from a peer that somebody watches."""


Event = Union[
    Learnt,
    TableShared,
    TableBegun,
    LessonOver,
    TaughtInPart,
    TieLost,
    TieSettled,
    AckedLate,
    Echoed,
    Overwritten,
    Moved,
]

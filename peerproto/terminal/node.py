"""A node as the commands see it, whichever way leads to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Optional, Protocol, Union

import attrs

from peerproto.terminal.values import (
    AggregateInfo,
    Change,
    EntryInfo,
    Json,
    Lost,
    NodeInfo,
    PeerInfo,
    TableInfo,
    Value,
)

PATIENCE: Final = 60.0
"""Seconds in which a node has to say something."""


class NodeError(Exception):
    """The node says no; the text says to what, and what to try."""

    status = 1
    """What the program ends with."""


class Unreachable(NodeError):
    """There is no node, or its answer breaks off."""

    status = 3


@attrs.frozen
class Comparison:
    """What a value has to be: ``http_req_rate > 100``."""

    name: str
    word: str
    """HAProxy's word: ``gt``."""
    number: int

    def __str__(self) -> str:
        return f"data.{self.name} {self.word} {self.number}"


@attrs.frozen
class Selection:
    """Which entries of a table are meant."""

    key: Optional[str] = None
    comparisons: tuple[Comparison, ...] = ()
    prefix: Optional[str] = None
    network: Optional[str] = None
    peer: Optional[str] = None
    top: Optional[int] = None
    """How many at most; ``None`` for all."""
    by: Optional[str] = None
    """The value that is to be highest; with ``-`` before it, lowest."""

    @property
    def everything(self) -> bool:
        """Whether all entries of the table, or of the share, are meant."""
        return self.key is None and not (self.comparisons or self.prefix or self.network)


@attrs.frozen
class Brought:
    """What became of an entry that was to be set."""

    taken: bool
    expired: bool = False
    """Whether its time was over."""
    problem: Optional[str] = None
    """Why it could not be taken, in words."""


class Node(Protocol):
    """What can be asked of a node. All of it raises `NodeError`, and `Unreachable`."""

    place: str
    """Where it is, for people."""

    def tables(self) -> list[TableInfo]:
        """All tables."""

    def entries(self, table: TableInfo, selection: Selection) -> Iterator[EntryInfo]:
        """Entries, one after the other: so that a large table takes no memory."""

    def raw_entries(self, table: TableInfo, selection: Selection) -> Iterator[Json]:
        """The same entries without a loss, as `peerproto.Portable` reads them."""

    def bring(self, table: TableInfo, entries: Sequence[Json]) -> Iterator[Brought]:
        """Set entries as `raw_entries` gives them: what became of each, in the same order."""

    def peers(self) -> list[PeerInfo]:
        """All peers."""

    def aggregates(self) -> list[AggregateInfo]:
        """All tables that are added up."""

    def node(self) -> NodeInfo:
        """The node itself."""

    def set(
        self, table: TableInfo, key: str, values: Mapping[str, Value], peer: Optional[str]
    ) -> EntryInfo:
        """Create or change an entry."""

    def count(
        self, table: TableInfo, key: str, events: Mapping[str, int], peer: Optional[str]
    ) -> EntryInfo:
        """Count events that happen now."""

    def forget(self, table: TableInfo, selection: Selection) -> int:
        """Forget entries: how many were there."""

    def watch(
        self, table: TableInfo, selection: Selection, interval: Optional[float]
    ) -> Iterator[Union[Change, Lost]]:
        """What changes, without an end.

        :param interval: seconds from one change of an entry to the next at least.
        """

    def close(self) -> None:
        """Let go of what is open."""

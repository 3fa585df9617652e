"""What a node tells of itself. Names and keys are texts as `peerproto.service.spelling` has them:
what is no UTF-8 is ``\\xHH``, and a backslash is written twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

import attrs

Json = Mapping[str, Any]
"""An object as it came from the node."""

Value = Union[int, str, None]


@attrs.frozen
class ColumnInfo:
    """A value that a table stores."""

    name: str
    kind: str
    """``number``, ``rate`` or ``text``."""
    period: Optional[int]
    """Of a rate, in ms."""


@attrs.frozen
class TableInfo:
    """A table."""

    json: Json
    name: str
    type: str
    """The type of its keys, HAProxy's word."""
    used: int
    size: Optional[int]
    """Entries that it holds; ``None`` for any number."""
    expire: Optional[int]
    """How long an entry lives, in ms; ``None`` for ever."""
    columns: tuple[ColumnInfo, ...]
    shares: tuple[str, ...]
    """The peers that have a share of it, if it is shared per peer."""
    per_peer: bool
    written_by: Optional[str]
    """The part of the node that alone writes it."""

    @classmethod
    def of(cls, json: Json) -> TableInfo:
        """What the node says of a table."""
        columns = [ColumnInfo(one["name"], one["kind"], one["period"]) for one in json["columns"]]
        return cls(
            json,
            json["name"],
            json["type"],
            json["used"],
            json["size"],
            json["expire"],
            tuple(columns),
            tuple(json["shares"] or ()),
            json["shares"] is not None,
            json["written_by"],
        )

    @property
    def numbers(self) -> list[str]:
        """The names of its values that are numbers."""
        return [one.name for one in self.columns if one.kind != "text"]

    @property
    def busiest(self) -> Optional[str]:
        """The value by which people look at it first: its first rate, or else its first number."""
        rates = [one.name for one in self.columns if one.kind == "rate"]
        return next(iter([*rates, *self.numbers]), None)


@attrs.frozen
class EntryInfo:
    """An entry."""

    json: Json
    key: str
    expires_in: Optional[int]
    """Life left in ms; ``None`` where entries do not expire."""
    values: Mapping[str, Value]
    peer: Optional[str]
    """Whose share it is in, where the table is shared per peer."""

    @classmethod
    def of(cls, json: Json) -> EntryInfo:
        """What the node says of an entry."""
        return cls(json, json["key"], json["expires_in"], json["values"], json.get("peer"))

    @property
    def place(self) -> tuple[Optional[str], str]:
        """What tells it from all others of its table."""
        return self.peer, self.key


@attrs.frozen
class PeerInfo:
    """A peer."""

    json: Json
    name: str
    address: str
    connected: bool
    in_step: bool
    version: Optional[str]
    handshake_ago: Optional[int]
    """Since when (ms) its latest session."""
    state: str
    """How it stands, in a word or two."""
    reasons: tuple[str, ...]
    """Why it is not in step, in words."""
    notes: tuple[str, ...]
    lag: int
    """Changes that were made here and that it has not acked."""

    @classmethod
    def of(cls, json: Json) -> PeerInfo:
        """What the node says of a peer."""
        reasons = list(json["out_of_step"])
        trouble = json["trouble"]
        if trouble and not json["connected"] and not any(trouble in one for one in reasons):
            reasons.append(trouble)
        state = "in step" if json["in_step"] else "connected" if json["connected"] else "away"
        if json["learning"]:
            state = "gives a lesson"
        elif json["teaching"]:
            state = "gets a lesson"
        return cls(
            json,
            json["name"],
            json["address"],
            json["connected"],
            json["in_step"],
            json["version"],
            json["handshake_ago"],
            state,
            tuple(reasons),
            tuple(json["notes"]),
            json["lag"]["changes"],
        )


@attrs.frozen
class AggregateInfo:
    """A table that is added up."""

    name: str
    to: str
    """The table with the sums."""
    keys: int
    authority: bool
    """Whether the sums may be relied on."""
    why_not: Optional[str]
    waiting: int
    """Sums that are not published yet."""
    lag: int
    """Age in ms of the oldest change that is not published."""
    published: int
    sources: Mapping[str, str]
    """By the names of peers, how each stands, in words: ``in`` if it is added up."""

    @property
    def json(self) -> Json:
        """The same as an object."""
        return attrs.asdict(self)

    @classmethod
    def all_of(cls, parts: Json) -> Iterator[AggregateInfo]:
        """What the node says of its aggregates, among its parts."""
        for one in parts["details"].get("aggregation", []):
            values = one["values"]
            yield cls(
                one["name"],
                one["writes"],
                values["keys"],
                one["not_ready"] is None,
                one["not_ready"],
                values["waiting"],
                values["lag_ms"],
                values["published"],
                {
                    source["name"]: "in" if source["is_in"] else source["state"]
                    for source in one["members"]
                },
            )


@attrs.frozen
class NodeInfo:
    """The node."""

    json: Json
    localpeer: str
    version: str
    uptime: int
    """In ms."""
    up_to_date: bool
    resync: str
    """How far it is in learning what it missed, and why, in words."""
    peers: int
    connected: int
    tables: int
    entries: int
    not_ready: tuple[str, ...]
    """Why it is not to be relied on, in words."""

    @classmethod
    def of(cls, json: Json) -> NodeInfo:
        """What the node says of itself."""
        return cls(
            json,
            json["localpeer"],
            json["version"],
            json["uptime"],
            json["up_to_date"],
            f"{json['resync_in_words']} ({json['reason']})",
            json["peers"],
            json["connected"],
            json["tables"],
            json["entries"],
            tuple(json["not_ready"]),
        )


@attrs.frozen
class Change:
    """An entry that has changed, or is gone."""

    table: str
    key: str
    peer: Optional[str]
    entry: Optional[EntryInfo]
    """As it is now."""
    cause: Optional[str] = None
    """Why, in a word; ``None`` if that is not known."""
    origin: Optional[str] = None
    """The peer that it was learnt from."""
    matches: bool = True
    """Whether it is still one of those that are watched."""

    @property
    def json(self) -> Json:
        """The same as an object."""
        value = {
            "table": self.table,
            "key": self.key,
            "cause": self.cause,
            "origin": self.origin,
            "entry": None if self.entry is None else self.entry.json,
            "matches": self.matches,
        }
        return value if self.peer is None else {**value, "peer": self.peer}


@attrs.frozen
class Lost:
    """Something about a watch that is no change."""

    why: str

"""What is told of changed entries: found and written once for all who follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

import attrs

from peerproto import Batch, Cause, Entry, StickTable
from peerproto.http import text
from peerproto.http.showing import entry_shown
from peerproto.http.sse import event


@attrs.frozen
class Why:
    """Why an entry changed the last time."""

    cause: Cause
    origin: Optional[str]


@attrs.define(eq=False)
class Told:
    """Some keys of one table that changed for one reason, and their events as soon as somebody
    wants them."""

    number: int
    """Tells what was told from what was told before."""
    table: StickTable
    why: Why
    raw_keys: Sequence[bytes]
    _entries: Optional[list[list[Entry]]] = None
    _texts: Optional[list[bytes]] = None

    @classmethod
    def of(cls, number: int, batch: Batch) -> Told:
        """What a feed has given."""
        return cls(number, batch.table, Why(batch.cause, batch.origin), batch.raw_keys)

    def entries(self) -> list[list[Entry]]:
        """For each key, the entry as it was when this was asked for first, if there was one."""
        if self._entries is None:
            self._entries = [entries_of(self.table, raw_key) for raw_key in self.raw_keys]
        return self._entries

    def texts(self) -> list[bytes]:
        """The event of each key."""
        if self._texts is None:
            self._texts = [
                entry_event(self.table, raw_key, self.why, found)
                for raw_key, found in zip(self.raw_keys, self.entries())
            ]
        return self._texts

    def release(self) -> None:
        """Keep the keys alone: all who follow were told."""
        self._entries = self._texts = None

    def __iter__(self) -> Iterator[tuple[bytes, list[Entry], bytes]]:
        """Each key with its entry and its event."""
        return zip(self.raw_keys, self.entries(), self.texts())


def entries_of(table: StickTable, raw_key: bytes) -> list[Entry]:
    """The entry of a raw key as it is now, if there is one; none of a table that is gone."""
    return list(table.entries((raw_key,)))


def entry_event(
    table: StickTable, raw_key: bytes, why: Why, found: list[Entry], matches: bool = True
) -> bytes:
    """The event of an entry that has changed, or is gone."""
    value: dict[str, Any] = {
        "table": text.written(table.name),
        "key": text.key_text(raw_key, table.key_type),
        "cause": why.cause.value,
        "origin": None if why.origin is None else text.written(why.origin),
    }
    if table.peer is not None:
        value["peer"] = text.written(table.peer)
    value["entry"] = entry_shown(found[0]) if found else None
    if not matches:
        value["matches"] = False
    return event("entry", value)

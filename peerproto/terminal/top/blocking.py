"""Blocking: one value of an entry is set, and can be set back."""

from __future__ import annotations

import re
from typing import Final, Optional

import attrs

from peerproto.terminal.node import Node, NodeError, Selection
from peerproto.terminal.values import TableInfo

_SETTABLE: Final = re.compile(r"g(?:pc|pt)\d+")


def settable(table: TableInfo) -> list[str]:
    """The values that rules of a HAProxy block by: elements of ``gpc``, then of ``gpt``."""
    return sorted(name for name in table.numbers if _SETTABLE.fullmatch(name))


@attrs.frozen
class Write:
    """A value of an entry that is to be set."""

    table: TableInfo
    key: str
    peer: Optional[str]
    name: str
    number: int


@attrs.frozen
class Done:
    """A write that was done, and what was there before."""

    write: Write
    before: int


def do(node: Node, write: Write) -> Done:
    """Set the value, and remember what it was.

    :raises NodeError: the node says no.
    """
    place = Selection(key=write.key, peer=write.peer)
    before = 0
    for entry in node.entries(write.table, place):
        value = entry.values.get(write.name)
        before = value if isinstance(value, int) else 0
    node.set(write.table, write.key, {write.name: write.number}, write.peer)
    return Done(write, before)


def undo(node: Node, done: Done) -> None:
    """Set the value back to what it was before.

    :raises NodeError: the node says no, the entry is gone, or somebody has set it to something else
        since.
    """
    write = done.write
    entries = list(node.entries(write.table, Selection(key=write.key, peer=write.peer)))
    if not entries:
        raise NodeError("the entry is gone by now, and the value with it")
    for entry in entries:
        now = entry.values.get(write.name)
        if now != write.number:
            raise NodeError(f"{write.name} is {now} by now, not {write.number}: it stays so")
    node.set(write.table, write.key, {write.name: done.before}, write.peer)

"""What the screen asks a node for, again and again, and what it gets."""

from __future__ import annotations

from typing import Final, Optional

import attrs

from peerproto.terminal.node import Node, NodeError, Selection, Unreachable
from peerproto.terminal.text import visible
from peerproto.terminal.values import AggregateInfo, EntryInfo, NodeInfo, PeerInfo, TableInfo

ROWS: Final = 100
"""Entries that are asked for: those with the highest values alone, however large the table."""

REST: Final = 4
"""How many times as long as the node took to answer it is not asked again: so a screen takes a
fifth of what one client may."""


@attrs.frozen
class Question:
    """What the screen is to show."""

    table: Optional[str] = None
    """The chosen table; ``None`` for the first that there is."""
    by: Optional[str] = None
    """The value by which entries are sorted; ``None`` for the one that people look at first."""
    lowest: bool = False
    selection: Selection = attrs.field(factory=Selection)


@attrs.frozen
class Picture:
    """What a node has said."""

    question: Question
    trouble: Optional[str] = None
    """Why there is no answer, or not to all of the question, in words."""
    reached: bool = True
    """Whether the node answers, and does not say no."""
    node: Optional[NodeInfo] = None
    tables: tuple[TableInfo, ...] = ()
    peers: tuple[PeerInfo, ...] = ()
    aggregates: tuple[AggregateInfo, ...] = ()
    table: Optional[TableInfo] = None
    """The chosen one."""
    by: Optional[str] = None
    """The value by which its entries are sorted."""
    entries: tuple[EntryInfo, ...] = ()


def look(node: Node, question: Question) -> Picture:
    """Ask a node for all of it."""
    picture = Picture(question)
    try:
        picture = attrs.evolve(
            picture,
            node=node.node(),
            tables=tuple(node.tables()),
            peers=tuple(node.peers()),
            aggregates=tuple(node.aggregates()),
        )
        return _entries(node, picture)
    except NodeError as problem:
        return attrs.evolve(picture, trouble=str(problem), reached=False)


def _entries(node: Node, picture: Picture) -> Picture:
    """The same with the entries of the chosen table."""
    question = picture.question
    by_name = {one.name: one for one in picture.tables}
    if question.table is not None and question.table not in by_name:
        # Never another one in its place: somebody may be about to block.
        gone = f"no table '{visible(question.table)}' at present: 1 shows which there are"
        return attrs.evolve(picture, trouble=gone)
    table = by_name[question.table] if question.table else next(iter(picture.tables), None)
    if table is None:
        return picture
    by = question.by if question.by in table.numbers else table.busiest
    picture = attrs.evolve(picture, table=table, by=by)
    selection = question.selection
    if selection.key is None:
        sign = "-" if question.lowest else ""
        selection = attrs.evolve(selection, top=ROWS, by=None if by is None else sign + by)
    try:
        return attrs.evolve(picture, entries=tuple(node.entries(table, selection)))
    except Unreachable:
        raise
    except NodeError as problem:
        return attrs.evolve(picture, trouble=str(problem))

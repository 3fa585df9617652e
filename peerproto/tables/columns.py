"""Columns that peers store and a table does not: which they are, and the table with them.

Source: doc/protocol.md, "Tables that differ": the data types of both sides need not agree.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from peerproto.wire.datatypes import Kind
from peerproto.wire.layout import Column, Layout, in_bit_order
from peerproto.wire.messages import TableDefinition


def beyond(columns: Iterable[Column], layout: Layout) -> list[Column]:
    """Those of ``columns`` that ``layout`` has not, and the arrays that are shorter in it."""
    own = layout.elements
    return [one for one in columns if (one.elements or 1) > own.get(one.data_type.bit, 0)]


def can_be_stored(column: Column) -> bool:
    """Whether a definition can announce it: very old peers tell no periods of rates."""
    return column.data_type.kind is not Kind.FREQUENCY or column.period is not None


def united(layout: Layout, columns: Iterable[Column]) -> Layout:
    """``layout`` with ``columns`` too; of an array the larger number of elements.

    The periods are those of ``layout``.
    """
    own = {one.data_type: one for one in layout.columns}
    for one in columns:
        ours = own.get(one.data_type, one)
        elements = one.elements and max(one.elements, ours.elements or 0)
        own[one.data_type] = attrs.evolve(ours, elements=elements)
    return attrs.evolve(layout, columns=in_bit_order(list(own.values())))


def not_kept(definition: TableDefinition, layout: Layout) -> list[str]:
    """In words, what a peer stores by its definition and a table of ``layout`` does not."""
    own = {one.data_type: one.elements for one in layout.columns}
    words = []
    for one in beyond(definition.layout.columns, layout):
        kept = own.get(one.data_type)
        beside = f" beyond the first {kept} elements" if kept else ""
        words.append(one.name + beside)
    words += [f"data type {bit}, unknown to this version," for bit in definition.unknown_bits]
    return words

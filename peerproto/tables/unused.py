"""Forgetting the long texts that no table of this process has in it any more.

All tables are looked at, since texts are kept once for all of them
(`peerproto.wire.texts`): a part of one at a time, which takes a few ms at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peerproto.tables.rowstore import RowStore
from peerproto.wire.texts import TEXTS


def forget_unused_texts() -> Iterator[None]:
    """Look at all tables, a step at a time, and then forget."""
    return TEXTS.forget_unused(_records(list(RowStore.all)))


def _records(tables: list[RowStore]) -> Iterator[Iterable[bytes]]:
    for table in tables:
        for part in table.parts():
            yield part.values()

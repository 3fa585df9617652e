"""Many entries in parts that a node takes at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from peerproto.terminal.values import Json


def in_parts(
    entries: Sequence[Json], most: int, longest: int, written: Callable[[Json], str] = json.dumps
) -> Iterator[list[Json]]:
    """Entries in parts.

    :param most: entries of a part at most.
    :param longest: characters of a part at most; one entry alone may be longer.
    :param written: how an entry is written.
    """
    part: list[Json] = []
    length = 2
    for entry in entries:
        size = len(written(entry)) + 20
        if part and (len(part) == most or length + size > longest):
            yield part
            part, length = [], 2
        part.append(entry)
        length += size
    if part:
        yield part

"""The order in which peers have changed what they say of a key, where they say different things.

A peer sends an entry again with each touch, and all of them in a lesson: to say the same again is
no change. So the arrival of an entry does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Optional

_Said = dict[str, tuple[int, bytes]]
"""By source: its place in the order, from 0, and what it says."""


class LastSaid:
    """What sources say of keys, of those keys of which not all say the same.

    A source is a peer, or several that say the same."""

    def __init__(self, since: int) -> None:
        """``since`` is the present time in ms."""
        self.since = since
        """Since when (in ms) all sums went by this order."""
        self._said: dict[bytes, _Said] = {}

    def __len__(self) -> int:
        """Of how many keys peers say different things."""
        return len(self._said)

    def raw_keys(self) -> Iterator[bytes]:
        """The keys of which sources say different things, as of now."""
        return iter(list(self._said))

    def order(
        self,
        raw_key: bytes,
        sources: Sequence[str],
        said: Sequence[bytes],
        arrived: Sequence[int],
        of_all: Callable[[bytes], Optional[bytes]],
    ) -> list[int]:
        """The place of each source in the order in which they have changed what they say.

        Those that have changed it since this was asked before come last, in the order of arrival
        (times in ms); so do all if nothing is known of the key.

        :param of_all: tells what all sources have said that said anything, if they said the same;
            ``None`` if that is not known.
        """
        if said.count(said[0]) == len(said):
            self._said.pop(raw_key, None)
            return list(arrived)
        before = self._said.get(raw_key)
        if before is None:
            same = of_all(raw_key)
            before = {} if same is None else dict.fromkeys(sources, (0, same))

        def changed(number: int) -> tuple[bool, int]:
            place, value = before.get(sources[number], (0, None))
            return (False, place) if value == said[number] else (True, arrived[number])

        order = sorted(range(len(sources)), key=changed)
        self._said[raw_key] = {sources[one]: (place, said[one]) for place, one in enumerate(order)}
        places = [0] * len(order)
        for place, number in enumerate(order):
            places[number] = place
        return places

    def forget(self, raw_key: bytes) -> None:
        """Forget a key of which one source at most says anything."""
        self._said.pop(raw_key, None)

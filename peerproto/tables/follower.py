"""Who remembers rows of a table, and must hear when they are no longer what is stored."""

from __future__ import annotations

from collections.abc import Iterable


class Follower:
    """Hears from `Partitions` which rows were replaced or removed, for as long as it lives."""

    __slots__ = ("__weakref__",)

    def replaced(self, keys: Iterable[bytes]) -> None:
        """Rows of these keys are others now, or gone."""
        raise NotImplementedError

    def cleared(self) -> None:
        """All rows are gone."""
        raise NotImplementedError

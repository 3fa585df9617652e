"""What is shared anew, told to the peers in another turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from peerproto.connections.mesh import Mesh
from peerproto.tables.store import TableStore


class Renewal:
    """Tables that are shared anew, or more that is adopted: they are defined to the peers, and
    what those have of them is learnt, once for all that happens in a turn of the reactor."""

    def __init__(self, mesh: Mesh, clock: IReactorTime, told: Callable[[], None]) -> None:
        """``told`` is called when the peers were told."""
        self._mesh = mesh
        self._clock = clock
        self._told = told
        self._call: Optional[IDelayedCall] = None
        self._telling = False
        self._news: dict[str, Optional[TableStore]] = {}
        """Why sessions are to look again, in words: for a table, or for all that peers have."""

    @property
    def ahead(self) -> bool:
        """Whether peers are about to be told, or are being told and were not asked yet."""
        return self._call is not None or self._telling

    def add(self, reason: str, table: Optional[TableStore]) -> None:
        """A table is shared anew, for the reason in words; or, without one, more is adopted of
        whatever peers have."""
        self._news[reason] = table
        if self._call is None:
            self._call = self._clock.callLater(0, self._tell)

    def stop(self) -> None:
        """Tell nobody."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._news.clear()

    def _tell(self) -> None:
        self._call = None
        news, self._news = self._news, {}
        tables = [table for table in news.values() if table is not None]
        self._telling = True
        try:
            self._mesh.share_anew(tables, "; ".join(news), adopt=None in news.values())
        finally:
            self._telling = False
            self._told()

"""An observer for whom it is enough to know that something has happened."""

from __future__ import annotations

from collections.abc import Callable

from peerproto import Declaration, Observer, StickTable
from peerproto.service.peer import Peer


class News(Observer):
    """Calls a function whenever peers, tables or the resync stand otherwise than they did."""

    def __init__(self, happened: Callable[[], None], added: Callable[[], None]) -> None:
        """``added`` is called when there is one more table, before any of its entries changes."""
        self._happened = happened
        self._added = added

    def table_added(self, table: StickTable) -> None:
        """See `IObserver`."""
        self._added()
        self._happened()

    def table_redeclared(self, table: StickTable, before: Declaration) -> None:
        """See `IObserver`."""
        self._happened()

    def table_removed(self, table: StickTable) -> None:
        """See `IObserver`."""
        self._happened()

    def peer_added(self, peer: Peer) -> None:
        """See `IObserver`."""
        self._happened()

    def peer_removed(self, peer: Peer) -> None:
        """See `IObserver`."""
        self._happened()

    def peer_connected(self, peer: Peer) -> None:
        """See `IObserver`."""
        self._happened()

    def peer_disconnected(self, peer: Peer, why: str) -> None:
        """See `IObserver`."""
        self._happened()

    def resync_moved(self, state: str, reason: str) -> None:
        """See `IObserver`."""
        self._happened()

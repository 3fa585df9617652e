"""The seams where applications plug in."""

from __future__ import annotations

from zope.interface import Interface, implementer

from peerproto.service.batch import Batch
from peerproto.service.peer import Peer
from peerproto.service.sticktable import StickTable
from peerproto.tables.declaration import Declaration


class IObserver(Interface):
    """Something that wants to know what happens: in the tables, with the peers, with the resync.

    Add one with `StickTableService.add_observer`. Each method is called after it has happened,
    in the order in which things happened, also if an observer causes more. Keep it short: it
    runs in the reactor. An exception is logged and touches neither other observers nor a
    session.

    `Observer` is a base class for those who do not want to know all of it.
    """

    def table_changed(batch: Batch) -> None:  # noqa: N805
        """Entries of one table changed, and the table is consistent.

        Called once for each table and read from a peer, and for each change made here; where
        entries made room in a full table, in as many pieces as tell in which order things
        happened.
        """

    def table_added(table: StickTable) -> None:  # noqa: N805
        """The service has one more table: it was added, adopted, or has begun anew with other
        keys."""

    def table_redeclared(table: StickTable, before: Declaration) -> None:  # noqa: N805
        """A table stores other columns than ``before``, or has other limits."""

    def table_removed(table: StickTable) -> None:  # noqa: N805
        """A table is gone. What it had is told as cleared after this."""

    def peer_added(peer: Peer) -> None:  # noqa: N805
        """The service has one more remote peer."""

    def peer_removed(peer: Peer) -> None:  # noqa: N805
        """A remote peer is none any more."""

    def peer_connected(peer: Peer) -> None:  # noqa: N805
        """A session with a remote peer has begun."""

    def peer_disconnected(peer: Peer, why: str) -> None:  # noqa: N805
        """The session with a remote peer is over, for a reason in words."""

    def resync_moved(state: str, reason: str) -> None:  # noqa: N805
        """The resync is in this state, as `NodeStatus.resync` has it, for a reason in words."""


@implementer(IObserver)
class Observer:
    """An observer that does nothing: the methods of `IObserver` to be overridden."""

    def table_changed(self, batch: Batch) -> None:
        """See `IObserver`."""

    def table_added(self, table: StickTable) -> None:
        """See `IObserver`."""

    def table_redeclared(self, table: StickTable, before: Declaration) -> None:
        """See `IObserver`."""

    def table_removed(self, table: StickTable) -> None:
        """See `IObserver`."""

    def peer_added(self, peer: Peer) -> None:
        """See `IObserver`."""

    def peer_removed(self, peer: Peer) -> None:
        """See `IObserver`."""

    def peer_connected(self, peer: Peer) -> None:
        """See `IObserver`."""

    def peer_disconnected(self, peer: Peer, why: str) -> None:
        """See `IObserver`."""

    def resync_moved(self, state: str, reason: str) -> None:
        """See `IObserver`."""

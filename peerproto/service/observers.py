"""The seams where applications plug in."""

from __future__ import annotations

from zope.interface import Interface

from peerproto.service.batch import Batch


class ITableObserver(Interface):
    """Something that wants to know what changes in the tables.

    Add one with `StickTableService.add_observer`.
    """

    def tableChanged(batch: Batch) -> None:  # noqa: N805
        """Entries of one table changed, and the table is consistent.

        Called once for each table and read from a peer, and for each change made
        here; where entries made room in a full table, in as many pieces as tell in
        which order things happened. Keep it short: it runs in the reactor. An
        exception is logged and touches neither other observers nor the session.
        """

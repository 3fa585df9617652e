"""The seam where something plugs in that keeps tables while no process runs."""

from __future__ import annotations

from typing import Any

from zope.interface import Interface


class IKeeper(Interface):
    """Keeps the tables of one service; see `StickTableService`."""

    def load(service: Any) -> Any:  # noqa: N805
        """Fill the tables (`StickTable.restore`) of a `StickTableService` that starts.

        It listens, calls peers and learns once this is done: with the Deferred that is returned,
        or at once. What fails is logged, and the service goes on with what it has. If the
        service stops before that, the Deferred is cancelled.
        """

    def stop() -> Any:
        """The service stops, and all sessions are over: no more is learnt.

        It is called once after each `load`, also after one that has failed or was cancelled: what
        was kept must not be written over then. The service has stopped once the Deferred fires
        that is returned, or at once. To start it again before that is to load before all is kept.
        """

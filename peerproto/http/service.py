"""The service that answers HTTP, and the list of its routes."""

from __future__ import annotations

from typing import Optional

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint

from peerproto import StickTableService
from peerproto.http.access import Access, Needs
from peerproto.http.config import HttpSettings
from peerproto.http.health import HEALTH, READINESS, Health
from peerproto.http.routes import Routes
from peerproto.http.site import BoundedSite
from peerproto.service.listening import listen


def routes_of(service: StickTableService, access: Access) -> Routes:
    """All routes of a node."""
    routes = Routes(access)
    health = Health(service)
    routes.add(
        "GET",
        "/healthz",
        health.alive,
        "Whether the process answers",
        needs=Needs.NOTHING,
        answers={200: HEALTH},
    )
    routes.add(
        "GET",
        "/readyz",
        health.ready,
        "Whether the node may be relied on",
        needs=Needs.NOTHING,
        answers={200: READINESS, 503: READINESS},
    )
    return routes


class HttpService(Service):
    """Answers HTTP for a `StickTableService` at an endpoint."""

    def __init__(
        self,
        tables: StickTableService,
        endpoint: IStreamServerEndpoint,
        settings: HttpSettings,
        clock: IReactorTime,
    ) -> None:
        self._endpoint = endpoint
        self.access = Access(settings)
        self.site = BoundedSite(routes_of(tables, self.access).resource(), clock)
        self._port: Optional[IListeningPort] = None

    def take(self, settings: HttpSettings) -> None:
        """Have these settings from now on, but for where to listen."""
        self.access.settings = settings

    def startService(self) -> None:
        """Listen.

        :raises CannotListenError: the address is taken.
        """
        super().startService()
        listen(self._endpoint, self.site, self._listening, "HTTP")

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        if not self.running:
            self.stopService()

    def stopService(self) -> Deferred[object]:
        """Listen no more, and end all connections; fires when that is so."""
        super().stopService()
        port, self._port = self._port, None
        self.site.hang_up()
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

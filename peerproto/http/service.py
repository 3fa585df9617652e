"""The service that answers HTTP, and the list of its routes."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint

from peerproto import StickTableService
from peerproto.http import dataplane
from peerproto.http.access import Access, Needs
from peerproto.http.config import HttpSettings
from peerproto.http.entries import PEER, QUERY, EntryRoutes
from peerproto.http.health import HEALTH, READINESS, Health
from peerproto.http.many import MOST_CHANGES, ManyRoutes
from peerproto.http.node import NodeRoutes
from peerproto.http.openapi import OpenApiRoute
from peerproto.http.pages import Pages
from peerproto.http.routes import Routes
from peerproto.http.schemas import closed, many, ref
from peerproto.http.site import BoundedSite
from peerproto.http.tables import TableRoutes
from peerproto.http.watching import Watching
from peerproto.http.writelog import WriteLog
from peerproto.http.writes import WriteRoutes
from peerproto.service.listening import ListeningService


def routes_of(
    service: StickTableService, access: Access, watching: Watching, log: WriteLog
) -> Routes:
    """All routes of a node."""
    routes = Routes(access, log)
    _add_node(routes, service, access)
    _add_tables(routes, service)
    _add_writes(routes, service)
    dataplane.add_to(routes, service)
    watching.add_to(routes)
    Pages().add_to(routes)
    openapi = OpenApiRoute(routes)
    routes.add("GET", "/v1/openapi.json", openapi.show, "This document", answers={200: _ANY})
    return routes


_ANY: Final = {"type": "object"}
_ENTRY: Final = "/v1/tables/{table}/entries/{key}"


def _add_node(routes: Routes, service: StickTableService, access: Access) -> None:
    health, add = Health(service), routes.add
    nobody, node = Needs.NOTHING, NodeRoutes(service, access)
    add("GET", "/healthz", health.alive, "Whether it runs", needs=nobody, answers={200: HEALTH})
    ready = {200: READINESS, 503: READINESS}
    add("GET", "/readyz", health.ready, "Whether it is ready", needs=nobody, answers=ready)
    add("GET", "/v1/node", node.node, "The node", answers={200: ref("Node")})
    peers = closed({"peers": many(ref("Peer"))})
    add("GET", "/v1/peers", node.peers, "All peers", answers={200: peers})
    one = {"answers": {200: ref("Peer")}, "problems": (404,)}
    add("GET", "/v1/peers/{peer}", node.peer, "One peer", **one)
    add("GET", "/v1/parts", node.parts, "All parts", answers={200: ref("Parts")})


def _add_tables(routes: Routes, service: StickTableService) -> None:
    tables, entries, add = TableRoutes(service), EntryRoutes(service), routes.add
    all_tables = closed({"tables": many(ref("Table"))})
    add("GET", "/v1/tables", tables.tables, "All tables", answers={200: all_tables})
    one = {"answers": {200: ref("Table")}, "problems": (404,)}
    add("GET", "/v1/tables/{table}", tables.table, "One table", **one)
    page = {"answers": {200: ref("Entries")}, "problems": (404, 409, 410, 422, 503), "query": QUERY}
    add("GET", "/v1/tables/{table}/entries", entries.entries, "A page of entries", **page)
    entry = {"answers": {200: ref("Entry")}, "problems": (404, 422), "query": (PEER,)}
    add("GET", _ENTRY, entries.entry, "One entry", **entry)


def _add_writes(routes: Routes, service: StickTableService) -> None:
    writes, changes, add = WriteRoutes(service), ManyRoutes(service, routes.log), routes.add
    more: dict[str, Any] = {"needs": Needs.WRITE, "query": (PEER,)}
    changed = {200: ref("Entry"), 201: ref("Entry")}
    entry = {**more, "answers": changed, "problems": (404, 409, 422, 507)}
    add("PUT", _ENTRY, writes.replace, "Replace an entry", body=ref("Set"), **entry)
    add("PATCH", _ENTRY, writes.set, "Change an entry", body=ref("Set"), **entry)
    add("POST", f"{_ENTRY}/count", writes.count, "Count events", body=ref("Count"), **entry)
    gone = {**more, "answers": {200: ref("Forgotten")}, "problems": (404, 409, 422)}
    add("DELETE", _ENTRY, writes.forget, "Forget an entry, on all HAProxies", **gone)
    # One that is no Change has a result that says so, and holds up no other.
    change = {"anyOf": [ref("Change"), {}]}
    body = closed({"changes": many(change, minItems=1, maxItems=MOST_CHANGES)})
    results = {200: closed({"results": many(ref("Result"))})}
    add(
        "POST",
        "/v1/tables/{table}/entries",
        changes.change,
        "Many changes, with a result of each",
        needs=Needs.WRITE,
        body=body,
        answers=results,
        problems=(404, 409, 503),
        logs_changes=True,
    )


class HttpService(ListeningService):
    """Answers HTTP for a `StickTableService` at an endpoint."""

    def __init__(
        self,
        tables: StickTableService,
        endpoint: IStreamServerEndpoint,
        settings: HttpSettings,
        clock: IReactorTime,
    ) -> None:
        self.access = Access(settings)
        self.watching = Watching(tables, self.access, clock)
        self._log = WriteLog(clock)
        routes = routes_of(tables, self.access, self.watching, self._log)
        self.site = BoundedSite(routes.resource(), clock)
        super().__init__(endpoint, self.site, "HTTP")

    def take(self, settings: HttpSettings) -> None:
        """Have these settings from now on, but for where to listen."""
        before, self.access.settings = self.access.settings, settings
        if (before.readers, before.writers) != (settings.readers, settings.writers):
            self.watching.events.let_go("the tokens have changed")

    def startService(self) -> None:
        """Listen.

        :raises CannotListenError: the address is taken.
        """
        self.watching.start()
        super().startService()

    def stopService(self) -> Deferred[object]:
        """Listen no more, and end all connections; fires when that is so."""
        stopped = super().stopService()
        self.watching.stop()
        self.site.hang_up()
        self._log.stop()
        return stopped

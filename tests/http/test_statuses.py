"""Each status that the document has happens, and with the answer that it says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Optional

import attrs
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from peerproto import Declaration, Part
from peerproto.http.site import LONGEST_BODY
from peerproto.testing import MemoryNetwork
from tests.http.client import TABLES, WRITER, HttpTestCase, is_whole, parse

ENTRY = "/v1/tables/{table}/entries/{key}"
ENTRIES = "/v1/tables/{table}/entries"
DATA_PLANE = "/v3/services/haproxy/runtime/stick_tables/{name}/entries"

BODIES: dict[tuple[str, str], Any] = {
    ("PUT", ENTRY): {"values": {"gpc0": 1}},
    ("PATCH", ENTRY): {"values": {"gpc0": 1}},
    ("POST", f"{ENTRY}/count"): {"events": {"gpc0": 1}},
    ("POST", ENTRIES): {"changes": [{"do": "set", "key": "1"}] * 50},
    ("POST", DATA_PLANE): {"key": "1", "data_type": {"gpc0": 1}},
}
"""A good body of each request that has one."""

ODD: dict[str, str] = {
    ENTRIES: "?sort=x",
    DATA_PLANE: "?key=x",
    "/v1/events": "?table=ids&filter=data.gpt0+gt+1",
}
"""What a table cannot be asked, of those that are asked in the query."""


class Scribe(Part):
    """A part that alone writes a table, and may be said not to be ready."""

    why: Optional[str] = None

    def writes(self) -> Iterable[str]:
        return ["sums"]

    def not_ready(self) -> Optional[str]:
        return self.why


class StatusTests(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.clock = self.network.clock
        self.service = self.network.peer("app", TABLES)
        self.network.peer("a", {}, learn_tables=False)
        self.begin()
        for name in ("sums", "changing"):
            line = "type integer size 10k store gpc0"
            self.service.add_table(Declaration.parse(name, line))
        self.scribe = Scribe()
        self.service.add_part("scribe", self.scribe)
        for key in (1, 2):
            self.service.table("small").set(key)
        self.network.start()
        self.network.advance(6)

    def request(self, method: str, path: str, query: str = "", **names: str) -> tuple[str, str]:
        """A good request, but for what is named."""
        table = names.get("table", "ids")
        known = {"table": table, "name": table, "key": "1", "peer": "a", **names}
        return method, path.format(**known) + query

    def happens(self, method: str, path: str, status: int) -> int:
        """Have a status happen: the one that did."""
        content: Any = BODIES.get((method, path))
        token: Optional[str] = WRITER
        headers: dict[str, str] = {}
        names: dict[str, str] = {}
        query = ""
        if path == "/readyz" and status in (200, 503):
            self.scribe.why = None if status == 200 else "it is not"
            self.network.advance(10)
        elif path == "/v1/events" and status in (200, 503):
            return self.follow(path, 1 if status == 200 else 0)
        elif path in (ENTRIES, DATA_PLANE, "/metrics") and (
            status == 503 or (method, status) == ("GET", 409)
        ):
            return self.meanwhile(method, path, content, status)
        elif status in (200, 201) and method in ("PUT", "PATCH", "POST") and path != ENTRIES:
            names["key"] = {"PUT": "3", "PATCH": "4"}.get(method, "5")
            if status == 200:
                self.write(*self.request(method, path, **names), content)
            else:
                self.service.table("ids").clear()
        elif status == 200 and path == ENTRY:
            self.service.table("ids").set(1)
        elif status == 400:
            query = "?nonsense=1"
        elif status == 401:
            token = "nonsense"
        elif status == 403:
            headers["Origin"] = "https://evil.example"
        elif status == 404:
            names = {"table": "nothing", "peer": "nobody"}
            query = "?table=nothing" if path == "/v1/events" else ""
        elif status == 409:
            names["table"] = "sums"
        elif status == 410:
            self.service.table("rates").set("192.0.2.1")
            page = self.get("/v1/tables/rates/entries?limit=1")
            query = f"?cursor={page.json['next']}"
        elif status == 413:
            return self.too_long(method, path)
        elif status == 415:
            headers["Content-Type"] = "text/plain"
        elif status == 421:
            headers["Host"] = "evil.example"
        elif status == 422:
            names["key"] = "x"
            query = ODD.get(path, "")
            if (method, path) == ("POST", DATA_PLANE):
                query, content = "", {"key": 1, "data_type": {}}
        elif status == 507:
            names = {"table": "small", "key": "9"}
            content = {**content, "key": "9"} if path == DATA_PLANE else content
        method, place = self.request(method, path, query, **names)
        return self.ask(method, place, content, token, headers).status

    def too_long(self, method: str, path: str) -> int:
        _, place = self.request(method, path)
        reply = self.send(
            f"{method} {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length:"
            f" {LONGEST_BODY + 1}\r\n\r\n".encode()
        )
        self.contract.check(method, place, reply.status, reply.headers, reply.body)
        return reply.status

    def follow(self, path: str, most: int) -> int:
        """A client follows the events, of which there may be so many."""
        self.access.settings = attrs.evolve(self.settings, event_clients=most)
        channel, transport = self.connect()
        channel.dataReceived(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.wait(lambda: b"\r\n\r\n" in transport.value())
        reply, _ = parse(transport.value())
        self.contract.check("GET", path, reply.status, reply.headers, reply.body)
        channel.connectionLost(Failure(ConnectionDone()))
        self.access.settings = self.settings
        return reply.status

    def meanwhile(self, method: str, path: str, content: Any, status: int) -> int:
        """The node stops, or the table changes, while the answer is made."""
        table = self.service.table("changing")
        table.update({key: {} for key in range(5000)})
        _, place = self.request(method, path, table="changing")
        if method == "GET" and path != "/metrics":
            place += "?filter=data.gpc0+gt+1" + ("&limit=1" if path == ENTRIES else "")
        channel, transport = self.connect()

        body = b"" if content is None else json.dumps(content).encode()
        channel.dataReceived(
            f"{method} {place} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITER}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        if status == 503:
            self.service.stopService()
        else:
            self.service.declare_table(
                Declaration.parse("changing", "type integer size 10k store gpt0")
            )
        self.wait(lambda: is_whole(transport.value()))
        reply, _ = parse(transport.value())
        self.contract.check(method, place, reply.status, reply.headers, reply.body)
        self.service.declare_table(
            Declaration.parse("changing", "type integer size 10k store gpc0")
        )
        if status == 503:
            self.service.startService()
            self.clock.advance(6)
        return reply.status

    def test_all(self) -> None:
        """Each status that the document has happens."""
        documented = self.contract.documented()
        self.assertGreater(len(documented), 100)
        for method, path, status in sorted(documented):
            happened = self.happens(method, path, int(status))
            self.assertEqual(happened, int(status), (method, path))
        self.assertEqual(self.contract.seen, documented)

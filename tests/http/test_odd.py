"""Odd names and keys, everywhere: nothing of them ends a line or a label, moves a cursor, or is
markup, and each can be told from all others."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.testing import StringTransport

from peerproto import Declaration, StickTableService
from peerproto.http.collector import NodeCollector
from peerproto.http.config import HttpSettings
from peerproto.http.metrics import Metrics, TopEntries
from peerproto.http.text import quoted, read, written
from peerproto.http.tokens import Token
from peerproto.http.top import Top
from peerproto.service.printable import printable
from tests.http.client import WRITER, HttpTestCase, Reply, parse, whole

ODD: Final = (
    "<script>alert(1)</script>",
    "nul\0nul",
    "carriage\rreturn",
    "line\nfeed",
    "both\r\n\r\ndata: x",
    "\x1b[2J\x1b[31mred",
    "\udcff\udcfe",
    "half \udcc3",
    "\"double'single`",
    "back\\slash",
    "\\xFF",
    "\x7f\x08",
    "\u2028\u202e",
    "a/b?c#d%41&e=f",
    "..",
)
PEERS: Final = tuple("peer-" + re.sub("[\0- ]", "", one) for one in (*ODD, "\x9b2J"))
"""What a hello can have of them, and of one character that moves a cursor."""
LINE: Final = "type string len 40 size 1k store gpc0"
V3: Final = "/v3/services/haproxy/runtime/stick_tables"


class OddTests(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.service = StickTableService(ODD[0], reactor=self.clock)
        for name in ODD:
            self.service.add_table(Declaration.parse(name, LINE))
        for name in PEERS:
            self.service.expect_peer(name)
        self.begin(HttpSettings(writers=Token(WRITER.encode()), allow_writes=True))
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.clock.advance(6)

    def ask(self, *arguments: Any, **more: Any) -> Reply:
        """See `HttpTestCase`: here each answer is looked at, too."""
        reply = super().ask(*arguments, **more)
        self.plain(reply.body)
        self.assertTrue(all(one.isprintable() for one in reply.headers.values()))
        return reply

    def plain(self, body: bytes) -> None:
        """There is nothing in it but printable ASCII without markup."""
        self.assertTrue(all(32 <= one < 127 and one not in b"<>&" for one in body), body)

    def told(self, place: str, field: str) -> list[str]:
        """The names in a list."""
        return [one["name"] for one in self.get(place).json[field]]

    def test_tables_and_peers(self) -> None:
        """Each table and peer is told, and found by its name as it is told."""
        for place, field, names in (
            ("/v1/tables", "tables", ODD),
            ("/v1/peers", "peers", PEERS),
        ):
            told = self.told(place, field)
            self.assertEqual(tuple(map(read, told)), names)
            for name in told:
                self.assertEqual(self.get(f"{place}/{quoted(name)}").json["name"], name)
        self.assertEqual(read(self.get("/v1/node").json["localpeer"]), ODD[0])

    def test_keys(self) -> None:
        """Each key that a table can have is set, listed and forgotten in each table."""
        keys = [one for one in ODD if "\0" not in one]
        for number, name in enumerate(ODD):
            key = keys[number % len(keys)]
            entries = f"/v1/tables/{quoted(written(name))}/entries"
            place = f"{entries}/{quoted(written(key))}"
            self.assertEqual(self.write("PUT", place, {"values": {"gpc0": 1}}).status, 201)
            (told,) = self.get(entries).json["entries"]
            self.assertEqual(read(told["key"]), key)
            (found,) = self.get(f"{entries}?key={quote(told['key'], safe='')}").json["entries"]
            self.assertEqual(found, told)
            many = {"changes": [{"do": "set", "key": told["key"], "values": {"gpc0": 2}}]}
            (result,) = self.write("POST", entries, many).json["results"]
            self.assertEqual((result["status"], result["key"]), (200, told["key"]))
            forgotten = self.write("DELETE", place).json
            self.assertTrue(forgotten["was_here"])
        for one in self.lines:
            self.assertTrue(one.isprintable(), one)
        self.assertGreater(sum("writer at" in one for one in self.lines), 4 * len(ODD) - 1)

    def test_problems(self) -> None:
        """What is repeated of a wrong request is escaped, wherever it stood."""
        entries = f"/v1/tables/{quoted(written(ODD[0]))}/entries"
        places = ("/v1/tables/no{}", "/v1/peers/no{}", f"{V3}/no{{}}", f"{V3}/no{{}}/entries")
        for odd in ODD:
            word = quoted(written(odd))
            for place in places:
                self.assertEqual(self.get(place.format(word)).status, 404)
            for parameter in ("filter", "sort", "peer", "cursor", "cidr", "limit", "nonsense"):
                reply = self.get(f"{entries}?{parameter}={word}")
                self.assertIn(reply.status, (400, 404, 410, 422), (parameter, odd))
            self.assertEqual(self.get(f"{entries}?{word}=1").status, 400)
            self.assertEqual(self.get(f"/v1/events?table={word}no").status, 404)
            for body in ({odd: 1}, {"values": {odd: 1}}, {"values": odd}, odd):
                reply = self.write("PUT", f"{entries}/x", body)
                self.assertIn(reply.status, (400, 422), (body, reply.body))
            many = {"changes": [{"do": odd, "key": odd}, {odd: odd}]}
            results = self.write("POST", entries, many).json["results"]
            self.assertTrue(all(one["status"] >= 400 for one in results))
            for data in ({"key": "x", "data_type": {odd: 1}}, {"key": odd, "data_type": odd}):
                reply = self.write("POST", f"{V3}/{quoted(written(ODD[0]))}/entries", data)
                self.assertEqual(reply.status, 422)
            if odd.isprintable() and odd.isascii():
                for header in ("Host", "Origin", "Authorization", "Content-Type"):
                    self.assertIn(
                        self.ask("PUT", f"{entries}/x", {}, headers={header: odd}).status,
                        (401, 403, 415, 421),
                    )
        self.assertTrue(all(one.isprintable() for one in self.lines))

    def test_dataplane(self) -> None:
        """Clients of the Data Plane API find each table, and each key in it."""
        names = [one["name"] for one in self.get(V3).json]
        self.assertEqual(tuple(map(read, names)), ODD)
        for name, key in zip(names, ODD):
            place = f"{V3}/{quoted(name)}"
            self.assertEqual(self.get(place).json["name"], name)
            if "\0" in key:
                continue
            self.service.table(read(name)).set(key, gpc0=1)
            (entry,) = self.get(f"{place}/entries").json
            query = quote(entry["key"], safe="")
            (found,) = self.get(f"{place}/entries?key={query}").json
            self.assertEqual(found["key"], entry["key"])
            body = {"key": entry["key"], "data_type": {"gpc0": 2}}
            self.assertEqual(self.write("POST", f"{place}/entries", body).status, 204)
            self.assertEqual(self.service.table(read(name))[key]["gpc0"], 2)
        self.assertTrue(all(one.isprintable() for one in self.lines))

    def test_metrics(self) -> None:
        """Each table, peer and key is a label of its own, and each sample a line."""
        keys = [one for one in ODD if "\0" not in one]
        table = self.service.table(ODD[0])
        for number, key in enumerate(keys):
            table.set(key, gpc0=number + 1)
        top = (Top(ODD[0], "gpc0", len(keys)),)
        metrics = Metrics(
            self.service, NodeCollector(self.service), TopEntries(self.service, lambda: top)
        )
        waiting = metrics.text()
        self.clock.pump([0] * 20)
        text = self.successResultOf(waiting).decode()
        self.assertTrue(all(one.isprintable() for one in text.split("\n")))
        found: dict[str, set[str]] = {"name": set(), "peer": set(), "key": set()}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                for label, values in found.items():
                    if label in sample.labels:
                        values.add(sample.labels[label])
        self.assertEqual(found["name"], set(map(printable, ODD)))
        found["peer"].remove("")  # the keys are no peer's
        self.assertEqual(found["peer"], set(map(printable, PEERS)))
        self.assertEqual(len(found["key"]), len(keys))

    def events(self, transport: StringTransport) -> list[tuple[str, Any]]:
        """The events of a stream: each of its lines is a field and printable."""
        body, _ = whole(transport.value().partition(b"\r\n\r\n")[2])
        events = []
        for block in body.split(b"\n\n")[:-1]:
            name = ""
            for line in block.split(b"\n"):
                self.plain(line)
                field, _, value = line.partition(b": ")
                self.assertIn(field, (b"event", b"data", b"id", b"retry", b""), line)
                if field == b"event":
                    name = value.decode()
                elif field == b"data":
                    events.append((name, json.loads(value)))
        return events

    def test_stream(self) -> None:
        """Events of tables, peers and entries are lines that nothing ends, and so is that which
        says of which tables changes were lost."""
        channel, transport = self.connect()
        channel.dataReceived(
            b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0123-4\r\n\r\n"
        )
        self.assertEqual(parse(transport.value())[0].status, 200)
        self.clock.pump([0.05] * 10)
        keys = [one for one in ODD if "\0" not in one]
        for name in ODD:
            for key in keys:
                self.service.table(name).set(key, gpc0=1)
        self.service.expect_peer(f"new-{ODD[0]}")
        self.clock.pump([0.05] * 100)
        events = self.events(transport)

        def names(kind: str, field: str) -> set[Any]:
            return {read(data[field]) for name, data in events if name == kind}

        self.assertEqual([read(data["node"]) for name, data in events if name == "hello"], [ODD[0]])
        self.assertEqual(names("table", "name"), set(ODD))
        peers = {*PEERS, f"new-{ODD[0]}"}
        self.assertEqual(names("peer", "name"), peers)
        self.assertEqual(names("entry", "table"), set(ODD))
        self.assertEqual(names("entry", "key"), set(keys))
        (reset,) = (data for name, data in events if name == "reset")
        self.assertEqual(set(map(read, reset["tables"])), set(ODD))

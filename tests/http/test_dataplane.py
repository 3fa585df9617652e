"""Requests of a client of the Data Plane API, by hand from that API's specification."""

from __future__ import annotations

import base64
from typing import Any, Optional
from urllib.parse import quote

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from peerproto import Declaration
from peerproto.http.site import STALLED
from tests.http.client import WRITER, HttpTestCase, Reply, parse

ROOT = "/v3/services/haproxy/runtime/stick_tables"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"admin:{WRITER}".encode()).decode()}

ENTRY: dict[str, type] = {
    "id": str,
    "key": str,
    "server_id": int,
    "glitch_cnt": int,
    "glitch_rate": int,
    "gpc0": int,
    "gpc0_rate": int,
    "gpc1": int,
    "gpc1_rate": int,
    "gpt0": int,
    "conn_cnt": int,
    "conn_cur": int,
    "conn_rate": int,
    "sess_cnt": int,
    "sess_rate": int,
    "http_fail_cnt": int,
    "http_fail_rate": int,
    "http_req_cnt": int,
    "http_req_rate": int,
    "http_err_cnt": int,
    "http_err_rate": int,
    "bytes_in_cnt": int,
    "bytes_in_rate": int,
    "bytes_out_cnt": int,
    "bytes_out_rate": int,
    "exp": int,
}
"""The fields of an entry: ``specification/models/runtime/table_entry.yaml``. ``use`` is left out
where it is false; ``gpc``, ``gpc_rate`` and ``gpt`` are what is set, one element at a time."""

VALUES = [name for name in ENTRY if name not in ("id", "key", "exp")]
TABLE: dict[str, type] = {"name": str, "type": str, "size": int, "used": int, "fields": list}
"""Those of a table: ``table.yaml`` beside that."""

FIELDS = [name for name in VALUES if not name.startswith("http_fail")]
"""What the fields of a table may be: two that entries have are missing there."""


class DataPlaneTests(HttpTestCase):
    def client(self, method: str, path: str, content: Optional[Any] = None) -> Reply:
        """As such a client asks: with a user's name and password."""
        return self.ask(method, ROOT + path, content, headers=BASIC)

    def fails(self, status: int, method: str, path: str, content: Optional[Any] = None) -> str:
        """What the error says."""
        reply = self.client(method, path, content)
        self.assertEqual(reply.status, status, reply.body)
        self.assertEqual(reply.headers["content-type"], "application/json")
        self.assertEqual(set(reply.json), {"code", "message"})
        self.assertEqual(reply.json["code"], status)
        message: str = reply.json["message"]
        return message

    def test_tables(self) -> None:
        """Tables have the fields of that API."""
        self.service.table("rates").set("192.0.2.7")
        tables = self.client("GET", "").json
        rates = {
            "name": "rates",
            "type": "ip",
            "size": 1048576,
            "used": 1,
            "fields": [
                {"field": "gpc0", "type": "counter"},
                {"field": "http_req_rate", "type": "rate", "period": 10000},
            ],
        }
        self.assertEqual(tables[0], rates)
        self.assertEqual(self.client("GET", "/rates").json, rates)
        self.assertEqual(self.fails(404, "GET", "/none"), "Stick table none not found")

    def test_entries(self) -> None:
        """Entries have the fields of that API: those of ``show table``, and no ``use`` that is
        false."""
        self.service.table("rates").set("192.0.2.7", gpc0=3, http_req_rate=12, expires_in=5000)
        (entry,) = self.client("GET", "/rates/entries").json
        self.assertRegex(entry.pop("id"), "^0x[0-9a-f]{12}$")
        self.assertEqual(entry, {"key": "192.0.2.7", "exp": 5000, "gpc0": 3, "http_req_rate": 12})
        self.assertEqual(self.client("GET", "/ids/entries").json, [])
        self.assertEqual(self.fails(404, "GET", "/none/entries"), "Stick table none not found")

    def declare(self, name: str, store: list[str]) -> None:
        columns = ",".join(f"{one}(1m)" if one.endswith("_rate") else one for one in store)
        line = f"type ip size 1k expire 1h store {columns}"
        self.service.add_table(Declaration.parse(name, line))

    def test_all_fields(self) -> None:
        """Of a table that stores all that there is, tables and entries have each field of that
        API's specification, of its type, and with its value."""
        self.declare("all", VALUES)
        values = {name: number for number, name in enumerate(VALUES, 10)}
        self.service.table("all").set("192.0.2.7", values)
        table = self.client("GET", "/all").json
        self.assertEqual({name: type(one) for name, one in table.items()}, TABLE)
        rate, counter = {"type": "rate", "period": 60_000}, {"type": "counter"}
        self.assertCountEqual(
            table["fields"],
            [{"field": one, **(rate if one.endswith("_rate") else counter)} for one in FIELDS],
        )
        (entry,) = self.client("GET", "/all/entries").json
        self.assertEqual({name: type(one) for name, one in entry.items()}, ENTRY)
        self.assertEqual({name: entry[name] for name in VALUES}, values)
        self.assertEqual((entry["key"], entry["exp"]), ("192.0.2.7", 3_600_000))

    def test_set_all_fields(self) -> None:
        """Each of them can be set."""
        self.declare("all", VALUES)
        values = {name: number for number, name in enumerate(VALUES, 10)}
        body = {"key": "192.0.2.7", "data_type": values}
        self.assertEqual(self.client("POST", "/all/entries", body).status, 204)
        entry = self.service.table("all")["192.0.2.7"]
        self.assertEqual({name: entry.number(name) for name in VALUES}, values)

    def test_arrays_and_texts(self) -> None:
        """Of arrays it knows the first elements, of texts nothing."""
        self.service.table("paths").set("/a b", {"gpt[0]": 1, "gpc[1]": 2, "server_key": "x"})
        (entry,) = self.client("GET", "/paths/entries").json
        entry.pop("id")
        self.assertEqual(
            entry,
            {
                "key": "/a\\ b",
                "exp": 0,
                "server_id": 0,
                "gpt0": 1,
                "gpc0": 0,
                "gpc1": 2,
                "gpc0_rate": 0,
                "gpc1_rate": 0,
            },
        )

    def numbers(self, query: str) -> list[int]:
        return [one["gpc0"] for one in self.client("GET", f"/ids/entries{query}").json]

    def test_choosing(self) -> None:
        """Filters, a key, and which part of what is found."""
        self.service.table("ids").update({one: {"gpc0": one} for one in range(500)})
        self.assertEqual(sorted(self.numbers("")), list(range(500)))
        both = quote("data.gpc0 gt 3,data.gpc0 lt 6")
        self.assertEqual(sorted(self.numbers(f"?filter={both}")), [4, 5])
        self.assertEqual(sorted(self.numbers(f"?filter={quote('gpc0 le 1')}")), [0, 1])
        self.assertEqual(self.numbers("?key=7"), [7])
        self.assertEqual(self.numbers(f"?key=7&filter={both}"), [])
        self.assertEqual(self.numbers("?key=900"), [])
        whole = self.numbers("")
        for offset in (0, 1, 99, 100, 250, 499):
            for count in (0, 1, 100, 150, 1000):
                part = self.numbers(f"?offset={offset}&count={count}")
                self.assertEqual(part, whole[offset : offset + count], (offset, count))
            self.assertEqual(self.numbers(f"?offset={offset}"), whole[offset:])

    def test_offset_behind_the_end(self) -> None:
        """Behind the end there is nothing to begin with, but of nothing one may begin anywhere."""
        self.assertEqual(self.client("GET", "/ids/entries?offset=5").json, [])
        self.service.table("ids").set(1)
        message = "Offset 1 is larger than the slice size 1"
        self.assertEqual(self.fails(400, "GET", "/ids/entries?offset=1"), message)
        self.assertEqual(self.fails(400, "GET", "/ids/entries?offset=1&count=0"), message)
        self.assertEqual(self.fails(400, "GET", "/ids/entries?key=1&offset=1"), message)

    def test_wrong_queries(self) -> None:
        """What cannot be read is an error of that API."""
        for status, query, said in (
            (400, "offset=-1", "query.offset"),
            (400, "count=x", "query.count"),
            (422, "key=x", "query.key"),
            (400, "filter=nonsense", "query.filter"),
            (422, "filter=" + quote(",".join(["gpc0 gt 1"] * 11)), "10 at most"),
            (400, "nonsense=1", "query.nonsense"),
        ):
            self.assertIn(said, self.fails(status, "GET", f"/ids/entries?{query}"))

    def test_set(self) -> None:
        """An entry is set by what its fields say, with no word about it."""
        body = {"key": "192.0.2.7", "data_type": {"gpc0": 5, "http_req_rate": 7}}
        reply = self.client("POST", "/rates/entries", body)
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertNotIn("content-type", reply.headers)
        entry = self.service.table("rates")["192.0.2.7"]
        self.assertEqual((entry["gpc0"], entry["http_req_rate"]), (5, 7))
        body = {"key": "192.0.2.7", "data_type": {"id": "0x1", "key": "x", "use": False, "gpc0": 6}}
        self.assertEqual(self.client("POST", "/rates/entries", body).status, 204)
        entry = self.service.table("rates")["192.0.2.7"]
        self.assertEqual((entry["gpc0"], entry["http_req_rate"]), (6, 7))
        data: Any = {
            "gpt": {"value": 4, "idx": 1},
            "gpc0": None,
            "gpc_rate": {"value": 2, "idx": 0},
        }
        body = {"key": "/a", "data_type": data}
        self.assertEqual(self.client("POST", "/paths/entries", body).status, 204)
        path = self.service.table("paths")["/a"]
        self.assertEqual((path["gpt1"], path["gpc0_rate"], path["gpc0"]), (4, 2, 0))

    def test_set_wrongly(self) -> None:
        """What cannot be set is an error of that API, and changes nothing."""
        for status, table, body, said in (
            (404, "none", {"key": "1", "data_type": {}}, "not found"),
            (422, "ids", {"data_type": {}}, "body.key"),
            (422, "ids", {"key": 1, "data_type": {}}, "body.key"),
            (422, "ids", {"key": "1", "data_type": 5}, "body.data_type"),
            (422, "ids", {"key": "x", "data_type": {}}, "body.key"),
            (422, "ids", {"key": "1", "data_type": {"gpc1": 1}}, "body.data_type.gpc1"),
            (422, "ids", {"key": "1", "data_type": {"gpc0": -1}}, "body.data_type.gpc0"),
            (422, "ids", {"key": "1", "data_type": {"exp": 5}}, "body.data_type.exp"),
            (422, "paths", {"key": "\ud800", "data_type": {}}, "body.key"),
        ):
            self.assertIn(said, self.fails(status, "POST", f"/{table}/entries", body))
        self.assertIn("JSON", self.fails(400, "POST", "/ids/entries", b"{"))
        for key in (1, 2):
            self.service.table("small").set(key)
        self.fails(507, "POST", "/small/entries", {"key": "3", "data_type": {}})
        self.assertEqual(len(self.service.table("ids")), 0)

    def test_keys_there_and_back(self) -> None:
        """A key as it is told can be asked for, and set again."""
        for key in ("/a b", "a=b", "a\\b", "a\tb\nc\rd\x1be", "caf\xe9", "\udcff\udcfe", "\x7f<b>"):
            self.service.table("paths").set(key, gpc0=1)
            told = self.client("GET", "/paths/entries").json[0]["key"]
            self.assertTrue(told.isprintable() and told.isascii())
            query = quote(told, safe="")
            self.assertEqual(len(self.client("GET", f"/paths/entries?key={query}").json), 1, key)
            body = {"key": told, "data_type": {"gpc0": 2}}
            self.assertEqual(self.client("POST", "/paths/entries", body).status, 204)
            self.assertEqual(self.service.table("paths")[key]["gpc0"], 2)
            self.service.table("paths").clear()

    def test_who_may(self) -> None:
        """Errors about who may have that API's form, too."""
        body = {"key": "1", "data_type": {}}
        for headers, status in (({}, 401), ({"Authorization": "Basic eDp5"}, 401)):
            reply = self.ask("POST", f"{ROOT}/ids/entries", body, headers=headers)
            self.assertEqual((reply.status, reply.json["code"]), (status, status))
            self.assertIn("www-authenticate", reply.headers)

    def begin_listing(self) -> Any:
        """A client that asks for many entries, and does not read."""
        self.service.table("ids").update({one: {"gpc0": one} for one in range(1000)})
        channel, transport = self.connect()
        line = f"GET {ROOT}/ids/entries HTTP/1.1\r\nHost: localhost\r\n\r\n"
        channel.dataReceived(line.encode())
        channel.pauseProducing()
        for _ in range(50):
            self.clock.advance(0)
        return channel, transport

    def test_slow_reader(self) -> None:
        """A client that does not read is not written to without end; once it reads, it gets
        all."""
        channel, transport = self.begin_listing()
        before = transport.value()
        self.assertLess(before.count(b'"key"'), 1000)
        self.clock.advance(0)
        self.assertEqual(transport.value(), before)
        channel.resumeProducing()
        self.wait(lambda: transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(transport.value().count(b'"key"'), 1000)

    def test_reader_stalls(self) -> None:
        """A client that does not go on reading is dropped, and makes room for others; one that
        reads now and then is not."""
        channel, transport = self.begin_listing()
        for _ in range(3):
            self.clock.advance(STALLED - 1)
            self.assertFalse(transport.disconnecting)
            channel.resumeProducing()
            channel.pauseProducing()
        self.clock.advance(STALLED - 1)
        self.assertFalse(transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(transport.disconnected)
        channel.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.site.connections, 0)
        self.assertEqual(sum("192.0.2.9:4711 has not taken" in one for one in self.lines), 1)

    def test_reader_goes(self) -> None:
        """Of a client that has gone, nothing is left."""
        channel, _ = self.begin_listing()
        channel.connectionLost(Failure(ConnectionDone()))
        for _ in range(50):
            self.clock.advance(0)
        self.assertEqual(self.site.connections, 0)

    def test_table_goes(self) -> None:
        """An answer about a table that goes meanwhile breaks off."""
        channel, transport = self.begin_listing()
        self.service.remove_table("ids")
        channel.resumeProducing()
        self.wait(lambda: transport.disconnecting)
        self.assertFalse(transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(parse(transport.value())[0].status, 200)

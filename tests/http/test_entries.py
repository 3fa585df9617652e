"""Entries: pages of them, one of them, and changes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from peerproto import Declaration
from peerproto.http.many import MOST_CHANGES
from tests.http.client import HttpTestCase

KEYS = {
    "rates": ("192.0.2.7", "192.0.2.7"),
    "sixes": ("2001:db8::1", "2001:0DB8:0::1"),
    "ids": ("4294967295", "-1"),
    "hashes": ("0AFF0000", "0aff"),
    "paths": ("/a b=c", "/a b=c"),
}
"""By table, a key as it is told, and the same as somebody writes it."""


class EntryTests(HttpTestCase):
    def fill(self, count: int) -> None:
        table = self.service.table("ids")
        table.update(
            {one: {"gpc0": one * 7 % 100, "bytes_out_cnt": 1 << 40} for one in range(count)}
        )

    def page(self, query: str = "", table: str = "ids") -> Any:
        reply = self.get(f"/v1/tables/{table}/entries{query}")
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json

    def error(self, query: str, table: str = "ids", status: int = 422) -> tuple[str, str]:
        """The field that is wrong, and what was expected."""
        reply = self.get(f"/v1/tables/{table}/entries{query}")
        self.assertEqual(reply.status, status, reply.body)
        (error,) = reply.json["errors"]
        return error["field"], error["expected"]

    def all_pages(self, query: str) -> list[Any]:
        entries: list[Any] = []
        cursor = None
        while True:
            page = self.page(query if cursor is None else f"{query}&cursor={cursor}")
            entries += page["entries"]
            cursor = page["next"]
            if cursor is None:
                return entries

    def test_pages(self) -> None:
        """All entries come, each once, some at a time."""
        self.fill(250)
        entries = self.all_pages("?limit=30")
        self.assertEqual(sorted(int(one["key"]) for one in entries), list(range(250)))
        self.assertEqual(entries[0]["values"]["bytes_out_cnt"], 1 << 40)
        self.assertEqual(len(self.page()["entries"]), 100)

    def test_short_pages(self) -> None:
        """A page ends with a cursor once it took long, though it has few entries."""
        self.patch_looks(100)
        self.fill(1000)
        page = self.page("?filter=data.gpc0+eq+200")
        self.assertEqual(page["entries"], [])
        self.assertIsNotNone(page["next"])
        self.assertEqual(len(self.all_pages("?filter=data.gpc0+eq+7")), 10)

    def patch_looks(self, looks: int) -> None:
        from peerproto.http import entries

        self.patch(entries, "LOOKS", looks)

    def test_filters(self) -> None:
        """Filters are those of the runtime socket; all of several hold."""
        self.fill(100)
        for query, expected in (
            ("?filter=data.gpc0+gt+97", {98, 99}),
            ("?filter=data.gpc0%20ge%2097&filter=data.gpc0+lt+99", {97, 98}),
            ("?filter=data.bytes_out_cnt+eq+5", set()),
        ):
            found = {one["values"]["gpc0"] for one in self.page(query)["entries"]}
            self.assertEqual(found, expected)
        for wrong in ("gpc0 gt 1", "data.gpc0 over 1", "data.gpc0 gt", "data.gpc0 gt x", "x" * 300):
            field, expected_text = self.error(f"?filter={quote(wrong)}", status=400)
            self.assertEqual(field, "query.filter")
            self.assertIn("data.<type> eq|ne|le|ge|lt|gt", expected_text)
        self.assertIn("one of gpc0", self.error("?filter=data.gpc1+gt+1")[1])
        self.assertIn("a number", self.error("?filter=data.server_key+gt+1", "paths")[1])
        self.assertIn("10 at most", self.error("?" + "&".join(["filter=data.gpc0+gt+1"] * 11))[1])

    def test_keys(self) -> None:
        """Entries are chosen by what their keys begin with, or by their network."""
        for name in ("/a", "/ab", "/b", "/a\udcff"):
            self.service.table("paths").set(name)
        for address in ("192.0.2.1", "192.0.3.1"):
            self.service.table("rates").set(address)

        def keys(query: str, table: str) -> list[str]:
            return sorted(one["key"] for one in self.page(query, table)["entries"])

        self.assertEqual(keys("?prefix=/a", "paths"), ["/a", "/a\\xFF", "/ab"])
        self.assertEqual(keys("?prefix=/a%FF", "paths"), ["/a\\xFF"])
        self.assertEqual(keys("?prefix=/a%5CxFF", "paths"), ["/a\\xFF"])
        self.assertEqual(keys("?cidr=192.0.2.0/24", "rates"), ["192.0.2.1"])
        self.assertEqual(self.error("?prefix=a")[0], "query.prefix")
        self.assertEqual(self.error("?prefix=%5C", "paths")[0], "query.prefix")
        self.assertEqual(self.error("?cidr=192.0.2.1/24", "rates")[0], "query.cidr")
        self.assertEqual(self.error("?cidr=::/0", "rates")[0], "query.cidr")

    def test_some_keys(self) -> None:
        """The entries of some keys come in their order, those that there are, and nothing else
        chooses or orders them."""
        for key in (".", "..", "/a"):
            self.service.table("paths").set(key)
        entries = self.get("/v1/tables/paths/entries?key=..&key=/a&key=none&key=..").json
        self.assertEqual([one["key"] for one in entries["entries"]], ["..", "/a"])
        self.assertIsNone(entries["next"])
        path = "/v1/tables/rates/entries?key="
        for query, field in (
            ("x", "query.key"),
            ("192.0.2.7&sort=gpc0", "query.sort"),
            ("192.0.2.7&cursor=x", "query.cursor"),
            ("192.0.2.7" + "&key=192.0.2.7" * 40, "query.key"),
        ):
            reply = self.get(path + query)
            self.assertEqual((reply.status, reply.json["errors"][0]["field"]), (422, field))

    def test_sort(self) -> None:
        """Entries come in the order of a value, page by page."""
        self.fill(250)
        for sort, reverse in (("gpc0", False), ("-gpc0", True)):
            for more in ("", "&filter=data.gpc0+ge+10"):
                entries = self.all_pages(f"?sort={sort}&limit=30{more}")
                values = [one["values"]["gpc0"] for one in entries]
                self.assertEqual(values, sorted(values, reverse=reverse))
                self.assertEqual(len({one["key"] for one in entries}), len(entries))
                least = 10 if more else 0
                expected = sum(one * 7 % 100 >= least for one in range(250))
                self.assertEqual(len(entries), expected)
        for wrong in ("gpc1", "", "-", "--gpc0", "+gpc0"):
            self.assertIn("one of gpc0, bytes_out_cnt", self.error(f"?sort={quote(wrong)}")[1])
        self.assertIn("one of", self.error("?sort=server_key", "paths")[1])

    def test_cursors(self) -> None:
        """A cursor is opaque: what is none is refused, and so is one of another table."""
        self.fill(250)
        for query in ("?limit=1", "?limit=1&sort=gpc0"):
            cursor = self.page(query)["next"]
            for wrong in ("", "x", cursor[:8], "%00", "\xe9", cursor + "="):
                field, _ = self.error(f"{query}&cursor={quote(wrong)}")
                self.assertEqual(field, "query.cursor")
            self.service.declare_table(
                Declaration.parse("ids", "type string len 9 size 1k store gpc0")
            )
            self.assertEqual(self.error(f"{query}&cursor={cursor}", status=410)[0], "query.cursor")
            self.service.declare_table(
                Declaration.parse("ids", "type integer size 1k store gpc0,bytes_out_cnt")
            )
            self.fill(250)

    def test_one(self) -> None:
        """An entry of each type of keys is found, however its key is written."""
        for table, (told, written) in KEYS.items():
            path = f"/v1/tables/{table}/entries/{quote(written, safe='')}"
            self.assertEqual(self.get(path).status, 404)
            self.assertEqual(self.write("PUT", path, {}).json["key"], told)
            self.assertEqual(self.get(path).json["key"], told)
            self.assertEqual(self.write("DELETE", path).json["key"], told)
            self.assertEqual(self.get(path).status, 404)
        for table, wrong in (
            ("rates", "192.0.2"),
            ("sixes", "x"),
            ("ids", "1.5"),
            ("hashes", "xx"),
            ("paths", "%00"),
            ("paths", "%5Cx"),
        ):
            for method in ("GET", "PUT", "DELETE"):
                content: Any = {} if method == "PUT" else None
                reply = self.write(method, f"/v1/tables/{table}/entries/{wrong}", content)
                self.assertEqual(reply.status, 422, (table, method))
                self.assertEqual(reply.json["errors"][0]["field"], "path.key")

    def test_odd_keys(self) -> None:
        """Every byte that a key may have comes back as it was; nothing of it is markup."""
        for raw in (
            b"<script>",
            b"\"quoted'",
            b"a/b/count",
            b"line\nfeed",
            b"\x1b[2Jescape",
            b"caf\xc3\xa9",
            b"\xff\xfe",
            b"back\\slash",
            b"\\xFF",
            b"%2F",
            b"..",
            b" ",
            b"",
        ):
            segment = "".join(f"%{byte:02X}" for byte in raw).replace("%5C", "%5C%5C") or "%5C"
            path = f"/v1/tables/paths/entries/{segment}"
            reply = self.write("PUT", path, {"values": {"server_key": "s"}})
            self.assertEqual(reply.status, 201, raw)
            name = raw.decode("utf-8", "surrogateescape")
            self.assertEqual(self.service.table("paths")[name]["server_key"], "s")
            listed = self.page("", "paths")["entries"][0]["key"]
            body = {"changes": [{"do": "forget", "key": listed}]}
            results = self.write("POST", "/v1/tables/paths/entries", body).json["results"]
            self.assertTrue(results[0]["forgotten"]["was_here"], raw)
            self.assertNotIn(b"<", reply.body)
            self.assertTrue(all(32 <= byte < 127 for byte in reply.body))

    def test_put_and_patch(self) -> None:
        """``PUT`` is the whole entry; ``PATCH`` leaves what it does not name."""
        path = "/v1/tables/paths/entries/k"
        whole = {"server_key": "caf\\xE9", "server_id": -5, "gpt[1]": 7, "gpc0": 3, "gpc0_rate": 9}
        self.assertEqual(self.write("PUT", path, {"values": whole}).status, 201)
        entry = self.service.table("paths")["k"]
        self.assertEqual(entry["server_key"], "caf\udce9")
        self.assertEqual((entry["server_id"], entry["gpt1"], entry["gpc0_rate"]), (-5, 7, 9))
        reply = self.write("PATCH", path, {"values": {"gpc1": 1, "server_key": None}})
        self.assertEqual(reply.status, 200)
        values = reply.json["values"]
        self.assertEqual((values["gpc0"], values["gpc1"], values["server_key"]), (3, 1, None))
        values = self.write("PUT", path, {"values": {"gpc0": 1}}).json["values"]
        self.assertEqual([name for name, value in values.items() if value], ["gpc0"])
        values = self.write("PUT", path, {"values": {"gpc0": 3.0}}).json["values"]
        self.assertEqual(values["gpc0"], 3)
        reply = self.write("PATCH", "/v1/tables/rates/entries/192.0.2.9", {"expires_in": 5000})
        self.assertEqual((reply.status, reply.json["expires_in"]), (201, 5000))
        reply = self.write("PUT", path, {"values": {}, "expires_in": 5000})
        self.assertIn("no expire", reply.json["errors"][0]["expected"])
        for text in ("a\x00", "a" * 20_000, "\ud800", "\\"):
            reply = self.write("PUT", path, {"values": {"server_key": text}})
            self.assertEqual(reply.status, 422, text)

    def test_count(self) -> None:
        """Events that happened are counted."""
        path = "/v1/tables/rates/entries/192.0.2.7"
        events = {"http_req_rate": 3, "gpc0": 1}
        self.assertEqual(self.write("POST", f"{path}/count", {"events": events}).status, 201)
        reply = self.write("POST", f"{path}/count", {"events": events})
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.json["values"], {"gpc0": 2, "http_req_rate": 6})
        for table, wrong, field in (
            ("rates", {}, "body.events"),
            ("rates", {"no": 1}, "body.events.no"),
            ("rates", {"gpc0": -1}, "body.events.gpc0"),
            ("rates", {"gpc0": "1"}, "body.events.gpc0"),
            ("paths", {"server_id": 1}, "body.events"),
        ):
            path = f"/v1/tables/{table}/entries/192.0.2.7/count"
            reply = self.write("POST", path, {"events": wrong})
            self.assertIn(reply.status, (400, 422))
            self.assertEqual(reply.json["errors"][0]["field"], field)

    def test_forget(self) -> None:
        """What is forgotten is gone here; the answer says what HAProxy sees, and until when."""
        path = "/v1/tables/rates/entries/192.0.2.7"
        self.write("PUT", path, {"values": {"gpc0": 1}, "expires_in": 5000})
        self.clock.advance(1)
        for was_here, left in ((True, 4000), (False, 600_000)):
            reply = self.write("DELETE", path).json
            self.assertEqual(reply["was_here"], was_here)
            seen = reply["seen_by_haproxy"]
            self.assertEqual((seen["values"], seen["in_table_for"]), (0, left))
            self.assertRegex(seen["in_table_until"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        seen = self.write("DELETE", "/v1/tables/ids/entries/1").json["seen_by_haproxy"]
        self.assertEqual((seen["in_table_for"], seen["in_table_until"]), (None, None))

    def test_full(self) -> None:
        """A table without room says so."""
        entries = "/v1/tables/small/entries"
        for key in (1, 2):
            self.assertEqual(self.write("PUT", f"{entries}/{key}", {}).status, 201)
        for reply in (
            self.write("PUT", f"{entries}/3", {}),
            self.write("PATCH", f"{entries}/3", {}),
            self.write("POST", f"{entries}/3/count", {"events": {"gpc0": 1}}),
        ):
            self.assertEqual(reply.status, 507)
        body = {"changes": [{"do": "set", "key": "3"}, {"do": "set", "key": "1"}]}
        results = self.write("POST", entries, body).json["results"]
        self.assertEqual([one["status"] for one in results], [507, 200])

    def test_raw(self) -> None:
        """Entries come without a loss, and are taken so: periods of rates, and when they end."""
        rates = self.service.table("rates")
        rates.count("192.0.2.7", gpc0=1, http_req_rate=5)
        place = "/v1/tables/rates/entries"
        for query in ("raw=yes", "raw=yes&sort=-gpc0", "raw=yes&filter=data.gpc0+gt+0"):
            (entry,) = self.get(f"{place}?{query}").json["entries"]
            self.assertEqual(entry["values"]["http_req_rate"][1:], [5, 0])
        before = dict(rates["192.0.2.7"])
        rates.clear()
        reply = self.write("POST", place, {"changes": [{"do": "import", **entry}]})
        self.assertEqual(reply.json["results"], [{"key": "192.0.2.7", "status": 200}])
        self.assertEqual(dict(rates["192.0.2.7"]), before)
        over = {"do": "import", "key": "192.0.2.8", "expires": 1}
        wrong = {"do": "import", "key": "192.0.2.8", "values": {"http_req_rate": [1, 2]}}
        other = {"do": "import", "key": "192.0.2.8", "peer": "lb"}
        count = {"do": "count", "key": "192.0.2.8", "events": {"gpc0": 1}, "expires": 7}
        changes = {"changes": [over, wrong, other, count]}
        results = self.write("POST", place, changes).json["results"]
        self.assertEqual([one["status"] for one in results], [422] * 4)
        self.assertEqual(results[0]["problem"]["errors"][0]["field"], "body.changes[0].expires")
        self.assertEqual(len(rates), 1)
        self.assertEqual(self.get(f"{place}?raw=maybe").status, 400)

    def test_many(self) -> None:
        """Many changes have a result each; one that is wrong holds up no other."""
        changes: list[Any] = [
            {"do": "set", "key": "192.0.2.1", "values": {"gpc0": 1}, "expires_in": 1000},
            {"do": "replace", "key": "192.0.2.1", "values": {"http_req_rate": 5}},
            {"do": "count", "key": "192.0.2.1", "events": {"gpc0": 2}},
            {"do": "forget", "key": "192.0.2.2"},
            {"do": "burn", "key": "192.0.2.2"},
            {"do": "set", "key": "x"},
            {"do": "set"},
            7,
            {"do": "set", "key": "192.0.2.3", "values": {"no": 1}},
            {"do": "set", "key": "192.0.2.3", "events": {"gpc0": 1}},
            {"do": "forget", "key": "192.0.2.3", "values": {}},
            {"do": "count", "key": "192.0.2.3"},
            {"do": "set", "key": "192.0.2.3", "expires_in": 0},
            {"do": "set", "key": "192.0.2.3", "peer": "a"},
            {"do": "set", "key": "192.0.2.4"},
        ]
        reply = self.write("POST", "/v1/tables/rates/entries", {"changes": changes})
        results = reply.json["results"]
        good = [number for number, one in enumerate(results) if one["status"] < 300]
        self.assertEqual(good, [0, 1, 2, 3, 14])
        self.assertEqual(results[2]["entry"]["values"], {"gpc0": 2, "http_req_rate": 5})
        fields = [
            one["problem"]["errors"][0]["field"].partition("]")[2]
            for one in results
            if "problem" in one
        ]
        self.assertEqual(
            fields,
            [
                ".do",
                ".key",
                ".key",
                "",
                ".values.no",
                ".events",
                ".values",
                ".events",
                ".expires_in",
                ".peer",
            ],
        )
        self.assertEqual(results[7]["problem"]["errors"][0]["field"], "body.changes[7]")
        wrongs: list[Any] = [[], [{}] * (MOST_CHANGES + 1), {}, "x", None]
        for wrong in wrongs:
            reply = self.write("POST", "/v1/tables/rates/entries", {"changes": wrong})
            self.assertEqual(reply.status, 400)
            self.assertEqual(reply.json["errors"][0]["field"], "body.changes")

    def test_table_goes(self) -> None:
        """What is to be changed in a table that goes meanwhile is told not to be."""
        channel, transport = self.connect()
        body = b'{"changes":[' + b",".join([b'{"do":"set","key":"1"}'] * 100) + b"]}"
        head = (
            "POST /v1/tables/ids/entries HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {'w' * 20}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        channel.dataReceived(head.encode() + body)
        self.service.remove_table("ids")
        self.wait(lambda: b"results" in transport.value())
        self.assertIn(b'"status":409', transport.value())

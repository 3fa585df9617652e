"""Routes: what is no request of ours, and what goes wrong in one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from peerproto import LocalProtocolError
from peerproto.http.answers import Answer
from peerproto.http.problems import Problem, title
from peerproto.http.routes import MOST_PARAMETERS, Call, Parameter, query_of
from tests.http.client import WRITER, HttpTestCase, parse


class RouteTests(HttpTestCase):
    def test_no_route(self) -> None:
        """A path or a method that there is not is answered by a problem document."""
        for path in (
            "/v1",
            "/dashboard/none",
            "/dashboard/..%2Fpages.py",
            "/v1/node/",
            "//v1/node",
            "/v1//node",
            "/v1/tables//entries",
        ):
            self.assertEqual(self.get(path).status, 404, path)
        reply = self.ask("PUT", "/v1/node", {})
        self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET, HEAD"))
        entry = "/v1/tables/rates/entries/192.0.2.7"
        self.assertEqual(self.ask("TRACE", entry).headers["allow"], "DELETE, GET, HEAD, PATCH, PUT")

    def test_odd_paths(self) -> None:
        """A path is ASCII, and begins with a slash."""
        for path in ("/caf\xe9", "v1/node", "ftp://localhost/v1/node", "/\x1b[2J"):
            line = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            reply = self.send(line.encode("latin-1"))
            self.assertIn(reply.status, (400, 404), path)
            self.assertTrue(reply.body.isascii())

    def test_head(self) -> None:
        """``HEAD`` is answered as ``GET`` is, without a body."""
        channel, transport = self.connect()
        channel.dataReceived(b"HEAD /v1/node HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"200 OK", head)
        self.assertEqual(body, b"")

    def test_parameters(self) -> None:
        """A parameter that is unknown, comes twice or is no number is named."""
        entries = "/v1/tables/rates/entries"
        for query, field, expected in (
            ("x=1", "query.x", "one of filter, key, prefix"),
            ("limit=1&limit=2", "query.limit", "limit once"),
            ("limit=0", "query.limit", "from 1 to 1000"),
            ("limit=1001", "query.limit", "from 1 to 1000"),
            ("limit=x", "query.limit", "a whole number"),
            ("limit=", "query.limit", "a whole number"),
            ("limit=%D9%A3", "query.limit", "a whole number"),
            ("limit=" + "9" * 30, "query.limit", "a whole number"),
        ):
            reply = self.get(f"{entries}?{query}")
            self.assertEqual(reply.status, 400, query)
            (error,) = reply.json["errors"]
            self.assertEqual(error["field"], field)
            self.assertIn(expected, error["expected"])
        many = "&".join("filter=x" for _ in range(MOST_PARAMETERS + 1))
        self.assertEqual(self.get(f"{entries}?{many}").json["errors"][0]["field"], "query")

    def fails(self, error: BaseException, path: str = "/v1/fails") -> Any:
        """The answer of a route that raises something."""

        def do(call: Call) -> Answer:
            raise error

        self.routes.add("GET", path, do, "Fails")
        return self.get(path) if path == "/v1/fails" else None

    def test_failure(self) -> None:
        """A mistake of ours is logged, and answered with no word of what it is."""
        channel, transport = self.connect()
        self.fails(ZeroDivisionError("a secret"), "/v1/breaks")
        channel.dataReceived(b"GET /v1/breaks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply, _ = parse(transport.value())
        self.assertEqual(reply.status, 500)
        self.assertNotIn("secret", reply.body.decode())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_statuses(self) -> None:
        """What a request meets has its status: something that has gone, or a node that stops."""
        for number, (error, status) in enumerate(
            (
                (LocalProtocolError("table t", "one that is gone", "one that is here"), 409),
                (Problem(451, "a reason"), 451),
            )
        ):
            path = f"/v1/fails{number}"
            self.fails(error, path)
            channel, transport = self.connect()
            channel.dataReceived(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            self.assertEqual(parse(transport.value())[0].status, status)

    def test_node_stops(self) -> None:
        """Who waits for an answer when the node stops is told so."""
        self.service.startService()
        for number in range(2000):
            self.service.table("rates").set(f"10.0.{number >> 8}.{number & 255}")
        channel, transport = self.connect()
        path = b"/v1/tables/rates/entries?filter=data.gpc0+gt+9"
        channel.dataReceived(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.service.stopService()
        self.clock.advance(0)
        self.assertEqual(parse(transport.value())[0].status, 503)

    def test_client_goes(self) -> None:
        """Work for a client that has gone ends, and is no error."""
        cancelled: list[Deferred[Any]] = []
        self.routes.add("GET", "/v1/waits", lambda call: Deferred(cancelled.append), "Waits")
        channel, _ = self.connect()
        channel.dataReceived(b"GET /v1/waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(cancelled), 1)

    def test_whole_requests(self) -> None:
        """Routes may write themselves, and give nothing then."""

        def do(call: Call) -> None:
            call.request.write(b"written")

        self.routes.add("GET", "/v1/writes", do, "Writes")
        channel, transport = self.connect()
        channel.dataReceived(b"GET /v1/writes HTTP/1.0\r\n\r\n")
        self.assertTrue(transport.value().endswith(b"\r\n\r\nwritten"))

    def test_broken_off(self) -> None:
        """An answer that has begun and fails then is broken off, so that nobody takes it for a
        whole one."""

        def do(call: Call) -> None:
            call.request.write(b"[1,")
            raise Problem(400, "too late")

        self.routes.add("GET", "/v1/breaks", do, "Breaks")
        channel, transport = self.connect()
        channel.dataReceived(b"GET /v1/breaks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertNotIn(b"too late", transport.value())

    def test_required(self) -> None:
        """A parameter that is needed is asked for."""

        def do(call: Call) -> Answer:
            return Answer(query_of(call.request, (Parameter("a", "", required=True),)))

        self.routes.add("GET", "/v1/needs", do, "Needs", query=(Parameter("a", ""),))
        for query, status in (("", 400), ("?a=1", 200)):
            channel, transport = self.connect()
            line = f"GET /v1/needs{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            channel.dataReceived(line.encode())
            self.assertEqual(parse(transport.value())[0].status, status)

    def test_titles(self) -> None:
        """A status that has no name of its own is its number."""
        self.assertEqual([title(404), title(499)], ["Not Found", "499"])


class BodyTests(HttpTestCase):
    def errors(self, content: Any, method: str = "PUT", path: str = "192.0.2.7") -> list[Any]:
        """The fields that are wrong."""
        reply = self.ask(method, f"/v1/tables/rates/entries/{path}", content, WRITER)
        self.assertIn(reply.status, (400, 422), reply.body)
        errors: list[Any] = reply.json["errors"]
        return errors

    def test_no_json(self) -> None:
        """What is no JSON is said to be none, however it is wrong."""
        for content in (
            b"",
            b" ",
            b"{",
            b"\xff",
            b"[" * 200_000,
            b'{"values":{"gpc0":NaN}}',
            b'{"values":{"gpc0":' + b"9" * 10_000 + b"}}",
        ):
            (error,) = self.errors(content)
            self.assertEqual(error["field"], "body")
            self.assertIn("JSON in UTF-8", error["expected"])

    def test_wrong_fields(self) -> None:
        """Each field that is wrong is named, with what was read and what was expected."""
        for content, wanted in (
            ([], [("body", "an object")]),
            (1, [("body", "an object")]),
            (None, None),
            ({"x": 1}, [("body.x", "one of expires_in, values")]),
            ({"x": 1, "y": 2}, [("body.x", "one of"), ("body.y", "one of")]),
            ({"values": []}, [("body.values", "an object")]),
            ({"values": "x"}, [("body.values", "an object")]),
            ({"values": {}, "expires_in": "5"}, [("body.expires_in", "a whole number")]),
            ({"values": {}, "expires_in": True}, [("body.expires_in", "a whole number")]),
            ({"values": {}, "expires_in": 1.5}, [("body.expires_in", "a whole number")]),
            ({"values": {}, "expires_in": 0}, [("body.expires_in", "1 to 600000 (ms)")]),
            ({"values": {}, "expires_in": 600_001}, [("body.expires_in", "1 to 600000")]),
            ({"values": {}, "expires_in": float("1e300")}, [("body.expires_in", "1 to 600000")]),
            ({"values": {"gpc0": -1}}, [("body.values.gpc0", "0 to 4294967295")]),
            ({"values": {"gpc0": 1 << 32}}, [("body.values.gpc0", "0 to 4294967295")]),
            ({"values": {"gpc0": True}}, [("body.values.gpc0", "a whole number")]),
            ({"values": {"gpc0": "1"}}, [("body.values.gpc0", "a whole number")]),
            ({"values": {"gpc0": None}}, [("body.values.gpc0", "a whole number")]),
            (
                {"values": {"gpc0": 1.5, "no": 1}},
                [("body.values.gpc0", "a whole number"), ("body.values.no", "one of gpc0")],
            ),
        ):
            if wanted is None:
                continue
            errors = self.errors(content)
            self.assertEqual([one["field"] for one in errors], [field for field, _ in wanted])
            for error, (_, expected) in zip(errors, wanted):
                self.assertIn(expected, error["expected"])
        self.assertEqual(len(self.errors({f"x{number}": 1 for number in range(100)})), 20)

    def test_missing_fields(self) -> None:
        """A field that is missing is asked for."""
        (error,) = self.errors({}, "POST", "192.0.2.7/count")
        self.assertEqual((error["field"], error["expected"]), ("body.events", "this field"))

"""Who may: tokens, roles, and where a request comes from."""

from __future__ import annotations

import base64
from typing import Any, Optional

import attrs

from peerproto.http.config import HttpSettings
from peerproto.http.tokens import Token
from tests.http.client import READER, WRITER, HttpTestCase

ENTRY = "/v1/tables/rates/entries/192.0.2.7"
BODY = {"values": {"gpc0": 1}}
BOTH = HttpSettings(writers=Token(WRITER.encode()), readers=Token(READER.encode()))


def basic(password: str, name: str = "admin") -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class TokenTests(HttpTestCase):
    def status(self, method: str, authorization: Optional[str] = None, settings: Any = None) -> int:
        """The status of a read or a write."""
        if settings is not None:
            self.access.settings = settings
        headers = {} if authorization is None else {"Authorization": authorization}
        content = None if method == "GET" else BODY
        path = "/v1/node" if method == "GET" else ENTRY
        return self.ask(method, path, content, headers=headers).status

    def test_loopback_without_token_of_readers(self) -> None:
        """Whoever is on this machine may read, and writing takes the token."""
        self.assertEqual(self.status("GET"), 200)
        self.assertEqual(self.status("PUT"), 401)
        self.assertEqual(self.status("PUT", f"Bearer {WRITER}"), 201)

    def test_roles(self) -> None:
        """With a token of readers, reading takes one of both; readers may not write."""
        for allow in (True, False):
            settings = attrs.evolve(BOTH, allow_writes=allow)
            self.assertEqual(self.status("GET", settings=settings), 401)
            for token in (READER, WRITER):
                self.assertEqual(self.status("GET", f"Bearer {token}"), 200)
                self.assertEqual(self.status("GET", basic(token)), 200)
            self.assertEqual(self.status("PUT", f"Bearer {READER}"), 403)
            self.assertEqual(self.status("PUT", basic(READER)), 403)
            self.assertEqual(self.status("PUT"), 401 if allow else 403)
            self.assertEqual(self.status("PUT", basic(WRITER)), 201 if allow else 403)

    def test_wrong_tokens(self) -> None:
        """What is no token of ours is refused, also where no token is needed; the answer asks for
        ``Bearer`` alone, so that no browser keeps a password."""
        for wrong in (
            "Bearer nonsense",
            f"Bearer {WRITER}x",
            f"Bearer {WRITER[:-1]}",
            "Bearer",
            "Bearer ",
            "Basic",
            "Basic !!",
            basic(""),
            basic("x"),
            "Basic " + base64.b64encode(WRITER.encode()).decode(),
            f"Digest {WRITER}",
            WRITER,
        ):
            reply = self.get("/v1/node", headers={"Authorization": wrong})
            self.assertEqual(reply.status, 401, wrong)
            self.assertEqual(reply.headers["www-authenticate"], 'Bearer realm="peerproto"')
            self.assertNotIn(WRITER, reply.body.decode())

    def test_without_tokens(self) -> None:
        """Without a token of writers nobody is one, whatever is given."""
        settings = HttpSettings(allow_writes=True)
        self.assertEqual(self.status("PUT", settings=settings), 401)
        self.assertEqual(self.status("PUT", "Bearer "), 401)
        self.assertEqual(self.status("GET", f"Bearer {WRITER}"), 401)

    def test_two_headers(self) -> None:
        """Two tokens are none."""
        request = (
            f"GET /v1/node HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITER}\r\n"
            "Authorization: Bearer x\r\n\r\n"
        )
        self.assertEqual(self.send(request.encode()).status, 401)

    def test_never_in_urls(self) -> None:
        """A token in a path is none, and is not repeated."""
        self.access.settings = BOTH
        for name in ("token", "access_token", WRITER):
            reply = self.get(f"/v1/node?{name}={WRITER}")
            self.assertEqual(reply.status, 401)
            reply = self.get(f"/v1/node?{name}={WRITER}", token=READER)
            self.assertEqual(reply.status, 400)
            self.assertNotIn(WRITER if name != WRITER else "=", reply.body.decode())

    def test_elsewhere(self) -> None:
        """Where other machines can connect, reading takes a token: that of writers will do."""
        settings = attrs.evolve(self.settings, bind="tcp:8404", plain=True)
        self.assertEqual(self.status("GET", settings=settings), 401)
        self.assertEqual(self.status("GET", f"Bearer {WRITER}"), 200)

    def test_unix_sockets(self) -> None:
        """Whom the mode of a UNIX socket lets in may write, if writing is allowed at all."""
        for bind, allow, expected in (
            ("unix:/run/p.sock:mode=660", True, 201),
            ("unix:/run/p.sock:660", True, 200),
            ("unix:/run/p.sock:mode=660", False, 403),
            ("unix:/run/p.sock:mode=666", True, 401),
            ("unix:/run/p.sock", True, 401),
        ):
            settings = HttpSettings(bind=bind, allow_writes=allow)
            self.assertEqual(self.status("PUT", settings=settings), expected, bind)
            self.assertEqual(self.status("GET"), 200)

    def test_readiness(self) -> None:
        """Those who may not read are told whether the node is ready, and not why."""
        self.access.settings = BOTH
        self.assertEqual(self.get("/readyz").json, {"ready": False})
        self.assertIn("reasons", self.get("/readyz", token=READER).json)
        self.assertEqual(self.get("/readyz", token="x").status, 401)


class OriginTests(HttpTestCase):
    settings = HttpSettings(
        writers=Token(WRITER.encode()), allow_writes=True, hosts=frozenset({"tables.example.net"})
    )

    def host(self, host: str, **more: str) -> int:
        return self.get("/v1/node", headers={"Host": host, **more}).status

    def test_hosts(self) -> None:
        """A name that is not this node's is refused, also if it leads here (DNS rebinding)."""
        for own in (
            "localhost",
            "LOCALHOST:8404",
            "127.0.0.1",
            "127.1.2.3:1",
            "[::1]:8404",
            "tables.example.net",
            "Tables.Example.Net.:443",
        ):
            self.assertEqual(self.host(own), 200, own)
        for other in (
            "evil.example",
            "localhost.evil.example",
            "tables.example.net.evil.example",
            "192.0.2.1",
            "127.0.0.1.evil.example",
            "localhost:",
            "localhost:x",
            "localhost:80:80",
            "[::1",
            "[::1]x",
            "user@localhost",
            "localhost, evil.example",
            "caf\xe9",
        ):
            self.assertEqual(self.host(other), 421, other)
        self.assertEqual(self.get("/healthz", headers={"Host": "evil.example"}).status, 421)
        self.assertEqual(self.get("/nowhere", headers={"Host": "evil.example"}).status, 421)

    def test_own_address(self) -> None:
        """The address that a client has connected to is a name of this node."""
        self.here = "192.0.2.50"
        self.assertEqual(self.host("192.0.2.50:8404"), 200)
        self.assertEqual(self.host("192.0.2.51"), 421)

    def test_no_host(self) -> None:
        """No browser leaves the name out; a check of health by HTTP/1.0 may."""
        self.assertEqual(self.get("/healthz", headers={"Host": ""}).status, 400)
        self.assertEqual(self.send(b"GET /healthz HTTP/1.0\r\n\r\n").status, 200)
        twice = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        self.assertEqual(self.send(twice).status, 400)

    def test_origins(self) -> None:
        """A page of another origin can neither read nor write, whatever token it has."""
        for own in ("http://localhost:8404", "https://tables.example.net"):
            reply = self.ask("PUT", ENTRY, BODY, WRITER, {"Origin": own})
            self.assertIn(reply.status, (200, 201), own)
        for other in (
            "null",
            "http://localhost:3000",
            "http://localhost",
            "https://evil.example",
            "file://",
            "http://",
            "evil",
            "ftp://localhost:8404",
            "http://[::1",
            "http://localhost\x1b[2J",
        ):
            for method, content in (("GET", None), ("PUT", BODY)):
                path = "/v1/node" if method == "GET" else ENTRY
                reply = self.ask(method, path, content, WRITER, {"Origin": other})
                self.assertEqual(reply.status, 403, other)
                self.assertNotIn("access-control-allow-origin", reply.headers)

    def test_fetch_metadata(self) -> None:
        """What a browser says was asked for by another site is refused."""
        for site, status in (("cross-site", 403), ("same-site", 403), ("none", 200)):
            self.assertEqual(self.host("localhost", **{"Sec-Fetch-Site": site}), status)

    def test_preflight(self) -> None:
        """No page is allowed to ask for more."""
        headers = {"Origin": "http://localhost:8404", "Access-Control-Request-Method": "PUT"}
        reply = self.ask("OPTIONS", ENTRY, headers=headers)
        self.assertEqual(reply.status, 405)
        self.assertNotIn("access-control-allow-methods", reply.headers)

    def test_content_types(self) -> None:
        """What a form of another page could send is no write."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            reply = self.ask("PUT", ENTRY, BODY, WRITER, {"Content-Type": kind})
            self.assertEqual(reply.status, 415, kind)
        for method, kind, status in (
            ("PUT", "Application/JSON; charset=utf-8", 201),
            ("PATCH", "application/merge-patch+json", 200),
            ("PUT", "application/merge-patch+json", 415),
        ):
            reply = self.ask(method, ENTRY, BODY, WRITER, {"Content-Type": kind})
            self.assertEqual(reply.status, status, kind)
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        reply = self.ask("POST", f"{ENTRY}/count", b"--x--\r\n", WRITER, form)
        self.assertEqual(reply.status, 415)

    def test_headers(self) -> None:
        """No browser keeps an answer, runs it, frames it, or shows it to another page."""
        for path in ("/v1/node", "/nowhere", "/v1/tables/nothing"):
            headers = self.get(path).headers
            self.assertEqual(headers["cache-control"], "no-store")
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["cross-origin-resource-policy"], "same-origin")
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertNotIn("set-cookie", headers)

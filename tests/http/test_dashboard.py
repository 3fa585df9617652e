"""The dashboard's files: what they are, who gets them, and what a browser may do with them."""

from __future__ import annotations

import re
from typing import Optional

from peerproto.http.config import HttpSettings
from peerproto.http.openapi import document
from peerproto.http.pages import POLICY, read_files
from peerproto.http.tokens import Token
from tests.http.client import READER, HttpTestCase, Reply

MOST = 100_000
"""Bytes of all files together."""

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class DashboardTestCase(HttpTestCase):
    def page(self, path: str = "/", method: str = "GET", **headers: Optional[str]) -> Reply:
        """What is answered to a browser; ``_`` in the name of a header is ``-``."""
        lines = {"Host": "localhost:8404"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items() if value}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))

    def names(self) -> list[str]:
        """The paths of all files, beside the page."""
        return [f"/dashboard/{name}" for name in read_files()]


class FileTests(DashboardTestCase):
    settings = HttpSettings(readers=Token(READER.encode()))

    def test_headers(self) -> None:
        """Each file has its type, may load from this node alone, and is asked for anew each time,
        also where reading takes a token: it holds no data."""
        self.assertEqual(self.get("/v1/node").status, 401)
        for path in ("/", *self.names()):
            reply = self.page(path)
            self.assertEqual(reply.status, 200, path)
            kind = "html" if path == "/" else path.rpartition(".")[2]
            self.assertEqual(reply.headers["content-type"], TYPES[kind])
            self.assertEqual(reply.headers["content-security-policy"], POLICY)
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
            self.assertEqual(reply.headers["referrer-policy"], "no-referrer")
            self.assertEqual(reply.headers["cache-control"], "no-cache")
        self.assertNotIn("unsafe", POLICY)
        for one in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
            self.assertIn(one, POLICY)

    def test_tags(self) -> None:
        """A browser that has a file is told that it is still the same, and gets one that is not."""
        for path in ("/", *self.names()):
            tag = self.page(path).headers["etag"]
            for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                reply = self.page(path, If_None_Match=known)
                self.assertEqual((reply.status, reply.body), (304, b""))
                self.assertEqual(reply.headers["etag"], tag)
                self.assertNotIn("content-length", reply.headers)
            self.assertEqual(self.page(path, If_None_Match='"other"').status, 200)
        tags = {self.page(path).headers["etag"] for path in self.names()}
        self.assertEqual(len(tags), len(self.names()))

    def test_other_paths(self) -> None:
        """Nothing but these files is served, with no other method, and to no other host."""
        for path in ("/dashboard/", "/dashboard", "/dashboard/none.js", "/dashboard/..%2Fpages.py"):
            self.assertEqual(self.page(path).status, 404, path)
        for path in ("/", "/dashboard/app.js"):
            self.assertEqual(self.page(path, "POST").status, 405)
            self.assertEqual(self.page(path, Host="evil.example").status, 421)
            self.assertEqual(self.page(path, Origin="https://evil.example").status, 403)
            self.assertEqual(self.page(path, "HEAD").body, b"")

    def test_links(self) -> None:
        """Who follows a link from another site gets the page. Nothing else may be asked from
        there, nor the page be shown in a frame there."""
        visit = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        self.assertEqual(self.page(**visit, Sec_Fetch_Dest="document").status, 200)
        self.assertEqual(self.page(**visit, Sec_Fetch_Dest="iframe").status, 403)
        self.assertEqual(self.page(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status, 403)
        for path in ("/dashboard/app.js", "/v1/node", "/metrics"):
            self.assertEqual(self.page(path, **visit, Sec_Fetch_Dest="document").status, 403)

    def test_document(self) -> None:
        """The files are no part of the API."""
        self.assertFalse(
            [
                path
                for path in document(self.routes)["paths"]
                if "v" not in path[:3] and path not in ("/healthz", "/readyz", "/metrics")
            ]
        )


class ContentTests(DashboardTestCase):
    def test_size(self) -> None:
        """All files together are small."""
        self.assertLess(sum(len(one.content) for one in read_files().values()), MOST)

    def test_what_files_name(self) -> None:
        """All that a file loads is another file, by a path that leads to it from any address."""
        files = {name: file.content.decode() for name, file in read_files().items()}
        named = set(re.findall(r'(?:src|href)="([^"#]+)"', files["index.html"]))
        self.assertEqual({name for name in named if not name.startswith("dashboard/")}, set())
        for name in named:
            self.assertEqual(self.page(f"/{name}").status, 200, name)
        seen = {name.partition("/")[2] for name in named}
        for name, text in files.items():
            if name.endswith(".js"):
                imports = re.findall(r'^import .* from "([^"]+)";$', text, re.MULTILINE)
                self.assertTrue(all(one.startswith("./") for one in imports), name)
                seen |= {one[2:] for one in imports}
        self.assertEqual(seen | {"index.html"}, files.keys())

    def test_nothing_inline(self) -> None:
        """No file has a script or a style inside of markup, makes markup of text, or loads
        something from elsewhere."""
        for name, file in read_files().items():
            text = file.content.decode()
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
                self.assertNotIn(word, text, name)
            self.assertFalse(
                re.search(r"<style|\sstyle=|<script>|\son\w+=\"|javascript:", text), name
            )
            places = re.findall(r"https?://[^\s\"'<]+", text)
            self.assertFalse(set(places) - {"http://www.w3.org/2000/svg"}, name)

    def test_identifiers(self) -> None:
        """What the scripts look for in the page is there."""
        files = {name: file.content.decode() for name, file in read_files().items()}
        there = set(re.findall(r'\bid="([^"]+)"', files["index.html"]))
        for name, text in files.items():
            if name.endswith(".js"):
                self.assertFalse(set(re.findall(r'\$\("([^"]+)"\)', text)) - there, name)

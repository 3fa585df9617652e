"""The dashboard: a page at ``/``, and the files that it is made of.

They hold no data, so they need no token. What they show they ask the API for, as anybody could.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import attrs

from peerproto.http.access import Needs
from peerproto.http.answers import Answer
from peerproto.http.problems import Problem
from peerproto.http.routes import Call, Routes

FOLDER: Final = "dashboard"
"""Where the files are, here and in the paths of their URLs."""

FRONT: Final = "index.html"
"""The file that is served at ``/``."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may load for the page, and from where: from this node alone."""

TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By what the name of a file ends with, its content type."""


@attrs.frozen
class File:
    """A file of the dashboard."""

    content: bytes
    content_type: str
    tag: str
    """Its ``ETag``: another one when the content is another."""

    @classmethod
    def of(cls, name: str, content: bytes) -> File:
        """A file with this name."""
        kind = TYPES[name.rpartition(".")[2]]
        return cls(content, kind, f'"{hashlib.sha256(content).hexdigest()[:20]}"')


def read_files() -> dict[str, File]:
    """All files of the dashboard, by name."""
    folder = files("peerproto.http") / FOLDER
    found = sorted(folder.iterdir(), key=lambda one: one.name)
    return {
        one.name: File.of(one.name, one.read_bytes())
        for one in found
        if one.name.rpartition(".")[2] in TYPES
    }


class Pages:
    """The routes of the dashboard."""

    def __init__(self) -> None:
        self.files = read_files()

    def add_to(self, routes: Routes) -> None:
        """Have the routes among others."""
        free = {"needs": Needs.NOTHING, "is_page": True}
        routes.add("GET", "/", self.front, "The dashboard", **free)
        routes.add("GET", f"/{FOLDER}/{{name}}", self.file, "A file of it", **free)

    def front(self, call: Call) -> Answer:
        """The page."""
        return self._answer(call, FRONT)

    def file(self, call: Call) -> Answer:
        """A file that the page is made of."""
        return self._answer(call, call.path["name"])

    def _answer(self, call: Call, name: str) -> Answer:
        """A file; that it is still the same, where the browser has it."""
        file = self.files.get(name)
        if file is None:
            raise Problem(404, "Not Found: the dashboard is at /, the API in /v1/openapi.json")
        headers = {
            # A browser keeps it, and asks each time whether it is still the same.
            "Cache-Control": "no-cache",
            "ETag": file.tag,
            "Content-Security-Policy": POLICY,
        }
        known = call.request.requestHeaders.getRawHeaders(b"If-None-Match", [])
        tags = b",".join(known).decode("latin-1").split(",")
        if any(tag.strip().removeprefix("W/") in (file.tag, "*") for tag in tags):
            return Answer(None, 304, headers)
        return Answer(file.content, headers=headers, content_type=file.content_type)

"""Answers, and how they are written: JSON, with everything odd escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs
from twisted.web.server import Request

from peerproto.http.problems import PROBLEM_TYPE, Problem, title

JSON_TYPE: Final = "application/json"

HEADERS: Final = {
    "Server": "peerproto",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of all answers: no browser keeps, runs or frames one, or shows it to another page."""

_ESCAPED: Final = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\x7f"}


@attrs.frozen
class Answer:
    """What a request is answered."""

    value: Any = None
    """What is written as JSON; ``bytes`` are written as they are, ``None`` is no body."""
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    content_type: str = JSON_TYPE


def as_json(value: Any) -> bytes:
    """JSON of printable ASCII, without the characters that begin something in markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPED).encode("ascii")


def set_headers(request: Request, headers: Mapping[str, str] = {}) -> None:
    """Set the headers of all answers, and these."""
    for name, value in {**HEADERS, **headers}.items():
        request.setHeader(name.encode("ascii"), value.encode("ascii", "backslashreplace"))


def write(request: Request, answer: Answer) -> None:
    """Write a whole answer. What ends the request is up to the caller."""
    request.setResponseCode(answer.status, title(answer.status).encode("ascii"))
    set_headers(request, answer.headers)
    if answer.value is None:
        if answer.status not in (204, 304):
            request.setHeader(b"Content-Length", b"0")
        request.write(b"")
        return
    body = answer.value if isinstance(answer.value, bytes) else as_json(answer.value)
    request.setHeader(b"Content-Type", answer.content_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)


def answer_of(problem: Problem) -> Answer:
    """The answer that a problem is."""
    return Answer(problem.document, problem.status, problem.headers, PROBLEM_TYPE)

"""Problem documents (RFC 9457): what is wrong with a request, and with which field of it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from peerproto import LocalProtocolError
from peerproto.http.text import shown

PROBLEM_TYPE: Final = "application/problem+json"
"""Content type of a problem document."""

UNFIT: Final = 422
"""The status where a request is as the document says, but does not fit the table."""

_LONGEST_READ: Final = 200
"""Characters that are repeated of what was read."""


@attrs.frozen
class Wrong:
    """One field that is wrong."""

    field: str
    """Where it stands: ``values.gpc0``, ``query.limit``, ``path.key``, ``header.Host``."""
    read: str
    expected: str

    @classmethod
    def of(cls, field: str, read: object, expected: str) -> Wrong:
        """What was read, as text that is not too long."""
        text = read if isinstance(read, str) else repr(read)
        return cls(shown(field), shown(text[:_LONGEST_READ]), shown(expected))


@attrs.define(auto_exc=True, str=False)
class Problem(Exception):
    """A request cannot be done; the answer is a problem document."""

    status: int
    detail: str
    """Why, in words."""
    errors: tuple[Wrong, ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Headers of the answer."""

    def __str__(self) -> str:
        return self.detail

    @classmethod
    def wrong(cls, field: str, read: object, expected: str, status: int = 400) -> Problem:
        """One field is wrong."""
        error = Wrong.of(field, read, expected)
        detail = f"{error.field}: read '{error.read}', expected {error.expected}"
        return cls(status, detail, (error,))

    @classmethod
    def unfit(cls, field: str, read: object, expected: str) -> Problem:
        """One field does not fit the table."""
        return cls.wrong(field, read, expected, UNFIT)

    @classmethod
    def of(cls, field: str, problem: LocalProtocolError, status: int = 400) -> Problem:
        """What the node says of one field."""
        return cls.wrong(field, problem.read, problem.expected, status)

    @property
    def document(self) -> dict[str, Any]:
        """The values of the document."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": title(self.status),
            "status": self.status,
            "detail": shown(self.detail),
        }
        if self.errors:
            document["errors"] = [attrs.asdict(one) for one in self.errors]
        return document


_TITLES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Phrases as RFC 9110 has them: Python knew others before 3.13."""


def title(status: int) -> str:
    """The phrase of a status; its number if it has none."""
    try:
        return _TITLES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return str(status)

"""Bodies of requests: JSON to values, with every wrong field named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, Optional, TypeVar, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from twisted.web.server import Request

from peerproto import LocalProtocolError
from peerproto.http.answers import JSON_TYPE
from peerproto.http.problems import Problem, Wrong

T = TypeVar("T")

PATCH_TYPE: Final = "application/merge-patch+json"
"""Content type that ``PATCH`` may have, too (RFC 7396)."""

MOST_ERRORS: Final = 20
"""Fields that are named in one problem document."""

_EXPECTED: Final[dict[type, str]] = {
    int: "a whole number",
    str: "a string",
    bool: "true or false",
    dict: "an object",
    list: "an array",
}


def whole(value: Any) -> Optional[int]:
    """A whole number of JSON, in which ``1.0`` is one; ``None`` for what is none."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _exactly(kind: type) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if kind is int and (number := whole(value)) is not None:
            return number
        if type(value) is not kind:
            raise LocalProtocolError("value", value, _EXPECTED[kind])
        return value

    return structure


def _is_one(origin: object, kind: Any) -> bool:
    return get_origin(kind) is origin


CONVERTER: Final = Converter(forbid_extra_keys=True)
"""Makes values of what JSON has, without guessing."""
_KINDS: Final[tuple[type, ...]] = (int, str, bool)
for _kind in _KINDS:
    CONVERTER.register_structure_hook(_kind, _exactly(_kind))
for _kind in (dict, list):
    # What is in them is looked at by who knows what it is about.
    CONVERTER.register_structure_hook_func(partial(_is_one, _kind), _exactly(_kind))


def content_of(request: Request) -> Any:
    """What the JSON of a request says.

    :raises Problem: it is of another content type, or no JSON.
    """
    kind = (request.requestHeaders.getRawHeaders(b"Content-Type") or [b""])[0]
    name = kind.partition(b";")[0].strip().lower().decode("latin-1")
    kinds = (JSON_TYPE, PATCH_TYPE) if request.method == b"PATCH" else (JSON_TYPE,)
    if name not in kinds:
        raise Problem.wrong("header.Content-Type", kind.decode("latin-1"), kinds[0], 415)
    assert request.content is not None
    data = request.content.read()
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        text = data[:100].decode("utf-8", "backslashreplace")
        raise Problem.wrong("body", text, f"JSON in UTF-8 ({problem})") from problem


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def structured(content: Any, kind: type[T], field: str = "body") -> T:
    """What JSON says, as a value of an attrs class.

    :param field: the name of the whole.
    :raises Problem: some of its fields are wrong, or missing.
    """
    try:
        if not isinstance(content, dict):
            raise LocalProtocolError(field, content, _EXPECTED[dict])
        return CONVERTER.structure(content, kind)
    except Exception as problem:
        errors = tuple(islice(_wrongs(problem, field), MOST_ERRORS))
        if not errors:
            raise
        first = errors[0]
        detail = f"{first.field}: read '{first.read}', expected {first.expected}"
        raise Problem(400, detail, errors) from problem


def _wrongs(problem: BaseException, field: str) -> Iterator[Wrong]:
    if isinstance(problem, (ClassValidationError, IterableValidationError)):
        inner, others = problem.group_exceptions()
        for one, note in inner:
            place = getattr(note, "name", None)
            below = f"{field}.{place}" if place is not None else f"{field}[{note.index}]"
            yield from _wrongs(one, below)
        for other in others:
            yield from _wrongs(other, field)
    elif isinstance(problem, ForbiddenExtraKeysError):
        names = ", ".join(sorted(one.alias for one in attrs.fields(problem.cl)))
        for extra in sorted(problem.extra_fields, key=str):
            yield Wrong.of(f"{field}.{extra}", extra, f"one of {names}")
    elif isinstance(problem, LocalProtocolError):
        yield Wrong.of(field, problem.read, problem.expected)
    elif isinstance(problem, KeyError):
        yield Wrong.of(field, "", "this field")

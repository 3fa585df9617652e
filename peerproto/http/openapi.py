"""The OpenAPI 3.1 document of a node: made of its routes, so that it has all of them."""

from __future__ import annotations

import re
from typing import Any, Final

import peerproto
from peerproto.http import schemas
from peerproto.http.access import Needs
from peerproto.http.answers import JSON_TYPE, Answer
from peerproto.http.bodies import PATCH_TYPE
from peerproto.http.problems import PROBLEM_TYPE, title
from peerproto.http.routes import Call, Parameter, Route, Routes
from peerproto.http.showing import PEER

_SCHEMAS: Final = {
    "Change": schemas.CHANGE,
    "Count": schemas.COUNTED,
    "Detail": schemas.DETAIL,
    "Entries": schemas.ENTRIES,
    "Entry": schemas.ENTRY,
    "Forgotten": schemas.FORGOTTEN,
    "Node": schemas.NODE,
    "Parts": schemas.PARTS,
    "Peer": PEER,
    "Problem": schemas.PROBLEM,
    "RawEntry": schemas.RAW_ENTRY,
    "Result": schemas.RESULT,
    "Set": schemas.SET,
    "Table": schemas.TABLE,
}

_SECURITY: Final[dict[Needs, list[dict[str, list[str]]]]] = {
    Needs.NOTHING: [],
    Needs.READ: [{}, {"bearer": []}, {"basic": []}],
    Needs.WRITE: [{"bearer": []}, {"basic": []}],
}

_IN_PATH: Final = {
    "table": "The name of a table; bytes that are no UTF-8, and `/`, as %HH.",
    "key": "The key of an entry, as answers have it; `/` as %2F.",
    "peer": "The name of a peer.",
    "name": "The name of a table.",
}

EVERYWHERE: Final = (400, 401, 403, 421)
"""Statuses of the problem documents that each route may have."""


def document(routes: Routes) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.is_page:
            continue
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "peerproto",
            "version": peerproto.__version__,
            "summary": "The stick tables of a fleet of HAProxies.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The token is the password; the name is not looked at.",
                },
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _IN_PATH[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [_parameter(one, "query") for one in route.query]
    parameters += [_parameter(one, "header") for one in route.headers]
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{_words(route.path)}",
        "summary": route.summary,
        "security": _SECURITY[route.needs],
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.body is not None:
        kinds = [JSON_TYPE, PATCH_TYPE] if route.method == "PATCH" else [JSON_TYPE]
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": route.body} for kind in kinds},
        }
    return operation


def _parameter(one: Parameter, place: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": place,
        "required": one.required,
        "description": one.description,
        "schema": {"type": "array", "items": one.schema} if one.many else one.schema,
    }


def _words(path: str) -> str:
    return "".join(word.capitalize() for word in re.findall(r"\w+", path))


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    statuses = {*EVERYWHERE, *route.problems}
    if route.body is not None:
        statuses |= {413, 415}
    # What does not get as far as a route has a problem document, whatever the route's are.
    problems = {PROBLEM_TYPE: {"schema": schemas.ref("Problem")}}
    if route.problem is not None:
        problems[route.problem_type] = {"schema": route.problem}
    for status in sorted(statuses):
        responses[str(status)] = {
            "description": title(status),
            "content": problems,
        }
    for status, schema in route.answers.items():
        answer: dict[str, Any] = {"description": title(status)}
        if schema is not None:
            answer["content"] = {route.content_type: {"schema": schema}}
        responses[str(status)] = answer
    return dict(sorted(responses.items()))


class OpenApiRoute:
    """Serves the document."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def show(self, call: Call) -> Answer:
        """The document."""
        return Answer(document(self._routes))

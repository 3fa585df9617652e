"""Routes: what is done for a method and a path, for whom, and what is said of it in OpenAPI."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Optional, Union
from urllib.parse import parse_qsl

import attrs
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from peerproto import LocalProtocolError, StaleCursor, TableFull
from peerproto.http import text
from peerproto.http.access import Access, Caller, Needs
from peerproto.http.answers import JSON_TYPE, Answer, answer_of, write
from peerproto.http.bodies import content_of
from peerproto.http.problems import PROBLEM_TYPE, Problem, title
from peerproto.http.writelog import WriteLog

MOST_PARAMETERS: Final = 50
"""Parameters in the query of a request."""

Schema = Mapping[str, Any]
"""A JSON Schema, as OpenAPI 3.1 has it."""


@attrs.frozen
class Parameter:
    """A parameter in the query of a path."""

    name: str
    description: str
    schema: Schema = attrs.field(factory=lambda: {"type": "string"})
    many: bool = False
    """Whether it may come more than once."""
    required: bool = False


@attrs.frozen
class Call:
    """A request that may do what it asks for."""

    request: Request
    caller: Caller
    path: Mapping[str, str]
    """What stands in the path for each name in braces, as text: see `peerproto.http.text`."""
    query: Mapping[str, list[str]]
    """The values of each parameter that was given."""
    content: Any = None
    """What the body says, if the route takes one."""

    def one(self, name: str) -> Optional[str]:
        """The value of a parameter that comes once at most; ``None`` without it."""
        values = self.query.get(name)
        return values[0] if values else None

    def name(self, name: str) -> str:
        """What a text in the path stands for: the name of a table, or of a peer.

        :raises Problem: it is no such text.
        """
        try:
            return text.read(self.path[name])
        except LocalProtocolError as problem:
            raise Problem.of(f"path.{name}", problem, 404) from problem

    def number(self, name: str, otherwise: int, least: int, most: int) -> int:
        """A parameter that is a whole number.

        :raises Problem: it is none, or beyond its bounds.
        """
        given = self.one(name)
        if given is None:
            return otherwise
        if given.isascii() and given.isdecimal() and len(given) <= 20:
            number = int(given)
            if least <= number <= most:
                return number
        raise Problem.wrong(f"query.{name}", given, f"a whole number from {least} to {most}")


Result = Optional[Answer]
"""``None`` if all was written to the request already."""

Do = Callable[[Call], Union[Result, Awaitable[Result]]]


@attrs.frozen
class Route:
    """One method of one path."""

    method: str
    path: str
    """With a name in braces for each segment that may be anything: ``/v1/tables/{table}``."""
    do: Do
    summary: str
    needs: Needs = Needs.READ
    query: tuple[Parameter, ...] = ()
    body: Optional[Schema] = None
    """What its body is; ``None`` if it takes none."""
    answers: Mapping[int, Optional[Schema]] = attrs.field(factory=dict)
    """The schema of each answer that is no problem document; ``None`` for no body."""
    problems: tuple[int, ...] = ()
    """The statuses of its problem documents, beside those that all routes have."""
    content_type: str = JSON_TYPE
    """That of such an answer."""
    headers: tuple[Parameter, ...] = ()
    """Headers of a request that it reads."""
    describe: Callable[[Problem], Answer] = answer_of
    """Makes the answer that a problem is."""
    problem: Optional[Schema] = None
    """The schema of such an answer, if it is no problem document."""
    problem_type: str = PROBLEM_TYPE
    """Its content type."""
    logs_changes: bool = False
    """Whether each change that it makes has a line in the log."""
    is_page: bool = False
    """Whether it is for people in a browser: no part of the API, and not in its document."""


class Routes:
    """All routes of a node."""

    _log = Logger()

    def __init__(self, access: Access, log: WriteLog) -> None:
        self._access = access
        self.log = log
        """Of what is written."""
        self._routes: list[Route] = []
        self._klein = Klein()
        no_route: Any = _no_route
        self._klein.handle_errors(HTTPException)(no_route)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def add(self, method: str, path: str, do: Do, summary: str, **more: Any) -> None:
        """Have one more route: see `Route`."""
        route = Route(method, path, do, summary, **more)
        self._routes.append(route)

        def run(request: Request, **segments: str) -> Deferred[None]:
            return Deferred.fromCoroutine(self._run(route, request, segments))

        rule = path.replace("{", "<").replace("}", ">")
        self._klein.route(rule, methods=[method], endpoint=f"{method} {path}")(run)

    def resource(self) -> IResource:
        """What twisted.web serves: each request passes `Access` first."""
        return _Front(self._klein.resource(), self._access, self.log)

    async def _run(self, route: Route, request: Request, segments: Mapping[str, str]) -> None:
        call = None
        try:
            call = self._call(route, request, segments)
            answer = route.do(call)
            if inspect.isawaitable(answer):
                answer = await answer
        except Problem as problem:
            if call is None and route.needs is Needs.WRITE:
                self.log.refused(request, problem.status, problem.detail)
            answer = route.describe(problem)
        except (CancelledError, Exception):
            answer = route.describe(self._problem(Failure(), route))
        if call is not None and route.needs is Needs.WRITE:
            status = 200 if answer is None else answer.status
            content = None if route.logs_changes and status == 200 else call.content
            self.log.request(call.caller, request, content, status)
        if request.channel is None:
            return  # the client has gone
        if request.startedWriting and answer is not None:
            self._log.warn("an answer breaks off: {path}", path=route.path)
            transport: Any = request.transport
            transport.abortConnection()
            # Nobody is to end the answer, so that it cannot be taken for a whole one.
            await Deferred()
        elif answer is not None:
            write(request, answer)

    def _call(self, route: Route, request: Request, segments: Mapping[str, str]) -> Call:
        caller = self._access.admit(request, route.needs)
        path = {name: text.unquoted(segment) for name, segment in segments.items()}
        query = query_of(request, route.query)
        content = None if route.body is None else content_of(request)
        return Call(request, caller, path, query, content)

    def _problem(self, reason: Failure, route: Route) -> Problem:
        """What the answer says of an exception."""
        error = reason.value
        if isinstance(error, CancelledError):
            return Problem(503, "the node stops", headers={"Retry-After": "1"})
        if isinstance(error, StaleCursor):
            return Problem.of("query.cursor", error, 410)
        if isinstance(error, TableFull):
            return Problem.of("table", error, 507)
        if isinstance(error, LocalProtocolError):
            # What the request is about has gone, or has changed, meanwhile.
            return Problem(409, str(error))
        self._log.failure("{method} {path} failed", reason, method=route.method, path=route.path)
        return Problem(500, "this is a mistake of the node, which has logged it")


def query_of(request: Request, parameters: tuple[Parameter, ...]) -> dict[str, list[str]]:
    """The values of each parameter in the query of a request.

    :raises Problem: one is unknown, missing, or comes too often.
    """
    _, _, given = request.uri.partition(b"?")
    known = {one.name: one for one in parameters}
    values: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            given.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError as problem:
        raise Problem.wrong("query", "", f"{MOST_PARAMETERS} parameters at most") from problem
    for name, value in pairs:
        if name not in known:
            # Its value may be a secret that should not have stood there.
            expected = f"one of {', '.join(known)}" if known else "no parameter"
            raise Problem.wrong(f"query.{name[:50]}", name[:50], expected)
        values.setdefault(name, []).append(value)
    for name, parameter in known.items():
        some = values.get(name, [])
        if parameter.required and not some:
            raise Problem.wrong(f"query.{name}", "", "this parameter")
        if len(some) > 1 and not parameter.many:
            raise Problem.wrong(f"query.{name}", some[1], f"{name} once")
    return values


def _no_route(request: Request, failure: Failure) -> None:
    """Answer a request for a path or a method that there is not."""
    error = failure.value
    assert isinstance(error, HTTPException)
    status = error.code or 404
    headers = {}
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    write(
        request,
        answer_of(Problem(status, f"{title(status)}: see /v1/openapi.json", headers=headers)),
    )


_READING: Final = (b"GET", b"HEAD", b"OPTIONS")
"""Methods that change nothing."""


class _Front(Resource):
    """Lets a request pass if it was meant for this node, to where its path leads."""

    isLeaf = True

    def __init__(self, inner: IResource, access: Access, log: WriteLog) -> None:
        super().__init__()
        self._inner = inner
        self._access = access
        self._log = log

    def render(self, request: Request) -> Any:
        """See ``Resource``."""
        try:
            self._access.check_origin(request)
            if not request.path.startswith(b"/") or not request.path.isascii():
                raise Problem.wrong("path", request.path.decode("latin-1"), "a path in ASCII")
            if b"//" in request.path:
                # Not the path without them, to which werkzeug would send the client.
                raise Problem(404, "no path has an empty segment")
        except Problem as problem:
            if request.method not in _READING:
                self._log.refused(request, problem.status, problem.detail)
            write(request, answer_of(problem))
            request.finish()
            return 1  # NOT_DONE_YET
        # With their escapes, so that a slash in a key is none in the path.
        request.postpath = request.path[1:].split(b"/")
        return self._inner.render(request)

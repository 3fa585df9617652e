"""``peers.ini`` to frozen values: strict, and every error names its line."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final, Optional

import attrs
from twisted.internet import endpoints
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from peerproto.limits import Limits
from peerproto.tables.declaration import Declaration
from peerproto.tables.units import entries
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.handshake import Hello

DEFAULT_BIND: Final = "tcp:10000:interface=127.0.0.1"
"""Where to listen when the file does not say: for this machine only."""


@attrs.define(auto_exc=True, str=False)
class ConfigError(Exception):
    """Something in the file is wrong: where, what was read and what was expected."""

    file: str
    line: int
    read: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: read '{self.read}', expected {self.expected}"


@attrs.frozen
class Config:
    """A whole ``peers.ini``. Endpoints are descriptions, as Twisted reads them."""

    localpeer: str
    bind: str
    runtime: Optional[str]
    learn_tables: bool
    peers: dict[str, str]
    tables: tuple[Declaration, ...]
    limits: Limits = attrs.field(factory=Limits)

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a file.

        :raises ConfigError: anything in it is not as it should be.
        :raises OSError: it cannot be opened.
        """
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return cls.parse(path, file.read())

    @classmethod
    def parse(cls, path: str, text: str) -> Config:
        """Read the text of a file; ``path`` is for error messages.

        :raises ConfigError: see `read`.
        """
        settings = _Settings(path)
        for line in _lines(path, text):
            settings.take(line)
        return settings.config()


@attrs.frozen
class _Line:
    """``key = value`` in a section."""

    path: str
    number: int
    section: str
    key: str
    value: str

    def wrong(self, expected: str, read: Optional[str] = None) -> ConfigError:
        read = f"{self.key} = {self.value}" if read is None else read
        return ConfigError(self.path, self.number, read, expected)


_SECTION = re.compile(r"\[\s*([^\]]*?)\s*\]")


def _lines(path: str, text: str) -> Iterator[_Line]:
    section: Optional[str] = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)[;#].*", "", raw).strip()
        if not line:
            continue
        heading = _SECTION.fullmatch(line)
        if heading:
            section = heading[1]
            if section not in _SECTIONS:
                raise ConfigError(path, number, line, f"one of {_headings()}")
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if section is None:
            raise ConfigError(path, number, line, f"a section first, one of {_headings()}")
        if not equals or not key or not value:
            raise ConfigError(path, number, line, "<key> = <value>")
        yield _Line(path, number, section, key, value)


def _headings() -> str:
    return ", ".join(f"[{name}]" for name in _SECTIONS)


class _Settings:
    """Collects what the lines say."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: dict[tuple[str, str], int] = {}
        self._node: dict[str, Any] = {}
        self._peers: dict[str, str] = {}
        self._tables: list[Declaration] = []
        self._limits: dict[str, int] = {}

    def take(self, line: _Line) -> None:
        first = self._seen.setdefault((line.section, line.key), line.number)
        if first != line.number:
            raise line.wrong(f"{line.key} once in [{line.section}]: it is in line {first} too")
        _SECTIONS[line.section](self, line)

    def node(self, line: _Line) -> None:
        read = _NODE_KEYS.get(line.key)
        if read is None:
            raise line.wrong(f"one of {', '.join(_NODE_KEYS)} in [node]")
        self._node[line.key] = read(line)

    def peer(self, line: _Line) -> None:
        self._peers[_peer_name(line, line.key)] = _client_endpoint(line)

    def table(self, line: _Line) -> None:
        try:
            self._tables.append(Declaration.parse(line.key, line.value))
        except LocalProtocolError as problem:
            raise line.wrong(f"{problem.expected} ({problem.what})", str(problem.read)) from problem

    def limit(self, line: _Line) -> None:
        if line.key not in _LIMITS:
            raise line.wrong(f"one of {', '.join(_LIMITS)} in [limits]")
        try:
            self._limits[_LIMITS[line.key]] = entries(line.value, line.key)
        except LocalProtocolError as problem:
            raise line.wrong(problem.expected) from problem

    def config(self) -> Config:
        localpeer = self._node.get("localpeer") or socket.gethostname()
        return Config(
            localpeer,
            self._node.get("bind", DEFAULT_BIND),
            self._node.get("runtime"),
            self._node.get("learn-tables", True),
            {name: where for name, where in self._peers.items() if name != localpeer},
            tuple(self._tables),
            Limits(**self._limits),
        )


def _peer_name(line: _Line, name: str) -> str:
    try:
        Hello(name, name, 1).encode()
    except LocalProtocolError:
        raise line.wrong("a peer name without white space") from None
    return name


def _localpeer(line: _Line) -> str:
    return _peer_name(line, line.value)


def _yes_or_no(line: _Line) -> bool:
    if line.value not in ("yes", "no"):
        raise line.wrong("yes or no")
    return line.value == "yes"


_HOST_AND_PORT = re.compile(r"(\*|\[[0-9A-Fa-f:.]+\]|[^:\s/\[\]]*):(\d{1,5})")


def _host_and_port(line: _Line) -> Optional[tuple[str, int]]:
    """``host:port``, or ``None`` if it is an endpoint description."""
    match = _HOST_AND_PORT.fullmatch(line.value)
    if match is None or match[1] in ("tcp", "tcp6"):
        return None
    if not 0 < int(match[2]) < 65536:
        raise line.wrong("a port from 1 to 65535")
    return match[1].strip("[]"), int(match[2])


def _quoted(host: str) -> str:
    """A host as it stands in an endpoint description, where colons separate."""
    return host.replace("\\", "\\\\").replace(":", "\\:")


@implementer(IReactorPluggableNameResolver)
class _NoReactor:
    """Stands where endpoints keep the reactor that they will use, in a mere check."""

    nameResolver = None

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError("endpoints are only made here, not used")


def _server_endpoint(line: _Line) -> str:
    place = _host_and_port(line)
    if place is not None:
        host, port = place
        kind = "tcp6" if ":" in host else "tcp"
        interface = "" if host in ("", "*") else f":interface={_quoted(host)}"
        return f"{kind}:{port}{interface}"
    if line.value.startswith("/"):
        return f"unix:{_quoted(line.value)}"
    _check(
        line,
        lambda: verifyObject(
            IStreamServerEndpoint, endpoints.serverFromString(_NoReactor(), line.value)
        ),
        "a Twisted server endpoint (tcp:10000, unix:/path), host:port or /path",
    )
    return line.value


def _client_endpoint(line: _Line) -> str:
    place = _host_and_port(line)
    if place is not None:
        host, port = place
        if host in ("", "*"):
            raise line.wrong("a host before the port")
        return f"tcp:{_quoted(host)}:{port}"
    if line.value.startswith("/"):
        return f"unix:{_quoted(line.value)}"
    _check(
        line,
        lambda: verifyObject(
            IStreamClientEndpoint, endpoints.clientFromString(_NoReactor(), line.value)
        ),
        "a Twisted client endpoint (tcp:192.0.2.1:10000, unix:/path), host:port or /path",
    )
    return line.value


def _check(line: _Line, make: Callable[[], object], expected: str) -> None:
    """Twisted's parsers say what is wrong in many ways; we say what would be right."""
    try:
        make()
    except Exception as problem:
        raise line.wrong(expected) from problem


_NODE_KEYS: Final[dict[str, Callable[[_Line], Any]]] = {
    "localpeer": _localpeer,
    "bind": _server_endpoint,
    "runtime": _server_endpoint,
    "learn-tables": _yes_or_no,
}

_LIMITS: Final = {field.name.replace("_", "-"): field.name for field in attrs.fields(Limits)}

_SECTIONS: Final[dict[str, Callable[[_Settings, _Line], None]]] = {
    "node": _Settings.node,
    "peers": _Settings.peer,
    "tables": _Settings.table,
    "limits": _Settings.limit,
}

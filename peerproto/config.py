"""``peers.ini`` to frozen values: strict, and every error names its line."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Optional, TypeVar

import attrs

from peerproto.addresses import client_endpoint, server_endpoint
from peerproto.limits import Limits
from peerproto.tables.declaration import Declaration
from peerproto.tables.units import entries
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.handshake import Hello

if TYPE_CHECKING:
    from peerproto.peering.tls import Credentials

T = TypeVar("T")

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
    credentials: Optional[Credentials] = None
    """What [tls] names, read from its files."""

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
            if line.key:
                settings.take(line)
            else:
                settings.begin(line)
        return settings.config()


@attrs.frozen
class _Line:
    """``key = value`` in a section; without both, the heading of one."""

    path: str
    number: int
    section: str
    key: str
    value: str

    def wrong(self, expected: str, read: Optional[str] = None) -> ConfigError:
        read = f"{self.key} = {self.value}" if read is None else read
        return ConfigError(self.path, self.number, read, expected)

    def read_with(self, read: Callable[[str], T]) -> T:
        """What ``read`` makes of the value.

        :raises ConfigError: it raised `LocalProtocolError`.
        """
        try:
            return read(self.value)
        except LocalProtocolError as problem:
            raise self.wrong(problem.expected) from problem

    def choose(self, *words: str) -> str:
        """The value, one of these.

        :raises ConfigError: it is none of them.
        """
        if self.value not in words:
            raise self.wrong(" or ".join(words))
        return self.value


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
            yield _Line(path, number, section, "", "")
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
        self._headings: dict[str, _Line] = {}
        self._lines: dict[tuple[str, str], _Line] = {}
        self._node: dict[str, Any] = {}
        self._peers: dict[str, str] = {}
        self._tables: list[Declaration] = []
        self._limits: dict[str, int] = {}
        self._tls: dict[str, Any] = {}

    def begin(self, heading: _Line) -> None:
        self._headings.setdefault(heading.section, heading)

    def take(self, line: _Line) -> None:
        first = self._lines.setdefault((line.section, line.key), line).number
        if first != line.number:
            raise line.wrong(f"{line.key} once in [{line.section}]: it is in line {first} too")
        _SECTIONS[line.section](self, line)

    def node(self, line: _Line) -> None:
        read = _NODE_KEYS.get(line.key)
        if read is None:
            raise line.wrong(f"one of {', '.join(_NODE_KEYS)} in [node]")
        self._node[line.key] = read(line)

    def peer(self, line: _Line) -> None:
        self._peers[_peer_name(line, line.key)] = line.read_with(client_endpoint)

    def table(self, line: _Line) -> None:
        try:
            self._tables.append(Declaration.parse(line.key, line.value))
        except LocalProtocolError as problem:
            raise line.wrong(f"{problem.expected} ({problem.what})", str(problem.read)) from problem

    def limit(self, line: _Line) -> None:
        if line.key not in _LIMITS:
            raise line.wrong(f"one of {', '.join(_LIMITS)} in [limits]")
        self._limits[_LIMITS[line.key]] = line.read_with(entries)

    def tls(self, line: _Line) -> None:
        read = _TLS_KEYS.get(line.key)
        if read is None:
            raise line.wrong(f"one of {', '.join(_TLS_KEYS)} in [tls]")
        self._tls[line.key.replace("-", "_")] = read(line)

    def credentials(self) -> Optional[Credentials]:
        """What the files in [tls] have.

        :raises ConfigError: they cannot be read, or one is missing.
        """
        heading = self._headings.get("tls")
        if heading is None:
            return None
        lines = {line.key: line for line in self._lines.values() if line.section == "tls"}
        if "certificate" not in lines:
            raise heading.wrong("certificate = <file> in it", "[tls]")
        for line in self._lines.values():
            kind = line.value.partition(":")[0]
            if line.section in ("node", "peers") and line.key != "runtime" and kind in _TLS_KINDS:
                raise line.wrong("an address without TLS of its own, since [tls] adds it")
        try:
            from peerproto.peering.tls import Credentials
        except ImportError as problem:
            raise heading.wrong(f"the packages of peerproto[tls] ({problem})", "[tls]") from problem
        try:
            return Credentials.load(**self._tls)
        except LocalProtocolError as problem:
            line = lines.get(problem.what, heading)
            read = None if line.key else f"[tls] without {problem.what}"
            raise line.wrong(problem.expected, read) from problem

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
            self.credentials(),
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
    return line.choose("yes", "no") == "yes"


def _file(line: _Line) -> str:
    return line.value


def _server_endpoint(line: _Line) -> str:
    return line.read_with(server_endpoint)


_NODE_KEYS: Final[dict[str, Callable[[_Line], Any]]] = {
    "localpeer": _localpeer,
    "bind": _server_endpoint,
    "runtime": _server_endpoint,
    "learn-tables": _yes_or_no,
}

_TLS_KEYS: Final[dict[str, Callable[[_Line], Any]]] = {
    "certificate": _file,
    "key": _file,
    "ca-file": _file,
    "verify": lambda line: line.choose("required", "none") == "required",
    "verify-name": _yes_or_no,
}

_TLS_KINDS: Final = ("ssl", "tls")
"""Endpoints that speak TLS of their own."""

_LIMITS: Final = {field.name.replace("_", "-"): field.name for field in attrs.fields(Limits)}

_SECTIONS: Final[dict[str, Callable[[_Settings, _Line], None]]] = {
    "node": _Settings.node,
    "peers": _Settings.peer,
    "tables": _Settings.table,
    "limits": _Settings.limit,
    "tls": _Settings.tls,
}

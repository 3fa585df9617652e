"""``peers.ini`` to frozen values: strict, and every error names its line."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Optional, TypeVar

import attrs

from peerproto.connections.addresses import client_endpoint, server_endpoint
from peerproto.peering.limits import Limits
from peerproto.tables.declaration import Declaration
from peerproto.tables.units import entries
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.handshake import Hello

if TYPE_CHECKING:
    from peerproto.connections.tls import Credentials

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
        read = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in self.read)
        return f"{self.file}:{self.line}: read '{read}', expected {self.expected}"


@attrs.frozen
class Config:
    """A whole ``peers.ini``. Endpoints are descriptions, as Twisted reads them."""

    localpeer: str
    bind: str
    runtime: Optional[str]
    learn_tables: bool
    learn_columns: bool
    peers: dict[str, str]
    """By name, our own name included if the file has it."""
    tables: tuple[Declaration, ...]
    limits: Limits = attrs.field(factory=Limits)
    credentials: Optional[Credentials] = None
    """What [tls] names, read from its files."""
    allow_empty: bool = False
    """Whether a reload may take away all peers, or all tables."""
    warnings: tuple[str, ...] = ()
    """What is read in another way than it is written, each with its file and line."""

    def peers_but(self, name: str) -> dict[str, str]:
        """The peers that are not this one."""
        return {peer: where for peer, where in self.peers.items() if peer != name}

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a file.

        :raises ConfigError: anything in it is not as it should be.
        :raises OSError: it cannot be opened.
        """
        return cls.whole(path, text_of(path))

    @classmethod
    def whole(cls, path: str, text: str) -> Config:
        """Read the text of a file that may have been cut: see `parse`.

        :raises ConfigError: its last line does not end, too. HAProxy does not take that either.
        """
        if text and not text.endswith("\n"):
            lines = text.split("\n")
            raise ConfigError(
                path,
                len(lines),
                lines[-1],
                "a line feed at the end of the last line: the file may have been cut",
            )
        return cls.parse(path, text)

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


def text_of(path: str) -> str:
    """The text of a configuration file.

    :raises OSError: it cannot be read.
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        # An editor may have put a byte order mark in front.
        return file.read().removeprefix("\ufeff")


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
    for number, raw in enumerate(text.split("\n"), 1):
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
        self._warnings: list[str] = []

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
        if not _TABLE_NAME.fullmatch(line.key) or len(line.key) > LONGEST_NAME:
            raise line.wrong(
                f"a table name of letters, digits, '.', ':', '_', '-' and '/', of {LONGEST_NAME}"
                " bytes at most"
            )
        try:
            declaration = Declaration.parse(line.key, line.value)
        except LocalProtocolError as problem:
            raise line.wrong(f"{problem.expected} ({problem.what})", str(problem.read)) from problem
        self._tables.append(declaration)
        where = f"{line.path}:{line.number}"
        self._warnings += [f"{where}: {warning}" for warning in declaration.warnings]

    def limit(self, line: _Line) -> None:
        if line.key not in _LIMITS:
            raise line.wrong(f"one of {', '.join(_LIMITS)} in [limits]")
        value = line.read_with(entries)
        if value < _LEAST.get(line.key, 1):
            raise line.wrong(f"{_LEAST[line.key]} or more: nothing works with less")
        self._limits[_LIMITS[line.key]] = value

    def tls(self, line: _Line) -> None:
        read = _TLS_KEYS.get(line.key)
        if read is None:
            raise line.wrong(f"one of {', '.join(_TLS_KEYS)} in [tls]")
        self._tls[line.key.replace("-", "_")] = read(line)

    def credentials(self, localpeer: str) -> Optional[Credentials]:
        """What the files in [tls] have.

        :raises ConfigError: they cannot be read, one is missing, or nobody would
            believe who we are.
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
            from peerproto.connections.tls import Credentials
        except ImportError as problem:
            raise heading.wrong(f"the packages of peerproto[tls] ({problem})", "[tls]") from problem
        try:
            credentials = Credentials.load(**self._tls)
            credentials.check_own(localpeer)
            return credentials
        except LocalProtocolError as problem:
            line = lines.get(problem.what, heading)
            read = None if line.key else f"[tls] without {problem.what}"
            raise line.wrong(problem.expected, read) from problem

    def check_names(self, localpeer: str, limits: Limits) -> None:
        """:raises ConfigError: a name does not fit into a line of a hello."""
        room = limits.line_length - _PROCESS_LENGTH
        lines = [line for line in self._lines.values() if line.section == "peers"]
        named = [(line.key, line) for line in lines]
        localpeer_line = self._lines.get(("node", "localpeer"))
        length_line = self._lines.get(("limits", "line-length"))
        own = localpeer_line or length_line
        if own is not None:
            named.append((localpeer, own))
        for name, line in named:
            if len(os.fsencode(name)) > room:
                raise line.wrong(f"a name of {room} bytes at most, as line-length has it")

    def config(self) -> Config:
        localpeer = self._node.get("localpeer") or socket.gethostname()
        bind, runtime = self._node.get("bind", DEFAULT_BIND), self._node.get("runtime")
        if bind == runtime:
            raise self._lines["node", "runtime"].wrong("another address than bind's")
        self.check_names(localpeer, Limits(**self._limits))
        return Config(
            localpeer,
            bind,
            runtime,
            self._node.get("learn-tables", True),
            self._node.get("learn-columns", True),
            self._peers,
            tuple(self._tables),
            Limits(**self._limits),
            self.credentials(localpeer),
            self._node.get("allow-empty", False),
            tuple(self._warnings),
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
    "allow-empty": _yes_or_no,
    "learn-columns": _yes_or_no,
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

_PROCESS_LENGTH: Final = len(" 4294967295 4294967295")
"""Bytes that a line of a hello may have after the name."""

_LIMITS: Final = {field.name.replace("_", "-"): field.name for field in attrs.fields(Limits)}

_LEAST: Final = {"message-length": 1024, "line-length": 1 + _PROCESS_LENGTH}
"""Values below which a limit is in everybody's way."""

LONGEST_NAME: Final = 2048
"""Bytes of a table's name: a line of HAProxy's configuration has no more."""

_TABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]+")

_SECTIONS: Final[dict[str, Callable[[_Settings, _Line], None]]] = {
    "node": _Settings.node,
    "peers": _Settings.peer,
    "tables": _Settings.table,
    "limits": _Settings.limit,
    "tls": _Settings.tls,
}

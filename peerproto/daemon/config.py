"""``peers.ini`` to frozen values: each section by its own reader."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Optional

import attrs

from peerproto.aggregation.config import WORD, read_aggregates, read_relay
from peerproto.aggregation.relay import Relay
from peerproto.aggregation.rules import Rules
from peerproto.connections.addresses import client_endpoint
from peerproto.daemon.lines import check_whole, sections_of, text_of
from peerproto.http.config import HttpSettings, read_http
from peerproto.peering.limits import Limits
from peerproto.service.section import (
    ConfigError,
    Line,
    Section,
    server_address,
    text,
    yes_or_no,
)
from peerproto.storage.config import StorageSettings, read_storage
from peerproto.tables.declaration import Declaration
from peerproto.tables.units import entries
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.handshake import check_name

if TYPE_CHECKING:
    from peerproto.connections.tls import Credentials

DEFAULT_BIND: Final = "tcp:10000:interface=127.0.0.1"
"""Where to listen when the file does not say: for this machine only."""


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
    aggregates: tuple[Rules, ...] = ()
    relay: Relay = attrs.field(factory=Relay)
    http: Optional[HttpSettings] = None
    """What [http] says; ``None`` without it."""
    storage: Optional[StorageSettings] = None
    """What [storage] says; ``None`` without it."""

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

        :raises ConfigError: its last line does not end, too.
        """
        check_whole(path, text)
        return cls.parse(path, text)

    @classmethod
    def parse(cls, path: str, text: str) -> Config:
        """Read the text of a file; ``path`` is for error messages.

        :raises ConfigError: see `read`.
        """
        sections, problem = sections_in(path, text)
        problems = [] if problem is None else [problem]
        values = {}
        for name, read in _SECTIONS.items():
            try:
                values[name] = read(sections[name])
            except ConfigError as problem:
                problems.append(problem)
        if problems:
            raise min(problems, key=lambda one: one.line)
        node, limits, tables = values["node"], values["limits"], values["tables"]
        localpeer = node.get("localpeer") or socket.gethostname()
        bind, runtime = node.get("bind", DEFAULT_BIND), node.get("runtime")
        if bind == runtime:
            raise sections["node"].lines["runtime"].wrong("another address than bind's")
        http = values["http"]
        if http is not None and http.bind in (bind, runtime):
            wrong = sections["http"].lines.get("bind")
            expected = "another address than those of [node]"
            raise wrong.wrong(expected) if wrong else sections["http"].wrong(expected, http.bind)
        _check_names(sections, localpeer, limits)
        remote = [name for name in values["peers"] if name != localpeer]
        named = [one for name, one in sections.items() if name.startswith(f"{WORD} ")]
        aggregates = read_aggregates(named, remote, tables)
        return cls(
            localpeer,
            bind,
            runtime,
            node.get("learn-tables", True),
            node.get("learn-columns", True),
            values["peers"],
            tables,
            limits,
            _credentials(sections, values["tls"], localpeer),
            node.get("allow-empty", False),
            (*_warnings(sections["tables"], tables), *(http.warnings if http else ())),
            aggregates,
            read_relay(sections["relay"], remote, aggregates),
            http,
            values["storage"],
        )


def sections_in(path: str, text: str) -> tuple[dict[str, Section], Optional[ConfigError]]:
    """The sections of a ``peers.ini``, up to what is wrong first: see `sections_of`."""
    return sections_of(path, text, (*_SECTIONS, "relay"), (WORD,))


def _warnings(section: Section, tables: tuple[Declaration, ...]) -> list[str]:
    lines = section.lines
    return [f"{lines[one.name].where}: {warning}" for one in tables for warning in one.warnings]


# -- [node], [peers] and [tables] ---------------------------------------------


def _peer_name(line: Line, name: str) -> str:
    try:
        return check_name(name)
    except LocalProtocolError:
        raise line.wrong("a peer name without white space") from None


_NODE_KEYS: Final[dict[str, Callable[[Line], Any]]] = {
    "localpeer": lambda line: _peer_name(line, line.value),
    "bind": server_address,
    "runtime": server_address,
    "learn-tables": yes_or_no,
    "allow-empty": yes_or_no,
    "learn-columns": yes_or_no,
}

LONGEST_NAME: Final = 2048
"""Bytes of a table's name: a line of HAProxy's configuration has no more."""

_TABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]+")


def _peers(section: Section) -> dict[str, str]:
    return {
        _peer_name(line, name): line.read_with(client_endpoint)
        for name, line in section.lines.items()
    }


def _tables(section: Section) -> tuple[Declaration, ...]:
    return tuple(_table(line) for line in section.lines.values())


def _table(line: Line) -> Declaration:
    if not _TABLE_NAME.fullmatch(line.key) or len(line.key) > LONGEST_NAME:
        raise line.wrong(
            f"a table name of letters, digits, '.', ':', '_', '-' and '/', of {LONGEST_NAME}"
            " bytes at most"
        )
    try:
        return Declaration.parse(line.key, line.value)
    except LocalProtocolError as problem:
        raise line.wrong(f"{problem.expected} ({problem.what})", str(problem.read)) from problem


# -- [limits] -----------------------------------------------------------------

_PROCESS_LENGTH: Final = len(" 4294967295 4294967295")
"""Bytes that a line of a hello may have after the name."""

_LEAST: Final = {"message-length": 1024, "line-length": 1 + _PROCESS_LENGTH}
"""Values below which a limit is in everybody's way."""


def _limit(line: Line) -> int:
    value = line.read_with(entries)
    if value < _LEAST.get(line.key, 1):
        raise line.wrong(f"{_LEAST[line.key]} or more: nothing works with less")
    return value


_LIMIT_KEYS: Final = {field.name.replace("_", "-"): _limit for field in attrs.fields(Limits)}


def _limits(section: Section) -> Limits:
    values = section.values(_LIMIT_KEYS)
    return Limits(**{key.replace("-", "_"): value for key, value in values.items()})


def _check_names(sections: Mapping[str, Section], localpeer: str, limits: Limits) -> None:
    """:raises ConfigError: a name does not fit into a line of a hello."""
    room = limits.line_length - _PROCESS_LENGTH
    named = list(sections["peers"].lines.items())
    own = sections["node"].lines.get("localpeer") or sections["limits"].lines.get("line-length")
    if own is not None:
        named.append((localpeer, own))
    for name, line in named:
        if len(os.fsencode(name)) > room:
            raise line.wrong(f"a name of {room} bytes at most, as line-length has it")


# -- [tls] --------------------------------------------------------------------

_TLS_KEYS: Final[dict[str, Callable[[Line], Any]]] = {
    "certificate": text,
    "key": text,
    "ca-file": text,
    "verify": lambda line: line.choose("required", "none") == "required",
    "verify-name": yes_or_no,
}

_TLS_KINDS: Final = ("ssl", "tls")
"""Endpoints that speak TLS of their own."""


def _credentials(
    sections: Mapping[str, Section], values: Mapping[str, Any], localpeer: str
) -> Optional[Credentials]:
    """What the files in [tls] have.

    :raises ConfigError: they cannot be read, one is missing, or nobody would
        believe who we are.
    """
    section = sections["tls"]
    if not section.number:
        return None
    if "certificate" not in section.lines:
        raise section.wrong("certificate = <file> in it")
    for line in (*sections["node"].lines.values(), *sections["peers"].lines.values()):
        if line.key != "runtime" and line.value.partition(":")[0] in _TLS_KINDS:
            raise line.wrong("an address without TLS of its own, since [tls] adds it")
    try:
        from peerproto.connections.tls import Credentials
    except ImportError as problem:
        raise section.wrong(f"the packages of peerproto[tls] ({problem})") from problem
    try:
        credentials = Credentials.load(
            **{key.replace("-", "_"): value for key, value in values.items()}
        )
        credentials.check_own(localpeer)
        return credentials
    except LocalProtocolError as problem:
        wrong = section.lines.get(problem.what)
        if wrong is None:
            raise section.wrong(problem.expected, f"[tls] without {problem.what}") from problem
        raise wrong.wrong(problem.expected) from problem


_SECTIONS: Final[dict[str, Callable[[Section], Any]]] = {
    "node": lambda section: section.values(_NODE_KEYS),
    "peers": _peers,
    "tables": _tables,
    "limits": _limits,
    "tls": lambda section: section.values(_TLS_KEYS),
    "http": read_http,
    "storage": read_storage,
}
"""What reads each section of the file."""

__all__ = ["DEFAULT_BIND", "LONGEST_NAME", "Config", "ConfigError", "sections_in", "text_of"]

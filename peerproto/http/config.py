"""``[http]`` of a ``peers.ini``, with every error at its line."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final, Optional

import attrs

from peerproto.http.tokens import Token
from peerproto.http.top import Top, read_tops
from peerproto.service.section import Line, Section, server_address, yes_or_no

DEFAULT_BIND: Final = "tcp:8404:interface=127.0.0.1"
"""Where to listen when the file does not say: for this machine only."""

DEFAULT_EVENT_CLIENTS: Final = 100
"""Clients of the stream of events, unless the file has ``event-clients``."""

MOST_EVENT_CLIENTS: Final = 150
"""As many as there may be: others need some of the connections, too."""


class Place(enum.Enum):
    """Who can connect to an address."""

    LOOPBACK = "this machine alone"
    UNIX = "this machine alone, at a UNIX socket"
    GUARDED = "whom the mode of a UNIX socket lets in"
    ELSEWHERE = "other machines"


@attrs.frozen
class HttpSettings:
    """What ``[http]`` says."""

    bind: str = DEFAULT_BIND
    """The description of a server endpoint."""
    writers: Optional[Token] = None
    """The token of writers; ``None`` if there is none."""
    readers: Optional[Token] = None
    """The token of readers; ``None`` if there is none."""
    allow_writes: bool = False
    hosts: frozenset[str] = frozenset()
    """Names that are accepted in ``Host`` and ``Origin``, in lower case."""
    metrics_top: tuple[Top, ...] = ()
    """Which entries are metrics."""
    event_clients: int = DEFAULT_EVENT_CLIENTS
    """How many may follow the stream of events at one time."""
    plain: bool = False
    """Whether a proxy before it does TLS."""
    warnings: tuple[str, ...] = ()
    """What may be a mistake, each with its file and line."""

    @property
    def place(self) -> Place:
        """Who can connect."""
        return place_of(self.bind)

    @property
    def reads_freely(self) -> bool:
        """Whether reading needs no token."""
        return self.place is not Place.ELSEWHERE and self.readers is None

    @property
    def writes_freely(self) -> bool:
        """Whether writing needs no token: the mode of the socket says who may."""
        return self.place is Place.GUARDED


_COLON: Final = re.compile(r"(?<!\\):")
_NAMED: Final = re.compile(r"(\w+)=(.*)")
_OTHERS_WRITE: Final = 0o002
"""The bit in the mode of a UNIX socket with which everybody can connect."""


def place_of(bind: str) -> Place:
    """Who can connect to the address of a description."""
    kind, *fields = [field.replace("\\", "") for field in _COLON.split(bind)]
    matches = [match for field in fields if (match := _NAMED.fullmatch(field))]
    named = {match[1]: match[2] for match in matches}
    unnamed = [field for field in fields if not _NAMED.fullmatch(field)]
    if kind == "unix":
        mode = named.get("mode", "".join(unnamed[1:2])) or "666"
        return Place.UNIX if int(mode, 8) & _OTHERS_WRITE else Place.GUARDED
    host = named.get("interface", "".join(unnamed[1:2]))
    if kind in ("tcp", "tcp6", "ssl") and _is_loopback(host):
        return Place.LOOPBACK
    return Place.ELSEWHERE


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(line: Line) -> Token:
    return line.read_with(Token.of)


_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


def _hosts(line: Line) -> frozenset[str]:
    words = line.value.replace(",", " ").split()
    for word in words:
        if not _HOST.fullmatch(word):
            raise line.wrong("names of hosts without a port", word)
    return frozenset(word.lower().rstrip(".") for word in words)


def _event_clients(line: Line) -> int:
    if not re.fullmatch(r"\d{1,4}", line.value, re.ASCII) or int(line.value) > MOST_EVENT_CLIENTS:
        raise line.wrong(f"a whole number up to {MOST_EVENT_CLIENTS}: each is a connection")
    return int(line.value)


_KEYS: Final[dict[str, Callable[[Line], Any]]] = {
    "bind": server_address,
    "token-file": _token,
    "read-token-file": _token,
    "allow-writes": yes_or_no,
    "hosts": _hosts,
    "plain": yes_or_no,
    "metrics-top": read_tops,
    "event-clients": _event_clients,
}

_NAMES: Final = {"token-file": "writers", "read-token-file": "readers"}
"""Keys that `HttpSettings` knows by another name."""


def read_http(section: Section) -> Optional[HttpSettings]:
    """What a file says of HTTP; ``None`` if it has no such section.

    :raises ConfigError: something in it is wrong, everybody could read or nobody write, or the
        packages that it takes are not there.
    """
    if not section.number:
        return None
    try:
        import cattrs
        import klein
        import prometheus_client
    except ImportError as problem:
        raise section.wrong(f"the packages of peerproto[http] ({problem})") from problem
    del cattrs, klein, prometheus_client
    values = section.values(_KEYS)
    named = {_NAMES.get(key, key.replace("-", "_")): value for key, value in values.items()}
    settings = HttpSettings(**named)
    _check(section, settings)
    return attrs.evolve(settings, warnings=tuple(_warnings(section, settings)))


def _check(section: Section, settings: HttpSettings) -> None:
    """:raises ConfigError: who may is not as it has to be."""
    place = settings.place
    bind = section.lines.get("bind")
    if place is Place.ELSEWHERE and bind is not None:
        if not settings.bind.startswith("ssl:") and not settings.plain:
            raise bind.wrong(
                "an address of the loopback, a UNIX socket, or ssl:… ; or plain = yes, if a"
                " proxy before it does TLS"
            )
        if settings.writers is None and settings.readers is None:
            raise bind.wrong("token-file or read-token-file in [http]: other machines can connect")
    if settings.allow_writes and settings.writers is None and not settings.writes_freely:
        raise section.lines["allow-writes"].wrong(
            "token-file in [http], or a UNIX socket with a mode: writing needs a token"
        )
    writers, readers = settings.writers, settings.readers
    if writers is not None and readers is not None and writers.is_it(readers.secret):
        raise section.lines["read-token-file"].wrong("another token than writers have")


def _warnings(section: Section, settings: HttpSettings) -> list[str]:
    return [
        f"{section.lines[key].where}: everybody on this machine can read"
        f" {section.lines[key].value}: chmod o-r"
        for key, name in _NAMES.items()
        if (token := getattr(settings, name)) is not None and token.world_readable
    ]


__all__ = ["DEFAULT_BIND", "HttpSettings", "Place", "place_of", "read_http"]

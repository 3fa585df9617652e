"""Addresses as people write them to Twisted's descriptions of endpoints."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, Optional

from twisted.internet import endpoints
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from peerproto.wire.errors import LocalProtocolError

_HOST_AND_PORT: Final = re.compile(r"(\*|\[[0-9A-Fa-f:.]+\]|[^:\s/\[\]]*):(\d{1,5})")


_PATH_LENGTH: Final = 107
"""Bytes that the path of a UNIX socket may have in Linux."""

_MADE_UP: Final = 9
"""Bytes that are put behind it while the socket is made ready."""


def server_endpoint(text: str) -> str:
    """Where to listen: ``host:port``, ``:port``, ``/path``, or a server endpoint.

    :raises LocalProtocolError: it is none of these.
    """
    place = _host_and_port(text)
    if place is not None:
        host, port = place
        kind = "tcp6" if ":" in host else "tcp"
        interface = "" if host in ("", "*") else f":interface={_quoted(host)}"
        return f"{kind}:{port}{interface}"
    if text.startswith("/"):
        text = f"unix:{_quoted(text)}"
    _check_numbers(text, port_at=0, lowest=0, path_length=_PATH_LENGTH - _MADE_UP)
    expected = "a Twisted server endpoint (tcp:10000, unix:/path), host:port or /path"
    if text.startswith("systemd:"):
        expected = "a socket that systemd has handed to this process (systemd:domain=INET:index=0)"
    return _checked(
        text,
        lambda: verifyObject(IStreamServerEndpoint, endpoints.serverFromString(_NoReactor(), text)),
        expected,
    )


def client_endpoint(text: str) -> str:
    """Where to call: ``host:port``, ``/path``, or a client endpoint.

    :raises LocalProtocolError: it is none of these.
    """
    place = _host_and_port(text)
    if place is not None:
        host, port = place
        if host in ("", "*"):
            raise LocalProtocolError("address", text, "a host before the port")
        return f"tcp:{_quoted(host)}:{port}"
    if text.startswith("/"):
        text = f"unix:{_quoted(text)}"
    _check_numbers(text, port_at=1, lowest=1, path_length=_PATH_LENGTH)
    return _checked(
        text,
        lambda: verifyObject(IStreamClientEndpoint, endpoints.clientFromString(_NoReactor(), text)),
        "a Twisted client endpoint (tcp:192.0.2.1:10000, unix:/path), host:port or /path",
    )


def _host_and_port(text: str) -> Optional[tuple[str, int]]:
    """``host:port``, or ``None`` if it is an endpoint description."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or match[1] in ("tcp", "tcp6"):
        return None
    if not 0 < int(match[2]) < 65536:
        raise LocalProtocolError("address", text, "a port from 1 to 65535")
    host = match[1].strip("[]")
    _check_host(text, host)
    return host, int(match[2])


def _check_host(text: str, host: str) -> None:
    """A host that looks like an IP address has to be one."""
    try:
        if ":" in host:
            ip_address(host)
        elif re.fullmatch(r"[\d.]+", host, re.ASCII):
            socket.inet_aton(host)
    except (ValueError, OSError) as problem:
        raise LocalProtocolError(
            "address", text, "an IP address or the name of a host"
        ) from problem


def _check_numbers(text: str, port_at: int, lowest: int, path_length: int) -> None:
    """What Twisted reads in a description, and no socket takes.

    :param port_at: where the port stands among what has no name.
    """
    kind, *fields = [_ESCAPED.sub(r"\1", field) for field in _COLON.split(text)]
    named = dict(field.split("=", 1) for field in fields if _NAMED.match(field))
    unnamed = [field for field in fields if not _NAMED.match(field)]
    if kind in ("tcp", "tcp6", "ssl", "tls"):
        port = named.get("port", "".join(unnamed[port_at : port_at + 1]))
        if re.fullmatch(r"-?\d+", port) and not lowest <= int(port) < 65536:
            raise LocalProtocolError("address", text, f"a port from {lowest} to 65535")
        host = "".join(unnamed[:port_at])
        for name in ("interface", "host"):
            host = named.get(name, host)
        _check_host(text, host)
    if kind == "unix":
        path = named.get("address", named.get("path", "".join(unnamed[:1])))
        if len(os.fsencode(path)) > path_length:
            raise LocalProtocolError("address", text, f"a path of {path_length} bytes at most")
        mode = named.get("mode", "666")
        if re.fullmatch(r"[0-7]+", mode) and int(mode, 8) > 0o777:
            raise LocalProtocolError("address", text, "a mode from 0 to 777")


_COLON: Final = re.compile(r"(?<!\\):")
_ESCAPED: Final = re.compile(r"\\(.)")
_NAMED: Final = re.compile(r"\w+=")


def _quoted(host: str) -> str:
    """A host as it stands in an endpoint description, where colons separate."""
    return host.replace("\\", "\\\\").replace(":", "\\:")


def _checked(text: str, make: Callable[[], object], expected: str) -> str:
    """Twisted's parsers say what is wrong in many ways; we say what would be right."""
    try:
        make()
    except Exception as problem:
        raise LocalProtocolError("address", text, expected) from problem
    return text


@implementer(IReactorPluggableNameResolver)
class _NoReactor:
    """Stands where endpoints keep the reactor that they will use, in a mere check."""

    nameResolver = None

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError("endpoints are only made here, not used")

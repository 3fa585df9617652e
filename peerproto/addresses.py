"""Addresses as people write them to Twisted's descriptions of endpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
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
        return f"unix:{_quoted(text)}"
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
        return f"unix:{_quoted(text)}"
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
    return match[1].strip("[]"), int(match[2])


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

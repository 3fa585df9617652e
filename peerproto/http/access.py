"""Who may: each request passes here, first by where it comes from, then by what it is to do."""

from __future__ import annotations

import enum
import socket
import struct
from ipaddress import ip_address
from typing import Any, Final, Optional
from urllib.parse import urlsplit

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.server import Request

from peerproto.http.config import HttpSettings
from peerproto.http.problems import Problem
from peerproto.http.tokens import given_in

CHALLENGE: Final = 'Bearer realm="peerproto"'
"""What a request without a good token is answered. ``Basic`` is taken, but never asked for: a
browser would ask a person, and then send the password for every page."""


class Needs(enum.Enum):
    """What a route takes."""

    NOTHING = "nothing"
    READ = "to read"
    WRITE = "to write"


@attrs.frozen
class Caller:
    """Who has sent a request."""

    role: str
    """``writer``, ``reader``, or ``nobody`` for one without a token."""
    place: str
    """The address, or the process at a UNIX socket."""
    may_read: bool
    may_write: bool

    def __str__(self) -> str:
        return f"{self.role} at {self.place}"


class Access:
    """Says of each request whether it may. The settings may change at any time."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings

    def check_origin(self, request: Request) -> None:
        """See that a request was meant for this node, and that no page of another one sent it.

        So a name that some other page has pointed here (DNS rebinding) leads to nothing.

        :raises Problem: it is not so.
        """
        host = _only(request, "Host")
        if host is None:
            if request.clientproto != b"HTTP/1.0":
                raise Problem.wrong("header.Host", "", "the name of this node")
        elif not self._is_own(host, request):
            raise Problem.wrong(
                "header.Host", host, "a name of this node: hosts in [http] has more", 421
            )
        origin = _only(request, "Origin")
        if origin is not None and not self._is_same(origin, host):
            raise Problem.wrong("header.Origin", origin, "none, or that of this node", 403)
        site = _only(request, "Sec-Fetch-Site")
        if site in ("cross-site", "same-site") and origin is None and not _is_visit(request):
            raise Problem.wrong("header.Sec-Fetch-Site", site, "same-origin or none", 403)

    def _is_own(self, host: str, request: Request) -> bool:
        name = _name_of(host)
        if name is None:
            return False
        if name == "localhost" or name in self.settings.hosts:
            return True
        try:
            address = ip_address(name.strip("[]"))
        except ValueError:
            return False
        if address.is_loopback:
            return True
        # A page at an address was loaded from that address: no name was pointed here.
        here: Any = request.getHost()
        if isinstance(here, (IPv4Address, IPv6Address)):
            return str(address) == here.host
        return False

    def _is_same(self, origin: str, host: Optional[str]) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not parts.netloc:
            return False
        if host is not None and parts.netloc.lower() == host.lower():
            return True
        return _name_of(parts.netloc) in self.settings.hosts

    def caller_of(self, request: Request) -> Caller:
        """Who has sent a request, by its token.

        :raises Problem: it has one that is wrong.
        """
        settings = self.settings
        role, reads, writes = "nobody", settings.reads_freely, settings.writes_freely
        header = request.requestHeaders.getRawHeaders(b"Authorization")
        if header is not None:
            given = given_in(header[0]) if len(header) == 1 else None
            # Both are compared, whatever the first says.
            is_writer = settings.writers is not None and settings.writers.is_it(given or b"")
            is_reader = settings.readers is not None and settings.readers.is_it(given or b"")
            if not is_writer and not is_reader:
                raise _unknown("a token that is not the right one")
            role = "writer" if is_writer else "reader"
            reads, writes = True, is_writer
        place = place_of(request.getClientAddress(), request.transport)
        return Caller(role, place, reads, writes and settings.allow_writes)

    def admit(self, request: Request, needs: Needs) -> Caller:
        """See that a request may do what it is to do: who has sent it.

        :raises Problem: it may not.
        """
        caller = self.caller_of(request)
        if needs is Needs.READ and not caller.may_read:
            raise _unknown("no token")
        if needs is Needs.WRITE and not caller.may_write:
            if not self.settings.allow_writes:
                raise Problem(403, "nobody may write: [http] says allow-writes = no")
            if caller.role == "nobody":
                raise _unknown("no token")
            raise Problem(403, "readers may not write: that takes the token of writers")
        return caller


def _is_visit(request: Request) -> bool:
    """Whether somebody follows a link to the dashboard: it is a page without data, and no page of
    another site sees what it shows."""
    return (
        request.method in (b"GET", b"HEAD")
        and request.path == b"/"
        and _only(request, "Sec-Fetch-Mode") == "navigate"
        and _only(request, "Sec-Fetch-Dest") == "document"
    )


def _unknown(read: str) -> Problem:
    problem = Problem.wrong(
        "header.Authorization", read, "Bearer <token>, or Basic with the token as password", 401
    )
    return attrs.evolve(problem, headers={"WWW-Authenticate": CHALLENGE})


def _only(request: Request, name: str) -> Optional[str]:
    """The value of a header that comes once at most.

    :raises Problem: it comes more often.
    """
    values = request.requestHeaders.getRawHeaders(name.encode()) or []
    if len(values) > 1:
        raise Problem.wrong(f"header.{name}", b", ".join(values).decode("latin-1"), "one")
    return values[0].decode("latin-1").strip() if values else None


def _name_of(host: str) -> Optional[str]:
    """The name in ``name:port``, in lower case; ``None`` if it is none."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        name = name + bracket if bracket else ""
    else:
        name, colon, port = host.partition(":")
        rest = colon + port
    if not name or (rest and not (rest[0] == ":" and rest[1:].isdecimal() and rest.isascii())):
        return None
    return name.lower().rstrip(".")


def place_of(address: Any, transport: Any) -> str:
    """Where a client is, in words, by its address; ``transport`` is that of its connection."""
    if isinstance(address, (IPv4Address, IPv6Address)):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{host}:{address.port}"
    return _process_of(transport) or "a UNIX socket"


def _process_of(transport: Any) -> Optional[str]:
    """The process at the other end of a UNIX socket, as the kernel says it."""
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, socket.socket):
        return None
    try:
        data = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    pid, uid, _ = struct.unpack("3i", data)
    return f"a UNIX socket (user id {uid}, process {pid})"

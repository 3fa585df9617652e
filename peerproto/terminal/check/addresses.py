"""Addresses as haproxy.cfg and peers.ini write them, so that they can be compared."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final, Optional

import attrs

_PREFIX: Final = re.compile(
    r"(?:(ipv4|ipv6|unix|abns|abnsz|fd|sockpair|quic4|quic6|udp\w*|uxst)@)?"
)
_ANY: Final = ("", "*", "0.0.0.0", "::")


@attrs.frozen
class Address:
    """Where somebody listens: host and port, or the path of a UNIX socket."""

    host: str = ""
    """Empty for all addresses of the machine."""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, and not a name."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    def may_be(self, other: Address) -> bool:
        """Whether both may be the same place: the name of a host may stand for any address."""
        if self.path or other.path:
            return self.path == other.path
        if self.port != other.port:
            return False
        if self.is_ip and other.is_ip:
            return ip_address(self.host) == ip_address(other.host)
        return True


def from_haproxy(text: str) -> Optional[Address]:
    """An address of a ``peer``, ``server`` or ``bind`` line; ``None`` if it is none that can be
    called by address: a descriptor, an abstract socket, no port."""
    match = _PREFIX.match(text)
    kind = match[1] if match else None
    rest = text[match.end() :] if match else text
    if kind in (None, "unix", "uxst") and rest.startswith("/"):
        return Address(path=rest)
    if kind not in (None, "ipv4", "ipv6"):
        return None
    host, colon, port = rest.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
        return None
    host = host.removeprefix("[").removesuffix("]")
    return Address("" if host in _ANY else host, int(port))


def from_endpoint(text: str) -> Optional[Address]:
    """An address of peers.ini, as the description of an endpoint; ``None`` if it is of a kind that
    haproxy.cfg has not."""
    kind, *fields = [re.sub(r"\\(.)", r"\1", one) for one in re.split(r"(?<!\\):", text)]
    named = dict(one.split("=", 1) for one in fields if re.match(r"\w+=", one))
    plain = [one for one in fields if not re.match(r"\w+=", one)]
    if kind == "unix":
        path = named.get("path", named.get("address", "".join(plain[:1])))
        return Address(path=path)
    if kind not in ("tcp", "tcp6", "ssl", "tls"):
        return None
    host = named.get("interface", named.get("host", ""))
    if len(plain) > 1:
        host = plain[0]
    port = named.get("port", plain[-1] if plain else "")
    return Address("" if host in _ANY else host, int(port)) if port.isdecimal() else None

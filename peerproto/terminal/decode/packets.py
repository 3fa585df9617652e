"""TCP segments out of packets: link layers, VLANs, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, NamedTuple, Union

from peerproto.terminal.decode.capture import Record

ETHERNET, NULL, LOOP, COOKED, COOKED_2 = 1, 0, 108, 113, 276

_RAW: Final = {12: 0, 14: 0, 101: 0, 228: 0, 229: 0}
"""Link types of bare IP packets."""

_NAMES: Final = (
    "Ethernet (1), loopback (0, 108), raw IP (12, 14, 101, 228, 229), Linux cooked (113, 276)"
)

_VLANS: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP: Final = 6
_EXTENSIONS: Final = frozenset((0, 43, 60, 135))
"""Headers of IPv6 that say their length in units of 8 bytes, less one."""

FIN, SYN, RST, ACK = 1, 2, 4, 16


class Place(NamedTuple):
    """An address and a port."""

    address: bytes
    port: int

    def __str__(self) -> str:
        host = str(ipaddress.ip_address(self.address))
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Segment(NamedTuple):
    """One TCP segment."""

    source: Place
    target: Place
    sequence: int
    acknowledged: int
    flags: int
    length: int
    """Bytes of its data when it travelled."""
    data: bytes
    """Those that were recorded, from its first one on."""
    time: int
    """Nanoseconds since the epoch."""


def segment_of(record: Record) -> Union[Segment, str, None]:
    """The segment in a packet; ``None`` if it has none, or in words why it cannot be read."""
    data = record.data
    try:
        if record.link in _RAW:
            return _internet(record, 0)
        if record.link == ETHERNET:
            return _typed(record, 12)
        if record.link in (NULL, LOOP):
            return _internet(record, 4)
        if record.link == COOKED:
            return _typed(record, 14)
        if record.link == COOKED_2:
            kind = int.from_bytes(data[:2], "big")
            if kind in _VLANS:
                return _typed(record, 22)
            return _internet(record, 20) if kind in (_IPV4, _IPV6) else None
    except (struct.error, IndexError):
        return "cut inside of its head"
    return f"of link type {record.link}, expected {_NAMES}"


def _typed(record: Record, at: int) -> Union[Segment, str, None]:
    """What follows an Ethernet type at this byte."""
    kind = int.from_bytes(record.data[at : at + 2], "big")
    while kind in _VLANS:
        at += 4
        kind = int.from_bytes(record.data[at : at + 2], "big")
    return _internet(record, at + 2) if kind in (_IPV4, _IPV6) else None


def _internet(record: Record, at: int) -> Union[Segment, str, None]:
    data = record.data
    version = data[at] >> 4
    if version == 4:
        total, fragment = struct.unpack_from(">H2xH", data, at + 2)
        if data[at + 9] != _TCP:
            return None
        if fragment & 0x3FFF:
            return "an IP fragment"
        # The length is 0 where the network card was to cut the packet up.
        end = at + total if total else len(data)
        addresses = data[at + 12 : at + 16], data[at + 16 : at + 20]
        return _transport(record, at + (data[at] & 15) * 4, end, addresses)
    if version != 6:
        return None
    total, following = struct.unpack_from(">HB", data, at + 4)
    end = at + 40 + total if total else len(data)
    addresses = data[at + 8 : at + 24], data[at + 24 : at + 40]
    at += 40
    while following != _TCP:
        if following == 44:
            return "an IP fragment"
        if following not in _EXTENSIONS and following != 51:
            return None
        size = (data[at + 1] + 2) * 4 if following == 51 else (data[at + 1] + 1) * 8
        following, at = data[at], at + size
    return _transport(record, at, end, addresses)


def _transport(
    record: Record, at: int, end: int, addresses: tuple[bytes, bytes]
) -> Union[Segment, str]:
    source, target, sequence, acknowledged, size, flags = struct.unpack_from(
        ">HHIIBB", record.data, at
    )
    begin = at + (size >> 4) * 4
    if begin > end or begin < at + 20:
        return "a TCP header that does not fit"
    return Segment(
        Place(addresses[0], source),
        Place(addresses[1], target),
        sequence,
        acknowledged,
        flags,
        end - begin,
        record.data[begin:end],
        record.time,
    )

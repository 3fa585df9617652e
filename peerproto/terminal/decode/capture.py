"""The packets in a pcap or pcapng file, in bounded memory.

A file that was cut, or is damaged, gives all packets before that place. pcapng files may have
several sections and interfaces, each with its own byte order, link type and resolution of time.

Sources: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import attrs

from peerproto.terminal.decode.source import Source

_MAGICS: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""By the first bytes of a pcap file: the byte order, and the ns of a unit of time."""

_SECTION: Final = b"\x0a\x0d\x0d\x0a"
"""How a pcapng file begins."""

LONGEST_PACKET: Final = 1 << 18
"""Bytes of a packet at most: libpcap records no more."""

LONGEST_BLOCK: Final = 1 << 24
"""Bytes of a block at most: libpcap reads no more."""

_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_RESOLUTION, _TIME_OFFSET = 9, 14


class Record(NamedTuple):
    """One packet as it was recorded."""

    link: int
    """Its link type, as tcpdump.org numbers them."""
    time: int
    """Nanoseconds since the epoch; 0 if none was recorded."""
    data: bytes


@attrs.define(auto_exc=True, str=False)
class CaptureError(Exception):
    """A capture goes on with something that is no packet. ``at`` is the byte of the file."""

    at: int
    read: str
    expected: str

    def __str__(self) -> str:
        return f"byte {self.at} of the file: read {self.read}, expected {self.expected}"


def is_capture(source: Source) -> bool:
    """Whether a file begins as a pcap or a pcapng does."""
    head = source.peek(4)
    return head in _MAGICS or head == _SECTION


def records(source: Source) -> Iterator[Record]:
    """The packets of a file that `is_capture`.

    :raises CaptureError: after the last packet that could be read.
    """
    return _blocks(source) if source.peek(4) == _SECTION else _packets(source)


def _whole(source: Source, count: int, what: str) -> bytes:
    at = source.offset
    data = source.read(count)
    if len(data) < count:
        raise CaptureError(at, f"{len(data)} bytes of {what}, and the end", f"{count} bytes")
    return data


# -- pcap ---------------------------------------------------------------------


def _packets(source: Source) -> Iterator[Record]:
    order, unit = _MAGICS[source.peek(4)]
    head = _whole(source, 24, "the head of the file")
    # The upper bits say how long the frame check sequence is.
    link = struct.unpack(order + "I", head[20:24])[0] & 0x0FFFFFFF
    shape = struct.Struct(order + "IIII")
    while source.peek(1):
        at = source.offset
        seconds, parts, captured, _ = shape.unpack(_whole(source, 16, "the head of a packet"))
        if captured > LONGEST_PACKET:
            raise CaptureError(at, f"a packet of {captured} bytes", f"{LONGEST_PACKET} at most")
        data = _whole(source, captured, "a packet")
        yield Record(link, seconds * 1_000_000_000 + parts * unit, data)


# -- pcapng -------------------------------------------------------------------


@attrs.frozen
class _Interface:
    link: int
    snaplen: int
    units: int
    """Units of time in a second."""
    offset: int
    """Seconds to add."""

    def time(self, high: int, low: int) -> int:
        return self.offset * 1_000_000_000 + (high << 32 | low) * 1_000_000_000 // self.units


def _blocks(source: Source) -> Iterator[Record]:
    order = "<"
    interfaces: list[_Interface] = []
    while source.peek(1):
        at = source.offset
        if source.peek(4) == _SECTION:
            magic = source.peek(12)[8:]
            if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                raise CaptureError(at + 8, magic.hex(" "), "a byte order, 1a 2b 3c 4d either way")
            order = "<" if magic[0] == 0x4D else ">"
            interfaces = []
        kind, length = struct.unpack(order + "II", _whole(source, 8, "the head of a block"))
        if length < 12 or length % 4 or length > LONGEST_BLOCK:
            raise CaptureError(at + 4, f"a block of {length} bytes", "12 or more, 4 each, 16 MiB")
        body = _whole(source, length - 8, "a block")[:-4]
        try:
            if kind == _INTERFACE:
                interfaces.append(_interface(body, order))
            else:
                record = _record(kind, body, order, interfaces)
                if record is not None:
                    yield record
        except (struct.error, IndexError) as problem:
            what = f"a block of type {kind} with {len(body)} bytes"
            raise CaptureError(at, what, "a whole one, of an interface that is there") from problem


def _interface(body: bytes, order: str) -> _Interface:
    link, _, snaplen = struct.unpack_from(order + "HHI", body)
    units, offset, at = 1_000_000, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        if not code:
            break
        value = body[at + 4 : at + 4 + length]
        if code == _RESOLUTION:
            units = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == _TIME_OFFSET:
            offset = struct.unpack(order + "q", value)[0]
        at += 4 + (length + 3) // 4 * 4
    return _Interface(link, snaplen, units, offset)


def _record(kind: int, body: bytes, order: str, interfaces: list[_Interface]) -> Record | None:
    if kind == _SIMPLE_PACKET:
        one = interfaces[0]
        length = struct.unpack_from(order + "I", body)[0]
        captured = min(length, one.snaplen or length, len(body) - 4)
        return Record(one.link, 0, body[4 : 4 + captured])
    if kind not in (_PACKET, _OLD_PACKET):
        return None
    shape = "IIIII" if kind == _PACKET else "HxxIIII"
    number, high, low, captured, _ = struct.unpack_from(order + shape, body)
    one = interfaces[number]
    return Record(one.link, one.time(high, low), body[20 : 20 + captured])

"""Recordings that tests write: packets by dpkt, messages by the codecs of peerproto."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, Final

import attrs
import dpkt
from click.testing import CliRunner, Result

from peerproto.tables.declaration import Declaration
from peerproto.terminal.decode.recording import Heard, heard
from peerproto.terminal.decode.source import Source
from peerproto.terminal.decode.told import Told
from peerproto.terminal.decoding import decode
from peerproto.testing import entries
from peerproto.wire.frames import MAX_PAYLOAD
from peerproto.wire.handshake import Hello
from peerproto.wire.messages import Ack, Control

TABLE: Final = Declaration.parse(
    "rates", "type string len 16 size 1k expire 1h store gpc0,http_req_rate(10s),server_key"
)

HELLO: Final = Hello("lb1", "us", 7).encode()

REMARKS: Final = ("odd", "breaks", "cut", "missing", "skipped", "unread")


def update(key: str, gpc0: int = 1, update_id: int | None = None, text: object = None) -> bytes:
    """An update of `TABLE`."""
    values: dict[str, Any] = {"gpc0": gpc0, "http_req_rate": (5, 3, 4), "server_key": text}
    return entries.write(TABLE.layout, key, values, update_id)


def lesson(keys: Iterable[str]) -> bytes:
    """A definition, an update for each key, and *finished*."""
    updates = b"".join(update(key, at, at) for at, key in enumerate(keys, 1))
    return TABLE.definition(1).encode() + updates + Control.RESYNC_FINISHED.encode()


def said(count: int) -> tuple[bytes, bytes]:
    """What a caller and a callee say in a session with a lesson of so many entries."""
    caller = HELLO + Control.RESYNC_REQUEST.encode() + Control.HEARTBEAT.encode()
    caller += Ack(1, count).encode() + Control.RESYNC_CONFIRM.encode()
    return caller, b"200\n" + lesson(f"key{at}" for at in range(count))


def told_of(data: bytes, longest: int = MAX_PAYLOAD) -> list[Told]:
    """What is told of the bytes of one side."""
    return [one.told for one in heard(Source(BytesIO(data)), longest)]


def heard_in(capture: bytes) -> list[Heard]:
    """What is told of a capture."""
    return list(heard(Source(BytesIO(capture)), MAX_PAYLOAD))


def run(data: bytes, *options: str) -> Result:
    """The command, with these bytes coming through a pipe."""
    return CliRunner().invoke(decode, [*options, "-"], input=data)


# -- packets ------------------------------------------------------------------


@attrs.frozen
class Side:
    """One end of a connection."""

    address: str
    port: int
    isn: int = 1000
    """Its first sequence number."""


CALLER: Final = Side("192.0.2.1", 40000, 0xFFFFFFF0)
"""Its sequence numbers wrap."""
CALLEE: Final = Side("192.0.2.2", 10000, 77)

SYN, ACK, FIN = dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK, dpkt.tcp.TH_FIN


def packet(
    source: Side,
    target: Side,
    offset: int,
    data: bytes = b"",
    flags: int = ACK,
    acked: int = 0,
) -> Any:
    """An IP packet with bytes from an offset in the stream on; -1 is the place of the SYN."""
    segment = dpkt.tcp.TCP(
        sport=source.port,
        dport=target.port,
        seq=source.isn + 1 + offset & 0xFFFFFFFF,
        ack=target.isn + 1 + acked & 0xFFFFFFFF if flags & ACK else 0,
        flags=flags,
        data=data,
    )
    begin = ipaddress.ip_address(source.address)
    end = ipaddress.ip_address(target.address)
    if begin.version == 6:
        made = dpkt.ip6.IP6(src=begin.packed, dst=end.packed, nxt=6, plen=len(segment))
        made.data = segment
        return made
    made = dpkt.ip.IP(src=begin.packed, dst=end.packed, p=6, data=segment)
    made.len = len(made)
    return made


def opening(caller: Side = CALLER, callee: Side = CALLEE) -> list[Any]:
    """The packets with which a connection begins."""
    return [
        packet(caller, callee, -1, flags=SYN),
        packet(callee, caller, -1, flags=SYN | ACK),
        packet(caller, callee, 0),
    ]


def closing(sizes: Sequence[int], caller: Side = CALLER, callee: Side = CALLEE) -> list[Any]:
    """Those with which it ends, after so many bytes from the caller, and from the callee."""
    return [
        packet(caller, callee, sizes[0], flags=FIN | ACK, acked=sizes[1]),
        packet(callee, caller, sizes[1], flags=FIN | ACK, acked=sizes[0] + 1),
    ]


def pieces(source: Side, target: Side, data: bytes, size: int, begin: int = 0) -> list[Any]:
    """The packets for some bytes."""
    return [
        packet(source, target, at, data[at : at + size]) for at in range(begin, len(data), size)
    ]


def ethernet(made: Any) -> bytes:
    """An Ethernet frame."""
    kind = dpkt.ethernet.ETH_TYPE_IP6 if made.v == 6 else dpkt.ethernet.ETH_TYPE_IP
    return bytes(dpkt.ethernet.Ethernet(type=kind, data=made))


def pcap(frames: Iterable[bytes], link: int = 1, nano: bool = False) -> bytes:
    """A pcap file; each packet comes 1 ms after the one before."""
    out = BytesIO()
    writer = dpkt.pcap.Writer(out, linktype=link, nano=nano)
    for at, frame in enumerate(frames):
        writer.writepkt(frame, ts=1_700_000_000 + at / 1000)
    return out.getvalue()


def block(kind: int, body: bytes, order: str) -> bytes:
    """A block of a pcapng file."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size

"""Encoded integers (doc/protocol.md, "Numbers").

One byte below 240. Above, the first byte holds 4 bits and every further byte
7, and each step subtracts what the shorter forms cover, so that every value
has exactly one shortest form. HAProxy uses them up to 64 bits (10 bytes).
"""

from __future__ import annotations

from typing import Final

from peerproto.wire.errors import LocalProtocolError, MalformedMessage

MAX_BYTES = 10
"""Length of the longest encoded integer that HAProxy reads."""

UINT64 = (1 << 64) - 1

VARINT = rb"(?:[\x00-\xef]|[\xf0-\xff][\x80-\xff]{0,8}[\x00-\x7f])"
"""A regular expression (with ``re.DOTALL``) for one encoded integer."""


ONE: Final = [bytes((byte,)) for byte in range(256)]
"""By their value, the integers that are one byte long, and other bytes."""

TWO: Final = [bytes((number & 0x0F | 0xF0, number >> 4)) for number in range(2048)]
"""By their value less 240, the integers that are two bytes long."""

BEGINNINGS: Final = [bytes((number & 0x0F | 0xF0, number >> 4 | 0x80)) for number in range(2048)]
"""By the low 11 bits of their value less 240, the first two bytes of longer ones."""


def encode(value: int) -> bytes:
    """Encode ``value``, 0 to 2**64 - 1.

    :raises LocalProtocolError: the value is out of range.
    """
    if value < 240:
        if value >= 0:
            return ONE[value]
    elif value < 2288:
        return TWO[value - 240]
    else:
        rest = (value - 2288) >> 11
        if rest < 128:
            return BEGINNINGS[(value - 240) & 0x7FF] + ONE[rest]
        rest -= 128
        if rest < 16384:
            return BEGINNINGS[(value - 240) & 0x7FF] + ONE[rest & 0x7F | 0x80] + ONE[rest >> 7]
    if not 0 <= value <= UINT64:
        raise LocalProtocolError("encoded integer", value, "0 to 2**64 - 1")
    encoded = bytearray((value & 0x0F | 0xF0,))
    value = (value - 240) >> 4
    while value >= 128:
        encoded.append(value & 0x7F | 0x80)
        value = (value - 128) >> 7
    encoded.append(value)
    return bytes(encoded)


def decode(data: bytes, offset: int) -> tuple[int, int]:
    """Decode the integer at ``offset``: its value and where the next field starts.

    A value that does not fit 64 bits loses its high bits, as it does in C.

    :raises MalformedMessage: it runs past the end of ``data``, or past 10 bytes.
    """
    try:
        value = data[offset]
        if value < 240:
            return value, offset + 1
        end, shift = offset + 1, 4
        while True:
            byte = data[end]
            value += byte << shift
            end += 1
            if byte < 128:
                return value & UINT64, end
            if end - offset == MAX_BYTES:
                break
            shift += 7
    except IndexError:
        raise MalformedMessage(
            f"encoded integer at byte {offset}",
            data[offset : offset + MAX_BYTES],
            "more bytes: the message ends inside of it",
        ) from None
    raise MalformedMessage(
        f"encoded integer at byte {offset}",
        data[offset:end],
        f"at most {MAX_BYTES} bytes",
    )


CLASSES: Final = bytes(0 if byte < 128 else 1 if byte < 240 else 2 for byte in range(256))
"""For ``bytes.translate``: what of each byte matters for where integers end."""


def ends(classes: bytes, count: int) -> list[int]:
    """Where each of ``count`` integers ends, of which only the classes of the bytes are given."""
    result = []
    at = 0
    for _ in range(count):
        if classes[at] == 2:
            at += 1
            while classes[at]:
                at += 1
        at += 1
        result.append(at)
    return result

"""Keys of entries: their types, and their form in messages and in Python.

A *raw key* is what tables are indexed by: the bytes of the key without a
length, strings cut and binary keys padded as HAProxy does it.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final, Union

from peerproto.wire import varint
from peerproto.wire.errors import LocalProtocolError, MalformedMessage
from peerproto.wire.frames import MAX_PAYLOAD

Key = Union[int, ipaddress.IPv4Address, ipaddress.IPv6Address, str, bytes]
"""The Python form of a key; addresses may be given as text."""


class KeyType(enum.IntEnum):
    """The key types that travel, by their number in a definition."""

    INTEGER = 2
    IPV4 = 4
    IPV6 = 5
    STRING = 6
    BINARY = 7

    @property
    def word(self) -> str:
        """HAProxy's word for it in ``stick-table`` lines and ``show table``."""
        return _WORDS[self]


_WORDS = {
    KeyType.INTEGER: "integer",
    KeyType.IPV4: "ip",
    KeyType.IPV6: "ipv6",
    KeyType.STRING: "string",
    KeyType.BINARY: "binary",
}

FIXED_LENGTH = {KeyType.INTEGER: 4, KeyType.IPV4: 4, KeyType.IPV6: 16}
"""Announced key length of the types that have only one."""


_STRING: Final = KeyType.STRING
"""To look up a member of an enum takes long, and a key is read for each message."""


def read(data: bytes, offset: int, key_type: KeyType, key_length: int) -> tuple[bytes, int]:
    """The raw key at ``offset`` of a message, and where its values start.

    A string longer than the table's length is cut (doc/protocol.md, "Key types").

    :raises MalformedMessage: the message ends inside of the key.
    """
    if key_type is _STRING:
        length, start = varint.decode(data, offset)
        end = start + length
        key = data[start : min(end, start + key_length - 1)]
    else:
        end = offset + key_length
        key = data[offset:end]
    if end > len(data):
        raise MalformedMessage(
            f"{key_type.word} key at byte {offset}",
            data[offset : offset + 32],
            f"{end - len(data)} more bytes: the message ends inside of it",
        )
    return key, end


def write(key: bytes, key_type: KeyType) -> bytes:
    """The form of a raw key in a message."""
    if key_type is KeyType.STRING:
        return varint.encode(len(key)) + key
    return key


def to_raw(key: Key, key_type: KeyType, key_length: int) -> bytes:
    """The raw key for a Python key.

    Integers are taken modulo 2**32 and printed unsigned, as HAProxy does.
    Strings are UTF-8, bytes that are not travel as surrogates.

    :raises LocalProtocolError: the key is not one of this type.
    """
    if key_type is KeyType.INTEGER:
        if isinstance(key, int) and -(1 << 31) <= key < 1 << 32:
            return (key & 0xFFFFFFFF).to_bytes(4, "big")
    elif key_type is KeyType.STRING:
        if isinstance(key, str):
            raw = key.encode("utf-8", "surrogateescape")
            if b"\x00" not in raw:
                return raw[: key_length - 1]
    elif key_type is KeyType.BINARY:
        if key_length > MAX_PAYLOAD:
            raise LocalProtocolError("key", key, f"none: one of {key_length} bytes fits no message")
        if isinstance(key, bytes):
            return key[:key_length].ljust(key_length, b"\x00")
    elif isinstance(key, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        try:
            if key_type is KeyType.IPV4:
                return ipaddress.IPv4Address(str(key)).packed
            address = ipaddress.IPv6Address(str(key))
            if address.scope_id is None:
                return address.packed
        except ipaddress.AddressValueError:
            pass
    raise LocalProtocolError("key", key, _EXPECTED[key_type])


_EXPECTED = {
    KeyType.INTEGER: "an int from -2**31 to 2**32 - 1",
    KeyType.IPV4: "an IPv4 address",
    KeyType.IPV6: "an IPv6 address without a zone",
    KeyType.STRING: "a str without NUL",
    KeyType.BINARY: "bytes",
}


def to_python(raw: bytes, key_type: KeyType) -> Key:
    """The Python form of a raw key."""
    if key_type is KeyType.INTEGER:
        return int.from_bytes(raw, "big")
    if key_type is KeyType.STRING:
        return raw.decode("utf-8", "surrogateescape")
    if key_type is KeyType.BINARY:
        return raw
    if key_type is KeyType.IPV4:
        return ipaddress.IPv4Address(raw)
    return ipaddress.IPv6Address(raw)

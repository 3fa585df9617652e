"""Frames to messages: one frozen class for each, with its encoder and decoder.

Source: doc/protocol.md, "Messages", "Table definitions", "Updates" and "Acks".
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Final, Optional, Union

import attrs

from peerproto.wire import keys, varint
from peerproto.wire.codec import ReadsTexts
from peerproto.wire.datatypes import DATA_TYPES, Kind
from peerproto.wire.errors import LocalProtocolError, MalformedMessage
from peerproto.wire.frames import (
    ACK,
    CONTROL,
    DEFINITION,
    ERROR,
    INCREMENTAL_TIMED_UPDATE,
    INCREMENTAL_UPDATE,
    PEERPROTO,
    RELAYED,
    STICK_TABLE,
    SWITCH,
    TIMED_UPDATE,
    UPDATE,
    Frame,
)
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import KNOWN_BITS, Column, Layout
from peerproto.wire.sizes import LONGEST_NAME

_UPDATE_TYPES: Final = {
    (True, False): UPDATE,
    (False, False): INCREMENTAL_UPDATE,
    (True, True): TIMED_UPDATE,
    (False, True): INCREMENTAL_TIMED_UPDATE,
}
"""Type of an update, by whether it has an id and an expiry."""

UPDATES: Final = frozenset(_UPDATE_TYPES.values())


class Control(enum.Enum):
    """The control messages: two bytes and nothing more."""

    RESYNC_REQUEST = 0
    RESYNC_FINISHED = 1
    RESYNC_PARTIAL = 2
    RESYNC_CONFIRM = 3
    HEARTBEAT = 4

    def encode(self) -> bytes:
        """The message as it travels, with its head."""
        return Frame(CONTROL, self.value).encode()


class ErrorMessage(enum.Enum):
    """The error messages: the sender closes the connection after one."""

    PROTOCOL = 0
    SIZE_LIMIT = 1

    def encode(self) -> bytes:
        """The message as it travels, with its head."""
        return Frame(ERROR, self.value).encode()


class Mark(enum.Enum):
    """By this a peerproto knows that its peer is one, too. All others skip it."""

    TIES = 1
    """The sender settles ties by names: see `peerproto.peering.receiving`."""

    def encode(self) -> bytes:
        """The message as it travels, with its head."""
        return Frame(PEERPROTO, self.value).encode()


@attrs.frozen
class RelayedTable:
    """By this a peerproto tells another one whether it passes on to others what it is told of a
    table (doc/protocol.md, "Messages between peerprotos")."""

    name: str
    is_relayed: bool = True

    def encode(self) -> bytes:
        """The message as it travels, with its head.

        :raises LocalProtocolError: the name is empty, or too long.
        """
        name = b"".join(_counted_name(self.name))
        return Frame(PEERPROTO, RELAYED, bytes((self.is_relayed,)) + name).encode()


@attrs.frozen(cache_hash=True)
class TableDefinition:
    """Which table the next updates are for, and what is in them.

    ``id`` is the sender's. ``expire`` is the table's, in ms, 0 for never; and
    ``None`` from very old peers, which announce neither it nor periods.
    ``unknown_bits`` are those of data types that only newer peers know.
    """

    id: int
    name: str
    layout: Layout
    expire: Optional[int]
    unknown_bits: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """The message as it travels, with its head.

        :raises LocalProtocolError: a period is missing, or a number is out of range.
        """
        parts = [
            *_definition_head(self.id, self.name),
            varint.encode(self.layout.key_type),
            varint.encode(self.layout.key_length),
            varint.encode(self.layout.bits),
        ]
        if self.expire is not None:
            parts.append(varint.encode(self.expire))
            for column in self.layout.columns:
                parts += _parameters(column)
        return Frame(STICK_TABLE, DEFINITION, b"".join(parts)).encode()


@attrs.frozen
class RefusedDefinition:
    """A definition that no table can be made of; ``why`` says it in words.

    Not a protocol error: HAProxy ignores the table and keeps the session.
    """

    id: int
    name: str
    why: str


@attrs.frozen
class TableSwitch:
    """The next updates are for the table that the sender defined under ``id``."""

    id: int

    def encode(self) -> bytes:
        """The message as it travels, with its head."""
        return Frame(STICK_TABLE, SWITCH, varint.encode(self.id)).encode()


@attrs.frozen
class Ack:
    """The receiver of this has had its update ``update_id`` of its table ``table_id`` taken."""

    table_id: int
    update_id: int

    def encode(self) -> bytes:
        """The message as it travels, with its head.

        :raises LocalProtocolError: a number is out of range.
        """
        payload = varint.encode(self.table_id) + _fixed32("update id", self.update_id)
        return _ACK + bytes((len(payload),)) + payload


_ACK: Final = bytes((STICK_TABLE, ACK))
"""How an ack begins: one is sent for each read of changes."""


@attrs.frozen
class EntryUpdate:
    """One entry. Which table it belongs to depends on the definition before it.

    ``id`` is ``None`` in incremental updates: the previous one plus 1.
    ``expiry`` is in ms, ``None`` in updates that are not timed: the table's own.
    ``key`` is a raw key (`peerproto.wire.keys`), ``values`` the values as they
    travel; `Layout.codec` reads them. ``said`` is whether they are all said: of a
    text, an update may say nothing (`peerproto.wire.dictionary`).
    """

    id: Optional[int]
    expiry: Optional[int]
    key: bytes
    values: bytes
    said: bool = True

    def encode(self, key_type: KeyType) -> bytes:
        """The message as it travels, with its head, for a table with keys of this type.

        :raises LocalProtocolError: a number is out of range.
        """
        message_type = _UPDATE_TYPES[self.id is not None, self.expiry is not None]
        payload = keys.write(self.key, key_type) + self.values
        if self.expiry is not None:
            payload = _fixed32("expiry", self.expiry) + payload
        if self.id is not None:
            payload = _fixed32("update id", self.id) + payload
        return Frame(STICK_TABLE, message_type, payload).encode()

    @classmethod
    def decode(cls, frame: Frame, layout: Layout, dictionary: ReadsTexts) -> EntryUpdate:
        """Read an update of a table of this layout.

        Its ``values`` are a record: dictionary references are resolved.

        :raises MalformedMessage: the message ends too early, or see `EntryCodec.read`.
        """
        return cls(*read_update(frame.message_type, frame.payload, layout, dictionary))


def read_update(
    message_type: int, payload: bytes, layout: Layout, dictionary: ReadsTexts
) -> tuple[Optional[int], Optional[int], bytes, bytes, bool]:
    """The fields of an `EntryUpdate` without the object: what runs once an entry.

    :raises MalformedMessage: see `EntryUpdate.decode`.
    """
    offset = 0
    update_id = expiry = None
    if message_type in (UPDATE, TIMED_UPDATE):
        update_id = int.from_bytes(payload[:4], "big")
        offset = 4
    if message_type in (TIMED_UPDATE, INCREMENTAL_TIMED_UPDATE):
        expiry = int.from_bytes(payload[offset : offset + 4], "big")
        offset += 4
    if offset > len(payload):
        raise MalformedMessage("update", payload, f"at least {offset} bytes and a key")
    key, offset = keys.read(payload, offset, layout.key_type, layout.key_length)
    record, said = layout.codec.read(payload, offset, dictionary)
    return update_id, expiry, key, record, said


Definition = Union[TableDefinition, RefusedDefinition]
Message = Union[
    Control,
    ErrorMessage,
    TableDefinition,
    RefusedDefinition,
    TableSwitch,
    Ack,
    Mark,
    RelayedTable,
]


def read_message(frame: Frame) -> Optional[Message]:
    """The message in a frame that is not an update (those need a layout).

    ``None`` for a class or type that is not known: newer peers may send them.

    :raises MalformedMessage: the message ends too early.
    """
    if frame.message_class == STICK_TABLE:
        if frame.message_type == DEFINITION:
            return _read_definition(frame.payload)
        if frame.message_type == SWITCH:
            return TableSwitch(varint.decode(frame.payload, 0)[0])
        if frame.message_type == ACK:
            table_id, offset = varint.decode(frame.payload, 0)
            update_id = frame.payload[offset : offset + 4]
            if len(update_id) < 4:
                raise MalformedMessage("ack", frame.payload, "a table id and 4 bytes of update id")
            return Ack(table_id, int.from_bytes(update_id, "big"))
    elif frame.message_class == CONTROL:
        return _CONTROLS.get(frame.message_type)
    elif frame.message_class == ERROR:
        return _ERRORS.get(frame.message_type)
    elif frame.message_class == PEERPROTO:
        if frame.message_type == RELAYED:
            return _read_relayed(frame.payload)
        return _MARKS.get(frame.message_type)
    return None


_CONTROLS = {one.value: one for one in Control}
_ERRORS = {one.value: one for one in ErrorMessage}
_MARKS = {one.value: one for one in Mark}


def _fixed32(what: str, value: int) -> bytes:
    if not 0 <= value <= 0xFFFFFFFF:
        raise LocalProtocolError(what, value, "0 to 2**32 - 1")
    return value.to_bytes(4, "big")


def _definition_head(table_id: int, name: str) -> tuple[bytes, bytes, bytes]:
    return varint.encode(table_id), *_counted_name(name)


def can_be_named(name: str) -> bool:
    """Whether messages can say this name of a table."""
    return 1 <= len(name.encode("utf-8", "surrogateescape")) <= LONGEST_NAME


def _counted_name(name: str) -> tuple[bytes, bytes]:
    raw = name.encode("utf-8", "surrogateescape")
    if not can_be_named(name):
        raise LocalProtocolError("table name", name, f"1 to {LONGEST_NAME} bytes")
    return varint.encode(len(raw)), raw


def _read_relayed(payload: bytes) -> Optional[RelayedTable]:
    """``None`` for a name that no table here has."""
    length, offset = varint.decode(payload, 1)
    raw = payload[offset : offset + length]
    if len(raw) < length:
        raise MalformedMessage("relayed table", payload, f"a name of {length} bytes")
    if not 1 <= length <= LONGEST_NAME:
        return None
    return RelayedTable(raw.decode("utf-8", "surrogateescape"), is_relayed=payload[0] != 0)


def _parameters(column: Column) -> list[bytes]:
    """Number of elements and period, led by the bit, for the types that have them."""
    numbers = []
    if column.elements is not None:
        numbers.append(column.elements)
    if column.data_type.kind is Kind.FREQUENCY:
        if column.period is None:
            raise LocalProtocolError(f"period of {column.name}", None, "a period in ms")
        numbers.append(column.period)
    if numbers:
        numbers.insert(0, column.data_type.bit)
    return [varint.encode(number) for number in numbers]


@lru_cache(maxsize=256)  # peers define their tables anew again and again, all much the same
def _read_definition(payload: bytes) -> Definition:
    table_id, offset = varint.decode(payload, 0)
    length, offset = varint.decode(payload, offset)
    end = offset + length
    if not length or end >= len(payload):
        raise MalformedMessage(
            "table definition", payload, f"a name of 1 byte or more ({length}) and what follows it"
        )
    name = payload[offset : min(end, offset + LONGEST_NAME)].decode("utf-8", "surrogateescape")
    if length > LONGEST_NAME:
        return RefusedDefinition(
            table_id, name[:32] + "…", f"a name of {length} bytes, expected {LONGEST_NAME} at most"
        )
    key_type, offset = varint.decode(payload, end)
    key_length, offset = varint.decode(payload, offset)
    bits, offset = varint.decode(payload, offset)
    try:
        known_type = KeyType(key_type)
    except ValueError:
        word = "any" if key_type == 0 else str(key_type)
        return RefusedDefinition(
            table_id, name, f"key type {word}, expected integer, ip, ipv6, string or binary"
        )
    expire: Optional[int] = None
    if offset < len(payload):
        expire, offset = varint.decode(payload, offset)
    try:
        columns = _read_columns(payload, offset, bits & KNOWN_BITS, expire is not None)
        layout = Layout(known_type, key_length, columns)
        return TableDefinition(table_id, name, layout, expire, _set_bits(bits & ~KNOWN_BITS))
    except (MalformedMessage, LocalProtocolError) as problem:
        return RefusedDefinition(table_id, name, str(problem))


def _set_bits(bits: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(bits.bit_length()) if bits >> bit & 1)


def _read_columns(
    payload: bytes, offset: int, bits: int, with_parameters: bool
) -> tuple[Column, ...]:
    columns = []
    for data_type in DATA_TYPES:
        if not bits >> data_type.bit & 1:
            continue
        elements = period = None
        frequency = data_type.kind is Kind.FREQUENCY
        if with_parameters and (data_type.array or frequency):
            bit, offset = varint.decode(payload, offset)
            if bit != data_type.bit:
                raise MalformedMessage(
                    f"parameters of {data_type.name}", bit, f"its bit, {data_type.bit}"
                )
            if data_type.array:
                elements, offset = varint.decode(payload, offset)
            if frequency:
                period, offset = varint.decode(payload, offset)
        columns.append(_column(data_type.bit, elements, period))
    return tuple(columns)


@lru_cache(maxsize=512)
def _column(bit: int, elements: Optional[int], period: Optional[int]) -> Column:
    """The column of the data type with this bit."""
    return Column(DATA_TYPES[bit], elements, period)

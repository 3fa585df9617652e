"""Keys and values as HAProxy prints and reads them on its runtime socket."""

from __future__ import annotations

import re
from typing import Final

from peerproto.tables.entry import Entry, Value
from peerproto.wire import keys
from peerproto.wire.datatypes import Kind
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Cell, Layout

_NAMED: Final = {9: "\\t", 10: "\\n", 13: "\\r", 27: "\\e"}
_ESCAPED: Final = frozenset(b"\\= ")
_PLAIN: Final = re.compile(rb"[!-<>-\[\]-~]*")


def _escape(byte: int) -> str:
    if byte in _ESCAPED:
        return "\\" + chr(byte)
    if 32 < byte < 127:
        return chr(byte)
    return _NAMED.get(byte) or f"\\x{byte:02X}"


def format_key(raw: bytes, key_type: KeyType) -> str:
    """A raw key as ``show table`` prints it: strings escaped, binary as hex."""
    if key_type is KeyType.STRING:
        if _PLAIN.fullmatch(raw):
            return raw.decode("ascii")
        return "".join(map(_escape, raw))
    if key_type is KeyType.BINARY:
        return raw.hex().upper()
    return str(keys.to_python(raw, key_type))


def parse_key(text: str, layout: Layout) -> bytes:
    """The raw key for what someone typed; binary keys are hex.

    :raises LocalProtocolError: it is not a key of this type.
    """
    key: keys.Key = text
    if layout.key_type is KeyType.INTEGER:
        if not re.fullmatch(r"-?\d{1,10}", text, re.ASCII):
            raise LocalProtocolError("key", text, "a decimal number of 32 bits")
        key = int(text)
    elif layout.key_type is KeyType.BINARY:
        try:
            key = bytes.fromhex(text)
        except ValueError:
            raise LocalProtocolError("key", text, "hexadecimal digits in pairs") from None
    return keys.to_raw(key, layout.key_type, layout.key_length)


def format_cell(cell: Cell, value: Value) -> str:
    """``gpc0=3``, or with the period in ms ``http_req_rate(10000)=12``."""
    period = "" if cell.column.period is None else f"({cell.column.period})"
    return f"{cell.name}{period}={'-' if value is None else value}"


def entry_id(entry: Entry) -> str:
    """What stands for an entry where HAProxy prints its address: the same for the same key while
    the process runs."""
    return f"{hash(entry.raw_key) & 0x7FFFFFFFFFFF:#014x}"


def format_entry(entry: Entry) -> str:
    """The line of an entry in ``show table``, without the newline.

    It begins with its `entry_id`. A table that is shared per peer has the
    name of the peer at the end.
    """
    cells = "".join(" " + format_cell(cell, entry.value(cell)) for cell in entry.layout.printed)
    if entry.peer is not None:
        cells += f" peer={entry.peer}"
    return (
        f"{entry_id(entry)}: key={format_key(entry.raw_key, entry.layout.key_type)}"
        f" use=0 exp={entry.expires_in or 0} shard=0{cells}"
    )


def parse_value(text: str, cell: Cell) -> Value:
    """A value that someone typed for a cell.

    :raises LocalProtocolError: it is not a number.
    """
    if cell.column.data_type.kind is Kind.DICTIONARY:
        return None if text == "-" else text
    if not re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
        raise LocalProtocolError(f"value of {cell.name}", text, "a whole number")
    return int(text)

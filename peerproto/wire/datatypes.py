"""The data types that an entry can store, and how each travels.

Source: doc/protocol.md, "Data types".
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import attrs

MAX_ELEMENTS: Final = 100
"""HAProxy's limit for the elements of an array."""


class Kind(enum.Enum):
    """How a value is encoded, and what it is in Python."""

    SIGNED = "signed"
    """An ``int`` of 32 bits, as the 64-bit two's complement."""
    UNSIGNED32 = "unsigned 32"
    UNSIGNED64 = "unsigned 64"
    FREQUENCY = "frequency"
    """A `Frequency`: three encoded integers."""
    DICTIONARY = "dictionary"
    """A ``str`` or ``None``, sent by reference to a cache."""

    __hash__ = object.__hash__  # an enumeration's own, by name, takes much longer


class Frequency(NamedTuple):
    """A frequency counter: events in the current period and in the one before.

    ``age`` says how many ms ago the current period began.
    """

    age: int
    current: int
    previous: int


@attrs.frozen(cache_hash=True)
class DataType:
    """One of HAProxy's data types: its bit in definitions and its name."""

    bit: int
    name: str
    kind: Kind
    array: bool = False
    local: bool = False
    """Meaningful to one HAProxy only: ignored on receipt, unless ``recv-only``."""
    in_blocks: bool = False
    """Counts blocks of bytes, as large as ``brates-factor`` says."""


_U32, _U64, _FREQ = Kind.UNSIGNED32, Kind.UNSIGNED64, Kind.FREQUENCY

DATA_TYPES: Final = (
    DataType(0, "server_id", Kind.SIGNED),
    DataType(1, "gpt0", _U32),
    DataType(2, "gpc0", _U32),
    DataType(3, "gpc0_rate", _FREQ),
    DataType(4, "conn_cnt", _U32),
    DataType(5, "conn_rate", _FREQ),
    DataType(6, "conn_cur", _U32, local=True),
    DataType(7, "sess_cnt", _U32),
    DataType(8, "sess_rate", _FREQ),
    DataType(9, "http_req_cnt", _U32),
    DataType(10, "http_req_rate", _FREQ),
    DataType(11, "http_err_cnt", _U32),
    DataType(12, "http_err_rate", _FREQ),
    DataType(13, "bytes_in_cnt", _U64),
    DataType(14, "bytes_in_rate", _FREQ, in_blocks=True),
    DataType(15, "bytes_out_cnt", _U64),
    DataType(16, "bytes_out_rate", _FREQ, in_blocks=True),
    DataType(17, "gpc1", _U32),
    DataType(18, "gpc1_rate", _FREQ),
    DataType(19, "server_key", Kind.DICTIONARY),
    DataType(20, "http_fail_cnt", _U32),
    DataType(21, "http_fail_rate", _FREQ),
    DataType(22, "gpt", _U32, array=True),
    DataType(23, "gpc", _U32, array=True),
    DataType(24, "gpc_rate", _FREQ, array=True),
    DataType(25, "glitch_cnt", _U32),
    DataType(26, "glitch_rate", _FREQ),
)
"""Every known type, at the index of its bit."""

BY_NAME: Final = {data_type.name: data_type for data_type in DATA_TYPES}


def array_element_name(data_type: DataType, index: int) -> str:
    """The name that HAProxy prints for an element: ``gpc0``, ``gpc1_rate``."""
    base, _, rate = data_type.name.partition("_")
    return f"{base}{index}_{rate}" if rate else f"{base}{index}"

"""Reading of a ``stick-table`` line, word by word, as HAProxy's ``parse_stick_table`` does.

The line can be pasted from a haproxy.cfg of any version: what one of HAProxy
2.6 to 3.5 takes is taken, also where another one of them refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn, Optional

import attrs

from peerproto.tables.units import milliseconds, number, size
from peerproto.tables.words import split_words
from peerproto.wire.datatypes import BY_NAME, DataType, Kind
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.frames import MAX_PAYLOAD
from peerproto.wire.keys import FIXED_LENGTH, KeyType
from peerproto.wire.layout import Column, Layout, column, in_bit_order

DEFAULT_LENGTH: Final = 32
"""Announced length of string and binary keys that are declared without ``len``."""

MAX_FACTOR: Final = 1024
"""Largest ``brates-factor``."""

_KEY_TYPES: Final = {key_type.word: key_type for key_type in KeyType} | {"ipv4": KeyType.IPV4}

_DATA_TYPES: Final = BY_NAME | {"server_name": BY_NAME["server_key"]}
"""By the names that HAProxy reads: one has changed."""

_OVERRIDDEN: Final = {
    "gpt": ("gpt0",),
    "gpc": ("gpc0", "gpc1"),
    "gpc_rate": ("gpc0_rate", "gpc1_rate"),
}
"""By an array: the data types that HAProxy does not store in the same table."""


@attrs.frozen
class StickTableLine:
    """What a line says; the fields are those of `peerproto.tables.declaration.Declaration`."""

    layout: Layout
    expire: int
    size: int
    nopurge: bool
    recv_only: bool
    brates_factor: int
    warnings: tuple[str, ...]


def read_line(name: str, line: str) -> StickTableLine:
    """Read what follows ``stick-table`` in a haproxy.cfg, for the table ``name``.

    :raises LocalProtocolError: an unknown word, or a value that is none.
    """
    return _Reader(name, line).read()


class _Reader:
    def __init__(self, name: str, line: str) -> None:
        self._name = name
        self._words = split_words(line, f"table {name}")[::-1]
        self._key_type: Optional[KeyType] = None
        self._key_length = 0
        self._columns: dict[str, Column] = {}
        self._expire = self._size = 0
        self._factor = 1
        self._flags: set[str] = set()
        self._warnings: list[str] = []
        self._keywords: dict[str, Callable[[], object]] = {
            "type": self._read_type,
            "size": self._read_size,
            "expire": self._read_expire,
            "nopurge": lambda: self._flags.add("nopurge"),
            "recv-only": lambda: self._flags.add("recv-only"),
            "brates-factor": self._read_factor,
            "store": self._read_store,
            "srvkey": self._read_srvkey,
            "peers": lambda: self._value("peers"),
            "write-to": lambda: self._value("write-to"),
        }

    def read(self) -> StickTableLine:
        while word := self._next():
            read = self._keywords.get(word)
            if read is not None:
                read()
            elif word == "len":
                self._refuse("len", "len right after type string or binary only")
            elif word.partition("(")[0] in _DATA_TYPES:
                self._refuse(word, "store before it, and no blank behind a comma")
            else:
                self._refuse(word, f"one of {', '.join(self._keywords)}")
        if self._words:
            self._warn(f"read nothing behind an empty word, as HAProxy does: {self._words[::-1]}")
        if self._key_type is None:
            self._refuse("no type", f"type and one of {', '.join(_KEY_TYPES)}")
        if not self._size:
            self._refuse("no size", "size <number of entries>")
        return StickTableLine(
            Layout(self._key_type, self._key_length, in_bit_order(list(self._columns.values()))),
            self._expire,
            self._size,
            "nopurge" in self._flags,
            "recv-only" in self._flags,
            self._factor,
            tuple(self._warnings),
        )

    # -- words -----------------------------------------------------------

    def _next(self) -> str:
        """The next word; an empty one at the end."""
        return self._words.pop() if self._words else ""

    def _value(self, word: str) -> str:
        value = self._next()
        if not value:
            self._refuse(f"{word} without a value", f"a value after {word}")
        return value

    def _refuse(self, read: str, expected: str) -> NoReturn:
        raise LocalProtocolError(f"table {self._name}", read, expected)

    def _warn(self, warning: str) -> None:
        self._warnings.append(f"table {self._name}: {warning}")

    # -- keywords --------------------------------------------------------

    def _read_type(self) -> None:
        word = self._value("type")
        key_type = _KEY_TYPES.get(word)
        if key_type is None:
            self._refuse(f"type {word}", f"one of {', '.join(_KEY_TYPES)}")
        if self._key_type is not None:
            self._warn(f"type is given again: {word} holds")
        self._key_type = key_type
        self._key_length = FIXED_LENGTH.get(key_type, DEFAULT_LENGTH)
        if key_type not in FIXED_LENGTH and self._words and self._words[-1] == "len":
            self._next()
            self._read_length(key_type)

    def _read_length(self, key_type: KeyType) -> None:
        length = number(self._value("len"), f"len of table {self._name}", self._warn)
        if length <= 0:
            self._refuse(f"len {length}", "a number of bytes above 0")
        if length >= MAX_PAYLOAD:
            self._warn(f"a key of all of len {length} fits into no message, and is not shared")
        # With ``len``, a string's announced length counts the NUL that ends it in HAProxy.
        self._key_length = length + (key_type is KeyType.STRING)

    def _read_size(self) -> None:
        self._size = size(self._value("size"), f"size of table {self._name}")

    def _read_expire(self) -> None:
        what = f"expire of table {self._name}"
        self._expire = milliseconds(self._value("expire"), what, self._warnings.append)

    def _read_factor(self) -> None:
        what = f"brates-factor of table {self._name}"
        text = self._value("brates-factor")
        self._factor = size(text, what)
        if not 1 <= self._factor <= MAX_FACTOR:
            raise LocalProtocolError(what, text, f"a number from 1 to {MAX_FACTOR}")

    def _read_srvkey(self) -> None:
        word = self._value("srvkey")
        if word not in ("name", "addr"):
            self._refuse(f"srvkey {word}", "name or addr")

    # -- data types ------------------------------------------------------

    def _read_store(self) -> None:
        rest = self._next()
        while rest:
            rest = self._read_stored(rest)
        for array, others in _OVERRIDDEN.items():
            both = [other for other in others if other in self._columns]
            if array in self._columns and both:
                self._refuse(f"store {array} and {both[0]}", "one of them")

    def _read_stored(self, text: str) -> str:
        """Read a data type of ``store``: what follows it, behind a comma."""
        name: Optional[str] = None
        first = last = None
        begin = end = 0
        while end < len(text) and text[end] != ",":
            if text[end] != "(":
                end += 1
                continue
            closing = text.find(")", end)
            if closing < 0:
                self._refuse(f"store {text}", "a closing parenthesis")
            if name is None:
                name = text[:end]
            first, *more = text[end + 1 : closing].split(",")
            last = more[-1] if more else last
            begin = end = closing + 1
        if name is None:
            name = text[:end]
        elif begin < end:
            self._warn(f"store {name}: read '{text[:end]}' as '{text[:begin]}', as HAProxy does")
        data_type = _DATA_TYPES.get(name)
        if data_type is None:
            self._refuse(f"store {text}", f"one of {', '.join(BY_NAME)}, with no blank around it")
        if data_type.name in self._columns:
            self._warn(f"store {name} is given again: the first one holds")
        else:
            self._columns[data_type.name] = self._column(data_type, text[:end], first, last)
        return text[end + 1 :]

    def _column(
        self, data_type: DataType, stored: str, first: Optional[str], last: Optional[str]
    ) -> Column:
        """The column for ``stored``, with the first and the last of its arguments."""
        frequency = data_type.kind is Kind.FREQUENCY
        time = last if data_type.array else first
        if (data_type.array and first is None) or (time is not None) != frequency:
            expected = ["<elements>"] * data_type.array + ["<period>"] * frequency
            usage = f"({','.join(expected)})" if expected else ""
            self._refuse(f"store {stored}", data_type.name + usage)
        elements = period = None
        if data_type.array:
            elements = number(first or "", f"elements of {data_type.name}", self._warn)
        if time is not None:
            what = f"period of {data_type.name}"
            period = milliseconds(time, what, self._warn)
            if not period:
                self._warn(f"{what} is 0: the rate is 0 here, and HAProxy ends when it reads it")
        return column(data_type.name, elements=elements, period=period)

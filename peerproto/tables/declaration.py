"""What a table is declared as: by a ``stick-table`` line, or by a peer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

import attrs

from peerproto.tables.units import entries, milliseconds
from peerproto.wire.datatypes import BY_NAME, Kind
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import FIXED_LENGTH, KeyType
from peerproto.wire.layout import Column, Layout, column, in_bit_order
from peerproto.wire.messages import TableDefinition

DEFAULT_LENGTH = 32
"""Length of string and binary keys that are declared without ``len``."""


@attrs.frozen
class Declaration:
    """A table's name, layout and limits.

    ``expire`` is in ms, 0 for never. ``size`` is the number of entries that it
    holds, ``None`` for any number. A full table trashes its oldest entries,
    or, with ``nopurge``, refuses new ones. With ``recv_only``, data types that
    are local to each peer are learnt too.
    """

    name: str
    layout: Layout
    expire: int = 0
    size: Optional[int] = None
    nopurge: bool = False
    recv_only: bool = False
    adopted_from: Optional[str] = None
    """Name of the peer whose definition this is; ``None`` if it was declared here."""

    @classmethod
    def parse(cls, name: str, line: str) -> Declaration:
        """Read what follows ``stick-table`` in a haproxy.cfg.

        ``peers <section>`` and ``srvkey <what>`` mean nothing here and may stay.

        :raises LocalProtocolError: an unknown word, or a value that is none.
        """
        return _Line(name, line).declaration()

    @classmethod
    def adopted(
        cls, definition: TableDefinition, peer: str, size: Optional[int] = None
    ) -> Declaration:
        """The declaration of a table that only ``peer`` has defined; it tells no size.

        :raises LocalProtocolError: the definition leaves out periods.
        """
        for one in definition.layout.columns:
            if one.data_type.kind is Kind.FREQUENCY and not one.period:
                raise LocalProtocolError(f"period of {one.name}", one.period, "a period in ms")
        return cls(
            definition.name, definition.layout, definition.expire or 0, size, adopted_from=peer
        )

    def definition(self, table_id: int) -> TableDefinition:
        """The message that announces this table under ``table_id``."""
        return TableDefinition(table_id, self.name, self.layout, self.expire)


_KEY_TYPES = {key_type.word: key_type for key_type in KeyType}

_STORED = re.compile(r"(\w+)(?:\(([^)]*)\))?", re.ASCII)


class _Line:
    """Reads one ``stick-table`` line, word by word."""

    def __init__(self, name: str, line: str) -> None:
        self._name = name
        self._words: Iterator[str] = iter(re.sub(r"\s*,\s*", ",", line).split())
        self._key_type: Optional[KeyType] = None
        self._length: Optional[int] = None
        self._columns: dict[str, Column] = {}
        self._expire = 0
        self._size: Optional[int] = None
        self._nopurge = self._recv_only = False

    def declaration(self) -> Declaration:
        for word in self._words:
            self._read(word)
        if self._key_type is None:
            raise self._wrong("no type", "type integer, ip, ipv6, string or binary")
        if self._size is None:
            raise self._wrong("no size", "size <number of entries>")
        return Declaration(
            self._name,
            Layout(
                self._key_type,
                self._key_length(self._key_type),
                in_bit_order(list(self._columns.values())),
            ),
            self._expire,
            self._size,
            self._nopurge,
            self._recv_only,
        )

    def _read(self, word: str) -> None:
        if word == "type":
            name = self._after(word)
            if name not in _KEY_TYPES:
                raise self._wrong(f"type {name}", f"one of {', '.join(_KEY_TYPES)}")
            self._key_type = _KEY_TYPES[name]
        elif word == "len":
            length = self._after(word)
            if not re.fullmatch(r"[1-9]\d{0,4}", length, re.ASCII):
                raise self._wrong(f"len {length}", "a number of bytes above 0")
            self._length = int(length)
        elif word == "size":
            self._size = entries(self._after(word), f"size of table {self._name}")
        elif word == "expire":
            self._expire = milliseconds(self._after(word), f"expire of table {self._name}")
        elif word == "store":
            for stored in self._split(self._after(word)):
                self._store(stored)
        elif word == "nopurge":
            self._nopurge = True
        elif word == "recv-only":
            self._recv_only = True
        elif word in ("peers", "srvkey"):
            self._after(word)
        else:
            raise self._wrong(
                word, "type, len, size, expire, nopurge, recv-only, store, srvkey or peers"
            )

    def _store(self, stored: str) -> None:
        match = _STORED.fullmatch(stored)
        data_type = BY_NAME.get(match[1]) if match else None
        if match is None or data_type is None:
            raise self._wrong(f"store {stored}", f"one of {', '.join(BY_NAME)}")
        arguments = [] if match[2] is None else match[2].split(",")
        frequency = data_type.kind is Kind.FREQUENCY
        expected = ["elements"] * data_type.array + ["period"] * frequency
        if len(arguments) != len(expected):
            usage = f"{data_type.name}({','.join(f'<{one}>' for one in expected)})"
            raise self._wrong(f"store {stored}", usage if expected else data_type.name)
        if data_type.name in self._columns:
            raise self._wrong(f"store {stored} again", "each data type once")
        elements = period = None
        if data_type.array:
            if not re.fullmatch(r"\d{1,4}", arguments[0], re.ASCII):
                raise self._wrong(f"store {stored}", "a number of elements")
            elements = int(arguments[0])
        if frequency:
            period = milliseconds(arguments[-1], f"period of {data_type.name}")
            if not period:
                raise self._wrong(f"store {stored}", "a period above 0")
        self._columns[data_type.name] = column(data_type.name, elements=elements, period=period)

    @staticmethod
    def _split(stored: str) -> list[str]:
        """At the commas that are not between parentheses."""
        return re.split(r",(?![^(]*\))", stored)

    def _key_length(self, key_type: KeyType) -> int:
        fixed = FIXED_LENGTH.get(key_type)
        if fixed is not None:
            if self._length is not None:
                raise self._wrong(f"len {self._length}", "len with type string or binary only")
            return fixed
        # A string's announced length counts the NUL that ends it in HAProxy.
        return (self._length or DEFAULT_LENGTH) + (key_type is KeyType.STRING)

    def _after(self, word: str) -> str:
        following = next(self._words, None)
        if following is None:
            raise self._wrong(f"{word} at the end", f"a value after {word}")
        return following

    def _wrong(self, read: str, expected: str) -> LocalProtocolError:
        return LocalProtocolError(f"table {self._name}", read, expected)

"""Encode and decode the values of entries, with functions made for the columns.

A *record* is the values of one entry as bytes: as they travel, but for
dictionary values, whose text stands in it instead of a reference to a
connection's cache. So a record means the same everywhere, and most records are
a slice of the message they came in. What is done often is compiled: a regular
expression finds where a record ends, and decoding and encoding are generated
as straight-line Python, as attrs generates ``__init__``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Optional

from peerproto.wire import varint
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.dictionary import ReceivingDictionary
from peerproto.wire.errors import LocalProtocolError, MalformedMessage

Values = tuple[Any, ...]
"""Decoded values in the order of the columns: `int`, `Frequency`, `str` or
``None``, and tuples of them for arrays."""

Shape = tuple[tuple[Kind, Optional[int]], ...]
"""Kind and number of elements of each column."""

MAX_AGE = 0x7FFFFFFF
"""Oldest age in ms that is sent. HAProxy's clock has 32 bits and compares signed
differences: an older counter would look young again."""

INTEGERS = {Kind.FREQUENCY: 3}
"""How many encoded integers a value is, where not 1."""


class EntryCodec:
    """The functions for one shape of entry; see `entry_codec`."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.integers = _integers(shape)
        """How many encoded integers stand before, between and after dictionary values."""
        self._runs = [_pattern(count) for count in self.integers]
        self.has_texts = len(self.integers) > 1
        """Whether there are dictionary values."""
        self.decode: Callable[..., Values] = _generate_decode(shape)
        """``decode(data, offset, elapsed=0)``: the values of the record at ``offset``,
        with ages that have grown by ``elapsed`` ms."""
        self._encode: Callable[[Values], bytes] = _generate_encode(shape)

    def encode(self, values: Values) -> bytes:
        """The record for these values.

        :raises LocalProtocolError: a value is out of its type's range.
        """
        try:
            return self._encode(values)
        except (TypeError, AttributeError, ValueError) as problem:
            if isinstance(problem, LocalProtocolError):
                raise
            raise LocalProtocolError("values", values, f"values of {self.shape}") from problem

    def blank(self) -> Values:
        """The values of an entry that was just created."""
        return tuple(
            _BLANKS[kind] if elements is None else (_BLANKS[kind],) * elements
            for kind, elements in self.shape
        )

    def read(self, message: bytes, offset: int, dictionary: ReceivingDictionary) -> bytes:
        """The record for the values at ``offset`` of an update.

        Bytes after the last value are skipped: they belong to data types that
        only newer peers know.

        :raises MalformedMessage: the message ends inside of a value, an integer
            is too long, or a dictionary reference means nothing.
        """
        if not self.has_texts:
            match = self._runs[0].match(message, offset)
            if match is None:
                raise self._malformed(message, offset)
            return match[0]
        parts: list[bytes] = []
        for number, run in enumerate(self._runs):
            if number:
                text, offset = dictionary.read(message, offset)
                parts += varint.encode(len(text)), text
            match = run.match(message, offset)
            if match is None:
                raise self._malformed(message, offset)
            parts.append(match[0])
            offset = match.end()
        return b"".join(parts)

    def _malformed(self, data: bytes, offset: int) -> MalformedMessage:
        """What is wrong with values that no pattern matched."""
        try:
            end = offset
            while end < len(data):
                end = varint.decode(data, end)[1]
        except MalformedMessage as problem:
            return problem
        return MalformedMessage(
            f"values at byte {offset}", data[offset:], "more values: the message ends after these"
        )


@lru_cache(maxsize=512)
def entry_codec(shape: Shape) -> EntryCodec:
    """The codec for columns of these kinds and numbers of elements."""
    return EntryCodec(shape)


_BLANKS: dict[Kind, Any] = {
    Kind.SIGNED: 0,
    Kind.UNSIGNED32: 0,
    Kind.UNSIGNED64: 0,
    Kind.FREQUENCY: Frequency(0, 0, 0),
    Kind.DICTIONARY: None,
}


def _integers(shape: Shape) -> tuple[int, ...]:
    counts = [0]
    for kind, elements in shape:
        if kind is Kind.DICTIONARY:
            counts += [0] * (elements or 1)
        else:
            counts[-1] += INTEGERS.get(kind, 1) * (elements or 1)
    return tuple(counts)


def _pattern(integers: int) -> re.Pattern[bytes]:
    return re.compile(varint.VARINT + b"{%d}" % integers, re.DOTALL)


_READ_ONE = """\
    {name} = data[offset]
    if {name} < 240:
        offset += 1
    else:
        {name}, offset = varint(data, offset)
"""

_MASKS = {Kind.UNSIGNED32: " & 0xFFFFFFFF", Kind.UNSIGNED64: ""}


def _generate_decode(shape: Shape) -> Callable[..., Values]:
    """``decode(data, offset, elapsed=0)`` as one run of statements, array elements included."""
    lines = ["def decode(data, offset, elapsed=0):\n"]
    results = []
    for place, (kind, elements) in enumerate(shape):
        items = []
        for index in range(elements or 1):
            name = f"v{place}_{index}"
            if kind is Kind.FREQUENCY:
                parts = [name + part for part in "acp"]
                lines += [_READ_ONE.format(name=part) for part in parts]
                items.append(
                    f"Frequency(aged({parts[0]}, elapsed),"
                    f" {parts[1]} & 0xFFFFFFFF, {parts[2]} & 0xFFFFFFFF)"
                )
                continue
            lines.append(_READ_ONE.format(name=name))
            if kind is Kind.DICTIONARY:
                lines.append(f"    start = offset\n    offset += {name}\n")
                lines.append(f"    {name} = text(data[start:offset]) if {name} else None\n")
                items.append(name)
            elif kind is Kind.SIGNED:
                items.append(f"(({name} & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000")
            else:
                items.append(name + _MASKS[kind])
        results.append(items[0] if elements is None else f"({', '.join(items)},)")
    lines.append(f"    return ({''.join(item + ', ' for item in results)})\n")
    return _compiled("decode", "".join(lines))


_WRITE_ONE = """\
    value = {value}
    if 0 <= value < 240:
        append(value)
    else:
        out += {encode}(value)
"""


def _generate_encode(shape: Shape) -> Callable[[Values], bytes]:
    """``encode(values)`` as one run of statements, array elements included."""
    lines = ["def encode(values):\n    out = bytearray()\n    append = out.append\n"]
    if shape:
        targets = (
            f"v{place}"
            if elements is None
            else f"({' '.join(f'v{place}_{i},' for i in range(elements))})"
            for place, (_, elements) in enumerate(shape)
        )
        lines.append(f"    {', '.join(targets)}, = values\n")
    for place, (kind, elements) in enumerate(shape):
        for name in (
            [f"v{place}"] if elements is None else [f"v{place}_{i}" for i in range(elements)]
        ):
            if kind is Kind.FREQUENCY:
                lines.append(f"    age, current, previous = {name}\n")
                lines.append(_WRITE_ONE.format(value="age", encode="varint32"))
                lines.append(_WRITE_ONE.format(value="current", encode="varint32"))
                lines.append(_WRITE_ONE.format(value="previous", encode="varint32"))
            elif kind is Kind.DICTIONARY:
                lines.append(f"    text = b'' if {name} is None else raw({name})\n")
                lines.append(_WRITE_ONE.format(value="len(text)", encode="varint64"))
                lines.append("    out += text\n")
            else:
                encode = {Kind.SIGNED: "signed", Kind.UNSIGNED32: "varint32"}.get(kind, "varint64")
                lines.append(_WRITE_ONE.format(value=name, encode=encode))
    lines.append("    return bytes(out)\n")
    return _compiled("encode", "".join(lines))


def _compiled(name: str, source: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {
        "Frequency": Frequency,
        "aged": _aged,
        "varint": varint.decode,
        "varint32": _encode32,
        "varint64": varint.encode,
        "signed": _encode_signed,
        "text": lambda raw: raw.decode("utf-8", "surrogateescape"),
        "raw": lambda text: text.encode("utf-8", "surrogateescape"),
    }
    exec(compile(source, f"<peerproto codec {name}>", "exec"), namespace)
    function: Callable[..., Any] = namespace[name]
    return function


def _aged(age: int, elapsed: int) -> int:
    """An age ``elapsed`` ms later.

    HAProxy's threads each have a clock: a period that another thread has just
    begun can lie in the future, and its age is then below 0, in 32 bits.
    """
    age &= 0xFFFFFFFF
    if age > MAX_AGE:
        age = 0
    return min(max(age + elapsed, 0), MAX_AGE)


def _encode32(value: int) -> bytes:
    if not 0 <= value <= 0xFFFFFFFF:
        raise LocalProtocolError("value of 32 bits", value, "0 to 2**32 - 1")
    return varint.encode(value)


def _encode_signed(value: int) -> bytes:
    if not -(1 << 31) <= value < 1 << 31:
        raise LocalProtocolError("signed value", value, "-2**31 to 2**31 - 1")
    return varint.encode(value & varint.UINT64)

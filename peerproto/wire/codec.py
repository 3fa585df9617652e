"""Encode and decode the values of entries, with functions made for the columns.

A *record* is the values of one entry as bytes: as they travel, but for
dictionary values, whose text stands in it instead of a reference to a
connection's cache, or a token if it is long (`peerproto.wire.texts`). So a record
means the same everywhere in this process, and most records are a slice of the
message they came in. What is done often is compiled: a regular
expression finds where a record ends, and decoding and encoding are generated
as straight-line Python, as attrs generates ``__init__``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from typing import Any, Protocol

from peerproto.wire import varint
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.dictionary import LONGEST_TEXT
from peerproto.wire.errors import LocalProtocolError, MalformedMessage
from peerproto.wire.shape import Kinds, segments
from peerproto.wire.texts import TEXTS

Values = tuple[Any, ...]
"""Decoded values in the order of the columns: ``int``, `Frequency`, ``str`` or
``None``, and tuples of them for arrays."""

MAX_AGE = 0x7FFFFFFF
"""Oldest age in ms that is sent. HAProxy's clock has 32 bits and compares signed
differences: an older counter would look young again."""

EMPTY_TEXT = b"\x00"
"""How no text, or an empty one, stands in a record."""


class ReadsTexts(Protocol):
    """What reads dictionary values, as `peerproto.wire.dictionary.ReceivingDictionary` does."""

    def read(self, message: bytes, offset: int) -> tuple[bytes, int]:
        """The text at ``offset`` as it stands in a record, and where the next value starts."""


class EntryCodec:
    """The functions for entries with certain columns; see `entry_codec`."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.segments = segments(kinds)
        self.integers = tuple(run.count for run in self.segments.runs)
        """How many encoded integers stand before, between and after dictionary values."""
        self.has_texts = len(self.integers) > 1
        """Whether there are dictionary values."""

    def __reduce__(self) -> tuple[Callable[[Kinds], EntryCodec], tuple[Kinds]]:
        """A copy is the same codec: what was generated need not go with it."""
        return entry_codec, (self.kinds,)

    # Compiling takes ms for long arrays, and a peer may define what it never sends.

    @cached_property
    def decode(self) -> Callable[..., Values]:
        """``decode(data, offset, elapsed=0)``: the values of the record at ``offset``,
        with ages that have grown by ``elapsed`` ms."""
        return _generate_decode(self.kinds)

    @cached_property
    def _encode(self) -> Callable[[Values], bytes]:
        return _generate_encode(self.kinds)

    @cached_property
    def _runs(self) -> list[re.Pattern[bytes]]:
        return [integers_pattern(count) for count in self.integers]

    @cached_property
    def longest(self) -> int:
        """Bytes of a record at most, with a long text in it as it is sent."""
        texts = len(self.integers) - 1
        return sum(self.integers) * varint.MAX_BYTES + texts * (LONGEST_TEXT + 2)

    @cached_property
    def growth(self) -> int:
        """Bytes that the values may have more in an update than in a record.

        Ages grow old, and a text gets an id and two longer lengths.
        """
        kinds = [kind for kind, elements in self.kinds for _ in range(elements or 1)]
        return 4 * kinds.count(Kind.FREQUENCY) + 4 * kinds.count(Kind.DICTIONARY)

    def encode(self, values: Values) -> bytes:
        """The record for these values.

        :raises LocalProtocolError: a value is out of its type's range.
        """
        try:
            return self._encode(values)
        except (TypeError, AttributeError, ValueError) as problem:
            if isinstance(problem, LocalProtocolError):
                raise
            raise LocalProtocolError("values", values, f"values of {self.kinds}") from problem

    def blank(self) -> Values:
        """The values of an entry that was just created."""
        return tuple(
            _BLANKS[kind] if elements is None else (_BLANKS[kind],) * elements
            for kind, elements in self.kinds
        )

    def read(self, message: bytes, offset: int, dictionary: ReadsTexts) -> tuple[bytes, bool]:
        """The record for the values at ``offset`` of an update, and whether it is all said.

        It is not if there is a text, of which nothing is said (`peerproto.wire.dictionary`):
        the record has an empty one then. Bytes after the last value are skipped: they
        belong to data types that only newer peers know.

        :raises MalformedMessage: the message ends inside of a value, an integer
            is too long, or an id of a text is out of range.
        """
        if not self.has_texts:
            match = self._runs[0].match(message, offset)
            if match is None:
                raise self._malformed(message, offset)
            return match[0], True
        parts: list[bytes] = []
        said = True
        for number, run in enumerate(self._runs):
            if number:
                text, offset = dictionary.read(message, offset)
                said = said and bool(text)
                parts.append(text or EMPTY_TEXT)
            match = run.match(message, offset)
            if match is None:
                raise self._malformed(message, offset)
            parts.append(match[0])
            offset = match.end()
        return b"".join(parts), said

    def text(self, data: bytes, offset: int) -> tuple[int, int]:
        """Where the text in the record at ``offset`` begins, with its length, and where it ends.

        The record can be decoded, and there is a text in it.
        """
        match = self._runs[0].match(data, offset)
        assert match is not None
        length, start = varint.decode(data, match.end())
        return match.end(), start + length

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
def entry_codec(kinds: Kinds) -> EntryCodec:
    """The codec for columns of these kinds and numbers of elements."""
    return EntryCodec(kinds)


_BLANKS: dict[Kind, Any] = {
    Kind.SIGNED: 0,
    Kind.UNSIGNED32: 0,
    Kind.UNSIGNED64: 0,
    Kind.FREQUENCY: Frequency(0, 0, 0),
    Kind.DICTIONARY: None,
}


@cache  # there are no more than some hundred, and compiling one takes long
def integers_pattern(integers: int) -> re.Pattern[bytes]:
    """Matches so many encoded integers."""
    return re.compile(varint.VARINT + b"{%d}" % integers, re.DOTALL)


_READ_ONE = """\
    {name} = data[offset]
    if {name} < 240:
        offset += 1
    else:
        {name}, offset = varint(data, offset)
"""

_MASKS = {Kind.UNSIGNED32: " & 0xFFFFFFFF", Kind.UNSIGNED64: ""}


def _generate_decode(kinds: Kinds) -> Callable[..., Values]:
    """``decode(data, offset, elapsed=0)`` as one run of statements, array elements included."""
    lines = ["def decode(data, offset, elapsed=0):\n"]
    results = []
    for place, (kind, elements) in enumerate(kinds):
        items = []
        for index in range(elements or 1):
            name = f"v{place}_{index}"
            if kind is Kind.FREQUENCY:
                parts = [name + part for part in "acp"]
                lines += [_READ_ONE.format(name=part) for part in parts]
                items.append(
                    f"Frequency({parts[0]} if not elapsed and {parts[0]} <= {MAX_AGE}"
                    f" else aged({parts[0]}, elapsed),"
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


def _generate_encode(kinds: Kinds) -> Callable[[Values], bytes]:
    """``encode(values)`` as one run of statements, array elements included."""
    lines = ["def encode(values):\n    out = bytearray()\n    append = out.append\n"]
    if kinds:
        targets = (
            f"v{place}"
            if elements is None
            else f"({' '.join(f'v{place}_{i},' for i in range(elements))})"
            for place, (_, elements) in enumerate(kinds)
        )
        lines.append(f"    {', '.join(targets)}, = values\n")
    for place, (kind, elements) in enumerate(kinds):
        for name in (
            [f"v{place}"] if elements is None else [f"v{place}_{i}" for i in range(elements)]
        ):
            if kind is Kind.FREQUENCY:
                lines.append(f"    age, current, previous = {name}\n")
                lines.append(_WRITE_ONE.format(value="age", encode="varint32"))
                lines.append(_WRITE_ONE.format(value="current", encode="varint32"))
                lines.append(_WRITE_ONE.format(value="previous", encode="varint32"))
            elif kind is Kind.DICTIONARY:
                lines.append(f"    text = b'' if {name} is None else kept({name})\n")
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
        "aged": aged,
        "varint": varint.decode,
        "varint32": _encode32,
        "varint64": varint.encode,
        "signed": _encode_signed,
        "text": lambda kept: TEXTS.text(kept).decode("utf-8", "surrogateescape"),
        "kept": _kept,
    }
    exec(compile(source, f"<peerproto codec {name}>", "exec"), namespace)
    function: Callable[..., Any] = namespace[name]
    return function


def _kept(text: str) -> bytes:
    """What stands for a text in a record."""
    kept = TEXTS.keep(text.encode("utf-8", "surrogateescape"))
    if kept is None:
        raise LocalProtocolError("text", text, f"room: {TEXTS.limit} bytes of long texts are used")
    return kept


def aged(age: int, elapsed: int) -> int:
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

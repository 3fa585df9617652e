"""``haproxy``: ``set table`` lines, as HAProxy's own socket takes them.

What HAProxy cannot be told there is counted, and said: it differs by version. Seen with 2.6, 2.8,
3.0 and 3.2.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Final, Optional

from peerproto import KeyType, Kind, LocalProtocolError, Portable, PortableTable
from peerproto.terminal.node import NodeError
from peerproto.terminal.text import visible
from peerproto.terminal.transfer.lines import TOO_LONG, Line, numbered, said
from peerproto.terminal.values import Json
from peerproto.wire import keys
from peerproto.wire.layout import Cell, Layout

LONGEST_COMMAND: Final = 15_000
"""Bytes of a command that HAProxy takes in any case: its buffers hold 16384 by default, and need
some room."""

ARRAYS: Final = (3, 2)
"""The oldest version that is known to take elements of arrays by their index. Before, there is but
the first element, by the name of the array."""

NEWEST: Final = (99, 0)

LARGEST: Final = (1 << 63) - 1
"""The largest number that HAProxy reads there."""

_SPECIAL: Final = re.compile(rb"([^\w.:/@%+,-])", re.ASCII)
_WORD: Final = re.compile(rb"(?:\\.|[^\s\\]|\\$)+", re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_DATA: Final = re.compile(r"data\.([\w\[\]]+)")


class HaproxyFormat:
    """See the module."""

    name = "haproxy"

    def __init__(
        self,
        version: tuple[int, int] = NEWEST,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        :param version: the oldest HAProxy that is to take the lines.
        :param tell: is called with what cannot be said in them, in words.
        :param clock: seconds since the epoch.
        """
        self._version = version
        self._tell = tell
        self._clock = clock

    def write(self, table: PortableTable, entries: Iterable[Json], out: BinaryIO) -> int:
        """See `Format`.

        :raises NodeError: HAProxy's socket sets no entry of such a table.
        """
        layout = table.declaration.layout
        if layout.key_type is KeyType.BINARY:
            raise NodeError(
                f"table '{visible(table.declaration.name)}' has binary keys: HAProxy sets no"
                " entries of such tables on its socket"
            )
        lost = _Lost(self._tell)
        count = 0
        for given in entries:
            entry = Portable.read(given, layout)
            line = self._line(table, entry, lost)
            if line is not None:
                out.write(line)
                count += 1
        lost.told()
        self._tell(
            "HAProxy's socket sets no life: each entry lives there as long as the table says, from"
            " when it is set; a rate counts as if all of it happened then"
        )
        return count

    def _line(self, table: PortableTable, entry: Portable, lost: _Lost) -> Optional[bytes]:
        layout = table.declaration.layout
        key = _typed_key(entry.raw_key, layout)
        if not key or b"\n" in key:
            lost.entry("their keys are empty, or have a newline in them", entry, layout)
            return None
        name = table.declaration.name.encode("utf-8", "surrogateescape")
        words = [b"set table", _word(name), b"key", _word(key)]
        if table.per_peer:
            lost.value("whose shares they are: HAProxy has no shares", entry, layout)
        now = round(self._clock() * 1000)
        for cell in layout.printed:
            number = entry.reading(cell, now)
            if not number:
                word = self._word_of(cell)
                if number == 0 and word is not None:
                    words += [b"data." + word, b"0"]
                continue
            problem = self._problem(cell, number)
            if problem is not None:
                lost.value(f"{cell.name}{problem}", entry, layout)
                continue
            word = self._word_of(cell)
            assert word is not None
            words += [b"data." + word, str(number).encode("ascii")]
        line = b" ".join(words) + b"\n"
        if len(line) > LONGEST_COMMAND:
            lost.entry(f"their lines have more than {LONGEST_COMMAND} bytes", entry, layout)
            return None
        return line

    def _word_of(self, cell: Cell) -> Optional[bytes]:
        """The name of a value there; ``None`` if it has none, or is not to be set."""
        if cell.is_text or cell.column.name == "conn_cur":
            return None
        if cell.index is None:
            return cell.column.name.encode("ascii")
        if self._version >= ARRAYS:
            return f"{cell.column.name}[{cell.index}]".encode("ascii")
        return None if cell.index else cell.column.name.encode("ascii")

    def _problem(self, cell: Cell, number: object) -> Optional[str]:
        """Why a value cannot be set, if it cannot."""
        if cell.is_text:
            return ": HAProxy's socket sets no texts"
        if cell.column.name == "conn_cur":
            return ": connections of another moment, which nobody would count down again"
        if self._word_of(cell) is None:
            since = ".".join(map(str, ARRAYS))
            return f": HAProxy before {since} sets the first element of arrays alone"
        if isinstance(number, int) and number > LARGEST:
            return f": HAProxy's socket reads no number above {LARGEST}"
        return None

    def read(self, stream: BinaryIO) -> HaproxyReading:
        """See `Format`."""
        return HaproxyReading(stream)


class _Lost:
    """What cannot be said in lines: how many entries have it, and one of them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._values: dict[str, tuple[int, str]] = {}
        self._entries: dict[str, tuple[int, str]] = {}

    def value(self, what: str, entry: Portable, layout: Layout) -> None:
        """A value is left out."""
        _count(self._values, what, entry, layout)

    def entry(self, why: str, entry: Portable, layout: Layout) -> None:
        """An entry is left out."""
        _count(self._entries, why, entry, layout)

    def told(self) -> None:
        """Tell all of it."""
        for what, (count, key) in self._values.items():
            self._tell(f"left out of {_many(count)}, as of key {key}: {what}")
        for why, (count, key) in self._entries.items():
            self._tell(f"{_many(count)} left out, as that of key {key}: {why}")


def _count(counts: dict[str, tuple[int, str]], what: str, entry: Portable, layout: Layout) -> None:
    before = counts.get(what)
    if before is None:
        counts[what] = 1, visible(str(entry.json(layout.key_type)["key"]))
    else:
        counts[what] = before[0] + 1, before[1]


def _many(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _typed_key(raw_key: bytes, layout: Layout) -> bytes:
    """A key as somebody types it for HAProxy."""
    if layout.key_type is KeyType.STRING:
        return raw_key
    return str(keys.to_python(raw_key, layout.key_type)).encode("ascii")


def _word(raw: bytes) -> bytes:
    """Bytes as one word of a command."""
    return _SPECIAL.sub(rb"\\\1", raw)


class HaproxyReading:
    """See `peerproto.terminal.transfer.lines.Reading`. Empty lines, ``prompt`` and what stands
    behind ``#`` at the beginning of a line are passed over."""

    unit = "line"

    def __init__(self, stream: BinaryIO) -> None:
        self._all = numbered(stream)
        self._first: list[tuple[int, Optional[bytes]]] = []
        self.table: Optional[PortableTable] = None
        self.name: Optional[str] = None
        self._name = ""
        for number, line in self._all:
            self._first.append((number, line))
            words = [] if line is None else _words(line)
            if words[:2] == ["set", "table"] and len(words) > 2:
                self._name, self.name = words[2], _spelled(words[2])
            if words:
                break

    def lines(self, layout: Layout) -> Iterator[Line]:
        """See `Reading`."""
        for some in (self._first, self._all):
            for number, line in some:
                if line is None:
                    yield Line(number, problem=TOO_LONG)
                    continue
                words = _words(line)
                if not words:
                    continue
                try:
                    yield Line(number, self._entry(words, layout))
                except LocalProtocolError as problem:
                    yield Line(number, problem=said(problem))

    def _entry(self, words: list[str], layout: Layout) -> Json:
        expected = "set table <table> key <key> [data.<type> <number>]..."
        if words[:2] != ["set", "table"] or len(words) < 5 or words[3] != "key":
            raise LocalProtocolError("command", " ".join(words[:5]), expected)
        if words[2] != self._name:
            raise LocalProtocolError("table", words[2], f"{self._name}, as in the first line")
        values: dict[str, Any] = {}
        rest = words[5:]
        while rest:
            match = _DATA.fullmatch(rest[0])
            cell = None if match is None else _cell(match[1], layout)
            if cell is None:
                names = ", ".join(f"data.{one.name}" for one in layout.printed) or "none"
                raise LocalProtocolError("data type", rest[0], f"one of {names}")
            if len(rest) < 2:
                raise LocalProtocolError(f"value of {rest[0]}", "", "a value behind it")
            values[cell.name] = _number(rest[0], rest[1], cell)
            rest = rest[2:]
        return {"key": _key(words[4], layout.key_type), "values": values}


def _words(line: bytes) -> list[str]:
    """The words of a line, without what it escapes; none where it is no command."""
    if line.startswith(b"#") or line.strip() == b"prompt":
        return []
    raw = [_ESCAPED.sub(rb"\1", word) for word in _WORD.findall(line.rstrip(b"\n"))]
    return [word.decode("utf-8", "surrogateescape") for word in raw]


def _cell(name: str, layout: Layout) -> Optional[Cell]:
    """The value that HAProxy means by a name: that of an array is its first element."""
    return layout.cells.get(name) or layout.cells.get(f"{name}[0]")


def _number(name: str, text: str, cell: Cell) -> Any:
    if cell.column.data_type.kind is Kind.DICTIONARY:
        return None if text == "-" else _spelled(text)
    if not re.fullmatch(r"-?\d{1,25}", text, re.ASCII):
        raise LocalProtocolError(f"value of {name}", text, "a whole number")
    return int(text)


def _key(text: str, key_type: KeyType) -> str:
    return _spelled(text) if key_type is KeyType.STRING else text


def _spelled(text: str) -> str:
    """A text as entries in JSON have it."""
    raw = text.encode("utf-8", "surrogateescape")
    key: str = Portable(raw, {}).json(KeyType.STRING)["key"]
    return key

"""What a command is about: a table, and which entries of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Optional

import attrs

from peerproto import Entry, Filter, LocalProtocolError, Network, Prefix
from peerproto.service import spelling
from peerproto.service.command import CommandError
from peerproto.service.filters import OPERATORS, Cell, Condition
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.service.text import parse_key, parse_value

AT_ONCE: Final = 250
"""Entries of some values that are removed, and told to observers, at once."""

How = Callable[[StickTable, list[bytes]], int]
"""Does away with raw keys of a table, or of a share."""


@attrs.frozen
class Selection:
    """Which entries of a table a command is about."""

    table: StickTable
    raw_key: Optional[bytes] = None
    conditions: tuple[Condition, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether all entries are meant."""
        return self.raw_key is None and not self.conditions

    @property
    def one_key(self) -> bool:
        """Whether an entry is meant whatever it has."""
        return self.raw_key is not None and not self.conditions

    def __iter__(self) -> Iterator[Optional[Entry]]:
        """The entries; ``None`` for each that was looked at and is not meant."""
        if self.raw_key is not None:
            for found in self.table.entries_of(self.raw_key):
                yield found if self._means(found) else None
        else:
            for _, entry in self.table.walk(None, *self.conditions):
                yield entry

    def _means(self, entry: Entry) -> bool:
        return all(
            one(entry) if isinstance(one, Filter) else one.for_keys(entry.layout)(entry.raw_key)
            for one in self.conditions
        )

    def all_done_away(self, how: How) -> Iterator[int]:
        """Do away with all entries, in short steps: how many in each."""
        doomed: list[Entry] = []
        for entry in self:
            if entry is not None:
                doomed.append(entry)
            if len(doomed) >= AT_ONCE:
                yield self._done_away(doomed, how)
                doomed = []
            else:
                yield 0
        yield self._done_away(doomed, how)

    def _done_away(self, entries: list[Entry], how: How) -> int:
        """Do away with entries that are still meant: they may have changed meanwhile."""
        by_peer: dict[Optional[str], list[bytes]] = {}
        for entry in entries:
            for now in self.table.entries_of(entry.raw_key):
                if now.peer == entry.peer and self._means(now):
                    by_peer.setdefault(now.peer, []).append(now.raw_key)
        table = self.table
        return sum(
            how(table if peer == table.peer else table.share(peer), keys)
            for peer, keys in by_peer.items()
        )


def table_of(service: StickTableService, arguments: list[str]) -> StickTable:
    """The table that the first word names.

    :raises CommandError: there is none.
    """
    if not arguments:
        raise CommandError("The name of a table is missing")
    table = service.find_table(arguments[0])
    if table is None:
        names = ", ".join(table.name for table in service.tables)
        raise CommandError(f"No such table: '{arguments[0]}'. There are: {names or 'none'}")
    return table


def selection_of(service: StickTableService, arguments: list[str]) -> Selection:
    """The entries that are meant by words as HAProxy has them.

    :raises CommandError: they cannot be read.
    """
    table = table_of(service, arguments)
    raw_key, conditions = None, []
    rest = arguments[1:]
    while rest:
        if rest[0] == "key":
            if len(rest) < 2:
                raise CommandError("A key is missing after 'key'")
            raw_key = key_of(table, rest[1])
            rest = rest[2:]
        elif rest[0].startswith("data."):
            conditions.append(filter_of(table, rest[:3]))
            rest = rest[3:]
        else:
            raise CommandError(f"Neither a key nor a filter: '{rest[0]}'")
    return Selection(table, raw_key, tuple(conditions))


def key_of(table: StickTable, text: str) -> bytes:
    """The raw key that somebody typed.

    :raises CommandError: it is none of this table.
    """
    try:
        return parse_key(text, table.layout)
    except LocalProtocolError as problem:
        raise CommandError(f"Invalid {problem}") from problem


def cell_of(table: StickTable, word: str) -> Cell:
    """What ``data.<type>`` is in a table.

    :raises CommandError: it stores no such thing.
    """
    name = word[5:] if word.startswith("data.") else ""
    cell = table.cells.get(name)
    if cell is None:
        names = ", ".join(f"data.{cell.name}" for cell in dict.fromkeys(table.cells.values()))
        raise CommandError(
            f"Data type not stored in this table: '{word}'. There are: {names or 'none'}"
        )
    return cell


def filter_of(table: StickTable, words: list[str]) -> Filter:
    """``data.<type> <operator> <value>``.

    :raises CommandError: it is none of this table.
    """
    cell = cell_of(table, words[0])
    if cell.is_text:
        raise CommandError(f"Not a number, so it cannot be compared: '{words[0]}'")
    if len(words) < 3 or words[1] not in OPERATORS:
        raise CommandError(f"Require an operator among {', '.join(OPERATORS)}, and a value")
    try:
        value = parse_value(words[2], cell)
    except LocalProtocolError as problem:
        raise CommandError(str(problem)) from problem
    assert isinstance(value, int)
    return Filter(words[0].partition(".")[2], words[1], value)


@attrs.define
class Wanted:
    """The words of a command for programs, in which names and keys are as in JSON."""

    selection: Selection
    top: Optional[int] = None
    """How many entries are wanted at most; ``None`` for all."""
    by: Optional[str] = None
    """The value by which entries are ranked, the highest first; ``-`` before it: the lowest."""
    raw: bool = False
    """Whether entries are wanted without a loss: see `peerproto.service.portable`."""

    @classmethod
    def of(cls, service: StickTableService, arguments: list[str]) -> Wanted:
        """Read ``<table> [key <key>] [data.<type> <operator> <value>] [prefix <text>]
        [cidr <network>] [peer <peer>] [top <number>] [by <type>]``.

        :raises CommandError: it cannot be read.
        """
        try:
            return cls._read(service, arguments)
        except LocalProtocolError as problem:
            raise CommandError(str(problem)) from problem

    @classmethod
    def _read(cls, service: StickTableService, arguments: list[str]) -> Wanted:
        table = table_of(service, [spelling.read(one) for one in arguments[:1]])
        conditions: list[Condition] = []
        given: dict[str, str] = {}
        rest = arguments[1:]
        while rest:
            word = rest[0]
            if word.startswith("data."):
                conditions.append(filter_of(table, rest[:3]))
                rest = rest[3:]
            elif word in _WORDS and len(rest) > 1 and word not in given:
                given[word] = rest[1]
                rest = rest[2:]
            else:
                raise CommandError(
                    f"read '{word}', expected data.<type>, or once {', '.join(_WORDS)} with a word"
                    " behind it"
                )
        if "peer" in given:
            table = table.share(spelling.read(given["peer"]))
        raw_key = spelling.raw_key(given["key"], table) if "key" in given else None
        if "prefix" in given:
            conditions.append(Prefix(spelling.read(given["prefix"])))
        if "cidr" in given:
            conditions.append(Network(given["cidr"]))
        for one in conditions:
            if not isinstance(one, Filter):
                one.for_keys(table.layout)
        top = given.get("top")
        if top is not None and not (top.isascii() and top.isdecimal() and len(top) < 6):
            raise CommandError(f"top: read '{top}', expected a whole number below 100000")
        return cls(
            Selection(table, raw_key, tuple(conditions)),
            None if top is None else int(top),
            given.get("by"),
            _raw(given.get("raw", "no")),
        )


def _raw(word: str) -> bool:
    if word not in ("yes", "no"):
        raise CommandError(f"raw: read '{word}', expected yes or no")
    return word == "yes"


_WORDS: Final = ("key", "prefix", "cidr", "peer", "top", "by", "raw")

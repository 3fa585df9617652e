"""What peers promise each other, and what of it is open: the oracle of the simulation.

A *cell* is one column of one key of a table. Each cell has one node that sets it, its owner,
and every value that is set is a number higher than all before: so what a node has of a cell
tells which change that was, and of two values the higher one is the later.

Promised, and looked at:

1. **Finished.** Whose resync is up to date since a teacher said *finished* has, of each cell,
   what the teacher had when it was asked, or something later.
2. **In step.** Where two nodes say of each other that they are in step, are up to date, and
   nothing is on the way between them, each has the latest of what the other has set.
3. **At the quiet end**, with everything connected for long enough: all nodes that share a table
   have the latest of each cell, all are up to date, and each says of each that it is in step. All
   of that holds, too, when each node has changed something once more; and then an adopted table
   has the keys that it has where it came from.
4. A node that can reach another one does not count itself up to date because nobody was there.
5. Nothing expires before its time, and nothing lives long after it.
6. An observer that mirrors a table has its keys.
7. A table without ``nopurge`` takes every change, and what is set is there.
8. No exception is logged, and nothing waits on the clock once all are stopped.
9. A step of the wall clock is nothing to anybody.

Open is, as with HAProxy:

- Two nodes that set the same cell at the same time: the protocol has no order for that. So each
  cell has one owner.
- A change that was not yet at every node when its owner, or any other node that was to teach it,
  lost its memory: by a crash, a table that begins anew, or a hand-over (whose new process does
  not send on what it learns). Whoever has it keeps it; others are not told.
- What a node lacked when it counted itself up to date because for 5 s nobody could be reached,
  or all that could be were asked in vain.
- What a node had of others when it asked for a lesson, and its teacher had not: a lesson does
  not tell how old a value is, so an older one takes its place. (What comes from others once a
  lesson is ahead, and what the node set itself, stays.)
- What a node lacked of a table that its teacher did not share with it.
- What was removed, trashed, or expired at any node: it may be gone, there, or come back, with
  any of the values that were set.
- Columns that a node did not store for a time.

An open cell has no value but one that was set, or none. The next change by its owner ends that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional

import attrs

from peerproto.service.service import StickTableService
from peerproto.tables.entry import Entry
from peerproto.wire.datatypes import Frequency

Identity = tuple[str, int]
"""What tables must have in common to be shared: type and length of their keys."""

Place = tuple[str, Identity, int, str]
"""A cell: table, identity, number of the key, column."""

Contents = dict[tuple[int, str], int]
"""What a node has of a table: by key and column, the number of the change, 0 for none."""

COLUMNS = ("gpc0", "gpc1", "server_key", "http_req_rate", "gpt0")
"""Columns that are set; the place of each is part of who its owner is."""

EARLY = 1.1
"""Seconds by which an entry may expire early: a change that is sent within one has no age."""

LATE = 30.0
"""Seconds by which it may live longer: it was on the way, or stalled."""


class Broken(AssertionError):
    """A promise that was not kept."""


def identity(service: StickTableService, table: str) -> Optional[Identity]:
    """Of a table of a node; ``None`` if it has none of this name."""
    for one in service.tables:
        if one.name == table:
            return one.layout.key_type.word, one.layout.key_length
    return None


def key_of(kind: Identity, number: int) -> Any:
    """The key of this number in a table: the first integers are all in one part of it."""
    return number * 257 if kind[0] == "integer" else f"k{number}"


def number_of(key: Any) -> int:
    """The number of a key."""
    return int(key) // 257 if isinstance(key, int) else int(str(key)[1:])


def value_of(column: str, number: int) -> Any:
    """What a change of this number sets."""
    if column == "server_key":
        return f"server {number}"
    return Frequency(0, number, 0) if column == "http_req_rate" else number


def numbers(entry: Entry) -> Iterator[tuple[str, int]]:
    """By column, the number of the change whose value an entry has; 0 for none."""
    for column in entry.layout.columns:
        name = column.name
        if name not in COLUMNS:
            continue
        if name == "http_req_rate":
            counter = entry.counter(name)
            yield name, counter.current + counter.previous
            continue
        value = entry[name]
        yield name, int(value.rpartition(" ")[2]) if isinstance(value, str) else value or 0


def contents(service: StickTableService, table: str) -> Contents:
    """What a node has of a table."""
    return {
        (number_of(entry.key), column): number
        for entry in service.table(table)
        for column, number in numbers(entry)
    }


def stored(service: StickTableService, table: str) -> set[str]:
    """The columns of a table that a node stores."""
    return {column.name for column in service.table(table).layout.columns}


@attrs.define
class Cell:
    """One column of one key."""

    owner: str
    changes: set[int] = attrs.Factory(set)
    latest: int = 0
    open: bool = True
    """Whether nodes may have another value than the latest."""


class Promise:
    """What was set by whom, and when."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.cells: dict[Place, Cell] = {}
        self.changed: dict[Place, None] = {}
        """Those that were set since the beginning of the run proper."""
        self._now = now
        self._count = 0
        self._times: list[float] = [0.0]
        self._longest: dict[str, float] = {}

    # -- what is done ----------------------------------------------------

    def change(self, place: Place, owner: str) -> int:
        """A cell is set now: the number of the change."""
        self._count += 1
        self._times.append(self._now())
        cell = self.cells.setdefault(place, Cell(owner))
        cell.changes.add(self._count)
        cell.latest, cell.open = self._count, False
        self.changed[place] = None
        return self._count

    def declared(self, table: str, expire: int) -> None:
        """A node declares a table with this expiry in ms; 0 for none."""
        life = expire / 1000 if expire else float("inf")
        self._longest[table] = max(self._longest.get(table, life), life)

    def open_key(self, table: str, kind: Identity, number: int) -> None:
        """An entry was removed somewhere."""
        for column in COLUMNS:
            cell = self.cells.get((table, kind, number, column))
            if cell is not None:
                cell.open = True

    def open_column(self, table: str, column: str) -> None:
        """A node stores a column that it did not store before, or no longer."""
        for (name, _, _, stored), cell in self.cells.items():
            if (name, stored) == (table, column):
                cell.open = True

    def open_unless_known(
        self, others: Iterable[StickTableService], table: str, owner: Optional[str] = None
    ) -> None:
        """A node has lost its memory of a table: open is what not all ``others`` have.

        With ``owner``, of its cells alone.
        """
        known: dict[Identity, list[tuple[set[str], Contents]]] = {}
        for other in others:
            kind = identity(other, table)
            if kind is not None:
                known.setdefault(kind, []).append((stored(other, table), contents(other, table)))
        for (name, kind, number, column), cell in self.cells.items():
            if name == table and not cell.open and owner in (None, cell.owner):
                have = known.get(kind, [])
                cell.open = not have or any(
                    what.get((number, column), 0) != cell.latest for _, what in have
                )

    def open_overwritten(self, pupil: StickTableService, teacher: StickTableService) -> None:
        """A lesson is ahead: open is what the pupil has of others, and the teacher has not."""
        tables: dict[str, Optional[tuple[Identity, Contents, Contents]]] = {}
        for (name, kind, number, column), cell in self.cells.items():
            if cell.open or cell.owner == pupil.localpeer:
                continue
            if name not in tables:
                ours = identity(pupil, name)
                tables[name] = None
                if ours is not None and ours == identity(teacher, name):
                    tables[name] = ours, contents(pupil, name), contents(teacher, name)
            both = tables[name]
            if both is not None and both[0] == kind:
                place = number, column
                cell.open = both[1].get(place) == cell.latest != both[2].get(place)

    def open_untaught(self, pupil: StickTableService, teacher: StickTableService) -> None:
        """A lesson is over: open is what the pupil lacks of tables that the teacher has not."""
        tables: dict[str, Optional[tuple[Identity, Contents]]] = {}
        for (name, kind, number, column), cell in self.cells.items():
            if cell.open:
                continue
            if name not in tables:
                ours = identity(pupil, name)
                tables[name] = None
                if ours is not None and ours != identity(teacher, name):
                    tables[name] = ours, contents(pupil, name)
            has = tables[name]
            if has is not None and has[0] == kind:
                cell.open = has[1].get((number, column), 0) != cell.latest

    # -- what must hold --------------------------------------------------

    def check_known(self, who: str, table: str, kind: Identity, what: Contents) -> None:
        """Nobody has what nobody set."""
        for (number, column), change in what.items():
            cell = self.cells.get((table, kind, number, column))
            if change and (cell is None or change not in cell.changes):
                raise Broken(f"{who} has {column}={change} for {number} in {table}: never set")

    def check_taught(
        self, pupil: StickTableService, teacher: str, table: str, kind: Identity, had: Contents
    ) -> None:
        """A lesson was finished: the pupil has what the teacher had when it was asked."""
        if identity(pupil, table) != kind:
            return
        has, columns = contents(pupil, table), stored(pupil, table)
        for (number, column), change in had.items():
            cell = self.cells.get((table, kind, number, column))
            if cell is None or cell.open or column not in columns:
                continue
            if has.get((number, column), 0) < change:
                raise Broken(
                    f"{pupil.localpeer} was told finished by {teacher}, and has"
                    f" {column}={has.get((number, column), 0)} for {number} in {table}:"
                    f" {teacher} had {change} when it was asked"
                )

    def check_has(
        self,
        node: StickTableService,
        places: Iterable[Place],
        why: str,
        owner: Optional[str] = None,
    ) -> None:
        """A node has the latest of these cells; with ``owner``, of those that are its."""
        tables: dict[str, tuple[Optional[Identity], set[str]]] = {}
        entries: dict[tuple[str, int], dict[str, int]] = {}
        for place in places:
            table, kind, number, column = place
            cell = self.cells[place]
            if cell.open or (owner is not None and owner != cell.owner):
                continue
            if table not in tables:
                has = identity(node, table)
                tables[table] = has, stored(node, table) if has else set()
            if tables[table][0] != kind or column not in tables[table][1]:
                continue
            if (table, number) not in entries:
                entry = node.table(table).get(key_of(kind, number))
                entries[table, number] = {} if entry is None else dict(numbers(entry))
            change = entries[table, number].get(column, 0)
            if change != cell.latest:
                raise Broken(
                    f"{node.localpeer} has {column}={change} for {number} in {table}, not"
                    f" {cell.latest} that {cell.owner} set at {self._times[cell.latest]:.3f}: {why}"
                )

    def check_expired(
        self, who: str, table: str, number: int, change: int, shortest: float
    ) -> None:
        """An entry that was changed last by ``change`` expires at a node now, where it has to
        live for ``shortest`` s."""
        due = self._times[change] + shortest
        if self._now() < due - EARLY:
            raise Broken(
                f"{who} let {number} in {table} expire at {self._now():.3f}, though it was set"
                f" at {self._times[change]:.3f} and lives {shortest:g} s there"
            )

    def check_lives(self, who: str, table: str, what: Contents) -> None:
        """No entry is there long after its time."""
        latest: dict[int, int] = {}
        for (number, _), change in what.items():
            latest[number] = max(latest.get(number, 0), change)
        for number, change in latest.items():
            due = self._times[change] + self._longest[table]
            if change and self._now() > due + LATE:
                raise Broken(
                    f"{who} still has {number} in {table} at {self._now():.3f}, which was set at"
                    f" {self._times[change]:.3f} and lives {self._longest[table]:g} s"
                )

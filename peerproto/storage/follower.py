"""What has changed in the tables of a node, and is to be written."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, Optional

import attrs
from twisted.logger import Logger

from peerproto import (
    Batch,
    Cause,
    Declaration,
    Feed,
    FeedOverrun,
    Snapshot,
    StickTable,
    StickTableService,
)
from peerproto.storage.transaction import Declared, Moment, Transaction

MOST: Final = 500_000
"""Changed keys that may wait: if there are more, whole tables are written."""

TRANSACTION: Final = 20_000
"""Keys of a transaction."""

FLOOD: Final = 100_000
"""Changes a second that are more than can be written in time: a peer teaches, probably. It is twice
what is promised, so that a node that was held up and catches up is not taken for that."""

_SHORTEST: Final = 250
"""Time in ms that changes are counted for at least, before they are said to be many: those of one
read come at once."""

_STEP: Final = 1000
"""Keys that are looked at in one turn of the reactor."""

_CAUSES: Final = tuple(cause for cause in Cause if cause is not Cause.RESTORED)
"""What is restored comes from the file."""

_REMOVED: Final = (Cause.CLEARED, Cause.FORGOTTEN)
"""Somebody has removed it."""

Part = tuple[str, Optional[str]]
"""The name of a table, and that of the peer whose share it is, if it is shared per peer."""


Shown = tuple[Declaration, bool]
"""How a table is declared, and whether it is shared per peer."""


@attrs.frozen
class _Bound:
    """A table as the file has it."""

    table: StickTable
    declaration: Declaration
    per_peer: bool


@attrs.define
class _Walk:
    """A table that is being written whole."""

    steps: Iterator[tuple[Part, list[bytes]]]
    before: Optional[int] = None
    """Rows that were written before this transaction are not in the table any more, once all of it
    is written; ``None`` until it has begun."""


class Follower:
    """Knows which keys are to be written, and gives them out in transactions.

    For a key, what is written is what the table has of it by then: an entry, or that there is none.
    So it does not matter how often it changed, and in which order it is told.
    """

    _log = Logger()

    def __init__(
        self,
        service: StickTableService,
        keeps: Callable[[str], bool],
        most: int = MOST,
        flood: int = FLOOD,
    ) -> None:
        """
        :param keeps: tells whether the table of a name is to be kept.
        :param most: how many changed keys may wait.
        :param flood: how many changes a second are too many to be written in time.
        """
        self._most = most
        self._flood = flood
        self._service = service
        self.keeps = keeps
        self._feed = service.feed(causes=_CAUSES, most=most)
        self._removals: Optional[Feed] = service.feed(causes=_REMOVED, most=most)
        """Keys that somebody removed, apart from the others until tables are loaded: what was
        removed is not to come back, however much else has changed."""
        self._removed: dict[Part, dict[bytes, None]] = {}
        self._marks: dict[Part, dict[bytes, None]] = {}
        """Keys that changed."""
        self._cleared: dict[Part, dict[bytes, int]] = {}
        """Keys that somebody removed, and when; not those that expired, or made room."""
        self._walks: dict[str, _Walk] = {}
        self._bound: dict[str, _Bound] = {}
        self._declaring: dict[str, _Bound] = {}
        """The tables as they were when the last transaction was made."""
        self._lost = False
        """Whether it is not known any more which keys of tables changed that are not bound yet."""
        self.unready: set[str] = set()
        """Names of tables that the file has, and that are not loaded: they are not written."""
        self.number = 0
        """The number of the last transaction."""
        self.sweeps: dict[str, int] = {}
        """Tables that were written whole: rows older than these transactions are to go."""
        self._out = 0
        """Keys of the transaction that is being made or written."""
        self.overruns = 0
        """How often too many keys waited."""
        self._counted = (service.now(), 0)
        """When changes were counted last, and how many the feed had been told by then."""

    def close(self) -> None:
        """Follow no more."""
        self._feed.close()
        self.loaded()

    def loaded(self) -> None:
        """What the file had is in the tables."""
        removals, self._removals = self._removals, None
        if removals is not None:
            removals.close()
        self._removed.clear()

    @property
    def waiting(self) -> int:
        """Changed keys that are to be written, or are being written; a table that is written whole
        does not count."""
        return len(self._feed) + sum(map(len, self._marks.values())) + self._out

    @property
    def is_idle(self) -> bool:
        """Whether all is written, as far as is known."""
        return not (self._walks or self._feed.overrun or self.waiting or any(self._news()))

    def bound(self, name: str, table: StickTable, declaration: Declaration, per_peer: bool) -> None:
        """The file has a table, as it was declared then, and it is loaded."""
        self._bound[name] = _Bound(table, declaration, per_peer)
        if self._lost:
            self._walk(name)

    def begin_anew(self, has: Mapping[str, Shown]) -> None:
        """There is another file, which has these tables of the one before."""
        for name, bound in list(self._bound.items()):
            if name in has:
                self._bound[name] = _Bound(bound.table, *has[name])
            else:
                del self._bound[name]
        self.unready = {name for name in has if name not in self._bound}
        self.walk_all()

    def walk_all(self) -> None:
        """Write all tables whole."""
        self._marks.clear()
        self._cleared.clear()
        self._lost = True
        for name in self._bound:
            self._walk(name)

    def _walk(self, name: str) -> None:
        self.sweeps.pop(name, None)
        self._walks[name] = _Walk(self._steps(name))

    def _steps(self, name: str) -> Iterator[tuple[Part, list[bytes]]]:
        table = self._service.find_table(name)
        if table is None:
            return
        shares: dict[Optional[str], StickTable] = {None: table}
        if table.per_peer:
            shares = dict(table.contributions().items())
        for peer, share in shares.items():
            raw_keys = share.raw_keys()
            while share.shared and (some := list(islice(raw_keys, _STEP))):
                yield (name, peer), some

    # -- what has changed ----------------------------------------------------

    def is_flooded(self) -> bool:
        """Whether more changes have come since the last look than can be written in time, as when a
        peer teaches."""
        now, told = self._service.now(), len(self._feed) + self._feed.merged
        (before, told_before), self._counted = self._counted, (now, told)
        if self._feed.overrun:
            self._overrun()
            return True
        return (told - told_before) * 1000 > self._flood * max(now - before, _SHORTEST)

    def _overrun(self) -> None:
        """More changed than is held: all is to be written, and what changes is held again."""
        try:
            self._feed.take(0)
        except FeedOverrun:
            self.overruns += 1
            self.walk_all()

    async def collect(self) -> None:
        """Take all that the feed has."""
        await self._collect_removed()
        if self._feed.overrun:
            self._overrun()
        batches = self._feed.drain(_STEP)
        self._counted = self._service.now(), self._feed.merged
        for number, batch in enumerate(batches):
            name = batch.table.name
            # One that the file has is perhaps named again before the file lets it go.
            if self.keeps(name) or name in self.unready:
                part = name, batch.table.peer
                # Of a table of which all is to be written, it is known already.
                if name not in self._walks or self._walks[name].before is not None:
                    self._marks.setdefault(part, {}).update(dict.fromkeys(batch.raw_keys))
                self._note_cleared(part, batch)
            if number % 8 == 7:
                await self._service.turn()
        if sum(map(len, self._marks.values())) > self._most:
            self.overruns += 1
            self.walk_all()

    async def _collect_removed(self) -> None:
        if self._removals is None:
            return
        try:
            batches = self._removals.drain(_STEP)
        except FeedOverrun:
            self._log.warn(
                "storage: more than {most} keys were removed before the file was loaded: some of"
                " them may come back",
                most=self._most,
            )
            return
        for number, batch in enumerate(batches):
            part = batch.table.name, batch.table.peer
            self._removed.setdefault(part, {}).update(dict.fromkeys(batch.raw_keys))
            if number % 8 == 7:
                await self._service.turn()

    def _note_cleared(self, part: Part, batch: Batch) -> None:
        """Know why keys have no entry, if they have none."""
        if batch.cause in _REMOVED:
            now = self._service.time.now()
            self._cleared.setdefault(part, {}).update(dict.fromkeys(batch.raw_keys, now))
        elif cleared := self._cleared.get(part):
            for raw_key in batch.raw_keys:
                cleared.pop(raw_key, None)

    def mark(self, part: Part, raw_keys: list[bytes]) -> None:
        """Have keys written anew."""
        self._marks.setdefault(part, {}).update(dict.fromkeys(raw_keys))

    def changed(self, part: Part) -> Mapping[bytes, None]:
        """The keys of which a change is not written yet, and those that are to stay removed."""
        return ChainMap(self._marks.get(part, {}), self._removed.get(part, {}))

    # -- transactions --------------------------------------------------------

    async def next_transaction(self, moment: Moment, ahead: int) -> Optional[Transaction]:
        """What to write next; ``None`` if there is nothing.

        :param ahead: what the time of the file has more than that of the service, in ms.
        """
        dropped, declared = self._news()
        self._declaring = {
            name: _Bound(table, table.declaration, table.per_peer)
            for name, table in self._kept().items()
        }
        for one in declared:
            self._walk_if_new(one)
        declarations = {
            name: bound.declaration for name, bound in self._bound.items() if name not in dropped
        }
        declarations.update((one.declaration.name, one.declaration) for one in declared)
        snapshots: list[tuple[str, Snapshot]] = []
        room = TRANSACTION
        for part, raw_keys in self._keys():
            if part[0] not in declarations and not self._is_to_be_kept(part[0]):
                continue
            snapshot = self._snapshot(part, raw_keys, declarations)
            if snapshot is None:
                # It was declared anew just now: the next transaction says so first.
                self.mark(part, raw_keys)
                break
            snapshots.append((part[0], snapshot))
            self._out += len(raw_keys)
            room -= len(raw_keys)
            if room <= 0:
                break
            await self._service.turn()
        if not (dropped or declared or snapshots):
            return None
        return Transaction(
            moment, ahead, dropped, declared, tuple(snapshots), self._cleared_of(snapshots)
        )

    def _is_to_be_kept(self, name: str) -> bool:
        return self._service.find_table(name) is not None and self.keeps(name)

    def _cleared_of(self, snapshots: list[tuple[str, Snapshot]]) -> dict[Part, dict[bytes, int]]:
        """Those keys of snapshots that somebody removed: they are taken."""
        found: dict[Part, dict[bytes, int]] = {}
        for name, snapshot in snapshots:
            part = name, snapshot.peer
            cleared = self._cleared.get(part)
            if not cleared:
                continue
            for raw_key in snapshot.raw_keys:
                if (when := cleared.pop(raw_key, None)) is not None:
                    found.setdefault(part, {})[raw_key] = when
        return found

    def _walk_if_new(self, one: Declared) -> None:
        name = one.declaration.name
        if one.anew:
            # Whatever it has is written, and the file has nothing that is to go.
            for part in [part for part in self._marks if part[0] == name]:
                del self._marks[part]
            self._walk(name)

    def _kept(self) -> dict[str, StickTable]:
        """The tables that are to be kept."""
        return {table.name: table for table in self._service.tables if self.keeps(table.name)}

    def _news(self) -> tuple[tuple[str, ...], tuple[Declared, ...]]:
        """Tables that go, and those that come or are declared anew."""
        present = self._kept()
        dropped = tuple(name for name in self._bound if name not in present)
        dropped += tuple(name for name in self.unready if not self.keeps(name))
        declared = []
        for name, table in present.items():
            bound = self._bound.get(name)
            if name in self.unready:
                continue
            if bound is None or bound.table is not table:
                declared.append(Declared(table.declaration, table.per_peer, True))
            elif (bound.declaration, bound.per_peer) != (table.declaration, table.per_peer):
                declared.append(Declared(table.declaration, table.per_peer, False))
        return dropped, tuple(declared)

    def _keys(self) -> Iterator[tuple[Part, list[bytes]]]:
        """Keys to be written, some at a time: they are taken."""
        for part in list(self._marks):
            if part[0] in self.unready:
                continue
            marks = self._marks.pop(part)
            while marks:
                some = list(islice(marks, _STEP))
                for raw_key in some:
                    del marks[raw_key]
                if marks:
                    # What is marked meanwhile comes into the same place.
                    self._marks[part] = marks
                yield part, some
                marks = self._marks.pop(part, {})
        for name in list(self._walks):
            walk = self._walks[name]
            if walk.before is None:
                walk.before = self.number + 1
            for part, some in walk.steps:
                yield part, some
            if self._walks.get(name) is walk:
                del self._walks[name]
                self.sweeps[name] = walk.before

    def _snapshot(
        self, part: Part, raw_keys: list[bytes], declarations: dict[str, Declaration]
    ) -> Optional[Snapshot]:
        """What there is of keys now; ``None`` if the file is not ready for it."""
        name, peer = part
        declaration = declarations.get(name)
        if declaration is None:
            return None
        table: Optional[StickTable] = self._service.find_table(name)
        if table is not None and table.per_peer:
            table = table.contributions().get(peer) if peer is not None else None
        if table is None:
            return Snapshot.empty(declaration, peer, raw_keys)
        snapshot = table.snapshot(raw_keys)
        return snapshot if snapshot.declaration.layout == declaration.layout else None

    def wrote(self, what: Transaction, number: int) -> None:
        """A transaction was written."""
        self.number = number
        self._out = 0
        for name in what.dropped:
            self._bound.pop(name, None)
            self.unready.discard(name)
            self._walks.pop(name, None)
            self.sweeps.pop(name, None)
        for one in what.declared:
            name = one.declaration.name
            self._bound[name] = self._declaring[name]

    def failed(self, what: Transaction) -> None:
        """A transaction was not written: its keys are to be written later."""
        self._out = 0
        for name, snapshot in what.snapshots:
            self.mark((name, snapshot.peer), list(snapshot.raw_keys))
        for part, cleared in what.cleared.items():
            kept = self._cleared.setdefault(part, {})
            for raw_key, when in cleared.items():
                kept.setdefault(raw_key, when)

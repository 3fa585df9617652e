"""Feeds: which entries changed, held for a reader that goes at its own pace."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from itertools import chain, groupby, repeat
from typing import Final, Optional

import attrs
from twisted.internet.defer import CancelledError, Deferred

from peerproto.service.batch import Batch
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause
from peerproto.wire.errors import LocalProtocolError

MOST: Final = 500_000
"""Changed keys that a feed holds unless told otherwise."""

_AT_ONCE: Final = 500
"""Changed keys that ``async for`` gives before others have their turn."""

_FOLDED: Final = 1 << 14
"""Keys that are kept as they were told before those that changed twice are found among them;
without end where no key can be one that is held already."""


class FeedOverrun(LocalProtocolError):
    """More keys changed than a feed holds: what it held is dropped. Whoever reads it walks the
    tables, and goes on with the feed, which holds every change since then."""


@attrs.frozen
class _Why:
    """What a batch says of its keys."""

    cause: Cause
    origin: Optional[str]


@attrs.define
class _Pending:
    """The changed keys of one table."""

    keys: dict[bytes, _Why]
    """Why each changed the last time, in the order in which they changed first."""
    alike: Optional[_Why]
    """Why all of them changed, if that is the same."""

    def add(self, raw_keys: Iterable[bytes], why: _Why) -> int:
        """Take keys that changed: how many were not here."""
        before = len(self.keys)
        self.keys.update(zip(raw_keys, repeat(why)))
        if why != self.alike:
            self.alike = None
        return len(self.keys) - before


class Feed:
    """Changed keys, each in one place however often it changed; from `StickTableService.feed`.

    A reader takes them when it likes. An entry is looked up when it is read, so what a reader
    sees of a key is never older than the key's latest change that was told. Why a key changed
    is the cause of that change: a mirror that takes over what was stored, and drops what expired,
    was trashed or cleared, has what the table has.

    A feed that is not read holds `most` keys and no more: see `FeedOverrun`.
    """

    def __init__(
        self,
        now: Callable[[], int],
        turn: Callable[[], Deferred[None]],
        closed: Callable[[Feed], None],
        tables: Optional[Collection[str]] = None,
        causes: Collection[Cause] = tuple(Cause),
        most: int = MOST,
    ) -> None:
        """
        :param now: the time in ms of the service's clock.
        :param turn: gives a Deferred that fires in another turn of the reactor.
        :param closed: called when the feed is closed.
        :param tables: names of tables, also of those that there are later; ``None`` for all.
        :param causes: changes for other causes are left out.
        :param most: how many changed keys to hold.
        """
        self._now = now
        self._turn = turn
        self._closed = closed
        self._tables = tables
        self._causes = frozenset(causes)
        self.most = most
        self.merged = 0
        """How many changes were of a key that the feed held already."""
        self.overrun = False
        """Whether more keys changed than it holds: the next `take` raises `FeedOverrun`."""
        self.is_closed = False
        self._told: list[Batch] = []
        """What was told last, as it was told."""
        self._told_keys = 0
        self._told_new = True
        """Whether none of these keys is held otherwise, or was told twice."""
        self._pending: dict[StickTable, _Pending] = {}
        self._pending_keys = 0
        self._begun: list[tuple[bytes, _Why]] = []
        """Keys of one table that are being taken, the first one last."""
        self._begun_table: Optional[StickTable] = None
        self._given = 0
        """Keys that were given by ``async for`` in this turn."""
        self._waiters: list[Deferred[None]] = []

    def __repr__(self) -> str:
        tables = "all tables" if self._tables is None else ", ".join(sorted(self._tables))
        return f"<Feed of {tables}>"

    def __len__(self) -> int:
        """How many changes wait; those of one key may count more than once for a while."""
        return self._told_keys + self._pending_keys + len(self._begun)

    # -- for who reads -----------------------------------------------------

    def take(self, limit: Optional[int] = None) -> list[Batch]:
        """Take changed keys, ``limit`` of them at most: those that changed first come first.

        Each batch has keys of one table and one cause, and no key twice.

        :raises FeedOverrun: more keys changed than the feed holds. It is raised once.
        """
        self._check()
        groups: dict[tuple[StickTable, _Why], list[bytes]] = {}
        room: float = math.inf if limit is None else limit
        if self._told_new and not (self._begun or self._pending) and self._told_keys <= room:
            # Among many that a peer teaches, nobody needs to look for those that came twice.
            for batch in self._told:
                about = batch.table, _Why(batch.cause, batch.origin)
                groups.setdefault(about, []).extend(batch.raw_keys)
            self._drop()
            return [self._batch(*about, raw_keys) for about, raw_keys in groups.items()]
        self._fold()
        while room > 0 and (run := self._next(room)) is not None:
            table, why, raw_keys = run
            room -= len(raw_keys)
            group = groups.setdefault((table, why), raw_keys)
            if group is not raw_keys:
                group += raw_keys
        return [self._batch(*about, raw_keys) for about, raw_keys in groups.items()]

    def wait(self) -> Deferred[None]:
        """Fires when there is something to take.

        Fails with ``CancelledError`` when the feed is closed, or when its service stops.
        """
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        if self.is_closed:
            waiter.errback(CancelledError("the feed was closed"))
        elif len(self) or self.overrun:
            waiter.callback(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Batch:
        """The next changes, as they happen; the end when the feed is closed.

        :raises FeedOverrun: see `take`.
        :raises CancelledError: the service stops.
        """
        while not self.is_closed:
            if self._given >= _AT_ONCE:
                self._given = 0
                await self._turn()
            self._check()
            self._fold()
            run = self._next(_AT_ONCE)
            if run is not None:
                self._given += len(run[2])
                return self._batch(*run)
            try:
                await self.wait()
            except CancelledError:
                if not self.is_closed:
                    raise
        raise StopAsyncIteration

    def close(self) -> None:
        """Hold no more changes, and forget those that were not taken."""
        if not self.is_closed:
            self.is_closed = True
            self._drop()
            self._closed(self)
            self.cancel("the feed was closed")

    # -- for the service ---------------------------------------------------

    def add(self, batch: Batch) -> None:
        """Hold the keys of a batch, if they are for this feed."""
        if batch.cause not in self._causes or self.overrun:
            return
        if self._tables is not None and batch.table.name not in self._tables:
            return
        if not batch.all_new or self._pending_keys or self._begun:
            self._told_new = False
        self._told.append(batch)
        self._told_keys += len(batch.raw_keys)
        if not self._told_new and (self._told_keys > _FOLDED or len(self) > self.most):
            self._fold()
        if len(self) > self.most:
            self._drop()
            self.overrun = True
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def cancel(self, why: str) -> None:
        """Let all who wait know that nothing will come."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(CancelledError(why))

    # -- what is held ------------------------------------------------------

    def _check(self) -> None:
        """:raises FeedOverrun: see `take`."""
        if self.overrun:
            self.overrun = False
            raise FeedOverrun(
                repr(self), f"more than {self.most} changed keys", "that they are taken before"
            )

    def _fold(self) -> None:
        """Give each key that was told a place, if it has none."""
        told, self._told = self._told, []
        new = 0
        for (table, why), group in groupby(told, _table_and_why):
            raw_keys = chain.from_iterable(batch.raw_keys for batch in group)
            pending = self._pending.get(table)
            if pending is None:
                pending = self._pending[table] = _Pending(dict.fromkeys(raw_keys, why), why)
                new += len(pending.keys)
            else:
                new += pending.add(raw_keys, why)
        self.merged += self._told_keys - new
        self._pending_keys += new
        self._told_keys = 0
        self._told_new = True

    def _next(self, room: float) -> Optional[tuple[StickTable, _Why, list[bytes]]]:
        """The first keys that changed for the same reason, ``room`` of them at most."""
        if not self._begun and self._pending:
            table = next(iter(self._pending))
            pending = self._pending.pop(table)
            self._pending_keys -= len(pending.keys)
            if pending.alike is not None and len(pending.keys) <= room:
                return table, pending.alike, list(pending.keys)
            self._begun = list(pending.keys.items())
            self._begun.reverse()
            self._begun_table = table
        if not self._begun:
            return None
        assert self._begun_table is not None
        newer = self._pending.get(self._begun_table)
        raw_keys: list[bytes] = []
        why: Optional[_Why] = None
        while self._begun and len(raw_keys) < room:
            raw_key, latest = self._begun[-1]
            # It may have changed again since: it is taken once.
            latest = latest if newer is None else newer.keys.get(raw_key, latest)
            if why is not None and why != latest:
                break
            why = latest
            raw_keys.append(raw_key)
            self._begun.pop()
            if newer is not None and newer.keys.pop(raw_key, None) is not None:
                self._pending_keys -= 1
                self.merged += 1
        if newer is not None and not newer.keys:
            del self._pending[self._begun_table]
        assert why is not None
        return self._begun_table, why, raw_keys

    def _batch(self, table: StickTable, why: _Why, raw_keys: list[bytes]) -> Batch:
        return Batch(table, why.cause, raw_keys, self._now(), why.origin)

    def _drop(self) -> None:
        self._told.clear()
        self._pending.clear()
        self._begun.clear()
        self._told_keys = self._pending_keys = 0
        self._told_new = True


def _table_and_why(batch: Batch) -> tuple[StickTable, _Why]:
    return batch.table, _Why(batch.cause, batch.origin)

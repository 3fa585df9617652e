"""Feeds: which entries changed, held for a reader that goes at its own pace."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Final, Optional

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from peerproto.service.batch import Batch
from peerproto.service.sticktable import StickTable
from peerproto.service.waiters import Waiters
from peerproto.tables.changes import Cause
from peerproto.wire.errors import LocalProtocolError

MOST: Final = 500_000
"""Changed keys that a feed holds unless told otherwise."""

_AT_ONCE: Final = 500
"""Changed keys that ``async for`` gives before others have their turn."""

_MANY: Final = 500
"""Keys that are given as they were told, rather than together with others."""

_FOLDED: Final = 1 << 14
"""Keys that are kept as they were told before those that changed twice are found among them;
without end where no key can be one that is held already. A ms of work."""


class FeedOverrun(LocalProtocolError):
    """More keys changed than a feed holds: what it held is dropped. Whoever reads it walks the
    tables, and goes on with the feed, which holds every change since then."""


@attrs.frozen
class _Why:
    """What a batch says of its keys."""

    cause: Cause
    origin: Optional[str]


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
        self._told: deque[Batch] = deque()
        """What was told last, as it was told."""
        self._told_keys = 0
        self._told_new = True
        """Whether none of these keys is held otherwise, or was told twice."""
        self._pending: dict[StickTable, dict[bytes, _Why]] = {}
        """By table and key, why it changed the last time."""
        self._pending_keys = 0
        self._begun: dict[bytes, _Why] = {}
        """Keys of one table that are being taken, the next one last."""
        self._begun_table: Optional[StickTable] = None
        self._ended = ""
        """Why nothing will come, if that is so."""
        self._given = 0
        """Keys that were given by ``async for`` in this turn."""
        self._waiters: Waiters[None] = Waiters()

    def __repr__(self) -> str:
        tables = "all tables" if self._tables is None else ", ".join(sorted(self._tables))
        return f"<Feed of {tables}>"

    def __len__(self) -> int:
        """How many changed keys wait; one that was told several times in a moment counts for
        each until they are folded."""
        return self._told_keys + self._pending_keys + len(self._begun)

    # -- for who reads -----------------------------------------------------

    def take(self, limit: Optional[int] = None) -> list[Batch]:
        """Take changed keys, ``limit`` of them at most.

        Each batch has keys of one table and one cause, and no key comes twice. Of a table, keys
        that changed first come first, but for very many.

        :raises FeedOverrun: more keys changed than the feed holds. It is raised once.
        """
        self._make_ready()
        batches: list[Batch] = []
        few: dict[tuple[StickTable, _Why], list[bytes]] = {}
        room: float = math.inf if limit is None else limit
        while room > 0 and (run := self._next(room)) is not None:
            table, why, raw_keys = run
            room -= len(raw_keys)
            if len(raw_keys) < _MANY:
                few.setdefault((table, why), []).extend(raw_keys)
                continue
            # To put many together would cost a node that learns more than to tell of them.
            batches += [self._batch(*about, some) for about, some in few.items()]
            few = {}
            batches.append(self._batch(table, why, raw_keys))
        return batches + [self._batch(*about, some) for about, some in few.items()]

    def drain(self, limit: int) -> Iterator[Batch]:
        """Take all changed keys at once, and give them as they are asked for, ``limit`` in a batch
        at most.

        What changes from now on is held anew, also of a key that was not given yet. So it costs
        nothing to find out which keys those are, as it does between one `take` of a part and the
        next: a few readers that are far behind do not slow a node that learns.

        :raises FeedOverrun: see `take`.
        """
        self._make_ready()
        rest = Feed(self._now, self._turn, _nobody)
        for name in ("_told", "_told_keys", "_told_new", "_pending", "_pending_keys"):
            mine = getattr(self, name)
            setattr(self, name, getattr(rest, name))
            setattr(rest, name, mine)
        rest._begun, self._begun = self._begun, rest._begun
        rest._begun_table, self._begun_table = self._begun_table, None
        return rest._given_out(limit)

    def _given_out(self, limit: int) -> Iterator[Batch]:
        while (run := self._next(limit)) is not None:
            yield self._batch(*run)

    def wait(self) -> Deferred[None]:
        """Fires when there is something to take.

        Fails with ``CancelledError`` when the feed is closed, or when its service stops or has
        stopped.
        """
        if not self.is_closed and (len(self) or self.overrun):
            return succeed(None)
        if self._ended:
            return fail(CancelledError(self._ended))
        return self._waiters.wait()

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
            self._make_ready()
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
        if self.is_closed or self.overrun:
            return
        if self._tables is not None and batch.table.name not in self._tables:
            return
        if batch.cause.removes and self._told:
            # Also if the cause is of no interest: the key may be new once more.
            self._told_new = False
        if batch.cause not in self._causes:
            return
        if not batch.all_new or self._pending or self._begun:
            self._told_new = False
        self._told.append(batch)
        self._told_keys += len(batch.raw_keys)
        if not self._told_new and self._told_keys > _FOLDED:
            # More than come, so that there are soon no more of them: not all at once.
            self._fold(2 * max(_FOLDED, len(batch.raw_keys)))
        if len(self) > self.most:
            if not self._told_new:
                self._fold()
            if len(self) > self.most:
                self._drop()
                self.overrun = True
        if self._waiters:
            self._waiters.tell(None)

    def begin(self) -> None:
        """The service starts: changes may come."""
        if not self.is_closed:
            self._ended = ""

    def cancel(self, why: str) -> None:
        """Let all who wait, and who will, know that nothing will come."""
        self._ended = why
        self._waiters.cancel(why)

    # -- what is held ------------------------------------------------------

    def _make_ready(self) -> None:
        """Make what was told ready to be taken.

        :raises FeedOverrun: see `take`.
        """
        if self.overrun:
            self.overrun = False
            raise FeedOverrun(
                repr(self), f"more than {self.most} changed keys", "that they are taken before"
            )
        if not self._told_new:
            self._fold()

    def _fold(self, most: Optional[int] = None) -> None:
        """Give each key that was told a place, if it has none; ``most`` of them or a few more."""
        folded = 0
        while self._told and (most is None or folded < most):
            about = _table_and_why(self._told[0])
            group: list[Sequence[bytes]] = []
            while self._told and _table_and_why(self._told[0]) == about:
                group.append(self._told.popleft().raw_keys)
                folded += len(group[-1])
                if most is not None and folded >= most:
                    break
            self._put(*about, group)
        self._told_keys -= folded
        self._told_new = not self._told

    def _put(self, table: StickTable, why: _Why, group: list[Sequence[bytes]]) -> None:
        """Give keys of a table a place."""
        raw_keys: Iterable[bytes] = chain.from_iterable(group)
        count = sum(map(len, group))
        if self._begun and table is self._begun_table:
            others = []
            for raw_key in raw_keys:
                if raw_key in self._begun:
                    self._begun[raw_key] = why
                else:
                    others.append(raw_key)
            raw_keys = others
        pending = self._pending.setdefault(table, {})
        before = len(pending)
        pending.update(zip(raw_keys, repeat(why)))
        grown = len(pending) - before
        self._pending_keys += grown
        self.merged += count - grown
        if not pending:
            del self._pending[table]

    def _next(self, room: float) -> Optional[tuple[StickTable, _Why, Sequence[bytes]]]:
        """The next keys that changed for the same reason, ``room`` of them at most."""
        if self._told and self._told_new:
            return self._next_told(room)
        if not self._begun:
            if not self._pending:
                return None
            table = next(iter(self._pending))
            begun = self._pending.pop(table)
            self._pending_keys -= len(begun)
            if len(begun) <= _FOLDED:
                begun = dict(reversed(begun.items()))
            self._begun, self._begun_table = begun, table
        assert self._begun_table is not None
        begun = self._begun
        raw_key, why = begun.popitem()
        raw_keys = [raw_key]
        while begun and len(raw_keys) < room:
            raw_key, latest = begun.popitem()
            if latest != why:
                begun[raw_key] = latest
                break
            raw_keys.append(raw_key)
        return self._begun_table, why, raw_keys

    def _next_told(self, room: float) -> tuple[StickTable, _Why, Sequence[bytes]]:
        """The same where no key can have come twice: they are taken as they were told."""
        batch = self._told.popleft()
        raw_keys = batch.raw_keys
        if len(raw_keys) > room:
            count = int(room)
            self._told.appendleft(attrs.evolve(batch, raw_keys=raw_keys[count:]))
            raw_keys = raw_keys[:count]
        self._told_keys -= len(raw_keys)
        return (*_table_and_why(batch), raw_keys)

    def _batch(self, table: StickTable, why: _Why, raw_keys: Sequence[bytes]) -> Batch:
        return Batch(table, why.cause, raw_keys, self._now(), why.origin)

    def _drop(self) -> None:
        self._told.clear()
        self._pending.clear()
        self._begun.clear()
        self._told_keys = self._pending_keys = 0
        self._told_new = True


def _nobody(_: Feed) -> None:
    """Nobody is told when what was drained is closed."""


def _table_and_why(batch: Batch) -> tuple[StickTable, _Why]:
    return batch.table, _Why(batch.cause, batch.origin)

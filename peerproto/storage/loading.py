"""Entries of a file back into the tables of a node, in slices."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, Optional, Union

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerproto import (
    Declaration,
    LocalProtocolError,
    Record,
    StickTable,
    StickTableService,
    StoredRows,
)
from peerproto.storage.executor import Executor
from peerproto.storage.follower import Follower
from peerproto.storage.store import Slice, Store, StoredTable

_SLICE: Final = 8000
"""Rows that are read at once."""

_AHEAD: Final = 2
"""Slices that are read while one is stored."""

_STEP: Final = 200
"""Records that are stored before the time is looked at."""

_ROWS: Final = 1000
"""Rows that are."""

_SWITCH: Final = 0.0005
"""Seconds after which a thread gives the interpreter to another one, while tables are loaded."""

_TURN: Final = 0.005
"""Seconds for which entries are stored in one turn of the reactor."""

_PROGRESS: Final = 5.0
"""Seconds between two lines of the log."""


_Piece = Union[Sequence[Record], StoredRows]


class _SoonerTurns:
    """Has threads give each other the interpreter sooner, for as long as anybody loads.

    The one that reads needs it for moments, but several times for each slice, and would wait for
    5 ms each time, in which the reactor has nothing more to store.
    """

    def __init__(self) -> None:
        self._loading = 0
        self._before = 0.0

    def __enter__(self) -> None:
        if not self._loading:
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH, self._before))
        self._loading += 1

    def __exit__(self, *_: object) -> None:
        self._loading -= 1
        if not self._loading:
            sys.setswitchinterval(self._before)


_sooner_turns: Final = _SoonerTurns()


@attrs.define
class Count:
    """What became of rows."""

    loaded: int = 0
    expired: int = 0
    bad: int = 0
    left: int = 0
    """Rows of which the node had something newer, or for which it had no room."""


@attrs.define
class _Walk:
    """How far a table has been read. The thread that reads looks at it, and nobody else."""

    name: str
    _after: Optional[tuple[Any, Any]] = None
    _over: bool = False

    def on(self, database: Store, now: int, shift: int, ahead: int) -> Optional[Slice]:
        """Read on: see `Store.read`. ``None`` if nothing is left, or once that has failed."""
        if self._over:
            return None
        self._over = True
        part = database.read(self.name, self._after, _SLICE, now, shift, ahead)
        self._after, self._over = part.after, part.after is None
        return part


class Loading:
    """Loads tables of one file into one service."""

    _log = Logger()

    def __init__(
        self,
        service: StickTableService,
        database: Store,
        executor: Executor,
        follower: Follower,
        ahead: int,
    ) -> None:
        """``ahead`` is what the time of the file has more than that of the service, in ms."""
        self._service = service
        self._database = database
        self._executor = executor
        self._follower = follower
        self._ahead = ahead
        self.total = Count()
        self.to_prune: set[str] = set()
        """Tables in which rows are whose time has come."""
        self._told = time.monotonic()

    async def load(self, stored: StoredTable) -> None:
        """Load one table, if the node has it or adopts it again."""
        with _sooner_turns:
            await self._load(stored)

    async def _load(self, stored: StoredTable) -> None:
        name, declaration = stored.name, stored.shape.declaration
        table = self._table(declaration)
        if table is None:
            return
        if table.per_peer != stored.per_peer or _keys(table.declaration) != _keys(declaration):
            self._log.warn(
                "storage: table {name} has other keys or shares by now: what was kept goes",
                name=name,
            )
            self._follower.unready.discard(name)
            return
        count = Count()
        walk = _Walk(name)
        # The next ones are read while one is stored.
        reading = deque(self._read(walk) for _ in range(_AHEAD))
        try:
            while (part := await reading.popleft()) is not None:
                reading.append(self._read(walk))
                count.expired += part.expired
                count.bad += part.bad
                if not table.shared:
                    return
                await self._restore(table, part, count)
                self._tell_progress(name, count)
        finally:
            for one in reading:
                one.addErrback(lambda _: None)
        self._follower.bound(name, table, declaration, stored.per_peer)
        self._follower.unready.discard(name)
        if count.expired or count.bad:
            self.to_prune.add(name)
        if count.bad:
            self._log.error(
                "storage: table {name}: {count} rows are not as they were written: left out",
                name=name,
                count=count.bad,
            )
        for field in ("loaded", "expired", "bad", "left"):
            setattr(self.total, field, getattr(self.total, field) + getattr(count, field))

    def _table(self, declaration: Declaration) -> Optional[StickTable]:
        """The table of the node, with what peers had taught it to store."""
        service = self._service
        table = service.find_table(declaration.name)
        if table is None:
            if declaration.adopted_from is None or not service.learns_tables:
                return None
            return service.add_table(declaration)
        if declaration.learnt and service.learns_columns:
            wider = table.declaration.with_columns(declaration.learnt)
            if wider != table.declaration:
                service.declare_table(wider)
                table = service.table(declaration.name)
        return table

    def _read(self, walk: _Walk) -> Deferred[Optional[Slice]]:
        """What comes next; ``None`` at the end."""
        ours = self._service.time
        now = ours.now() + self._ahead
        return self._executor.do(walk.on, self._database, now, -self._ahead, ours.ahead)

    async def _restore(self, table: StickTable, part: Slice, count: Count) -> None:
        """Store what was read, but for what has changed since."""
        await self._follower.collect()
        until = time.monotonic() + _TURN
        for some in _pieces(part):
            if table.shared:
                self._restore_some(table, some, count)
            if time.monotonic() >= until:
                await self._service.turn()
                await self._follower.collect()
                until = time.monotonic() + _TURN

    def _restore_some(self, table: StickTable, some: _Piece, count: Count) -> None:
        changed = self._follower.changed
        if not isinstance(some, StoredRows):
            some = [one for one in some if one.raw_key not in changed((table.name, one.peer))]
        elif there := changed((table.name, some.peer)):
            some = some.without(there)
        if not some:
            return
        try:
            stored = table.restore(some)
        except LocalProtocolError as problem:
            self._log.error("storage: {problem}", problem=problem)
            stored = 0
        count.loaded += stored
        if stored < len(some):
            count.left += len(some) - stored
            self._mark_missing(table, some)

    def _mark_missing(self, table: StickTable, some: _Piece) -> None:
        """Have those removed from the file that the table has not taken."""
        by_peer: dict[Optional[str], list[bytes]] = {}
        if isinstance(some, StoredRows):
            by_peer[some.peer] = some.raw_keys
        else:
            for one in some:
                by_peer.setdefault(one.peer, []).append(one.raw_key)
        shares: dict[Optional[str], StickTable] = {None: table}
        if table.per_peer:
            shares = dict(table.contributions().items())
        for peer, raw_keys in by_peer.items():
            share = shares.get(peer)
            missing = raw_keys if share is None else share.snapshot(raw_keys).missing()
            self._follower.mark((table.name, peer), missing)

    def _tell_progress(self, name: str, count: Count) -> None:
        if time.monotonic() - self._told >= _PROGRESS:
            self._told = time.monotonic()
            self._log.info(
                "storage: {count} entries are loaded so far, {table} goes on",
                count=self.total.loaded + count.loaded,
                table=name,
            )


def _pieces(part: Slice) -> Iterator[_Piece]:
    """What was read, in pieces that are stored at once."""
    for parcel in part.rows:
        yield from parcel.open(_ROWS)
    for begin in range(0, len(part.records), _STEP):
        yield part.records[begin : begin + _STEP]


def _keys(declaration: Declaration) -> tuple[Any, int]:
    return declaration.layout.key_type, declaration.layout.key_length

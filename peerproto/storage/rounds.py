"""Rounds of writing: each brings what has changed up to its beginning into the store."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Optional

import attrs
from twisted.internet.task import deferLater
from twisted.logger import Logger

from peerproto.storage.database import BrokenFile
from peerproto.storage.errors import StorageError
from peerproto.storage.place import TROUBLE, Place
from peerproto.storage.transaction import Moment, Transaction

_LOOK: Final = 0.25
"""Seconds between two looks whether there is a flood: see `peerproto.storage.follower.FLOOD`."""

_LOOKS: Final = 20
"""So many times they are waited for, until all is written."""

_HEARTBEAT: Final = 60_000
"""Time in ms after which a transaction notes the time, though nothing has changed."""

_STEP: Final = 100
"""A step of the wall clock in ms that is noted at once."""

_PRUNE_INTERVAL: Final = 3_600_000
"""Time in ms after which rows are looked for that have expired, where nodes share a store: nobody
removes those of a node that is gone."""

_PRUNED: Final = 5000
"""Rows that are looked at in one transaction to find those that are not to be there."""


class Rounds:
    """See the module. One for each start of a service."""

    _log = Logger()

    def __init__(self, place: Place, clock: Any) -> None:
        """``clock`` is the reactor, or a clock of tests."""
        self.place = place
        self._clock = clock
        self._checked = False
        """Whether the store was looked at as a whole."""
        self._looks = 0
        """How often to wait yet while too many changes come."""
        self.written_up_to = place.service.now()
        """All that changed before this time (ms) is written."""
        self._noted = self._pruned_at = self.written_up_to
        self._noted_wall = 0
        self._counted: Optional[int] = None

    async def write(self) -> bool:
        """Write all that has changed up to now: whether it is written."""
        place = self.place
        began = place.service.now()
        try:
            await place.follower.collect()
            if not self._checked:
                await self._check()
            await place.load_new_ones()
            while await self._write_some():
                await self._give_way()
            await self._sweep()
        except BrokenFile as problem:
            try:
                await self._go_on_in_another_file(problem)
            except (BrokenFile, StorageError, *TROUBLE) as another:
                place.failed(another)
            return False
        except (StorageError, *TROUBLE) as problem:
            place.failed(problem)
            return False
        self.written_up_to = began
        place.worked()
        await self._count()
        return True

    async def begin(self) -> None:
        """Wait until there is no flood, for some seconds at most."""
        self._looks = _LOOKS
        await self._give_way()

    async def _give_way(self) -> None:
        """Wait while a peer teaches, or changes come as fast as that: the interpreter runs one
        thread at a time, and the reactor is to have it. Within limits: there may be no end."""
        place = self.place
        while place.service.running and self._looks and place.follower.is_flooded():
            self._looks -= 1
            await deferLater(self._clock, _LOOK)

    async def _check(self) -> None:
        """Look at the whole file, now that the node serves. If it is damaged where nobody has seen
        it while it was loaded, load what was saved of it, too."""
        place = self.place
        try:
            await place.executor.do(place.database.check)
        except BrokenFile as problem:
            await self._go_on_in_another_file(problem)
            place.follower.unready |= set(place.database.tables)
        self._checked = True

    async def _go_on_in_another_file(self, problem: BrokenFile) -> None:
        place = self.place
        await place.begin_anew(problem)
        tables = place.database.tables
        place.follower.begin_anew(
            {name: (one.shape.declaration, one.per_peer) for name, one in tables.items()}
        )

    async def _write_some(self) -> bool:
        """Write one transaction, if there is something to write."""
        place = self.place
        now, moment = place.service.now(), place.moment()
        moment = attrs.evolve(moment, node=moment.node + place.ahead)
        what = await place.follower.next_transaction(moment, place.ahead)
        if what is None:
            if not self._is_time_to_note(moment):
                return False
            what = Transaction(moment, place.ahead)
        try:
            written = await place.executor.do(place.database.write, what)
        except BaseException:
            place.follower.failed(what)
            raise
        place.follower.wrote(what, written.number)
        if written.lost:
            self._log.warn(
                "storage: {path} lacks what was written before: all tables are written whole",
                path=place.settings.place,
            )
            place.follower.walk_all()
        self._noted, self._noted_wall = now, moment.wall
        place.figures.transactions += 1
        place.figures.keys += len(what)
        place.figures.size = written.size
        return True

    def _is_time_to_note(self, moment: Moment) -> bool:
        """Whether a transaction is to note the time though nothing has changed: the next process
        takes what the wall clock has gone on since then for time that passed."""
        place = self.place
        passed = place.service.now() - self._noted
        stepped = abs(moment.wall - self._noted_wall - passed) > _STEP
        return passed >= _HEARTBEAT or stepped or (not place.service.running and passed > 0)

    async def _count(self) -> None:
        """Count the rows of all tables, if that was not done for a while."""
        place = self.place
        if self._counted is not None and place.service.now() - self._counted < _HEARTBEAT:
            return
        self._counted = place.service.now()
        try:
            place.figures.rows = await place.executor.do(place.database.count)
        except (BrokenFile, *TROUBLE) as problem:
            self._log.warn("storage: rows cannot be counted: {problem}", problem=problem)

    async def _sweep(self) -> None:
        """Remove rows that are not to be there, some at a time."""
        place = self.place
        for name, before in list(place.follower.sweeps.items()):
            await self._prune(name, older=before)
            place.follower.sweeps.pop(name, None)
        if place.settings.url and place.service.now() - self._pruned_at >= _PRUNE_INTERVAL:
            self._pruned_at = place.service.now()
            place.to_prune |= set(filter(place.settings.keeps, place.database.tables))
        for name in list(place.to_prune):
            await self._prune(name, expired=place.service.time.now() + place.ahead)
            place.to_prune.discard(name)

    async def _prune(
        self, name: str, *, expired: Optional[int] = None, older: Optional[int] = None
    ) -> None:
        place = self.place
        after = None
        while True:
            prune = partial(place.database.prune, expired=expired, older=older)
            after = await place.executor.do(prune, name, after, _PRUNED)
            if after is None:
                return

"""The keeper of a node's tables: loads them when it starts, and writes what changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, Optional

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from peerproto import IKeeper
from peerproto.storage.config import StorageSettings
from peerproto.storage.database import BrokenFile, Database
from peerproto.storage.errors import HeldElsewhere, StorageError
from peerproto.storage.executor import Executor, WriterThread
from peerproto.storage.figures import Figures
from peerproto.storage.follower import FLOOD, MOST, Follower
from peerproto.storage.lock import FileLock
from peerproto.storage.part import StoragePart
from peerproto.storage.place import TROUBLE, Place
from peerproto.storage.rounds import Rounds
from peerproto.storage.store import Store

NAME: Final = "storage"
"""The name of the part."""

STOP_TIMEOUT: Final = 10.0
"""Seconds for which the last write may take when the service stops."""

_LOCK_INTERVAL: Final = 0.1
"""Seconds between two looks whether another process has let the file go."""

_RETRY: Final = 1.0
"""Seconds at least until it is tried again to write."""


@implementer(IKeeper)
class StorageKeeper:
    """Keeps the tables of one `StickTableService` in a SQLite file, or on a PostgreSQL server. Give
    it to the service as its ``keeper``; it is the part ``storage``."""

    _log = Logger()

    def __init__(
        self,
        settings: StorageSettings,
        reactor: Any = None,
        *,
        takes_over: bool = False,
        executor: Optional[Executor] = None,
        most: int = MOST,
        flood: int = FLOOD,
    ) -> None:
        """
        :param reactor: the reactor, or a clock of tests.
        :param takes_over: whether another process has the file, and is about to hand over.
        :param executor: where the file is read and written; a thread, unless told otherwise.
        :param most: how many changed keys may wait: if there are more, tables are written whole.
        :param flood: how many changes a second are too many to be written in time.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.settings = settings
        self._clock: IReactorTime = reactor
        self._takes_over = takes_over
        self._most = most
        self._flood = flood
        self._executor: Executor = executor or WriterThread(reactor)
        # A server has a lock of its own, which `Store.open` takes.
        # Whoever comes to the file by another name of it comes to the same lock.
        path = os.path.realpath(settings.path) if settings.path else ""
        self._lock = FileLock(path) if path else None
        self._path = path
        self._started: Optional[Rounds] = None
        """How tables are written, and to where, once the service starts."""
        self._keeping = False
        """Whether the file is open, and what it has is loaded."""
        self._stopping = False
        self._calling: Optional[IDelayedCall] = None
        self._under_way: Optional[Deferred[None]] = None
        """What goes on beside the service."""

    # -- for the daemon ------------------------------------------------------

    def take_lock(self) -> None:
        """Take the lock of the file, unless another process is about to hand over.

        :raises StorageError: another process has it, or there can be none.
        :raises OSError: there can be none now, perhaps later.
        """
        if not self._has_lock() and not self._takes_over:
            raise StorageError(
                f"path in [storage]: {self.settings.path}",
                "a file that another process keeps its tables in",
                "one of this node alone",
            )

    def _has_lock(self) -> bool:
        """Take the lock of the file, if there is one, unless another process has it."""
        return self._lock is None or self._lock.take()

    def take(self, settings: StorageSettings) -> None:
        """Go by other settings from now on; where tables are kept stays."""
        now = self.settings
        self.settings = attrs.evolve(settings, path=now.path, url=now.url, schema=now.schema)
        if self._started is not None:
            self._place.settings = self.settings

    @property
    def figures(self) -> Figures:
        """How the storage stands."""
        return Figures() if self._started is None else self._place.figures

    @property
    def _place(self) -> Place:
        assert self._started is not None
        return self._started.place

    @property
    def _rounds(self) -> Rounds:
        assert self._started is not None
        return self._started

    @property
    def _what(self) -> str:
        """What keeps the tables, in a word."""
        return "server" if self.settings.url else "file"

    def _keeps(self, name: str) -> bool:
        return self.settings.keeps(name)

    # -- IKeeper ---------------------------------------------------------------

    def load(self, service: Any) -> Any:
        """See `IKeeper`."""
        follower = Follower(service, self._keeps, self._most, self._flood)
        database = self._store(service.localpeer)
        place = Place(self.settings, service, database, self._executor, follower)
        self._started = Rounds(place, self._clock)
        self._keeping = self._stopping = False
        service.add_part(NAME, StoragePart(self))
        try:
            self.take_lock()
        except StorageError as problem:
            self._refuse(problem)
            raise
        except OSError as problem:
            self._cannot_lock(problem)
            return succeed(None)
        if self._takes_over:
            # The old process has to reach us before it lets the file go.
            self._begin_later()
            return succeed(None)
        return Deferred.fromCoroutine(self._begin()).addErrback(self._cannot_begin)

    def _store(self, localpeer: str) -> Store:
        if not self.settings.url:
            return Database(self._path)
        # What it takes is installed: the file was read.
        from peerproto.storage.postgres.store import PostgresStore

        return PostgresStore(self.settings, localpeer)

    def stop(self) -> Any:
        """See `IKeeper`."""
        self._stopping = True
        if self._calling is not None:
            self._calling.cancel()
            self._calling = None
        ending = Deferred.fromCoroutine(self._end())
        return ending.addTimeout(STOP_TIMEOUT, self._clock).addErrback(self._cannot_end)

    # -- beginning -------------------------------------------------------------

    def _begin_later(self) -> None:
        """Wait for the lock, then load while the service runs."""
        self._calling = None
        try:
            if not self._has_lock():
                self.figures.state = "waits for the old process to let the file go"
                self._call_later(_LOCK_INTERVAL, self._begin_later)
                return
        except StorageError as problem:
            self._refuse(problem)
            return
        except OSError as problem:
            self._cannot_lock(problem)
            return
        self._go(self._begin())

    def _cannot_lock(self, problem: OSError) -> None:
        self._place.failed(problem)
        self._schedule_begin()

    def _call_later(self, delay: float, what: Callable[[], None]) -> None:
        """Have something done later. `stop` waits for what is under way, and calls for no more."""
        if not self._stopping:
            self._calling = self._clock.callLater(delay, what)

    def _go(self, what: Any) -> None:
        """Have something go on beside the service."""
        self._under_way = going = Deferred.fromCoroutine(what)

        def over(result: Any) -> None:
            if self._under_way is going:
                self._under_way = None
            if isinstance(result, Failure) and not result.check(CancelledError, StorageError):
                self._failed_oddly(result)

        going.addBoth(over)

    def _cannot_begin(self, reason: Failure) -> Optional[Failure]:
        """The service begins without what is kept if it cannot be loaded, and is told why only if
        it is not tried again."""
        if reason.check(CancelledError, StorageError):
            return reason
        self._failed_oddly(reason)
        return None

    def _failed_oddly(self, reason: Failure) -> None:
        """Something that should not be is tried again like what may pass."""
        if self.figures.trouble is None:
            self._log.failure("storage has failed", reason)
        self._place.failed(reason.value or RuntimeError("nothing is said"))
        if self._keeping:
            self._schedule(self._retry())
        else:
            self._schedule_begin()

    def _refuse(self, problem: StorageError) -> None:
        self.figures.refused = str(problem)
        self.figures.state = f"does not use the {self._what}"
        self._log.error("storage: nothing is kept: {problem}", problem=problem)

    async def _begin(self) -> None:
        """Open the file, load what it has, and begin to write."""
        place = self._place
        hands_over, self._takes_over = self._takes_over, False
        self.figures.state = "loads"
        began = place.service.now()
        try:
            await place.open()
            try:
                total = await place.load()
            except BrokenFile as problem:
                await place.begin_anew(problem)
                total = await place.load()
        except StorageError as problem:
            self._refuse(problem)
            raise
        except HeldElsewhere as problem:
            self._wait_for_other(problem, hands_over)
            return
        except (BrokenFile, *TROUBLE) as problem:
            place.failed(problem)
            self._schedule_begin()
            return
        self._log.info(
            "storage: {loaded} entries were loaded in {seconds:.1f} s; {expired} had expired,"
            " {left} were left out, {bad} were damaged",
            loaded=total.loaded,
            expired=total.expired,
            left=total.left,
            bad=total.bad,
            seconds=(place.service.now() - began) / 1000,
        )
        self._keeping = True
        place.follower.loaded()
        self.figures.state = "keeps"
        place.worked()
        self._schedule()

    def _wait_for_other(self, problem: HeldElsewhere, hands_over: bool) -> None:
        """Begin when another process of this name has ended.

        :param hands_over: whether it is about to.
        """
        self._takes_over = hands_over
        if not hands_over:
            self._place.failed(problem)
        self.figures.state = "waits for the old process to let the tables go"
        self._call_later(_LOCK_INTERVAL, self._begin_later)

    def _schedule_begin(self) -> None:
        self.figures.state = f"cannot open the {self._what} yet"
        self._call_later(self._retry(), self._begin_later)

    def _retry(self) -> float:
        return max(_RETRY, self.settings.interval / 1000)

    # -- writing -----------------------------------------------------------------

    def _schedule(self, delay: Optional[float] = None) -> None:
        if delay is None:
            delay = self.settings.interval / 1000
        self._call_later(delay, self._write_soon)

    def _write_soon(self) -> None:
        self._calling = None
        self._go(self._write_and_go_on())

    async def _write_and_go_on(self) -> None:
        await self._rounds.begin()
        began = self._clock.seconds()
        delay = self.settings.interval / 1000
        if await self._rounds.write():
            # What the next write takes is within the interval, too: as long as this one, probably.
            delay = max(0.0, delay - 2 * (self._clock.seconds() - began))
        else:
            delay = self._retry()
        self._schedule(delay)

    # -- ending --------------------------------------------------------------------

    async def _end(self) -> None:
        if self._under_way is not None:
            waited: Deferred[None] = Deferred()
            self._under_way.addBoth(waited.callback)
            await waited
        while self._keeping and not await self._rounds.write():
            # Until the time is over.
            await deferLater(self._clock, _RETRY)
        await self._executor.do(self._place.database.close)
        self._let_go()

    def _cannot_end(self, reason: Failure) -> None:
        """The time is over, or something has failed: the process ends without it."""
        if not reason.check(TimeoutError, CancelledError):
            self._log.failure("storage has not ended well", reason)
        self._let_go(released=False)

    def _let_go(self, released: bool = True) -> None:
        service, follower = self._place.service, self._place.follower
        if self._keeping and not follower.is_idle:
            self._log.error(
                "storage: {count} changed keys, and the changes of the last {age} ms, are not"
                " written: the process ends without them",
                count=follower.waiting,
                age=self.age(),
            )
        elif not released:
            self._log.error(
                "storage: the {what} did not answer in time: the process ends", what=self._what
            )
        follower.close()
        self._executor.stop()
        if released and self._lock is not None:
            self._lock.release()
        if NAME in service.parts:
            service.remove_part(NAME)
        self._keeping = False
        self.figures.state = "stopped"

    # -- for who shows it -------------------------------------------------------------

    def age(self) -> int:
        """Age of the oldest change that is not written, in ms, or more; 0 if all is written."""
        if self._started is None or self._place.follower.is_idle:
            return 0
        return self._place.service.now() - self._rounds.written_up_to

    @property
    def waiting(self) -> int:
        """Changed keys that are to be written."""
        return 0 if self._started is None else self._place.follower.waiting

    @property
    def writes(self) -> bool:
        """Whether what changes is written."""
        return self._keeping and self.figures.trouble is None

"""Where a node keeps its tables: a file or a server, its time, and what becomes of damage."""

from __future__ import annotations

import sqlite3
from typing import Final

from twisted.logger import Logger

from peerproto import StickTableService
from peerproto.storage.config import StorageSettings
from peerproto.storage.database import BrokenFile, Database
from peerproto.storage.errors import Unavailable
from peerproto.storage.executor import Executor
from peerproto.storage.figures import Figures
from peerproto.storage.follower import Follower
from peerproto.storage.loading import Count, Loading
from peerproto.storage.salvage import begin_anew
from peerproto.storage.store import Store
from peerproto.storage.transaction import Moment

TROUBLE: Final = (Unavailable, sqlite3.Error, OSError)
"""What may pass."""


class Place:
    """See the module. One for each start of a service."""

    _log = Logger()

    def __init__(
        self,
        settings: StorageSettings,
        service: StickTableService,
        database: Store,
        executor: Executor,
        follower: Follower,
    ) -> None:
        """``executor`` is where the ``database`` is read and written."""
        self.settings = settings
        self.service = service
        self.database = database
        self.executor = executor
        self.follower = follower
        self.figures = Figures(state="starts")
        self.ahead = 0
        """What the time of the file has more than that of the service, in ms."""
        self.to_prune: set[str] = set()
        """Tables in which rows may be whose time has come."""

    def moment(self) -> Moment:
        """Now, by the time of the service, and by the wall clock."""
        node = self.service.time.now()
        return Moment(node, node + self.service.time.step())

    async def open(self) -> None:
        """Open the store; what is damaged is set aside."""
        moment = self.moment()
        try:
            opened = await self.executor.do(self.database.open, moment.wall)
        except BrokenFile as problem:
            await self.begin_anew(problem)
            return
        self.ahead = opened.node - moment.node

    async def load(self) -> Count:
        """Load all tables that the node has, or adopts again: what became of their rows."""
        loading = self._loading()
        self.follower.unready = set(self.database.tables)
        self.follower.number = self.database.number
        for stored in list(self.database.tables.values()):
            if self.settings.keeps(stored.name):
                await loading.load(stored)
        self.figures.bad += loading.total.bad
        self.to_prune |= loading.to_prune
        return loading.total

    async def load_new_ones(self) -> None:
        """Load tables that the file has, and that the node has only now."""
        for name in list(self.follower.unready):
            table = self.service.find_table(name)
            if table is None or not self.settings.keeps(name):
                continue
            loading = self._loading()
            await loading.load(self.database.tables[name])
            self.to_prune |= loading.to_prune
            self._log.info(
                "storage: {count} entries of {table} were loaded",
                count=loading.total.loaded,
                table=name,
            )

    async def begin_anew(self, problem: BrokenFile) -> None:
        """Set a damaged file aside, and go on with what can be read of it."""
        self._log.error(
            "storage: {path} is damaged: {problem}", path=self.settings.place, problem=problem
        )
        moment = self.moment()
        assert isinstance(self.database, Database), problem
        opened, saved = await self.executor.do(begin_anew, self.database, moment.wall)
        self.ahead = opened.node - moment.node
        self.follower.number = self.database.number
        self.figures.aside = saved.aside or self.figures.aside
        self.figures.bad += saved.bad
        self._log.error(
            "storage: the damaged file is {aside} now; {rows} rows were saved, {bad} were not as"
            " they were written, {unread} ranges of keys could not be read to their end",
            aside=saved.aside or "gone",
            rows=saved.rows,
            bad=saved.bad,
            unread=saved.unread,
        )

    def _loading(self) -> Loading:
        return Loading(self.service, self.database, self.executor, self.follower, self.ahead)

    def failed(self, problem: BaseException) -> None:
        """Something has failed that is tried again: the first time it is logged."""
        self.figures.failures += 1
        if self.figures.trouble is None:
            self._log.error(
                "storage: {path} cannot be written: {problem}; what changes is kept in memory, and"
                " it is tried again",
                path=self.settings.place,
                problem=problem,
            )
        self.figures.trouble = str(problem) or repr(problem)

    def worked(self) -> None:
        """It has worked, or works again."""
        if self.figures.trouble is not None:
            self.figures.trouble = None
            self._log.info("storage: {path} is written again", path=self.settings.place)

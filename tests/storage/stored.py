"""Nodes whose tables are kept in a file, without a thread."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Optional, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from peerproto import StickTableService
from peerproto.storage.config import StorageSettings
from peerproto.storage.keeper import StorageKeeper
from peerproto.testing import MemoryNetwork

T = TypeVar("T")

LINE = (
    "type string len 64 size 1m expire 10m"
    " store gpc0,gpt0,server_id,server_key,bytes_in_cnt,http_req_rate(1m),gpc_rate(2,1m)"
)


class AtOnce:
    """Does work when it is asked to, or when it is let."""

    def __init__(self) -> None:
        self.held = False
        """Whether work waits for `let`."""
        self.stopped = False
        self._waiting: list[tuple[Callable[[], Deferred[Any]], Deferred[Any]]] = []

    def do(self, work: Callable[..., T], *about: Any) -> Deferred[T]:
        if not self.held:
            return execute(work, *about)
        done: Deferred[T] = Deferred()
        self._waiting.append((lambda: execute(work, *about), done))
        return done

    def let(self) -> None:
        """Do the work that waits."""
        self.held = False
        waiting, self._waiting = self._waiting, []
        for work, done in waiting:
            work().chainDeferred(done)

    def stop(self) -> None:
        self.stopped = True


class StorageTestCase(SynchronousTestCase):
    """A network whose nodes keep their tables in one file."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.path = self.mktemp()
        self.executor = AtOnce()

    def node(
        self,
        tables: Mapping[str, str],
        *,
        name: str = "here",
        path: Optional[str] = None,
        kept: tuple[str, ...] = ("*",),
        takes_over: bool = False,
        most: int = 500_000,
        flood: int = 100_000,
        learn_tables: bool = False,
        learn_columns: bool = True,
        before: Callable[[StickTableService], object] = lambda _: None,
    ) -> StickTableService:
        """A node that keeps its tables, and has started."""
        settings = StorageSettings(path or self.path, tables=kept)
        self.keeper = StorageKeeper(
            settings,
            self.network.clock,
            takes_over=takes_over,
            executor=self.executor,
            most=most,
            flood=flood,
        )
        others = list(self.network.services)
        service = StickTableService(
            name,
            {other: self.network.client(other, name) for other in others},
            tables,
            self.network.server(name),
            learn_tables=learn_tables,
            learn_columns=learn_columns,
            keeper=self.keeper,
            reactor=self.network.clock,
            chance=random.Random(1),
            wall_clock=self.network.wall_clock,
        )
        self.network.add(service)
        before(service)
        service.startService()
        self.network.settle()
        return service

    def stop(self, service: StickTableService) -> None:
        """Stop a node, which writes what is left."""
        stopping = service.stopService()
        self.network.settle()
        self.network.advance(0.3)
        self.successResultOf(stopping)
        self.network.services.pop(service.localpeer, None)

    def rows(self, statement: str, path: Optional[str] = None) -> list[Any]:
        """What SQLite answers."""
        connection = sqlite3.connect(path or self.path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


def said(entries: Any) -> dict[object, tuple[object, ...]]:
    """All that entries say."""
    return {(entry.key, entry.peer): (entry.decoded, entry.expires_in) for entry in entries}

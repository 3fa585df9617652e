"""The dispatcher: tells observers and feeds what happened, in the order of events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Union

import attrs
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.connections.turns import Steps
from peerproto.peering.directory import TableDirectory
from peerproto.service.batch import Batch
from peerproto.service.feed import Feed
from peerproto.service.observers import IObserver
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Changes
from peerproto.tables.store import TableStore

TOLD_AT_ONCE: Final = 500
"""Batches that observers are told of in one turn of the reactor."""


@attrs.frozen
class News:
    """What observers are told, but for changes of entries."""

    method: str
    """The method of `IObserver`."""
    about: tuple[object, ...]


class Dispatcher:
    """Tells all observers of all that happens, one thing after the other."""

    _log = Logger()

    def __init__(
        self,
        directory: TableDirectory,
        public: Callable[[TableStore], StickTable],
        turns: Cooperator,
        observers: Iterable[IObserver] = (),
    ) -> None:
        """
        :param directory: the tables of the node.
        :param public: the table that an application has for one that stores.
        :param turns: shares the reactor, when observers cause more than they are told of.
        """
        self._directory = directory
        self._version = directory.version
        self._tables = {store: store.declaration for store in directory.values()}
        """The tables that observers know of, as they were declared."""
        self._public = public
        self.observers = list(observers)
        self.feeds: list[Feed] = []
        self._turns = turns
        self._queue: deque[Union[Changes, News]] = deque()
        self._telling = False
        self._rest: Steps | None = None
        """What tells the things that were too many for one turn."""

    def announce(self, batches: Iterable[Changes]) -> None:
        """Tell of changes, one batch after the other, even if observers cause new ones.

        If they go on causing new ones, the rest is told in other turns of the reactor.
        """
        if self._directory.version != self._version:
            self._look_at_tables()
        if self.observers or self.feeds:
            self._queue += [batch for batch in batches if batch.raw_keys]
        if self._queue:
            self._go_on()

    def tell(self, method: str, *about: object) -> None:
        """Tell of something else: a method of `IObserver`, and what to call it with."""
        if self._directory.version != self._version:
            self._look_at_tables()
        self._queue.append(News(method, about))
        self._go_on()

    def _look_at_tables(self) -> None:
        """Find the tables that have come, gone, or were declared anew."""
        self._version = self._directory.version
        before = self._tables
        self._tables = {store: store.declaration for store in self._directory.values()}
        for store in before.keys() - self._tables.keys():
            self._queue.append(News("table_removed", (self._public(store),)))
        for store, declaration in self._tables.items():
            if store not in before:
                self._queue.append(News("table_added", (self._public(store),)))
            elif before[store] != declaration:
                about = (self._public(store), before[store])
                self._queue.append(News("table_redeclared", about))

    def _go_on(self) -> None:
        if self._telling or self._rest is not None:
            return
        self._tell_some()
        if self._queue:
            self._rest = Steps(self._turns, self._tell_rest(), self._cannot_tell)

    def _tell_some(self) -> None:
        self._telling = True
        try:
            for _ in range(TOLD_AT_ONCE):
                if not self._queue:
                    break
                one = self._queue.popleft()
                if isinstance(one, Changes):
                    self._tell_changes(one)
                else:
                    self._tell(one)
        finally:
            self._telling = False

    def _tell_changes(self, changes: Changes) -> None:
        assert isinstance(changes.table, TableStore)
        batch = Batch(
            self._public(changes.table),
            changes.cause,
            changes.raw_keys,
            changes.now,
            changes.origin,
            changes.all_new,
        )
        for feed in list(self.feeds):
            feed.add(batch)
        self._tell(News("table_changed", (batch,)))

    def _tell(self, news: News) -> None:
        for observer in list(self.observers):
            try:
                getattr(observer, news.method)(*news.about)
            except Exception:
                self._log.failure(
                    "observer {observer} failed on {method} {about}",
                    observer=observer,
                    method=news.method,
                    about=news.about,
                )

    def _tell_rest(self) -> Iterator[None]:
        while self._queue:
            yield
            self._tell_some()
        self._rest = None

    def _cannot_tell(self, reason: Failure) -> None:
        """Go on with what happens next: what could not be told is left out."""
        self._rest = None
        self._log.failure("observers cannot be told", reason)

    def start(self) -> None:
        """The service starts: feeds may be waited for."""
        for feed in self.feeds:
            feed.begin()

    def stop(self) -> None:
        """Leave what has not been told yet: observers hear of it with what happens next. Whoever
        waits for a feed waits no more."""
        for feed in list(self.feeds):
            feed.cancel("the node stops")
        if self._rest is not None:
            self._rest.stop()
            self._rest = None

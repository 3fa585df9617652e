"""The dispatcher: tells observers what happened in the tables, in the order of events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Optional

from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.connections.turns import Steps
from peerproto.service.batch import Batch
from peerproto.service.observers import ITableObserver
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Changes
from peerproto.tables.store import TableStore

TOLD_AT_ONCE: Final = 500
"""Batches that observers are told of in one turn of the reactor."""


class Dispatcher:
    """Tells all observers of all batches, one batch after the other."""

    _log = Logger()

    def __init__(
        self,
        public: Callable[[TableStore], StickTable],
        turns: Cooperator,
        observers: Iterable[ITableObserver] = (),
    ) -> None:
        """
        :param public: the table that an application has for one that stores.
        :param turns: shares the reactor, when observers cause more than they are told of.
        """
        self._public = public
        self.observers = list(observers)
        self._turns = turns
        self._batches: deque[Changes] = deque()
        self._telling = False
        self._rest: Optional[Steps] = None
        """What tells the batches that were too many for one turn."""

    def announce(self, batches: Iterable[Changes]) -> None:
        """Tell observers, one batch after the other, even if they cause new ones.

        If they go on causing new ones, the rest is told in other turns of the reactor.
        """
        self._batches += [batch for batch in batches if batch.raw_keys]
        if self._telling or self._rest is not None:
            return
        self._tell_some()
        if self._batches:
            self._rest = Steps(self._turns, self._tell_rest(), self._cannot_tell)

    def _tell_some(self) -> None:
        self._telling = True
        try:
            for _ in range(TOLD_AT_ONCE):
                if not self._batches:
                    break
                self._tell(self._batches.popleft())
        finally:
            self._telling = False

    def _tell(self, changes: Changes) -> None:
        if not self.observers:
            return
        assert isinstance(changes.table, TableStore)
        batch = Batch(
            self._public(changes.table),
            changes.cause,
            changes.raw_keys,
            changes.now,
            changes.origin,
        )
        for observer in list(self.observers):
            try:
                observer.tableChanged(batch)
            except Exception:
                self._log.failure(
                    "observer {observer} failed on {batch}", observer=observer, batch=batch
                )

    def _tell_rest(self) -> Iterator[None]:
        while self._batches:
            yield
            self._tell_some()
        self._rest = None

    def _cannot_tell(self, reason: Failure) -> None:
        """Go on with the next change: the batch that could not be told is left out."""
        self._rest = None
        self._log.failure("observers cannot be told", reason)

    def stop(self) -> None:
        """Leave what has not been told yet: observers hear of it with the next change."""
        if self._rest is not None:
            self._rest.stop()
            self._rest = None

"""One aggregate: hears what changes in the shares, and publishes the sums.

What has changed is published first, in the order in which it changed, then what has waited for
its interval, and then, as time is left, what would be read wrong by now since the period of a
rate has ended.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Final, Optional

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto import (
    Declaration,
    FeedOverrun,
    LocalProtocolError,
    Observer,
    StickTable,
    StickTableService,
)
from peerproto.aggregation.authority import Authority
from peerproto.aggregation.lease import LONGEST_LAG, Lease
from peerproto.aggregation.pacing import Pacing
from peerproto.aggregation.returns import Returns
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.throughput import Throughput
from peerproto.service.peer import Peer
from peerproto.service.sums import Sums

AT_ONCE: Final = 100
"""Keys that are published in one step: a few ms."""

_TAKEN: Final = 2000
"""Changed keys that are taken from the feed in one step."""


class Aggregate(Observer):
    """Publishes the sums of one table. See the module."""

    _log = Logger()

    def __init__(self, service: StickTableService, rules: Rules, clock: IReactorTime) -> None:
        self._service = service
        self._clock = clock
        self.rules = rules
        self.authority = Authority(service, rules)
        """Whether the sums may be relied on."""
        self.published = Throughput()
        """How many sums were published."""
        self._feed = service.feed(tables=[rules.source])
        self._pacing = Pacing(rules.interval)
        self._returns = Returns()
        self._pending: dict[bytes, int] = {}
        """Keys that are to be published, and when (in ms) that was known."""
        self._walk: Optional[Generator[None, None, None]] = None
        """What has still to be looked at of all shares."""
        self._sums: Optional[Sums] = None
        self._source: Optional[StickTable] = None
        self._output: Optional[StickTable] = None
        self.trouble: Optional[str] = "it has not begun"
        """Why nothing can be summed, in words; ``None`` if it can."""
        self._departed: dict[str, int] = {}
        """When (in ms) the current connections of peers count no more."""
        self._alarm: Optional[IDelayedCall] = None
        self._working: Optional[Deferred[None]] = None
        self._running = False
        self._lease: Optional[Lease] = None
        if rules.lease is not None:
            self._lease = Lease(service, rules.lease, rules.output, clock, self.vouch)
        self._own_output = rules.output not in [table.name for table in service.tables]
        """Whether the output is declared here, by what the source is."""

    # -- from beginning to end ---------------------------------------------

    def start(self) -> None:
        """Share the tables as it takes, and begin to listen.

        :raises LocalProtocolError: the tables cannot be shared so.
        """
        rules, service = self.rules, self._service
        service.share(rules.source, per_peer=True)
        service.share(rules.output, learn=False)
        self._running = True
        service.add_observer(self)
        self.authority.begin(service.now())
        self._look_at_tables()
        self._listen()
        self._set_alarm()
        if self._lease is not None:
            self._lease.start()

    def stop(self) -> None:
        """Publish nothing more. The tables stay as they are."""
        self._running = False
        if self._lease is not None:
            self._lease.stop()
        self._service.remove_observer(self)
        self._feed.close()
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # -- the tables --------------------------------------------------------

    def table_added(self, table: StickTable) -> None:
        """See `IObserver`."""
        if table.name in (self.rules.source, self.rules.output):
            self._look_at_tables()

    def table_redeclared(self, table: StickTable, before: Declaration) -> None:
        """See `IObserver`."""
        self.table_added(table)

    def table_removed(self, table: StickTable) -> None:
        """See `IObserver`."""
        self.table_added(table)

    def _look_at_tables(self) -> None:
        """Find out how to get from the source to the output as they are now."""
        tables = {table.name: table for table in self._service.tables}
        source = self._source = tables.get(self.rules.source)
        self._sums, self._output = None, None
        if source is None:
            self.trouble = f"nobody has defined table {self.rules.source}"
            return
        try:
            self._output = self._output_for(source, tables.get(self.rules.output))
            self._sums = Sums(source, self._output, self.rules.tags)
        except LocalProtocolError as problem:
            self.trouble = f"table {source.name} cannot be summed to {self.rules.output}: {problem}"
            self._log.error("aggregate {name}: {why}", name=source.name, why=self.trouble)
            return
        self.trouble = None
        self._look_at_all()

    def _output_for(self, source: StickTable, output: Optional[StickTable]) -> StickTable:
        if output is None or (self._own_output and not _holds(output, source)):
            made = attrs.evolve(
                source.declaration, name=self.rules.output, adopted_from=None, learnt=()
            )
            self._service.declare_table(made)
            output = self._service.table(made.name)
        return output

    # -- the peers ---------------------------------------------------------

    def peer_connected(self, peer: Peer) -> None:
        """See `IObserver`."""
        if self._departed.pop(peer.name, None) is None:
            self._look_at_connections(peer.name)
        self._moved()

    def peer_disconnected(self, peer: Peer, why: str) -> None:
        """See `IObserver`."""
        self._departed[peer.name] = self._service.now() + self.rules.grace
        self._moved()

    def peer_removed(self, peer: Peer) -> None:
        """See `IObserver`."""
        self._departed.pop(peer.name, None)
        self._moved()

    def resync_moved(self, state: str, reason: str) -> None:
        """See `IObserver`."""
        self._moved()

    def _moved(self) -> None:
        """Something has happened that authority may depend on."""
        self.authority.look(self._service.now())
        self._go_on()
        self._set_alarm()
        if self._lease is not None:
            self._lease.look()

    def vouch(self) -> Optional[int]:
        """How many sources are in the sums; ``None`` if these are not to be relied on."""
        if self.trouble is not None or self.authority.why_not() is not None:
            return None
        return self.authority.count_in() if self.lag() <= LONGEST_LAG else None

    def _connected(self, peer: str) -> bool:
        """Whether the current connections of a peer count."""
        known = self._service.peers.get(peer)
        return known is not None and (known.connected or known.name in self._departed)

    def _look_at_connections(self, peer: str) -> None:
        """The current connections of a peer begin to count, or count no more."""
        if self._sums is not None and self._sums.has_conn_cur and self._source is not None:
            share = self._source.contributions().get(peer)
            if share is not None and len(share):
                self._look_at([share], "conn_cur")

    # -- what is to be published -------------------------------------------

    def _look_at_all(self) -> None:
        """Publish all keys of all shares."""
        self._pacing.clear()
        self._returns.clear()
        if self._source is not None:
            self._look_at(self._source.contributions().values())

    def _look_at(self, shares: Iterable[StickTable], column: Optional[str] = None) -> None:
        """Publish all keys of some shares; or those alone whose value of a column is not 0."""
        self._walk = self._walked(self._walk, list(shares), column)
        self._go_on()

    def _walked(
        self,
        first: Optional[Generator[None, None, None]],
        shares: list[StickTable],
        column: Optional[str],
    ) -> Generator[None, None, None]:
        """The same in steps, after those of another walk."""
        if first is not None:
            yield from first
        for share in shares:
            try:
                for looked, (_, entry) in enumerate(share.walk(), 1):
                    if entry is not None and (column is None or entry[column]):
                        self._pending.setdefault(entry.raw_key, self._service.now())
                    if looked % AT_ONCE == 0:
                        yield
            except LocalProtocolError:
                self._log.debug("{share} is gone", share=share)

    def _listen(self) -> None:
        """Hear of the next change."""
        if self._running:
            waiter = self._feed.wait()
            waiter.addCallbacks(lambda _: self._go_on(), self._not_told)

    def _not_told(self, reason: Failure) -> None:
        reason.trap(CancelledError)

    def _take_changes(self) -> None:
        try:
            batches = self._feed.take(_TAKEN)
        except FeedOverrun as problem:
            self._log.warn(
                "aggregate {name} looks at all shares: {problem}",
                name=self.rules.source,
                problem=problem,
            )
            self._look_at_all()
            return
        now = self._service.now()
        sources = set(self.sources())
        for batch in batches:
            if batch.table.peer in sources:
                for key in self._pacing.changed(batch.raw_keys, now):
                    self._pending.setdefault(key, now)

    def sources(self) -> list[str]:
        """The names of the peers whose shares are added up."""
        return self.rules.of(self._service.peers)

    # -- publishing --------------------------------------------------------

    def _go_on(self) -> None:
        """Publish what there is to publish, in turns with others."""
        if self._running and self._working is None:
            working = self._working = self._service.in_turns(self._work())
            working.addCallbacks(self._worked, self._failed)

    def _work(self) -> Generator[None, None, None]:
        yield  # all that happens in this turn goes together
        while True:
            self._take_changes()
            now = self._service.now()
            for key in self._pacing.due(now):
                self._pending.setdefault(key, now)
            if self._may_publish:
                if not self._pending and self._walk is None:
                    for key in self._returns.due(now):
                        self._pending[key] = now
                self._publish_some()
            if self._walk is not None and next(self._walk, self) is self:
                self._walk = None
            if not (len(self._feed) or self._walk or (self._pending and self._may_publish)):
                return
            yield

    @property
    def _may_publish(self) -> bool:
        return self.authority.has_begun and self._sums is not None

    def _worked(self, _: None) -> None:
        self._working = None
        self._listen()
        self._set_alarm()

    def _failed(self, reason: Failure) -> None:
        self._working = None
        if not reason.check(CancelledError):
            self._log.failure("aggregate {name} failed", reason, name=self.rules.source)
            self.trouble = f"it failed: {reason.getErrorMessage()}"

    def _publish_some(self) -> None:
        """Publish a slice of what is pending."""
        pending = self._pending
        keys = []
        for key in pending:
            keys.append(key)
            if len(keys) >= AT_ONCE:
                break
        for key in keys:
            del pending[key]
        if keys:
            self._publish(keys)

    def _publish(self, keys: list[bytes]) -> None:
        output, sums = self._output, self._sums
        assert output is not None and sums is not None
        now = self._service.now()
        totals, nothing = sums.of(keys, self.sources(), self._connected)
        for total in totals:
            self._returns.put(total.raw_key, None if total.again is None else now + total.again)
        published = output.replace_raw([(one.raw_key, one.record, one.life) for one in totals])
        self.published.add(published, now)
        for key in nothing:
            self._returns.put(key, None)
        left = [key for key in nothing if output.get_raw(key) is not None]
        if left:
            # What was summed was removed before its time.
            output.forget_raw(left)

    # -- time --------------------------------------------------------------

    def _set_alarm(self) -> None:
        """Wake up when something is due."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._running:
            return
        due = [self._pacing.next_due, self._returns.next_due, self.authority.next_due]
        times = [one for one in (*due, *self._departed.values()) if one is not None]
        if times:
            delay = max(0, min(times) - self._service.now()) / 1000
            self._alarm = self._clock.callLater(delay, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        now = self._service.now()
        for peer, until in list(self._departed.items()):
            if until <= now:
                del self._departed[peer]
                self._look_at_connections(peer)
        self._moved()

    # -- for who looks at it -----------------------------------------------

    def lag(self) -> int:
        """How long ago the change was made, in ms, that has waited longest to be published."""
        for since in self._pending.values():
            return self._service.now() - since
        return 0

    def keys(self) -> int:
        """How many sums there are."""
        return 0 if self._output is None else len(self._output)

    @property
    def waiting(self) -> int:
        """How many keys are to be published."""
        return len(self._pending) + len(self._feed)


def _holds(output: StickTable, source: StickTable) -> bool:
    """Whether an output has all columns and the life of its source."""
    mine, theirs = output.declaration, source.declaration
    return source.layout.within(output.layout) and mine.expire == theirs.expire

"""One aggregate: hears what changes in the shares, and publishes the sums.

What has changed is published in the order in which it changed. A part of each step is for what
would be read wrong by now, though nothing of it has changed, since the period of a rate has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Final, Optional

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
from peerproto.aggregation.agenda import Agenda, Keys
from peerproto.aggregation.authority import Authority
from peerproto.aggregation.comparison import Comparison
from peerproto.aggregation.lease import (
    LONGEST_LAG,
    RENEWED,
    RENEWED_BEHIND,
    Lease,
    Vouch,
    lease_table,
)
from peerproto.aggregation.output import Output
from peerproto.aggregation.publishing import Publisher
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.sources import Sources
from peerproto.aggregation.throughput import Throughput
from peerproto.service.peer import Peer

AT_ONCE: Final = 100
"""Keys that are published together: one to four ms."""

SLICE: Final = 0.005
"""Seconds from which on no more is published in one step. Each step is written to each peer, which
costs the more the smaller it is."""

_RETRY: Final = 1000
"""Time in ms after which work that failed is begun again."""

_TAKEN: Final = 2000
"""Changed keys that are taken from the feed in one step."""


class Aggregate(Observer):
    """Publishes the sums of one table. See the module."""

    _log = Logger()

    def __init__(
        self,
        service: StickTableService,
        rules: Rules,
        clock: IReactorTime,
        own: Optional[set[str]] = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """``own`` are the outputs that aggregates have declared themselves; ``seconds`` tells how
        long a step takes."""
        self._seconds = seconds
        self._service = service
        self._outputs = Output(service, rules, set() if own is None else own)
        self._clock = clock
        self.rules = rules
        self.sources = Sources(service, rules)
        """Whose shares are added up."""
        self.authority = Authority(service, rules, self.sources)
        """Whether the sums may be relied on."""
        self.comparison = Comparison(service, rules)
        """Whether the tables of peers are as these sums need them."""
        self.publisher = Publisher(service, rules, self.sources, self._connected)
        """What stores the sums."""
        self._feed = service.feed(tables=[rules.source])
        self._agenda = Agenda(rules.interval)
        self._hears = False
        """Whether the next change is waited for."""
        self._told_at: Optional[int] = None
        """When (in ms) changes were told that were not taken from the feed yet."""
        self._failed_at: Optional[int] = None
        """When (in ms) the work failed, until it goes on."""
        self._source: Optional[StickTable] = None
        self.trouble: Optional[str] = "it has not begun"
        """Why nothing can be summed, in words; ``None`` if it can."""
        self.stands_since = service.now()
        """Since when (in ms) the sums have authority, or have none: as `why_not` said last."""
        self._had_authority = False
        self._departed: dict[str, int] = {}
        """When (in ms) the current connections of peers count no more."""
        self._alarm: Optional[IDelayedCall] = None
        self._working: Optional[Deferred[None]] = None
        self._looked = False
        """Whether the tables were looked at."""
        self._running = False
        self._lease: Optional[Lease] = None
        if rules.lease is not None:
            self._lease = Lease(
                service,
                rules.lease,
                rules.output,
                clock,
                self.vouch,
                self.has_published,
                RENEWED if rules.source_lease is None else RENEWED_BEHIND,
            )

    # -- from beginning to end ---------------------------------------------

    def start(self) -> None:
        """Share the tables as it takes, and begin to listen.

        :raises LocalProtocolError: the tables cannot be shared so.
        """
        rules, service = self.rules, self._service
        if self._lease is not None:
            self._lease.check()
        for table in rules.shared:
            service.share(table, per_peer=True)
        if rules.source_lease is not None:
            lease_table(service, rules.source_lease)
        service.share(rules.output, learn=False, stamp=-1 if rules.stamped else None)
        self._running = True
        service.add_observer(self)
        self._look_at_tables()
        self._listen()
        self._set_alarm()
        if self._lease is not None:
            self._lease.start()

    def stop(self) -> None:
        """Publish nothing more. The tables stay as they are."""
        if self._running:
            self._running = False
            self._service.remove_observer(self)
        self._feed.close()
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._lease is not None:
            self._lease.stop()

    # -- the tables --------------------------------------------------------

    def table_added(self, table: StickTable) -> None:
        """See `IObserver`."""
        if table.name in (self.rules.source, self.rules.output):
            self._look_at_tables()
            self.why_not()

    def table_redeclared(self, table: StickTable, before: Declaration) -> None:
        """See `IObserver`."""
        self.table_added(table)

    def table_removed(self, table: StickTable) -> None:
        """See `IObserver`."""
        self.table_added(table)

    def _look_at_tables(self) -> None:
        """Find out how to get from the source to the output as they are now."""
        source, before = self._service.find_table(self.rules.source), self._source
        if source is not before or not self._looked:
            # What peers had of another table of this name is not in this one.
            self.authority.begin(self._service.now())
        self._looked = True
        self._source = source
        self.publisher.close()
        self._agenda.clear()
        if source is None:
            self.trouble = f"nobody has defined table {self.rules.source}"
            return
        try:
            self.publisher.open(source, self._outputs.table_for(source))
        except LocalProtocolError as problem:
            self.trouble = f"table {source.name} cannot be summed to {self.rules.output}: {problem}"
            self._log.error("aggregate {name}: {why}", name=source.name, why=self.trouble)
            return
        self.trouble = None
        if self.publisher.has_conn_cur and source is not before:
            self._log.warn(
                "aggregate {name}: HAProxy takes conn_cur of table {output} from peers only where"
                " that is recv-only, from 3.2 on",
                name=source.name,
                output=self.rules.output,
            )
        self._look_at_all()

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

    def peer_added(self, peer: Peer) -> None:
        """See `IObserver`."""
        self._look_at_tables()  # the output may have to be larger

    def peer_removed(self, peer: Peer) -> None:
        """See `IObserver`."""
        self._departed.pop(peer.name, None)
        self._look_at_tables()
        self._moved()

    def resync_moved(self, state: str, reason: str) -> None:
        """See `IObserver`."""
        self._moved()

    def _moved(self) -> None:
        """Something has happened that authority may depend on."""
        if self.sources.choose():
            self._look_at_all()
        now = self._service.now()
        self.sources.look(now)
        self.authority.look(now)
        self.why_not()
        self._go_on()
        self._set_alarm()
        if self._lease is not None:
            self._lease.look()

    def vouch(self) -> Optional[Vouch]:
        """What the sums are vouched for; ``None`` if they are not to be relied on."""
        if self.sources.choose():
            # One that stands in for another is vouched for once it is added up.
            self._look_at_all()
        if self.why_not() is not None or self.lag() > LONGEST_LAG:
            return None
        return self.authority.vouch()

    def why_not(self) -> Optional[str]:
        """Why the sums have no authority, in words; ``None`` if they have."""
        why = self._why_not()
        if self._had_authority != (why is None):
            self._had_authority = why is None
            self.stands_since = self._service.now()
        return why

    def _why_not(self) -> Optional[str]:
        if self.trouble is not None:
            return self.trouble
        if self._failed_at is not None:
            return "it failed, as the log says"
        other_periods = self.comparison.other_periods(self.sources.names())
        return self.publisher.lacks or other_periods or self.authority.why_not()

    def _connected(self, peer: str) -> bool:
        """Whether the current connections of a peer count."""
        known = self._service.peers.get(peer)
        return known is not None and (known.connected or known.name in self._departed)

    def _look_at_connections(self, peer: str) -> None:
        """The current connections of a peer begin to count, or count no more."""
        if self.publisher.has_conn_cur and self._source is not None:
            share = self._source.contributions().get(peer)
            if share is not None and len(share):
                self._agenda.look_at([share], self._service.now(), "conn_cur")
                self._go_on()

    # -- what is to be published -------------------------------------------

    def _look_at_all(self) -> None:
        """Publish all keys of all shares, and look at all sums that there are, and at what is
        known of sums that are gone."""
        output, last_said = self.publisher.output, self.publisher.last_said
        if self._source is not None and output is not None and last_said is not None:
            shares = self._source.contributions().values()
            tables: list[Keys] = [*shares, output, last_said]
            self._agenda.look_at_all(tables, self._service.now())
            if self._lease is not None:
                self._lease.wait()
        self._go_on()

    def _listen(self) -> None:
        """Hear of the next change."""
        if self._running and not self._hears:
            self._hears = True
            self._feed.wait().addCallbacks(self._told, self._not_told)

    def _told(self, _: None) -> None:
        self._hears = False
        if self._told_at is None:
            self._told_at = self._service.now()
        self._go_on()

    def _not_told(self, reason: Failure) -> None:
        self._hears = False
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
        self._told_at = now if len(self._feed) else None
        sources = set(self.sources.names())
        for batch in batches:
            # A share that is gone is nobody's any more.
            if self.publisher.is_open and (batch.table.peer in sources or batch.cause.removes):
                self._agenda.changed(batch.raw_keys, now)

    # -- publishing --------------------------------------------------------

    def _go_on(self) -> None:
        """Publish what there is to publish, in turns with others."""
        if self._running and self._working is None and self._failed_at is None:
            working = self._working = self._service.in_turns(self._work())
            working.addCallbacks(self._worked, self._failed)

    def _work(self) -> Generator[None, None, None]:
        yield  # all that happens in this turn goes together
        while True:
            self._take_changes()
            now = self._service.now()
            if self._may_publish:
                self._publish_some(now)
            has_more = self._agenda.walk_on() or len(self._feed) > 0
            if not (has_more or (self._may_publish and self._agenda.has_some(now))):
                return
            yield

    def _publish_some(self, now: int) -> None:
        """Publish what is to be published ``now`` (ms), for the time of a step."""
        end = self._seconds() + SLICE
        while keys := self._agenda.take(AT_ONCE, now):
            self.publisher.publish(keys, self._agenda.returns)
            if self._seconds() >= end:
                break

    @property
    def _may_publish(self) -> bool:
        return self.authority.has_begun and self.publisher.is_open

    def _worked(self, _: None) -> None:
        self._working = None
        self._listen()
        self._set_alarm()
        if self._lease is not None and not self._lease.holds and self.authority.has_begun:
            self._lease.look()

    def _failed(self, reason: Failure) -> None:
        self._working = None
        if not reason.check(CancelledError):
            self._log.failure(
                "aggregate {name} failed, and looks at everything again",
                reason,
                name=self.rules.source,
            )
            self._failed_at = self._service.now()
            self.why_not()
            self._set_alarm()

    # -- time --------------------------------------------------------------

    def _set_alarm(self) -> None:
        """Wake up when something is due."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._running:
            return
        due = [self.authority.next_due, *self._departed.values()]
        if self._may_publish:
            due.append(self._agenda.next_due())
        if self._failed_at is not None:
            due = [self._failed_at + _RETRY]
        times = [one for one in due if one is not None]
        if times:
            delay = max(0, min(times) - self._service.now()) / 1000
            self._alarm = self._clock.callLater(delay, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        now = self._service.now()
        if self._failed_at is not None and now >= self._failed_at + _RETRY:
            self._failed_at = None
            self._look_at_all()
        for peer, until in list(self._departed.items()):
            if until <= now:
                del self._departed[peer]
                self._look_at_connections(peer)
        self._moved()

    # -- for who looks at it -----------------------------------------------

    def lag(self) -> int:
        """How long ago the change was made, in ms, that has waited longest to be published, but for
        the interval of its key."""
        return self._service.now() - self._waits_since()

    def has_published(self, when: int) -> bool:
        """Whether all is published that was known at a time (in ms), and its interval is over."""
        return self._waits_since() > when + self.rules.interval

    def _waits_since(self) -> int:
        """When (in ms) the change was made that has waited longest, but for the interval of its
        key; the present time if none waits."""
        oldest = self._agenda.oldest(self._service.now())
        return oldest if self._told_at is None else min(oldest, self._told_at)

    @property
    def published(self) -> Throughput:
        """How many sums were published."""
        return self.publisher.published

    def keys(self) -> int:
        """How many sums there are."""
        output = self.publisher.output
        return 0 if output is None else len(output)

    @property
    def waiting(self) -> int:
        """How many keys are to be published."""
        return len(self._agenda) + len(self._feed)

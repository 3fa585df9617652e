"""What is true of sums of rates: the part of the oracle that looks at frequency counters.

Promised, whatever happens:

1. **At a node.** A sum reads as all that the node has of its sources reads together, and does so
   while periods end: within as many events as there are sources, since each is rounded down; not
   rounded, it is off by half an event, and by what rates fall until it is published again. A key
   that has just changed is looked at once its interval is over.
2. **At a HAProxy that decides by it.** A sum reads no less than what is due of it, as each HAProxy
   had counted that.

That a sum falls with its sources to 0 is `tests.simulation.falling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from peerproto import StickTable, StickTableService
from peerproto.aggregation.aggregate import Aggregate
from peerproto.tables.store import TableStore
from tests.simulation.frequency import PERIOD, FrequencyCounter
from tests.simulation.haproxy import RATE, Process
from tests.simulation.promise import Broken
from tests.simulation.site import Site

OFTEN: Final = 20
"""Time in ms between two looks at the nodes."""

ON_TIME: Final = 60
"""Time in ms besides its interval in which a change is published: several turns, if need be."""

PART: Final = 100
"""A sum may be off by one event in so many: they fall until it is published."""

EXACTLY: Final = 1
"""Events by which a sum may be off that is not rounded; ages are."""

Counters = dict[Any, FrequencyCounter]
"""By key."""


def off(total: FrequencyCounter, every: list[FrequencyCounter], now: int) -> float:
    """By how many events a sum is read wrong, not rounded, as of a time in ms."""
    return total.exactly(now) - sum(one.exactly(now) for one in every)


def events(every: list[FrequencyCounter], now: int) -> int:
    """The events that count at all."""
    live = [one for one in every if now - one.start < 2 * PERIOD]
    return sum(one.current + one.previous for one in live)


def is_right(total: FrequencyCounter, every: list[FrequencyCounter], now: int) -> bool:
    """Whether a sum of so many sources is read right as of a time in ms."""
    part = events(every, now) / PART
    rounded = total.read(now) - sum(one.read(now) for one in every)
    return abs(off(total, every, now)) <= EXACTLY + part and abs(rounded) <= len(every) + part


@attrs.define
class _Share:
    """What a table had of rates when it was read."""

    revision: tuple[int, int]
    counters: Counters


@attrs.define
class _Seen:
    """What sources had of a key, and since when (in ms)."""

    aggregate: Aggregate
    every: list[FrequencyCounter]
    since: int


class Rates:
    """Looks at the sums of rates of a site. See the module."""

    def __init__(self, site: Site) -> None:
        self.decided = 0
        """How many sums were looked at that are not 0."""
        self._site = site
        self._looked_at = 0
        self._shares: dict[TableStore, _Share] = {}
        self._seen: dict[tuple[str, str, Any], _Seen] = {}
        self._counted: dict[tuple[str, Any], dict[int, list[FrequencyCounter]]] = {}
        """By HAProxy and key, what it had of the rate when it had counted so much."""

    def counted(self, source: str, process: Process, key: Any) -> None:
        """A HAProxy has counted something."""
        numbers = self._counted.setdefault((source, key), {})
        numbers.setdefault(process.value(key), []).append(process.rate(key))

    # -- at nodes ----------------------------------------------------------

    def look(self) -> None:
        """See whether what nodes have published is right.

        :raises Broken: it is not.
        """
        now = int(self._site.clock.seconds() * 1000)
        if now - self._looked_at < OFTEN:
            return
        self._looked_at = now
        for name, node in self._site.nodes.items():
            for aggregate in node.aggregation.aggregates.values():
                if aggregate.authority.has_begun and aggregate.publisher.is_open:
                    self._look_at(name, node.service, aggregate, now)

    def _look_at(
        self, name: str, service: StickTableService, aggregate: Aggregate, now: int
    ) -> None:
        rules = aggregate.rules
        source, output = service.table(rules.source), service.table(rules.output)
        shares = source.contributions()
        every = [self._read(shares[one], now) for one in aggregate.sources.names() if one in shares]
        totals = self._read(output, now)
        for key in {key for share in every for key in share}:
            there = [share[key] for share in every if key in share]
            seen = self._seen.get((name, rules.source, key))
            if seen is None or seen.aggregate is not aggregate or seen.every != there:
                self._seen[name, rules.source, key] = _Seen(aggregate, there, now)
            elif now - seen.since > rules.interval + ON_TIME:
                total = totals.get(key, FrequencyCounter())
                if not is_right(total, there, now):
                    raise Broken(
                        f"{name} has {key}={total} in {rules.output} at {now}, which is off by"
                        f" {off(total, there, now):.2f} of {there}"
                    )
                self.decided += total.read(now) > 0

    def _read(self, table: StickTable, now: int) -> Counters:
        """What a table has of rates."""
        (store,) = table.stores().values()
        share, revision = self._shares.get(store), (store.revision, store.stored_so_far)
        if share is None or share.revision != revision:
            counters = {}
            for entry in table:
                age, current, previous = entry.counter(RATE)
                counters[entry.key] = FrequencyCounter(now - age, current, previous)
            share = self._shares[store] = _Share(revision, counters)
        return share.counters

    # -- at HAProxies ------------------------------------------------------

    def check(self, where: str, total: FrequencyCounter, due: Mapping[str, int], key: Any) -> None:
        """See whether a sum that a HAProxy decides by has what is ``due`` of each HAProxy.

        :raises Broken: it has not.
        """
        now = int(self._site.clock.seconds() * 1000)
        least = 0.0
        for source, number in due.items():
            counters = self._counted.get((source, key), {}).get(number, [])
            least += min((one.exactly(now) for one in counters), default=0.0)
        if total.exactly(now) < least - len(due) - least / PART:
            raise Broken(f"{where} reads {total} at {now}, and {least} is due of {due}")

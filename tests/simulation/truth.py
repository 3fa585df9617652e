"""What is true of sums, and what of it a HAProxy must see: the oracle of the simulation.

Promised, whenever a HAProxy has a lease that is fresh by its own wall clock, of each key:

1. **Not ahead.** The sum is no more than what all HAProxies have counted, all processes together.
2. **Not behind.** It is no less than what was *due*: what each HAProxy had counted `SOON` s ago and
   was able to send since, on one session and not held up. If the lease is of all sources, also
   what it had counted `LATE` s ago, if its session is that old, whether or not it was held up;
   and what it had counted when the session began, if the lease is younger than that, and nothing
   was held up.
   What a HAProxy has counted is due for as long as its entry lives there.
   And the sum of rates is as `tests.simulation.rates` says.
3. **Nobody else's.** It has the number of the lease, unless an old process has taught it since, or
   nothing was due, or it came after the lease, from the next process of the node. What has another
   number is not looked at.

And when a HAProxy has learnt from a node that counts itself up to date, it has at least
what of its own was due from that node.

What was due stays so when a HAProxy goes. It is less once a process counts itself up to date that
has less, since it was taught by somebody who had less, or by nobody; or was taught less later, by
an old process that was frozen (what that has more is for no peer until it is counted again). And
nothing is due from a node that has lost what it had. While a process learns, nothing new is due.
"""

from __future__ import annotations

from collections import deque
from ipaddress import IPv6Address
from typing import Any, Final, Optional

import attrs

from peerproto.aggregation.lease import KEY
from tests.simulation.haproxy import Held, Line, Process
from tests.simulation.promise import Broken
from tests.simulation.rates import Rates
from tests.simulation.site import Reads, Site, Source

SOON: Final = 1.35
"""Seconds: a lease holds for 1 s and 0.25 s in which changes may wait to be published, and all
takes its time on the way."""

LATE: Final = 6.0
"""Seconds: besides, a source is silent for 4.5 s before it is missed."""

SKEW: Final = 0.25
"""Seconds by which wall clocks of hosts may differ, and leases hold for longer."""

_LEASE: Final = IPv6Address(KEY)

ROUNDING: Final = 0.01
"""Seconds by which a life may be shorter: it is told in ms."""

Counts = dict[Any, int]
Ends = dict[Any, float]
"""When the lives of entries are over."""


@attrs.define(eq=False)
class Way:
    """What went from a HAProxy to a node of late."""

    due: Counts = attrs.Factory(dict)
    line: Optional[Line] = None
    """The session of which the rest is."""
    ends: Ends = attrs.Factory(dict)
    """When what is due is over."""
    soon: deque[tuple[float, Counts, Ends]] = attrs.Factory(deque)
    """When the HAProxy had counted what, since nothing was held up."""
    late: deque[tuple[float, Counts]] = attrs.Factory(deque)
    """The same of the whole session."""
    was_due: Counts = attrs.Factory(dict)
    """What was due of the whole session, if the lease is of all sources."""
    version: tuple[int, int] = (0, 0)
    """That of what was noted last in each."""
    session: Optional[Line] = None
    at_first: Counts = attrs.Factory(dict)
    """What the HAProxy had to say when its session began; nothing once that was held up."""

    def lower(self, counts: Counts) -> None:
        """The HAProxy has less of these keys."""
        every = [
            self.due,
            self.was_due,
            self.at_first,
            *(noted for _, noted, _ in self.soon),
            *(noted for _, noted in self.late),
        ]
        for noted in every:
            for key in noted.keys() & counts.keys():
                noted[key] = min(noted[key], counts[key])

    def lives(self, now: float) -> Counts:
        """What is due and not over."""
        ends = self.ends
        return {key: due for key, due in self.due.items() if ends.get(key, 0) > now + ROUNDING}

    def begin(self, line: Optional[Line]) -> None:
        """There is another session, or none."""
        self.line = line
        self.soon.clear()
        self.late.clear()
        self.was_due = {}
        self.version = 0, 0


class Truth:
    """Looks at a site. See the module."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counted: dict[tuple[str, Any], int] = {}
        """What each HAProxy has counted of each key, all processes together."""
        self.rates = Rates(site)
        self.decided = 0
        """How many sums were looked at that a HAProxy may decide by."""
        self.open: set[tuple[str, Any]] = set()
        """HAProxies and keys of which a node may have something else, and rightly so, until the
        HAProxy counts them once more."""
        self._ways = {
            (source, node): Way()
            for source, nodes in site.layout.nodes_of.items()
            for node in nodes
        }
        self._all = len(site.sources)
        self._reads = {name: site.layout.has_read(name) for name in site.layout.nodes_of}
        self._total: dict[Any, int] = {}
        """What all have counted of each key."""
        self._looked_at: dict[str, tuple[float, int]] = {}
        """When each HAProxy was looked at, and how much it had received."""
        site.lost = self.lost

    # -- what happens ----------------------------------------------------

    def count(self, source: Source, key: Any, events: int = 1) -> None:
        """A HAProxy counts something, so often."""
        place = source.name, key
        self.counted[place] = self.counted.get(place, 0) + events
        self._total[key] = self._total.get(key, 0) + events
        self.open.discard(place)
        source.process.count(key, events)
        self.rates.counted(source.name, source.process, key)

    def began(self, source: Source) -> None:
        """A HAProxy has a new process, which has not started."""
        name, process = source.name, source.process
        process.overwritten = lambda key, value: self._overwritten(name, process, key, value)
        process.finished = lambda: self._finished(name, process)

    def _overwritten(self, source: str, process: Process, key: Any, value: int) -> None:
        if process.up_to_date and process is self.site.sources[source].process:
            self._lower(source, {key: value})
            self.open.add((source, key))

    def _lower(self, source: str, counts: Counts) -> None:
        for (one, _), way in self._ways.items():
            if one == source:
                way.lower(counts)

    def _finished(self, source: str, process: Process) -> None:
        """A process counts itself up to date."""
        if process is not self.site.sources[source].process:
            return
        way = self._ways.get((source, process.taught_by or ""))
        if way is not None:
            for key, due in way.lives(self.site.clock.seconds()).items():
                if process.value(key) < due:
                    raise Broken(
                        f"{source} was taught {key}={process.value(key)} by {process.taught_by},"
                        f" of which {due} was due: {way}"
                    )
        keys = {key for one, key in self.counted if one == source}
        self._lower(source, {key: process.value(key) for key in keys})
        # A node that did not teach it may have more, as when the one that did had lost what it had.
        self.open.update(
            (source, key)
            for key in keys
            if process.taught_by is None or process.value(key) < self.counted[source, key]
        )

    def lost(self, node: str) -> None:
        """A node has lost what it had."""
        for (_, one), way in self._ways.items():
            if one == node or node not in {name for _, name in self._ways}:
                way.due = {}
                way.begin(None)

    # -- looking ---------------------------------------------------------

    def look(self) -> None:
        """See whether what HAProxies have now is as it was promised.

        :raises Broken: it is not.
        """
        now = self.site.clock.seconds()
        self.rates.look()
        for (name, node), way in self._ways.items():
            self._note(self.site.sources[name].process, node, way, now)
        for source in self.site.sources.values():
            if self._looked_at.get(source.name) != (now, source.process.received):
                self._looked_at[source.name] = now, source.process.received
                for reads in self._reads[source.name]:
                    self._check(source, reads, now)

    def _note(self, process: Process, node: str, way: Way, now: float) -> None:
        """Note what a HAProxy has counted, and what of that is due by now."""
        line = process.lines.get(node)
        if line is not way.session:
            way.session, way.at_first = line, {}
            if line is not None and not line.teaching:
                way.at_first = dict(line.first)
        if line is not None and self._held_up(line):
            way.at_first = {}
        if not process.up_to_date or (line is not None and line.teaching):
            line = None
        if line is not way.line:
            way.begin(line)
        if line is None:
            return
        if self._held_up(line):
            way.soon.clear()
            way.version = 0, way.version[1]
        else:
            if way.version[0] != process.version:
                way.soon.append((now, process.values(), process.ends()))
            while way.soon and way.soon[0][0] <= now - SOON:
                _, way.due, way.ends = way.soon.popleft()
            way.version = process.version, way.version[1]
        if way.version[1] != process.version:
            way.late.append((now, process.values()))
            way.version = way.version[0], process.version
        while way.late and way.late[0][0] <= now - LATE:
            way.was_due = way.late.popleft()[1]

    def _held_up(self, line: Line) -> bool:
        return any(
            end.stalled or end.cut_after is not None
            for connection in self.site.connections
            for end in (connection.caller, connection.called)
            if end.protocol is line
        )

    def lease(self, source: Source, reads: Reads) -> Optional[Held]:
        """The lease that a HAProxy has, if it is fresh by its wall clock."""
        held = source.process.held[reads.lease].get(_LEASE)
        if held is None or held.until <= self.site.clock.seconds():
            return None
        tags = held.values["gpt"]
        assert isinstance(tags, list) and isinstance(tags[1], int)
        left = (tags[1] - round(self.site.wall_clock_of(source.name) * 1000)) % 2**32
        return held if tags[0] == 1 and 1 <= left <= 1500 else None

    def relies(self, source: Source, reads: Reads) -> bool:
        """Whether a HAProxy has a fresh lease, and no sum of another number."""
        lease = self.lease(source, reads)
        if lease is None:
            return False
        tags: Any = lease.values["gpt"]
        return {_number(held) for held in source.process.held[reads.sums].values()} == {tags[2]}

    def _check(self, source: Source, reads: Reads, now: float) -> None:
        lease = self.lease(source, reads)
        if lease is None:
            return
        tags: Any = lease.values["gpt"]
        due = self._due(reads, self._written(reads.node, tags[1]) if tags[3] == self._all else None)
        sums = source.process.held[reads.sums]
        for key, most in self._total.items():
            held, least = sums.get(key), sum(one.get(key, 0) for one in due)
            is_over = held is not None and not source.process.lives(held)
            number = None if held is None else _number(held)
            if held is None or is_over or number != tags[2]:
                is_later = held is not None and held.received > lease.received
                if least and not is_later and not (held is not None and held.from_old):
                    raise Broken(
                        f"{source.name} has {key} in {reads.sums} with number {number} and not"
                        f" {tags[2]} at {now:.3f}, though {least} is due"
                    )
                continue
            self.decided += 1
            value: Any = held.values["gpc0"]
            if not least <= value <= most:
                raise Broken(
                    f"{source.name} decides by {key}={value} in {reads.sums} at {now:.3f}, and not"
                    f" {least} to {most}: {lease}, {self._ways}"
                )
            of_each = {name: one.get(key, 0) for name, one in zip(self.site.layout.nodes_of, due)}
            self.rates.check(f"{source.name} in {reads.sums}", held.rate, of_each, key)

    def _written(self, node: str, until: int) -> float:
        """When a lease was written at the earliest: the clock of its node may be another now."""
        left = (until - round(self.site.wall_clock_of(node) * 1000)) % 2**32
        earliest = self.site.clock.seconds() + left / 1000 - 1 - SKEW
        return earliest if left <= 1500 else 0.0

    def _due(self, reads: Reads, written: Optional[float]) -> list[Counts]:
        """What is due of each HAProxy where one reads; ``written`` is when the lease was, if that
        is of all sources."""
        due: list[Counts] = []
        for source, nodes in self.site.layout.nodes_of.items():
            # Of a pair below, either one may be added up.
            goes_up = bool(self.site.layout.nodes[reads.node].above)
            ways = [self._ways[source, node] for node in (nodes if goes_up else [reads.node])]
            if written is not None and not self.site.short_lived:
                due.append(_least([self._of(way, written) for way in ways]))
            elif not goes_up:
                due.append(ways[0].lives(self.site.clock.seconds()))
        return due

    def _of(self, way: Way, written: float) -> Counts:
        """What is due by one way, if a lease of all sources was ``written`` at this time."""
        is_older = way.session is not None and way.session.began < written
        return _most(way.due, way.was_due, way.at_first if is_older else {})

    # -- the end ---------------------------------------------------------

    def check_same(self, strictly: bool) -> None:
        """All is quiet: each sum is what the HAProxies have counted, as far as they know; but for
        what is open, unless all is to be the same ``strictly``.

        :raises Broken: it is not so.
        """
        processes = {name: one.process for name, one in self.site.sources.items()}
        for name, process in processes.items():
            for reads in self._reads[name]:
                lease = self.lease(self.site.sources[name], reads)
                if lease is None:
                    raise Broken(f"{name} has no fresh lease of {reads.node}")
                tags: Any = lease.values["gpt"]
                for key in self._total:
                    if not strictly and any((one, key) in self.open for one in processes):
                        continue
                    each = {one: process.value(key) for one, process in processes.items()}
                    held = process.held[reads.sums].get(key)
                    if held is not None and held.from_old and not strictly:
                        continue
                    if held is not None and not process.lives(held):
                        held = None
                    if held is None and not any(each.values()):
                        continue
                    has: Any = None if held is None else held.values["gpc0"]
                    number = None if held is None else _number(held)
                    if has != sum(each.values()) or number != tags[2]:
                        raise Broken(
                            f"{name} has {key}={has} of number {number} in {reads.sums} in the end,"
                            f" and not the sum of {each} of number {tags[2]}"
                        )


def _most(*every: Counts) -> Counts:
    keys = {key for counts in every for key in counts}
    return {key: max(counts.get(key, 0) for counts in every) for key in keys}


def _least(every: list[Counts]) -> Counts:
    keys = set.intersection(*(set(one) for one in every))
    return {key: min(one[key] for one in every) for key in keys}


def _number(held: Held) -> Any:
    """That of the session by which an entry was sent."""
    tags = held.values["gpt"]
    assert isinstance(tags, list)
    return tags[-1]

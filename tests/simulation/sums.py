"""Nodes that add up what HAProxies count: one, a pair, or two sites below another one.

HAProxies count, are killed, are reloaded with an old process that may be frozen in the middle;
nodes crash, hand over, and read other rules with SIGHUP; connections are hindered; wall clocks are
wrong. Besides what
`tests.simulation.truth` promises of all that is read meanwhile:

1. At the quiet end, each HAProxy has the sums of what all have, but for what is open; once each
   of them has counted each key once more, of all keys.
2. Then nothing but leases is sent.
3. Where entries live for some seconds, what one HAProxy alone has counted of late is the sum, and
   then there is none, and nothing is kept of it.
4. SIGHUP touches no session.
5. Rates fall as `tests.simulation.falling` says.
6. Nothing is logged as failed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Optional
from unittest.mock import patch

import attrs
from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from peerproto.aggregation import agenda, aggregate
from peerproto.aggregation.rules import Rules
from tests.simulation.falling import Falling
from tests.simulation.fleet import small_slices
from tests.simulation.obstacles import Obstacles, places
from tests.simulation.promise import Broken
from tests.simulation.site import LAYOUTS, SHORT, Site, Source
from tests.simulation.truth import SOON, Truth

KEYS: Final = 5
QUIET: Final = 25.0
"""Seconds after which everything must have come to rest."""

STEP: Final = 0.2
"""Seconds between two requests under load."""

STEPS: Final = 8
"""Steps of a run at most in `tests.simulation.test_sums`; many take long."""

FEW: Final = 2
"""Keys that a node publishes, or looks at, in one step."""

members = st.integers(0, 5)
keys = st.integers(0, KEYS - 1)
long_times = st.sampled_from((500, 2500, 8000))
times = st.sampled_from((0, 1, 20, 100, 500, 1500, 4000))


class SumsSimulation(Obstacles):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._small = ExitStack()
        self._small.enter_context(small_slices())
        self._small.enter_context(patch.object(aggregate, "AT_ONCE", FEW))
        self._small.enter_context(patch.object(aggregate, "SLICE", 0.0))
        for name in ("_LOOKS", "_READS"):
            self._small.enter_context(patch.object(agenda, name, FEW))
        self.site: Site
        self.truth: Optional[Truth] = None
        self.broken = False
        self.nodes_stay = False
        """Whether nodes are still there when rates fall at the end."""

    def links(self) -> list[tuple[str, str]]:
        return self.site.layout.links()

    @initialize(
        layout=st.sampled_from(("pair", "one", "pair", "one", "levels", "pair below")),
        pace=st.sampled_from((100, 20, 1000, None)),
        seed=st.integers(0, 99),
        calls=st.booleans(),
        lease_first=st.booleans(),
        contained=st.booleans(),
        short_lived=st.booleans(),
        nodes_stay=st.sampled_from((False, False, True)),  # that they do takes long
    )
    def begin(
        self,
        layout: str,
        pace: Optional[int],
        seed: int,
        calls: bool,
        lease_first: bool,
        contained: bool,
        short_lived: bool = False,
        nodes_stay: bool = False,
    ) -> None:
        self.nodes_stay = nodes_stay
        began: list[Source] = []
        self.site = self.network = Site(
            LAYOUTS[layout],
            seed,
            calls=calls,
            lease_first=lease_first,
            contained=contained,
            short_lived=short_lived,
            began=lambda source: self.truth.began(source) if self.truth else began.append(source),
            moved=self._look,
        )
        self.truth = Truth(self.site)
        for source in began:
            self.truth.began(source)
        self._come_to_rest(self._look_for_leases)
        for key in range(KEYS):
            for source in self.site.sources.values():
                self._count(source, key)
        self.network.advance(0.1)
        self.network.pace = pace

    def _look(self) -> None:
        if self.truth is not None and not self.broken:
            self.broken = True
            self.truth.look()
            self.broken = False

    def _look_for_leases(self) -> None:
        """See that there is something to be looked at: a simulation of nothing shows nothing."""
        assert self.truth is not None
        for source in self.site.sources.values():
            for reads in self.site.layout.has_read(source.name):
                if self.truth.lease(source, reads) is None:
                    raise Broken(f"{source.name} has no lease of {reads.node} at the beginning")

    def _source(self, number: int) -> Source:
        every = list(self.site.sources.values())
        return every[number % len(every)]

    def _count(self, source: Source, key: int, events: int = 1) -> None:
        assert self.truth is not None
        self.truth.count(source, key, events)

    # -- steps -----------------------------------------------------------

    @rule(at=members, some=st.lists(keys, min_size=1, max_size=6))
    def count(self, at: int, some: list[int]) -> None:
        """A HAProxy counts."""
        for key in some:
            self._count(self._source(at), key)

    @rule(at=members, key=keys, events=st.sampled_from((10, 50, 200)))
    def burst(self, at: int, key: int, events: int) -> None:
        """A HAProxy counts a lot at once."""
        self._count(self._source(at), key, events)

    @rule(ms=times)
    def load(self, ms: int) -> None:
        """HAProxies count for some time."""
        chance = self.network.chance
        for _ in range(max(1, ms // int(STEP * 1000))):
            self._count(self._source(chance.randrange(6)), chance.randrange(KEYS))
            self.network.advance(STEP)

    @rule(at=members, ms=times)
    def kill(self, at: int, ms: int) -> None:
        """A HAProxy is killed, and starts again after some time."""
        self.site.restart(self._source(at), ms / 1000)

    @rule(at=members, freeze=st.booleans())
    def reload(self, at: int, freeze: bool) -> None:
        """A HAProxy is reloaded."""
        self.site.reload(self._source(at), freeze)

    @rule(at=members, ms=long_times)
    def reload_slowly(self, at: int, ms: int) -> None:
        """A HAProxy is reloaded under load, and its old process frozen in the middle."""
        source = self._source(at)
        self.site.reload(source, freeze=True)
        self.load(ms)
        self.site.thaw(source)
        self.load(500)

    @rule(place=places, back=st.booleans(), ms=long_times)
    def hold_up(self, place: int, back: bool, ms: int) -> None:
        """Under load, nothing gets through in one direction for some time."""
        self.stall(place, back)
        self.load(ms)
        self.flow(place)
        self.load(500)

    @rule(at=members)
    def thaw(self, at: int) -> None:
        """An old process that was frozen goes on."""
        self.site.thaw(self._source(at))

    @rule(at=members, back=st.booleans())
    def stall_old(self, at: int, back: bool) -> None:
        """Nothing gets through between an old process and the new one, until it flows."""
        name = self._source(at).name
        for connection in self.network.between(name, name):
            (connection.called if back else connection.caller).stalled = True

    @rule(at=members)
    def flow_old(self, at: int) -> None:
        """What is between an old process and the new one flows again."""
        name = self._source(at).name
        self._flow(self.network.between(name, name))

    @rule(at=members)
    def crash(self, at: int) -> None:
        """A node crashes, and starts again at once."""
        self.site.crash_node(self._node(at))

    @rule(at=members)
    def hand_over(self, at: int) -> None:
        """A new process of a node takes over from the old one."""
        self.site.hand_over(self._node(at))

    @rule(at=members, interval=st.sampled_from((1, 20, 50, 100)))
    def change(self, at: int, interval: int) -> None:
        """A node reads with SIGHUP that its aggregates have another interval."""
        name = self._node(at)
        rules = self.site.nodes[name].aggregation.aggregates.values()
        self._read_again(name, tuple(attrs.evolve(one.rules, interval=interval) for one in rules))

    @rule(at=members, ms=times)
    def go_and_come(self, at: int, ms: int) -> None:
        """A node reads with SIGHUP that it has no aggregates, and some time later that it has some:
        HAProxies count meanwhile. What is none for some time is taught to HAProxies that learn, so
        none does."""
        name = self._node(at)
        if not all(self._is_settled(one) for one in self.site.sources.values()):
            return
        assert self.truth is not None
        self._read_again(name, ())
        self.load(ms)
        self.truth.lost(name)
        self._read_again(name, self.site.layout.nodes[name].rules)

    def _node(self, number: int) -> str:
        every = list(self.site.nodes)
        return every[number % len(every)]

    def _is_settled(self, source: Source) -> bool:
        lines = source.process.lines.values()
        return source.process.up_to_date and not any(one.teaching or one.learning for one in lines)

    def _read_again(self, name: str, rules: tuple[Rules, ...]) -> None:
        before = self.site.sessions()
        self.site.read_again(name, rules)
        if self.site.sessions() != before:
            raise Broken(f"SIGHUP at {name} touches sessions: {before}, {self.site.sessions()}")

    @rule(at=members, seconds=st.sampled_from((0.0, 0.12, -0.12, 3600.0, -3600.0, 61.0)))
    def set_clock(self, at: int, seconds: float) -> None:
        """The wall clock of a host is set."""
        every = [*self.site.nodes, *self.site.sources]
        self.site.wall[every[at % len(every)]] = seconds

    # -- the end ---------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.truth is not None and not self.broken:
                self._end(self.truth)
        finally:
            self.leave()
            self._small.close()

    def _end(self, truth: Truth) -> None:
        self.remove_obstacles()
        self.network.advance(SOON)  # leases of before are over
        self.site.wall.clear()
        for source in self.site.sources.values():
            self.site.thaw(source)
        if currently_in_test_context():
            rates = truth.rates.decided
            note(f"{truth.decided} sums were looked at, and {rates} of rates")
        self._come_to_rest(lambda: truth.check_same(strictly=False))
        for key in range(KEYS):
            for source in self.site.sources.values():
                self._count(source, key)
        self._come_to_rest(lambda: truth.check_same(strictly=True))
        falling = Falling(truth, KEYS)
        if self.nodes_stay:
            falling.with_nodes()
        self._come_to_rest(self._check_stands_still)
        if self.site.short_lived:
            self._check_lives(truth)
        if not self.nodes_stay:
            falling.without_nodes()

    def _check_lives(self, truth: Truth) -> None:
        """See that what has expired is in no sum."""
        first, *others = self.site.sources.values()
        for key in range(KEYS):
            for source in (first, *others):
                self._count(source, key)
        self.network.advance(SHORT / 2)
        for key in range(KEYS):
            self._count(first, key)
        self.network.advance(SHORT / 2 + 1)
        if first.process.value(0) == 0 or any(one.process.value(0) for one in others):
            raise Broken("other entries live than are to be looked at")
        truth.check_same(strictly=True)
        self.network.advance(SHORT)
        for name, node in self.site.nodes.items():
            left = [one.name for one in node.service.tables if "lease" not in one.name and len(one)]
            if left:
                raise Broken(f"{name} keeps entries of {left}")

    def _check_stands_still(self) -> None:
        before = self._sent()
        self.network.advance(SOON)
        if self._sent() != before:
            raise Broken(f"updates are sent without end: {before}, then {self._sent()}")

    def _come_to_rest(self, check: Callable[[], None]) -> None:
        """Wait until a check holds.

        :raises Broken: it does not in time.
        """
        end = self.network.clock.seconds() + QUIET
        while self.network.clock.seconds() < end:
            self.network.advance(0.5)
            try:
                check()
            except Broken:
                continue
            return
        check()

    def _sent(self) -> list[int]:
        """How much was sent so far, but for leases."""
        sums = [source.process.updates for source in self.site.sources.values()]
        published = [
            one.published.total
            for node in self.site.nodes.values()
            for one in node.aggregation.aggregates.values()
        ]
        return sums + published

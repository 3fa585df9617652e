"""A hub in memory, whose peers do not know each other: one table is shared per peer, one relayed.
Or two hubs, which the same peers know and which know each other: they have the relayed table alone.

Each key of a table has one peer that sets it, to numbers that grow. Promised:

1. A peer and its share at the hub are the same at the quiet end, whatever was lost on the way, but
   for what the hub had set and not sent yet when it handed over, and what a peer had set before it
   had got back what it had; and no peer has anything that neither it nor the hub has set for it.
2. Of the relayed table, all have the latest of each key at the quiet end, unless a process has lost
   its memory; and then, too, once each key was set again.
3. Nothing is sent without end: after the quiet end nobody sends an update.
4. SIGHUP, with which a relay comes, goes, or has other hubs, touches no session.
5. Nothing is logged as failed, and nobody calls anybody out of step.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, Final, Optional
from unittest.mock import patch

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from peerproto.aggregation.relay import Relay
from peerproto.peering.session import Session
from peerproto.service.service import StickTableService
from peerproto.testing import MemoryNetwork
from peerproto.wire.messages import RelayedTable
from tests.simulation.obstacles import Obstacles
from tests.simulation.promise import Broken

HUB: Final = "m"
SECOND_HUB: Final = "n"
LEAVES: Final = ("a", "p", "z")
"""Names before and after that of the hub: ties are settled by names."""

LINE: Final = "type integer size 1k expire 1h store gpc0,gpt0"
KEYS: Final = 9
QUIET: Final = 30.0

leaves = st.sampled_from(LEAVES)
keys = st.integers(0, KEYS - 1)

Said = dict[int, int]
"""By key, the number that was set."""


def said(table: Any) -> Said:
    return {entry.key: entry.number("gpc0") for entry in table}


class RelaySimulation(Obstacles):
    """Hubs and their peers, which change a table that is relayed, part, and lose their memory."""

    HUBS: ClassVar[tuple[str, ...]] = (HUB,)
    TABLES: ClassVar[dict[str, str]] = {"all": LINE}

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()
        self.count = 0
        self.lost = False
        """Whether a process has lost what it had not passed on yet."""
        self.latest: Said = {}
        """Of the relayed table."""
        self.relays: dict[str, Relay] = {}
        """How hubs relay now."""

    def links(self) -> list[tuple[str, str]]:
        return [*((hub, leaf) for hub in self.HUBS for leaf in LEAVES), *combinations(self.HUBS, 2)]

    def _begin(self, name: str, expect_old: bool = False) -> StickTableService:
        """Start a process."""
        called = self.HUBS if name in LEAVES else self.HUBS[: self.HUBS.index(name)]
        service = StickTableService(
            name,
            {hub: self.network.client(hub, name) for hub in called},
            self.TABLES,
            self.network.server(name),
            learn_tables=False,
            expect_old=expect_old,
            reactor=self.network.clock,
            chance=self.network.chance,
            wall_clock=self.network.wall_clock,
        )
        self._share(service, name)
        if name in self.HUBS:
            others = frozenset(self.HUBS) - {name}
            self.relays[name] = Relay()
            self._read_again(name, service, Relay(("all",), others))
            for peer in (*LEAVES, *others):
                if peer not in called:
                    service.expect_peer(peer)
        self.network.services[name] = service
        service.startService()
        return service

    def _read_again(self, name: str, service: StickTableService, relay: Relay) -> None:
        """A hub relays from now on, as with SIGHUP."""
        relay.begin(service, self.relays[name])
        self.relays[name] = relay

    def _share(self, service: StickTableService, name: str) -> None:
        """Say how a new process shares what else there is."""

    @initialize(pace=st.sampled_from((None, 20, 100, 1000)), seed=st.integers(0, 99))
    def begin(self, pace: Optional[int], seed: int) -> None:
        self.network = MemoryNetwork(seed, room=100)
        for name in (*self.HUBS, *LEAVES):
            self._begin(name)
        self.network.advance(6)
        self.network.pace = pace

    def _next(self) -> int:
        self.count += 1
        return self.count

    # -- steps -----------------------------------------------------------

    @rule(some=st.lists(keys, min_size=1, max_size=4))
    def set_for_all(self, some: list[int]) -> None:
        """Owners set keys of the table that is relayed."""
        for key in some:
            self._set(key)

    def _set(self, key: int) -> None:
        owner = ("a", "p", "z", HUB)[key % 4]
        self.latest[key] = self._next()
        self.network.services[owner].table("all").set(key, gpc0=self.latest[key])

    @rule(at=leaves)
    def crash(self, at: str) -> None:
        """A peer loses its memory."""
        for hub in self.HUBS:
            for connection in self.network.between(hub, at):
                connection.cut()
        self.network.services[at].stopService()
        self.network.turn()
        self.lost = True
        self._begin(at)

    @rule(at=st.integers(0, 1))
    def hand_over(self, at: int) -> None:
        """A new process of a hub takes over from the old one."""
        hub = self.HUBS[at % len(self.HUBS)]
        old = self.network.services[hub]
        self._is_about_to_hand_over()
        new = self._begin(hub, expect_old=True)
        done = old.stop_softly(self.network.client(hub, hub))
        done.addCallback(lambda _: old.stopService())
        self.lost = True
        for _ in range(200):
            if done.called and not old.running:
                break
            self.network.advance(0.1)
        assert new is self.network.services[hub]

    def _is_about_to_hand_over(self) -> None:
        """Note what the new process of a hub may not have."""

    @rule(at=st.integers(0, 1), relays=st.booleans(), knows_hubs=st.booleans())
    def read_again(self, at: int, relays: bool, knows_hubs: bool) -> None:
        """A hub reads with SIGHUP that it relays, or not, and who is a hub, too."""
        name = self.HUBS[at % len(self.HUBS)]
        others = frozenset(self.HUBS) - {name}
        relay = Relay(("all",), others if knows_hubs else frozenset()) if relays else Relay()
        service = self.network.services[name]
        before = [(one.established_at, one.connected) for one in service.peers.values()]
        self.lost |= relay != self.relays[name]
        self._read_again(name, service, relay)
        after = [(one.established_at, one.connected) for one in service.peers.values()]
        if before != after:
            raise Broken(f"SIGHUP at {name} touches sessions: {before}, then {after}")

    # -- the end ---------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.remove_obstacles()
            for name in self.HUBS:
                relay = Relay(("all",), frozenset(self.HUBS) - {name})
                self._read_again(name, self.network.services[name], relay)
            self.network.advance(QUIET)
            self._check(strictly=not self.lost)
            for key in range(KEYS):
                self._set(key)
            self.network.advance(3)
            self._check(strictly=True)
            before = self._sent()
            self.network.advance(20)
            if self._sent() != before:
                raise Broken(f"updates are sent without end: {before}, then {self._sent()}")
        finally:
            self.leave()

    def _sent(self) -> list[int]:
        services = self.network.services.values()
        return [one.counters.tx_updates for service in services for one in service.peers.values()]

    def _check(self, strictly: bool) -> None:
        for name, service in self.network.services.items():
            note(f"{name} has {said(service.table('all'))} of all")
        for one, other in self.links():
            services = self.network.services
            for at, peer in (
                (one, services[one].peers[other]),
                (other, services[other].peers[one]),
            ):
                if peer.out_of_step():
                    raise Broken(f"of {at}: {peer.name} is {peer.out_of_step()}")
        if strictly:
            for name, service in self.network.services.items():
                has = said(service.table("all"))
                if has != self.latest:
                    raise Broken(f"{name} has {has}, not {self.latest}")


class HubSimulation(RelaySimulation):
    """One hub, which has another table per peer."""

    TABLES: ClassVar[dict[str, str]] = {"own": LINE, "all": LINE}

    def __init__(self) -> None:
        super().__init__()
        self.set_for: dict[str, set[tuple[int, int]]] = {name: set() for name in LEAVES}
        """By peer, keys and numbers that were set in its share, by itself or the hub."""
        self.open: set[tuple[str, int]] = set()
        """Peers and keys of which the two were not the same when the hub handed over: its new
        process does not send on what it learns. And those that were set by a peer that had lost its
        memory and not got it back.
        """

    @property
    def hub(self) -> StickTableService:
        return self.network.services[HUB]

    def _share(self, service: StickTableService, name: str) -> None:
        if name == HUB:
            service.share("own", per_peer=True)

    @rule(at=leaves, some=st.lists(keys, min_size=1, max_size=4))
    def count_own(self, at: str, some: list[int]) -> None:
        """A peer sets keys of the table that it has for itself."""
        for key in some:
            number = self._next()
            self.network.services[at].table("own").set(key, gpc0=number)
            self.set_for[at].add((key, number))
            if self.network.services[at].up_to_date:
                self.open.discard((at, key))
            else:
                # A lesson that is on the way may overwrite it, and nobody can tell.
                self.open.add((at, key))

    @rule(at=leaves, key=keys)
    def set_for_one(self, at: str, key: int) -> None:
        """The hub sets a key for one peer."""
        if at in self.hub.table("own").contributions():
            number = self._next()
            self.hub.table("own").set(key, gpc0=number, peer=at)
            self.set_for[at].add((key, number))
            self.open.discard((at, key))

    def _is_about_to_hand_over(self) -> None:
        for name, share in self.hub.table("own").contributions().items():
            has = said(self.network.services[name].table("own"))
            differ = {key for key, _ in has.items() ^ said(share).items()}
            self.open.update((name, key) for key in differ)

    def _check(self, strictly: bool) -> None:
        super()._check(strictly)
        shares = self.hub.table("own").contributions()
        for name in LEAVES:
            own, share = said(self.network.services[name].table("own")), said(shares[name])
            note(f"{name} has {own} for itself")
            differ = {key for key, _ in own.items() ^ share.items()}
            if any((name, key) not in self.open for key in differ):
                raise Broken(f"{name} has {own}, and its share at the hub is {share}")
            strange = own.items() - self.set_for[name]
            if strange:
                raise Broken(f"{name} has {strange}, which was never set for it")


class TwoHubsSimulation(RelaySimulation):
    """Two hubs, which know each other: ``python -m tests.simulation --hubs``."""

    HUBS = (HUB, SECOND_HUB)


class OlderLeafSimulation(TwoHubsSimulation):
    """Two hubs, and a peer that is a peerproto of 0.2.0: it skips what they say of relays."""

    OLDER: ClassVar[str] = LEAVES[-1]

    def __init__(self) -> None:
        super().__init__()
        relays_it = Session._relays_it

        def relays(session: Session, message: RelayedTable) -> None:
            if session._adoption.localpeer != self.OLDER:
                relays_it(session, message)

        self._skipping = patch.object(Session, "_relays_it", relays)
        self._skipping.start()

    def _read_again(self, name: str, service: StickTableService, relay: Relay) -> None:
        """It would take a hub for a peerproto until the session ends if the relay came later."""
        others = frozenset(self.HUBS) - {name}
        super()._read_again(name, service, Relay(("all",), relay.hubs or others))

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self._skipping.stop()

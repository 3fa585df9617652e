"""A hub in memory, whose peers do not know each other: one table is shared per peer, one relayed.

Each key of a table has one peer that sets it, to numbers that grow. Promised:

1. A peer and its share at the hub are the same at the quiet end, whatever was lost on the way, but
   for what the hub had set and not sent yet when it handed over, and what a peer had set before it
   had got back what it had; and no peer has anything that neither it nor the hub has set for it.
2. Of the relayed table, all have the latest of each key at the quiet end, unless a process has lost
   its memory; and then, too, once each key was set again.
3. Nothing is sent without end: after the quiet end nobody sends an update.
4. Nothing is logged as failed, and nobody calls anybody out of step.
"""

from __future__ import annotations

from typing import Any, Final, Optional

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from peerproto.service.service import StickTableService
from peerproto.testing import MemoryNetwork
from tests.simulation.obstacles import Obstacles
from tests.simulation.promise import Broken

HUB: Final = "m"
LEAVES: Final = ("a", "p", "z")
"""Names before and after that of the hub: ties are settled by names."""

TABLES: Final = {
    "own": "type integer size 1k expire 1h store gpc0,gpt0",
    "all": "type integer size 1k expire 1h store gpc0,gpt0",
}
KEYS: Final = 9
QUIET: Final = 30.0

leaves = st.sampled_from(LEAVES)
keys = st.integers(0, KEYS - 1)

Said = dict[int, int]
"""By key, the number that was set."""


def said(table: Any) -> Said:
    return {entry.key: entry.number("gpc0") for entry in table}


class HubSimulation(Obstacles):
    """A hub and its peers, which change, part, and lose their memory."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()
        self.count = 0
        self.lost = False
        """Whether a process has lost what it had not passed on yet."""
        self.latest: Said = {}
        """Of the relayed table."""
        self.set_for: dict[str, set[tuple[int, int]]] = {name: set() for name in LEAVES}
        """By peer, keys and numbers that were set in its share, by itself or the hub."""
        self.open: set[tuple[str, int]] = set()
        """Peers and keys of which the two were not the same when the hub handed over: its new
        process does not send on what it learns. And those that were set by a peer that had lost its
        memory and not got it back.
        """

    def links(self) -> list[tuple[str, str]]:
        return [(HUB, leaf) for leaf in LEAVES]

    @property
    def hub(self) -> StickTableService:
        return self.network.services[HUB]

    def _begin(self, name: str, expect_old: bool = False) -> StickTableService:
        """Start a process."""
        service = StickTableService(
            name,
            {HUB: self.network.client(HUB, name)} if name != HUB else {},
            TABLES,
            self.network.server(name),
            expect_old=expect_old,
            reactor=self.network.clock,
            chance=self.network.chance,
            wall_clock=self.network.wall_clock,
        )
        if name == HUB:
            service.share("own", per_peer=True)
            service.share("all", relay=True)
            for leaf in LEAVES:
                service.expect_peer(leaf)
        self.network.services[name] = service
        service.startService()
        return service

    @initialize(pace=st.sampled_from((None, 20, 100, 1000)), seed=st.integers(0, 99))
    def begin(self, pace: Optional[int], seed: int) -> None:
        self.network = MemoryNetwork(seed, room=100)
        for name in (HUB, *LEAVES):
            self._begin(name)
        self.network.advance(6)
        self.network.pace = pace

    def _next(self) -> int:
        self.count += 1
        return self.count

    # -- steps -----------------------------------------------------------

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
        for connection in self.network.between(HUB, at):
            connection.cut()
        self.network.services[at].stopService()
        self.network.turn()
        self.lost = True
        self._begin(at)

    @rule()
    def hand_over(self) -> None:
        """A new process of the hub takes over from the old one."""
        old = self.hub
        for name, share in old.table("own").contributions().items():
            has = said(self.network.services[name].table("own"))
            differ = {key for key, _ in has.items() ^ said(share).items()}
            self.open.update((name, key) for key in differ)
        new = self._begin(HUB, expect_old=True)
        done = old.stop_softly(self.network.client(HUB, HUB))
        done.addCallback(lambda _: old.stopService())
        self.lost = True
        for _ in range(200):
            if done.called and not old.running:
                break
            self.network.advance(0.1)
        assert new is self.hub

    # -- the end ---------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.remove_obstacles()
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
        shares = self.hub.table("own").contributions()
        for name in LEAVES:
            service = self.network.services[name]
            own, share = said(service.table("own")), said(shares[name])
            note(f"{name} has {own} for itself, {said(service.table('all'))} of all")
            differ = {key for key, _ in own.items() ^ share.items()}
            if any((name, key) not in self.open for key in differ):
                raise Broken(f"{name} has {own}, and its share at the hub is {share}")
            strange = own.items() - self.set_for[name]
            if strange:
                raise Broken(f"{name} has {strange}, which was never set for it")
            for peer in (service.peers[HUB], self.hub.peers[name]):
                if peer.out_of_step():
                    raise Broken(f"of {name}: {peer.name} is {peer.out_of_step()}")
        if strictly:
            for name, service in self.network.services.items():
                has = said(service.table("all"))
                if has != self.latest:
                    raise Broken(f"{name} has {has}, not {self.latest}")

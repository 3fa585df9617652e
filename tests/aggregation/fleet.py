"""A node that adds up, and two peers that stand for HAProxies, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerproto import StickTableService
from peerproto.aggregation.lease import KEY
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.runtime.protocol import runtime_commands
from peerproto.runtime.words import split_commands
from peerproto.testing import MemoryNetwork

LINE = "type integer size 1m expire 1m recv-only store gpc0,conn_cur,http_req_rate(10s)"
RULES = Rules("t", "t.sum", expect=("a", "b"))


class AggregateTestCase(SynchronousTestCase):
    """A hub ``h`` that adds up what ``a`` and ``b`` count."""

    rules = RULES
    line = LINE
    more: Mapping[str, str] = {}
    """Further tables of the hub."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.hub = self.network.peer("h", {"t": self.line, **self.more})
        self.aggregation = Aggregation(self.hub, [self.rules], self.network.clock)
        self.aggregation.startService()
        self.addCleanup(self.stop_aggregation)
        self.a, self.b = self.source("a"), self.source("b")

    def stop_aggregation(self) -> None:
        if self.aggregation.running:
            self.aggregation.stopService()

    def source(self, name: str) -> StickTableService:
        """A peer that knows the hub alone."""
        source = self.network.peer(
            name, {"t": self.line, "t.sum": self.line}, calls=["h"], learn_tables=False
        )
        for stranger in source.peers.keys() - {"h"}:
            source.remove_peer(stranger)
        for other_name, service in self.network.services.items():
            if other_name not in ("h", name) and name in service.peers:
                service.remove_peer(name)
        return source

    def begin(self, seconds: float = 6) -> None:
        self.network.start()
        self.network.advance(seconds)

    def sums(self, service: StickTableService, name: str = "gpc0") -> dict[Any, Any]:
        return {entry.key: entry[name] for entry in service.table("t.sum")}

    def ask(self, command: str) -> str:
        """What the runtime socket of the hub answers."""
        commands = runtime_commands(self.hub)
        return "".join(commands.answer(split_commands(command)[0]))

    def vouched(self) -> bool:
        """Whether the lease of the hub holds."""
        entry = self.hub.table("t.lease").get(KEY)
        if entry is None:
            return False
        now = round(self.network.wall_clock() * 1000)
        return 0 < (entry.number("gpt[1]") - now) % 2**32 <= 1000

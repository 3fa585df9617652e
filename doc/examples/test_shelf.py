"""The shelf under trial: a network in memory, and a real file."""

from __future__ import annotations

from pathlib import Path

from shelf import Shelf
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from peerproto import StickTableService
from peerproto.testing import MemoryNetwork

TABLES = {"rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)"}


class ShelfTests(TestCase):
    def service(self, network: MemoryNetwork, path: Path) -> StickTableService:
        return StickTableService(
            "app",
            tables=TABLES,
            keeper=Shelf(path),
            reactor=network.clock,
            wall_clock=network.wall_clock,
        )

    def test_outlives(self) -> Deferred[None]:
        """A new process has what the one before it had, with the life that was left."""

        async def test() -> None:
            network, path = MemoryNetwork(), Path("shelf.pickle").absolute()
            service = self.service(network, path)
            service.startService()
            await service.when_listening()
            service.table("rates").set("192.0.2.7", gpc0=3)
            await service.stopService()
            network.advance(60)
            service = self.service(network, path)
            service.startService()
            await service.when_listening()
            entry = service.table("rates")["192.0.2.7"]
            assert (entry["gpc0"], entry.expires_in) == (3, 540_000)
            await service.stopService()

        return ensureDeferred(test())

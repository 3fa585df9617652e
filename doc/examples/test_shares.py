"""The shares under trial: two HAProxies, played by peers in memory."""

from __future__ import annotations

from shares import report
from twisted.trial.unittest import SynchronousTestCase

from peerproto.testing import MemoryNetwork

TABLES = {"rates": "type ip size 1k expire 10m store gpc0"}


class SharesTests(SynchronousTestCase):
    def test_added_up(self) -> None:
        """What each has counted of a visitor is added up, and neither overwrites the other."""
        with MemoryNetwork() as network:
            app = network.peer("app", TABLES)
            app.share("rates", per_peer=True)
            lb1, lb2 = (network.peer(name, TABLES, calls=["app"]) for name in ("lb1", "lb2"))
            lb1.remove_peer("lb2")
            lb2.remove_peer("lb1")
            network.start()
            lb1.table("rates").set("192.0.2.7", gpc0=3)
            lb2.table("rates").set("192.0.2.7", gpc0=4)
            network.advance(8)
            assert report(app) == ["192.0.2.7: 7 (3 at lb1, 4 at lb2)"]
            lb2.stopService()
            network.advance(1)
            total, away = report(app)
            assert total == "192.0.2.7: 7 (3 at lb1, 4 at lb2)"
            assert away.startswith("lb2 is away")

"""The tests of blocklist.py: peers in memory, no sockets and no waiting.

Run them with::

    cd doc/examples && python -m twisted.trial test_blocklist
"""

from __future__ import annotations

from blocklist import LIMIT, TABLES, application
from twisted.trial.unittest import SynchronousTestCase

from peerproto.testing import MemoryNetwork


class DoorkeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.lb1 = self.network.peer("lb1", TABLES)
        self.app = self.network.peer("app", TABLES)
        application(self.app)
        self.network.start()
        self.addCleanup(self.network.stop)

    def test_blocks(self) -> None:
        """Who comes too often is blocked everywhere."""
        self.lb1.table("rates").set("192.0.2.7", http_req_rate=LIMIT)
        self.network.advance(0)
        self.assertEqual(self.lb1.table("rates")["192.0.2.7"]["gpc0"], 1)

    def test_leaves_others_alone(self) -> None:
        """Who comes now and then is not."""
        self.lb1.table("rates").set("192.0.2.7", http_req_rate=LIMIT - 1)
        self.network.advance(0)
        self.assertEqual(self.lb1.table("rates")["192.0.2.7"]["gpc0"], 0)

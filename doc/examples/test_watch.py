"""The tests of watch.py: what its reports say of what happens in a table.

Run them with::

    cd doc/examples && python -m twisted.trial test_watch
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from watch import report

from peerproto.testing import MemoryNetwork

TABLES = {"rates": "type ip size 1m expire 10s store gpc0"}


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        network = self.network = MemoryNetwork()
        self.lb1, self.app = network.peer("lb1", TABLES), network.peer("app", TABLES)
        network.start()
        self.addCleanup(network.stop)

    def test_comes_and_goes(self) -> None:
        """A visitor is in one line of each report, however often he came; then he is gone."""
        feed = self.app.feed()
        for count in (1, 2, 3):
            self.lb1.table("rates").set("192.0.2.7", gpc0=count)
            self.network.advance(0.1)
        self.assertEqual(report(feed, self.app), ["192.0.2.7: {'gpc0': 3}"])
        self.assertEqual(report(feed, self.app), [])
        self.network.advance(10)
        self.network.advance(1)
        self.assertEqual(report(feed, self.app), ["192.0.2.7 is gone: expired"])

    def test_too_much(self) -> None:
        """What is too much for a feed is reported as a whole; then it goes on."""
        feed = self.app.feed(most=2)
        for number in range(3):
            self.lb1.table("rates").set(f"192.0.2.{number}")
        self.network.advance(0)
        self.assertEqual(report(feed, self.app), ["very many changes: 3 in rates"])
        self.lb1.table("rates").set("192.0.2.9", gpc0=1)
        self.network.advance(0)
        self.assertEqual(report(feed, self.app), ["192.0.2.9: {'gpc0': 1}"])

"""Names of peers with characters that no terminal is to see."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from peerproto.testing import MemoryNetwork

ESCAPE, NO_UTF8 = "a\x9b2J", "b\udcff"
LINE = "type integer size 1k expire 1m store gpc0"


class OddNameTests(SynchronousTestCase):
    def test_in_the_log(self) -> None:
        """No line of the log, and no reason of the resync, has a character that is not printed, be
        it of a peer's name or of one's own; the names stay what they are."""
        with capturedLogs() as events:
            network = MemoryNetwork()
            self.addCleanup(network.stop)
            for name in (ESCAPE, NO_UTF8):
                network.peer(name, {"t": LINE})
            network.start()
            network.advance(10)
            one = network.services[ESCAPE]
            reasons = [service.status().reason for service in network.services.values()]
            self.assertEqual(list(one.peers), [NO_UTF8])
            network.services[NO_UTF8].stopService()
            one.remove_peer(NO_UTF8)
            one.stop_softly(network.client("elsewhere"))
            network.advance(10)
            reasons.append(one.status().reason)
        lines = [formatEvent(event) for event in events]
        for text in (*lines, *reasons):
            self.assertTrue(text.isprintable(), repr(text))
        text = "\n".join((*lines, *reasons))
        for shown in (r"a\xC2\x9B2J", r"b\xFF"):
            self.assertIn(shown, text)

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.logger import Logger, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from peerproto.connections.admission import Admission
from peerproto.peering.limits import Limits


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        limits = Limits(handshakes=2, connections_per_address=1)
        self.admission = Admission(limits, Logger(namespace="tests"))

    def test_limits(self) -> None:
        """So many handshakes at once, and so many connections from an address: whoever comes
        then waits for another one to leave."""
        enter = self.admission.enter
        self.assertEqual([enter("a", 0), enter("a", 0), enter("b", 0)], [True, False, True])
        self.assertFalse(enter("c", 0), "there are two handshakes")
        self.admission.shake_hands()
        self.assertEqual([enter("a", 0), enter("c", 0)], [False, True])
        self.admission.shake_hands()
        self.admission.leave("a")
        self.assertTrue(enter("a", 0))

    def test_the_log_is_not_flooded(self) -> None:
        """Callers that are turned away, from ever other addresses and for ever other reasons,
        are logged at a bounded rate, and counted."""
        with capturedLogs() as logs:
            for number in range(1000):
                self.admission.turned_away(f"192.0.2.{number}", f"its name is {number}", 0)
                self.admission.enter(f"192.0.2.{number}", 0)
            self.assertLess(len(logs), 60)
            self.admission.turned_away("192.0.2.1", "late", 60_000)
        (left_out,) = [event["count"] for event in logs if "count" in event]
        self.assertGreater(left_out, 900)

    def test_once(self) -> None:
        """The same reason of the same caller is logged once, until it has a session."""
        with capturedLogs() as logs:
            for _ in range(3):
                self.admission.turned_away("192.0.2.1", "its name", 0)
            self.assertEqual(self.warnings(logs), 1)
            self.admission.welcomed("192.0.2.1")
            self.admission.turned_away("192.0.2.1", "its name", 0)
            self.assertEqual(self.warnings(logs), 2)

    def warnings(self, logs: Sequence[Mapping[str, object]]) -> int:
        return sum(1 for event in logs if "warn" in str(event["log_level"]))

from __future__ import annotations

from tests.http.client import HttpTestCase

NO_PEER = "no peer is in step"


class HealthTests(HttpTestCase):
    def test_alive(self) -> None:
        """Whoever asks is told that the process answers."""
        reply = self.get("/healthz")
        self.assertEqual((reply.status, reply.json), (200, {"alive": True}))

    def test_not_ready(self) -> None:
        """A node that does not run is not ready, and says why; nor is one without a peer, however
        long it waits for one."""
        reply = self.get("/readyz")
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.json, {"ready": False, "reasons": ["it does not run", NO_PEER]})
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.clock.pump([1] * 60)
        self.assertEqual((self.service.up_to_date, self.service.not_ready()), (True, []))
        reply = self.get("/readyz")
        self.assertEqual((reply.status, reply.json["reasons"]), (503, [NO_PEER]))

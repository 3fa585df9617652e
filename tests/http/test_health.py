from __future__ import annotations

from tests.http.client import HttpTestCase


class HealthTests(HttpTestCase):
    def test_alive(self) -> None:
        """Whoever asks is told that the process answers."""
        reply = self.get("/healthz")
        self.assertEqual((reply.status, reply.json), (200, {"alive": True}))

    def test_not_ready(self) -> None:
        """A node that does not run is not ready, and says why."""
        reply = self.get("/readyz")
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.json, {"ready": False, "reasons": ["it does not run"]})

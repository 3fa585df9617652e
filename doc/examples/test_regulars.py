"""The regulars under trial: their part is asked as the runtime socket asks it."""

from __future__ import annotations

from regulars import Regulars
from twisted.trial.unittest import SynchronousTestCase

from peerproto.runtime.protocol import runtime_commands
from peerproto.testing import MemoryNetwork


class RegularsTests(SynchronousTestCase):
    def test_who_comes_most_often(self) -> None:
        """The command has the highest rates first; the status says how many visitors there are."""
        with MemoryNetwork() as network:
            app = network.peer("app", learn_tables=True)
            app.add_part("regulars", Regulars(app, "rates"))
            lb1 = network.peer("lb1", {"rates": "type ip size 1k store http_req_rate(10s)"})
            network.start()
            lb1.table("rates").set("192.0.2.7", http_req_rate=3)
            lb1.table("rates").set("192.0.2.8", http_req_rate=5)
            network.advance(1)
            answer = runtime_commands(app).answer(["show", "regulars", "1"])
            assert "".join(answer) == "192.0.2.8 5\n"
            assert app.status().parts == {"regulars": {"visitors": 2}}
            wrong = runtime_commands(app).answer(["show", "regulars", "all"])
            assert "".join(wrong).startswith("How many of them: read 'all', expected a number")

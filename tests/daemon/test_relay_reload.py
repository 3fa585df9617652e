"""SIGHUP with another ``[relay]``."""

from __future__ import annotations

from peerproto.peering.session import Session
from peerproto.tables.declaration import Declaration
from peerproto.wire.messages import EntryUpdate
from tests.daemon.test_process import ReloadTestCase
from tests.support import act, begin, take

ONE = Declaration.parse("one", "type integer size 1k store gpc0")
RELAY = "[relay]\ntables = one\n"


class RelayReloadTests(ReloadTestCase):
    """A daemon in a session with each of two peers, which both have table ``one``."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.service.node
        self.count = 0
        self.sessions = [self.begin(name) for name in ("lb1", "lb2")]

    def begin(self, name: str) -> Session:
        session = begin(self.node, name)
        take(self.node, session, ONE.definition(1).encode())
        self.sent(session)
        return session

    def sent(self, session: Session) -> bytes:
        """What a peer is sent."""
        data = b""
        while session.wants_to_send:
            data += session.pull(1 << 16, 0)
        return data

    def passed_on(self) -> list[bool]:
        """Whether what the first peer says comes to the second, and the other way round."""
        passed = []
        for session in self.sessions:
            # As its connection does when other tables are shared.
            act(self.node, session, session.look_again((), 0))
        for source, target in (self.sessions, self.sessions[::-1]):
            self.count += 1
            key = b"k%03d" % self.count
            update = EntryUpdate(self.count, None, key, b"\x07").encode(ONE.layout.key_type)
            take(self.node, source, update)
            passed.append(key in self.sent(target))
            self.assertNotIn(key, self.sent(source))
        return passed

    def check_sessions(self) -> None:
        """No session was touched."""
        self.assertEqual([one.over for one in self.sessions], [False, False])
        self.assertEqual(list(self.node.sessions.values()), self.sessions)

    def test_comes_and_goes(self) -> None:
        """Tables are relayed, or not any more, from then on."""
        self.assertEqual(self.passed_on(), [False, False])
        self.assertEqual(self.reload(self.text() + RELAY), "")
        self.assertEqual(self.passed_on(), [True, True])
        self.assertEqual(self.reload(self.text() + RELAY), "")
        self.assertEqual(self.passed_on(), [True, True])
        self.assertEqual(self.reload(self.text() + RELAY.replace("one", "two")), "")
        self.assertEqual(self.passed_on(), [False, False])
        self.assertEqual(self.reload(self.text() + RELAY.replace("one", "two one")), "")
        self.assertEqual(self.passed_on(), [True, True])
        self.assertEqual(self.reload(self.text()), "")
        self.assertEqual(self.passed_on(), [False, False])
        self.assertEqual(len(self.service.table("one")), self.count)
        self.check_sessions()

    def test_hubs(self) -> None:
        """Peers become hubs, which know each other, and are none any more."""
        self.reload(self.text() + RELAY)
        for hubs, passed in (("lb1 lb2", False), ("lb2", True), ("lb1 lb2", False)):
            self.assertEqual(self.reload(f"{self.text()}{RELAY}hubs = {hubs}\n"), "")
            self.assertEqual(self.passed_on(), [passed, passed])
        self.assertEqual(self.reload(self.text() + RELAY), "")
        self.assertEqual(self.passed_on(), [True, True])
        self.check_sessions()

    def test_mistakes(self) -> None:
        """A mistake is told with its file and line, and nothing is changed."""
        text = self.text()
        line = text.count("\n") + 1
        self.reload(text + RELAY)
        for more, at, said in (
            ("[relay]\nhubs = lb1\n", 0, "tables = <tables> in it"),
            ("[relay]\ntables =\n", 1, "read"),
            ("[relay]\ntables = two\nhubs = lb9\n", 2, "read 'lb9', expected one of lb1, lb2"),
            ("[relay]\ntables = two\nwheels = 3\n", 2, "read 'wheels = 3'"),
            (
                "[aggregate two]\nto = sum\n[relay]\ntables = two\n",
                3,
                "read 'two', expected a table of no aggregate",
            ),
        ):
            refused = self.reload(text + more)
            self.assertIn(f"peers.ini:{line + at}: ", refused)
            self.assertIn(said, refused)
            self.assertEqual(self.passed_on(), [True, True])
        self.check_sessions()

    def test_aggregate_instead(self) -> None:
        """A table that was relayed may be added up, and relayed again: it begins anew, and no
        session is touched."""
        self.reload(self.text() + RELAY)
        self.assertEqual(self.reload(self.text() + "[aggregate one]\nto = sum\n"), "")
        self.assertTrue(self.service.table("one").per_peer)
        self.assertEqual(self.passed_on(), [False, False])
        self.assertEqual(self.reload(self.text() + RELAY), "")
        self.assertFalse(self.service.table("one").per_peer)
        self.assertEqual(self.passed_on(), [True, True])
        self.check_sessions()

"""Peers that come back as another process, and what they say of their shares until they have got
back what they had."""

from __future__ import annotations

from typing import Any, Optional

from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration
from peerproto.testing import MemoryNetwork, RawPeer
from peerproto.wire.messages import Control

LINE = "type integer size 1k expire 1m store gpc0,gpt0,http_req_rate(10s)"
TABLE = Declaration.parse("t", LINE)


class ReturnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.hub = self.network.peer("h", {"t": LINE})
        self.hub.share("t", per_peer=True)
        self.network.start()
        self.first = self.comes(10, Control.RESYNC_FINISHED)
        self.network.advance(2)
        self.first.update(1, {"gpc0": 3})
        self.network.advance(0.1)

    def comes(self, process: int, replies: Optional[Control], called: str = "h") -> RawPeer:
        """A process of peer ``a`` calls a node, and defines the table."""
        raw = self.network.raw_peer("a", called, process)
        raw.replies = replies
        self.network.advance(0.1)
        raw.define(TABLE)
        return raw

    def share(self) -> dict[Any, Any]:
        return {entry.key: entry["gpc0"] for entry in self.hub.table("t")}

    def has_taught(self) -> bool:
        peer = self.hub.peers["a"]
        return peer.has_taught("t") and not peer.shares_wait

    def test_counts_from_zero(self) -> None:
        """A process that counts from 0 is taught what it had, and what it counted meanwhile of
        that is left out; what is new is taken when it has confirmed."""
        self.assertEqual((self.share(), self.has_taught()), ({1: 3}, True))
        again = self.comes(11, None)
        again.update(1, {"gpc0": 1})
        again.update(2, {"gpc0": 5})
        again.confirms = False
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.5)
        self.assertEqual((self.share(), self.has_taught()), ({1: 3, 2: 5}, False))
        self.assertEqual([(one.key, one.values["gpc0"]) for one in again.updates], [(1, 3), (2, 5)])
        again.update(3, {"gpc0": 7})
        again.say(Control.RESYNC_CONFIRM)
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 3, 2: 5, 3: 7})
        again.update(1, {"gpc0": 4})
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 4, 2: 5, 3: 7})

    def test_counted_on(self) -> None:
        """What was counted on the taught value before the confirm is taken."""
        again = self.comes(11, None)
        again.confirms = False
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.1)
        again.update(1, {"gpc0": 4, "gpt0": 1})
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 3})
        again.say(Control.RESYNC_CONFIRM)
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 4})

    def test_up_to_date(self) -> None:
        """A process that counts itself up to date means what it says: nobody has to teach it."""
        again = self.comes(11, Control.RESYNC_FINISHED)
        again.update(1, {"gpc0": 1})
        self.network.advance(0.5)
        self.assertEqual(self.share(), {1: 3})
        self.network.advance(1)
        self.assertEqual((self.share(), self.has_taught()), ({1: 1}, True))

    def test_not_up_to_date(self) -> None:
        """One that does not is asked again, until it does; not for ever."""
        again = self.comes(11, Control.RESYNC_PARTIAL)
        again.update(1, {"gpc0": 1})
        self.network.advance(10)
        self.assertEqual((self.share(), self.has_taught()), ({1: 3}, False))
        self.assertGreater(again.heard.count(Control.RESYNC_REQUEST), 3)
        again.replies = Control.RESYNC_FINISHED
        self.network.advance(1.5)
        self.assertEqual((self.share(), self.has_taught()), ({1: 1}, True))
        last = self.comes(12, Control.RESYNC_PARTIAL)
        last.update(1, {"gpc0": 2})
        self.network.advance(25)
        self.assertEqual(self.share(), {1: 1})
        self.network.advance(10)
        self.assertEqual((self.share(), self.has_taught()), ({1: 2}, True))

    def test_same_process(self) -> None:
        """A process that has it all and calls again is believed at once, and not asked."""
        again = self.comes(10, None)
        again.update(1, {"gpc0": 4})
        self.network.advance(0.1)
        self.assertEqual((self.share(), self.has_taught()), ({1: 4}, True))
        self.network.advance(3)
        self.assertNotIn(Control.RESYNC_REQUEST, again.heard)

    def test_goes_before_that(self) -> None:
        """What a process said that went before it had its own is forgotten; the process is asked
        when it comes again."""
        again = self.comes(11, None)
        again.update(1, {"gpc0": 1})
        self.network.advance(0.1)
        again.hang_up()
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 3})
        once_more = self.comes(11, Control.RESYNC_FINISHED)
        self.network.advance(1.5)
        self.assertIn(Control.RESYNC_REQUEST, once_more.heard)
        once_more.update(1, {"gpc0": 6})
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 6})

    def test_forgotten_and_changed_here(self) -> None:
        """What was forgotten or changed here meanwhile is not overwritten."""
        self.first.update(2, {"gpc0": 2})
        self.network.advance(0.1)
        again = self.comes(11, None)
        again.update(1, {"gpc0": 9})
        again.update(2, {"gpc0": 9})
        self.network.advance(0.1)
        self.hub.table("t").forget(1)
        self.hub.table("t").set(2, gpc0=1, peer="a")
        again.say(Control.RESYNC_REQUEST)
        again.acks = again.acks.NONE
        self.network.advance(0.5)
        self.assertEqual(self.share(), {2: 1})

    def test_declared_anew(self) -> None:
        """What was said before the table was declared anew is not taken for what it is now."""
        again = self.comes(11, None)
        again.update(1, {"gpc0": 9})
        self.network.advance(0.1)
        self.hub.declare_table(Declaration.parse("t", LINE + ",gpc1"))
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.5)
        self.assertEqual(self.share(), {1: 3})

    def test_same_id_of_another_process(self) -> None:
        """A process that asks for a lesson has not got what it had, whatever its id; of the first
        process in a container nothing is known by its id."""
        again = self.comes(10, None)
        again.confirms = False
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.1)
        again.update(1, {"gpc0": 1})
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 3})
        for _ in range(2):
            contained = self.comes(1, Control.RESYNC_FINISHED)
            contained.update(1, {"gpc0": 2})
            self.network.advance(0.1)
            self.assertEqual((self.share()[1], self.has_taught()), (3, False))
            contained.update(1, {"gpc0": 3})
            self.network.advance(2)
            self.assertTrue(self.has_taught())

    def test_some_columns(self) -> None:
        """What a peer says that stores some columns alone is compared by these."""
        some = Declaration.parse("t", LINE.replace("gpc0,gpt0,", "gpc0,"))
        self.first.define(some, 2)
        for key in (5, 6):
            self.first.update(key, {"gpc0": 3})
        self.network.advance(0.1)
        again = self.comes(11, None)
        again.define(some, 2)
        again.confirms = False
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.1)
        again.update(5, {"gpc0": 1})
        again.update(6, {"gpc0": 4})
        again.say(Control.RESYNC_CONFIRM)
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 3, 5: 3, 6: 4})

    def test_taught_in_part(self) -> None:
        """A node that does not know itself what a peer had takes what the peer says once that has
        confirmed its lesson; but another node may teach the peer more, which it says in a lesson
        alone. So it is asked until it is up to date, and does not count as one that has all."""
        new = self.network.peer("n", {"t": LINE})
        new.share("t", per_peer=True)
        new.expect_peer("b")
        new.startService()
        again = self.comes(11, Control.RESYNC_PARTIAL, "n")
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.5)
        for count in (1, 2):
            again.update(1, {"gpc0": count})
        self.network.advance(0.1)
        self.assertEqual([entry["gpc0"] for entry in new.table("t")], [2])
        self.assertIn(Control.RESYNC_PARTIAL, again.heard)
        self.assertTrue(new.peers["a"].shares_wait)
        # The hub teaches it what it had, of which it says nothing until it is asked.
        again.replies = None
        requests = again.heard.count(Control.RESYNC_REQUEST)
        self.network.advance(2)
        self.assertGreater(again.heard.count(Control.RESYNC_REQUEST), requests)
        again.update(1, {"gpc0": 4})
        again.say(Control.RESYNC_FINISHED)
        self.network.advance(0.1)
        self.assertEqual([entry["gpc0"] for entry in new.table("t")], [4])
        self.assertFalse(new.peers["a"].shares_wait)

    def test_taught_in_part_by_id(self) -> None:
        """It is asked also if it was taken for a process that has it all."""
        new = self.network.peer("n", {"t": LINE})
        new.share("t", per_peer=True)
        new.expect_peer("b")
        new.startService()
        first = self.comes(10, Control.RESYNC_FINISHED, "n")
        self.network.advance(3)
        first.hang_up()
        new.declare_table(Declaration.parse("t", LINE.replace("integer", "string")))
        again = self.comes(10, None, "n")
        again.say(Control.RESYNC_REQUEST)
        self.network.advance(0.5)
        self.assertTrue(new.peers["a"].shares_wait)
        self.assertIn(Control.RESYNC_PARTIAL, again.heard)
        again.replies = Control.RESYNC_FINISHED
        self.network.advance(2)
        self.assertFalse(new.peers["a"].shares_wait)

    def test_known_before(self) -> None:
        """A node that knows what a peer had takes what it says once it has confirmed, also if the
        node does not count itself up to date otherwise."""
        self.hub.expect_peer("b")
        self.hub.resync.learn_again("told to", self.hub.now())
        again = self.comes(11, None)
        again.say(Control.RESYNC_REQUEST)
        again.update(2, {"gpc0": 5})
        self.network.advance(0.5)
        self.assertIn(Control.RESYNC_PARTIAL, again.heard)
        self.assertFalse(self.hub.peers["a"].shares_wait)

    def test_gone_meanwhile(self) -> None:
        """What waits of an entry that has gone meanwhile does not come after what is newer."""
        again = self.comes(11, Control.RESYNC_PARTIAL)
        again.update(1, {"gpc0": 1})
        self.network.advance(0.1)
        self.hub.table("t").contributions()["a"].remove(1)
        again.update(1, {"gpc0": 2})
        self.network.advance(0.1)
        self.assertEqual(self.share(), {1: 2})
        again.replies = Control.RESYNC_FINISHED
        self.network.advance(2)
        self.assertEqual((self.share(), self.has_taught()), ({1: 2}, True))

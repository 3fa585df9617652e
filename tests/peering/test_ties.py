"""Changes of one column of one key that several nodes make at the same moment."""

from __future__ import annotations

from itertools import permutations, product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.session import Session
from peerproto.peering.sharing import Sharing
from peerproto.testing import MemoryNetwork
from peerproto.wire.messages import Ack, Control, Mark, RelayedTable
from tests.peering.test_session import COUNTERS, SessionTestCase, key, update
from tests.support import begin

LINE = "type integer size 1k expire 1h store gpt0,gpc0"


class Mesh:
    """Peerprotos that know each other, in step."""

    def __init__(self, names: str, pace: int | None = None) -> None:
        self.network = MemoryNetwork()
        self.nodes = {name: self.network.peer(name, {"t": LINE}) for name in names}
        self.network.start()
        self.network.advance(2)
        self.network.pace = pace

    def values(self) -> dict[str, object]:
        """What each has for gpc0 of key 1."""
        entries = {name: node.table("t").get(1) for name, node in self.nodes.items()}
        return {name: None if one is None else one["gpc0"] for name, one in entries.items()}

    def sent(self) -> list[int]:
        """How many updates each has sent to each."""
        peers = [peer for node in self.nodes.values() for peer in node.peers.values()]
        return [peer.counters.tx_updates for peer in peers]

    def in_step(self) -> bool:
        """Whether each says of each that they have the same."""
        return not any(
            peer.out_of_step() for node in self.nodes.values() for peer in node.peers.values()
        )


class PeerprotoTests(SynchronousTestCase):
    def together(self, names: str, pace: int | None = None) -> Mesh:
        mesh = Mesh(names, pace)
        self.addCleanup(mesh.network.stop)
        return mesh

    def test_two(self) -> None:
        """Of two that set one column, the lesser name's value is the one that both have."""
        for first in "ab":
            mesh = self.together("ab")
            for name in (first, "ab"["ba".index(first)]):
                mesh.nodes[name].table("t").set(1, gpc0=ord(name))
            mesh.network.advance(1)
            self.assertEqual(mesh.values(), {"a": ord("a"), "b": ord("a")})
            self.assertTrue(mesh.in_step())

    def test_other_columns(self) -> None:
        """What only one of them has set stays."""
        mesh = self.together("ab")
        mesh.nodes["a"].table("t").set(1, gpc0=1)
        mesh.nodes["b"].table("t").set(1, gpc0=2, gpt0=3)
        mesh.network.advance(1)
        for node in mesh.nodes.values():
            self.assertEqual([node.table("t")[1][name] for name in ("gpc0", "gpt0")], [1, 3])

    def test_one_after_the_other(self) -> None:
        """What is set after the other's value was read is newer, whatever the names are."""
        mesh = self.together("ab")
        for value, name in enumerate("abab"):
            mesh.nodes[name].table("t").set(1, gpc0=value)
            mesh.network.advance(0)
            self.assertEqual(mesh.values(), {"a": value, "b": value})

    def test_three(self) -> None:
        """Those that set it, and one that did not, all have the value of the least name,
        whichever way is stalled meanwhile."""
        ways = list(permutations("abc", 2))
        for setters, stalled in product(("ab", "ac", "bc", "abc"), [None, *ways]):
            mesh = self.together("abc")
            if stalled is not None:
                (connection,) = mesh.network.between(*stalled)
                connection.stall(stalled[0])
            for name in setters:
                mesh.nodes[name].table("t").set(1, gpc0=ord(name))
            mesh.network.advance(1)
            if stalled is not None:
                connection.flow(stalled[0])
            mesh.network.advance(1)
            values = set(mesh.values().values())
            self.assertEqual(len(values), 1, f"{setters} {stalled}")
            # Whoever relays a value has read the others that it had by then.
            least = {ord(min(setters))} if stalled is None else set(map(ord, setters))
            self.assertLessEqual(values, least, f"{setters} {stalled}")
            self.assertTrue(mesh.in_step())

    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(2, 5),
        pace=st.sampled_from((5, 20, 100)),
        steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=2, max_size=14),
    )
    def test_all_agree(self, count: int, pace: int, steps: list[tuple[int, int]]) -> None:
        """Whoever sets it when, in the end all have the same, and nothing more is sent."""
        mesh = Mesh("abcde"[:count], pace)
        network, names = mesh.network, list(mesh.nodes)
        for number, (at, ms) in enumerate(steps, 1):
            mesh.nodes[names[at % count]].table("t").set(1, gpc0=number)
            network.advance(ms / 1000)
        network.pace = None
        network.advance(1)
        values, sent, in_step = set(mesh.values().values()), mesh.sent(), mesh.in_step()
        network.advance(4)
        self.assertEqual(mesh.sent(), sent)
        network.stop()
        self.assertTrue(in_step)
        self.assertEqual(len(values), 1, values)
        self.assertLessEqual(values, set(range(1, len(steps) + 1)))


class OtherPeerTests(SessionTestCase):
    """Beside a peer that takes what it is sent, as HAProxy does."""

    def setUp(self) -> None:
        super().setUp()
        self.counters = self.node.tables.add(COUNTERS)
        self.other = begin(self.node, "other")
        self.take(self.session, self.defined(COUNTERS, 8))
        self.change(gpt0=1)
        self.pull()
        self.sent_to_other()

    def change(self, **values: int) -> None:
        self.counters.set(key(1), values, 0)

    def sent_to_other(self) -> bytes:
        return self.other.pull(1000, 0)

    def values(self) -> list[object]:
        entry = self.counters.get(key(1), 0)
        assert entry is not None
        return [entry["gpt0"], entry["gpc0"]]

    def crossing(self, number: int = 1) -> None:
        self.take(self.session, update(number, key(1), b"\x09\x08\x07\x06"))

    def ack_all(self, now: int = 0) -> None:
        """The peer has read all changes so far."""
        self.session.pull(1000, now)
        self.take(self.session, Ack(2, self.counters.log.head).encode(), now=now)

    def test_others_get_ours_again(self) -> None:
        """What we have set and the peer too goes to others once more when it has acked it, and
        not to itself; what it sends then is newer."""
        self.crossing()
        self.assertEqual(self.values(), [1, 8])
        self.assertEqual(self.sent_to_other(), b"")
        self.take(self.session, Ack(2, 1).encode())
        self.assertTrue(self.sent_to_other().endswith(update(2, key(1), b"\x01")))
        self.assertEqual(self.pull(), [Ack(8, 1)])
        self.assertEqual((self.session.behind(), self.session.unacked()), (0, 0))
        self.take(self.session, update(2, key(1), b"\x0a\x08\x07\x06"))
        self.assertEqual(self.values(), [10, 8])

    def test_same_value(self) -> None:
        """Nobody gets it again if the peer has not another value."""
        self.take(self.session, update(1, key(1), b"\x01\x08\x07\x06"))
        self.take(self.session, Ack(2, 1).encode())
        self.assertEqual(self.sent_to_other(), b"")

    def test_once(self) -> None:
        """Of one change there is one repetition, however often the peers change it, too."""
        self.crossing()
        self.take(self.session, Ack(2, 1).encode())
        self.sent_to_other()
        self.take(self.other, self.defined(COUNTERS, 8))
        self.take(self.other, update(1, key(1), b"\x0b\x08\x07\x06"))
        self.take(self.other, Ack(2, 2).encode())
        self.assertEqual(self.values(), [1, 8])
        self.assertEqual(self.pull(), [Ack(8, 1)])
        self.assertEqual(self.counters.log.head, 2)

    def test_a_later_change(self) -> None:
        """The peer is spared the repetition alone: what is set later goes to it."""
        self.crossing()
        self.take(self.session, Ack(2, 1).encode())
        self.change(gpt0=5)
        self.assertIn((3, None, key(1), b"\x05"), self.pull())
        self.take(self.session, update(2, key(1), b"\x0a\x08\x07\x06"))
        self.assertEqual(self.values(), [5, 8])

    def test_session_ends(self) -> None:
        """If the session ends before the peer has acked it, others get it again then."""
        self.crossing()
        self.session.closed("gone")
        self.node.ended(self.session, "gone", 0)
        self.assertTrue(self.sent_to_other().endswith(update(2, key(1), b"\x01")))

    def test_forgotten(self) -> None:
        """What the peer changes before it was told that we have forgotten it does not bring it
        back, and others are told once more; what it sends then does."""
        self.counters.forget(key(1), 0)
        zeros = self.sent_to_other()
        self.pull()
        self.crossing()
        self.assertIsNone(self.counters.get(key(1), 0))
        self.assertEqual(self.sent_to_other(), b"")
        self.take(self.session, Ack(2, 2).encode())
        again = self.sent_to_other()
        self.assertEqual(again[-4:], bytes(4))
        self.assertEqual(again[-8:], zeros[-8:])
        self.take(self.session, update(2, key(1), b"\x02\x02\x03\x04"))
        self.assertEqual(self.values(), [2, 2])
        self.assertFalse(self.counters.forgotten(key(1), 0))

    def test_a_peerproto(self) -> None:
        """Another peerproto of a greater name takes ours, and sends it to others itself."""
        self.take(self.session, Mark.TIES.encode())
        self.node.adoption.localpeer = "one"
        self.crossing()
        self.take(self.session, Ack(2, 1).encode())
        self.assertEqual(self.values(), [1, 8])
        self.assertEqual(self.sent_to_other(), b"")

    def test_a_peerproto_that_wins(self) -> None:
        """One of a lesser name has its value taken, which is sent to all as a change of ours."""
        self.take(self.session, Mark.TIES.encode())
        self.crossing()
        self.assertEqual(self.values(), [9, 8])
        self.assertTrue(self.sent_to_other().endswith(update(2, key(1), b"\x09")))
        self.assertIn((2, None, key(1), b"\x09"), self.pull())

    def relays(self, *sessions: Session) -> None:
        for one in sessions:
            self.take(one, Mark.TIES.encode() + RelayedTable("counters").encode())

    def test_a_relay(self) -> None:
        """A change of ours stays, whatever a relay of a lesser name sends, until each relay has
        acked it: that may be a value of before, which comes by way of another one."""
        self.relays(self.session, self.other)
        self.take(self.session, Ack(2, 1).encode())
        self.crossing()
        self.assertEqual(self.values(), [1, 8])
        self.take(self.other, Ack(2, 1).encode())
        self.take(self.session, update(2, key(1), b"\x05\x08\x07\x06"))
        self.assertEqual(self.values(), [5, 8])

    def test_repeated_to_no_relay(self) -> None:
        """What a relay has changed is not sent again to another one, which may have acked ours
        after that; it is sent to one that is no relay."""
        for both in (False, True):
            self.setUp()
            self.relays(self.session, *([self.other] if both else []))
            self.take(self.session, Ack(2, 1).encode())
            self.take(self.other, Ack(2, 1).encode())
            self.take(self.session, update(1, key(1), b"\x09\x08\x07\x06"))
            self.assertEqual(self.values(), [9, 8])
            self.assertEqual(self.sent_to_other() == b"", both)

    def test_ours_is_relayed(self) -> None:
        """A relay takes what a peerproto of a greater name says that is none, and tells all."""
        self.node.adoption.localpeer = "one"
        self.node.share("counters", Sharing(relay=lambda source, target: True))
        self.take(self.session, Mark.TIES.encode())
        self.pull()
        self.crossing()
        self.assertEqual(self.values(), [9, 8])
        self.assertTrue(self.sent_to_other().endswith(update(3, key(1), b"\x09\x08\x07\x06")))

    def test_told_of_relays(self) -> None:
        """Peers are told which tables are relayed, as soon as that changes, and when they come."""
        self.pull()
        said = RelayedTable("counters").encode()
        self.node.share("counters", Sharing(relay=lambda source, target: True))
        self.assertIn(said, self.session.pull(1000, 0))
        again = self.node.begin(self.session.peer, 1, 0)
        self.assertIn(said, again.pull(1000, 0))
        self.node.share("counters", Sharing())
        self.assertIn(RelayedTable("counters", is_relayed=False).encode(), again.pull(1000, 0))
        self.take(again, said + RelayedTable("counters", is_relayed=False).encode())
        self.assertEqual(again.peer.relays, set())

    def test_one_after_the_other(self) -> None:
        """A peer that acks a change after another one has changed the same is sent what that
        one has set, which may have come to it before; nobody else is."""
        self.take(self.session, Ack(2, 1).encode() + update(1, key(1), b"\x09\x08\x07\x06"))
        self.assertEqual(self.sent_to_other(), b"")
        self.take(self.other, Ack(2, 1).encode())
        self.assertTrue(self.sent_to_other().endswith(update(2, key(1), b"\x09")))
        self.assertEqual(self.pull(), [Ack(8, 1)])

    def test_replaced(self) -> None:
        """For a second, a HAProxy that has acked a change does not bring back the value of before,
        which it may have from another one; all are sent ours again. Its other columns are
        taken."""
        for now, expected in ((999, [1, 8]), (1000, [0, 8])):
            self.setUp()
            self.take(self.session, Ack(2, 1).encode() + update(1, key(1), b"\x01\x07\x07\x06"))
            self.take(self.session, update(2, key(1), b"\x00\x08\x07\x06"), now=now)
            self.assertEqual(self.values(), expected)
            again = update(2, key(1), b"\x01")
            self.assertEqual(self.other.pull(1000, now).endswith(again), expected[0] == 1)
            self.assertEqual((2, None, key(1), b"\x01") in self.pull(), expected[0] == 1)

    def test_replaced_without_end(self) -> None:
        """What comes back later than a second after the change is believed, however often the
        value of before came until then."""
        self.take(self.session, Ack(2, 1).encode())
        for now in range(100, 1000, 100):
            self.take(self.session, update(1, key(1), b"\x00\x08\x07\x06"), now=now)
            self.assertEqual(self.values(), [1, 8])
            self.ack_all(now)
        self.take(self.session, update(1, key(1), b"\x00\x08\x07\x06"), now=1000)
        self.assertEqual(self.values(), [0, 8])

    def test_replaced_twice(self) -> None:
        """Each value of before is known as such, but for the one that was set again."""
        self.change(gpt0=2)
        self.change(gpt0=0)
        self.ack_all()
        for value in (1, 2):
            self.take(self.session, update(value, key(1), bytes([value]) + b"\x08\x07\x06"))
            self.assertEqual(self.values(), [0, 8])
            self.ack_all()
        self.take(self.session, update(3, key(1), b"\x03\x08\x07\x06"))
        self.assertEqual(self.values(), [3, 8])

    def test_replaced_by_nothing(self) -> None:
        """So it is with what was forgotten, whose entry comes back without it."""
        self.counters.forget(key(1), 0)
        self.ack_all()
        self.take(self.session, update(1, key(1), b"\x01\x08\x07\x06"))
        self.assertEqual(self.values(), [0, 8])
        # All of it is new to the other one, which has not acked that it was forgotten.
        self.assertTrue(self.sent_to_other().endswith(update(3, key(1), b"\x00\x08\x07\x06")))

    def test_replaced_and_a_peerproto(self) -> None:
        """Another peerproto sends what it has changed alone: it is believed."""
        self.take(self.session, Mark.TIES.encode())
        self.take(self.session, Ack(2, 1).encode() + update(1, key(1), b"\x00\x08\x07\x06"))
        self.assertEqual(self.values(), [0, 8])

    def test_a_moment_after_the_ack(self) -> None:
        """A peer that has acked a change less than a second before another one's change of the
        same came is sent that one's, too, since it may have got the two in the other order; a peer
        that acked it earlier is not."""
        for ago, expected in ((999, True), (1001, False)):
            self.setUp()
            self.take(self.session, Mark.TIES.encode())
            self.take(self.other, Ack(2, 1).encode())
            self.take(self.session, Ack(2, 1).encode(), now=ago)
            self.take(self.session, update(1, key(1), b"\x09\x08\x07\x06"), now=ago)
            again = self.other.pull(1000, ago)
            self.assertEqual(again.endswith(update(2, key(1), b"\x09")), expected)
            self.assertEqual(self.values(), [9, 8])

    def test_long_after_a_lesson(self) -> None:
        """What was confirmed with a lesson more than a second ago was not acked just now."""
        self.take(self.session, Mark.TIES.encode() + Ack(2, 1).encode())
        self.take(self.other, Control.RESYNC_REQUEST.encode())
        while self.sent_to_other():
            pass
        self.take(self.other, Control.RESYNC_CONFIRM.encode())
        self.other.pull(1000, 2000)
        self.take(self.session, update(1, key(1), b"\x09\x08\x07\x06"), now=2000)
        self.assertEqual(self.values(), [9, 8])
        self.assertEqual(self.other.pull(1000, 2000), b"")

    def test_a_haproxy_a_moment_after_the_ack(self) -> None:
        """What a HAProxy sends of a key, whether it has changed it or not, is sent to nobody."""
        self.take(self.other, Ack(2, 1).encode())
        self.take(self.session, Ack(2, 1).encode() + update(1, key(1), b"\x09\x08\x07\x06"))
        self.assertEqual(self.sent_to_other(), b"")

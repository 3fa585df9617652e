"""Ties between a peerproto that is no relay and its relays."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from peerproto.aggregation.relay import Relay
from peerproto.peering.session import Session
from peerproto.peering.sharing import Sharing
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork
from peerproto.wire.messages import Ack, Mark, RelayedTable
from peerproto.wire.sizes import LONGEST_NAME
from tests.peering.test_session import CONFIRM, COUNTERS, REQUEST, SessionTestCase, key, update
from tests.support import begin, make_node

LINE = "type integer size 1k expire 1h store gpt0,gpc0"


def to_all(source: str, target: str) -> bool:
    return True


RELAYING = Sharing(relay=to_all)


class LeafTests(SessionTestCase):
    """A node with two relays, to both of which it has sent a change."""

    def setUp(self) -> None:
        super().setUp()
        self.counters = self.node.tables.add(COUNTERS)
        self.other = begin(self.node, "other")
        for one in (self.session, self.other):
            said = Mark.TIES.encode() + RelayedTable("counters").encode()
            self.take(one, said + self.defined(COUNTERS, 8))
        self.counters.set(key(1), {"gpt0": 1}, 0)
        self.send()

    def send(self) -> None:
        for one in (self.session, self.other):
            while one.wants_to_send:
                one.pull(1000, 0)

    def tag(self) -> object:
        entry = self.counters.get(key(1), 0)
        return None if entry is None else entry["gpt0"]

    def ack(self, session: Session) -> None:
        number = self.node.tables.local_id(self.counters)
        self.take(session, Ack(number, self.counters.log.head).encode())

    def is_taken(self) -> bool:
        """Whether what a relay says holds, which has acked ours."""
        self.ack(self.session)
        self.take(self.session, update(1, key(1), b"\x09\x08\x07\x06"))
        return self.tag() == 9

    def test_waits_for_the_other(self) -> None:
        """A change stays until the other relay has acked it, too."""
        self.assertFalse(self.is_taken())
        self.ack(self.other)
        self.take(self.session, update(2, key(1), b"\x05\x08\x07\x06"))
        self.assertEqual(self.tag(), 5)

    def test_the_other_is_gone(self) -> None:
        """A relay whose session is over is not waited for, also after a newer one has replaced
        it, on which it has not said that it relays."""
        begin(self.node, "other")
        self.other.replaced()
        self.node.ended(self.other, "it has a newer session", 0)
        self.assertTrue(self.is_taken())

    def test_the_other_is_no_peer_any_more(self) -> None:
        """A relay that is taken out of the file is not waited for."""
        self.other.closed("gone")
        self.node.ended(self.other, "gone", 0)
        self.node.forget(self.other.peer, 0)
        self.assertTrue(self.is_taken())

    def test_the_other_has_another_table(self) -> None:
        """A relay whose table has other keys will never ack, and is not waited for."""
        declaration = Declaration.parse("counters", "type ip size 1k store gpc0")
        self.take(self.other, self.defined(declaration, 8))
        self.assertTrue(self.is_taken())

    def test_the_other_relays_no_more(self) -> None:
        """A relay that has said that it relays no longer is not waited for."""
        self.take(self.other, RelayedTable("counters", is_relayed=False).encode())
        self.send()
        self.assertTrue(self.is_taken())

    def test_share(self) -> None:
        """What is shared per peer is waited for of nobody else."""
        table = "counters"
        self.node.share(table, Sharing(per_peer=True))
        shares = self.node.tables.shares_of(table)
        self.counters = shares["them"]
        for one in (self.session, self.other):
            one.look_again(shares.values(), 0)
            self.take(one, REQUEST)
            self.send()
            self.take(one, CONFIRM)
        self.counters.set(key(1), {"gpt0": 1}, 0)
        self.send()
        self.assertTrue(self.is_taken())


class RelayTests(SessionTestCase):
    """A node that relays a table."""

    def setUp(self) -> None:
        super().setUp()
        self.node.share("counters", RELAYING)
        self.pull()

    def relays(self) -> list[bool]:
        """What is said of relays."""
        return [one.is_relayed for one in self.pull() if isinstance(one, RelayedTable)]

    def test_table_comes_and_goes(self) -> None:
        """A peer is told that a table is relayed as long as there is one."""
        self.assertEqual(self.relays(), [])
        self.node.add_table(COUNTERS)
        self.assertEqual(self.relays(), [True])
        self.node.remove_table("counters")
        self.assertEqual(self.relays(), [False])

    def test_adopted(self) -> None:
        """All peers are told when a table is adopted from one."""
        other = begin(self.node, "other")
        other.pull(1000, 0)
        self.take(self.session, self.defined(COUNTERS, 8))
        self.assertEqual(self.relays(), [True])
        self.assertIn(RelayedTable("counters").encode(), other.pull(1000, 0))

    def test_other_keys(self) -> None:
        """A peer that has another table of the name is told that nothing of it is relayed, until it
        has the same one."""
        self.node.add_table(COUNTERS)
        self.pull()
        declaration = Declaration.parse("counters", "type ip size 1k store gpc0")
        self.take(self.session, self.defined(declaration, 8))
        self.assertEqual(self.relays(), [False])
        self.take(self.session, self.defined(COUNTERS, 8))
        self.assertEqual(self.relays(), [True])

    def test_per_peer_instead(self) -> None:
        """A table that is shared per peer from now on is not relayed any more, and the other way
        round."""
        self.node.add_table(COUNTERS)
        self.pull()
        self.node.share("counters", Sharing(per_peer=True))
        self.assertEqual(self.relays(), [False])
        self.node.share("counters", RELAYING)
        self.assertEqual(self.relays(), [True])

    def test_old_process(self) -> None:
        """An old process of ours is told of no relays, and gives way as before."""
        self.node.add_table(COUNTERS)
        self.node.tables["counters"].set(key(1), {"gpt0": 1}, 0)
        old = self.node.begin(self.node.local, 1, 0)
        self.assertNotIn(RelayedTable("counters").encode(), old.pull(1000, 0))
        self.take(old, Mark.TIES.encode() + self.defined(COUNTERS, 8))
        self.take(old, update(1, key(1), b"\x09\x08\x07\x06"))
        entry = self.node.tables["counters"].get(key(1), 0)
        assert entry is not None
        self.assertEqual(entry["gpt0"], 1)


class OlderTests(SynchronousTestCase):
    """A peerproto of 0.2.0 and two hubs, which have set the same at the same time."""

    def mesh(self, leaf: str) -> MemoryNetwork:
        """Hubs m and n, and one that skips what they say of relays."""
        relays_it = Session._relays_it

        def relays(session: Session, message: RelayedTable) -> None:
            if session._adoption.localpeer != leaf:
                relays_it(session, message)

        self.patch(Session, "_relays_it", relays)
        network = MemoryNetwork(room=100)
        self.addCleanup(network.stop)
        for name in ("m", "n", leaf):
            network.peer(name, {"t": LINE})
        for name, other in ("mn", "nm"):
            network.services[name].share("t", relay=Relay(("t",), frozenset(other)))
        network.start()
        network.advance(2)
        network.pace = 5
        return network

    def test_settles(self) -> None:
        """All come to have one value soon, and nothing more is sent, whatever the name is."""
        for leaf, stalled, first in product("az", ("m", "n", None), ("m", "n", "leaf")):
            network = self.mesh(leaf)
            if stalled:
                (connection,) = network.between(stalled, leaf)
                connection.stall(leaf)
            names = ["m", "n", leaf]
            names.sort(key=lambda name: name != first.replace("leaf", leaf))
            for number, name in enumerate([*names, "m"], 1):
                network.services[name].table("t").set(1, gpc0=number)
                network.advance(0.005)
            if stalled:
                connection.flow(leaf)
            network.advance(1)
            values = {one.table("t")[1]["gpc0"] for one in network.services.values()}
            sent = updates_sent(network)
            network.advance(1)
            self.assertEqual(updates_sent(network), sent, (leaf, stalled, first))
            self.assertEqual(len(values), 1, (leaf, stalled, first))

    def test_says_no_mark(self) -> None:
        """A hub does not say that it is a peerproto but by what it relays, and is known for one."""
        node = make_node()
        node.share("t" * 10, RELAYING)
        node.share("t" * (LONGEST_NAME + 1), RELAYING)
        hub = begin(node, "them")
        said = hub.pull(1000, 0)
        self.assertNotIn(Mark.TIES.encode(), said)
        self.assertIn(RelayedTable("t" * 10, is_relayed=False).encode(), said)
        other = begin(make_node(), "hub")
        self.assertFalse(other.is_peerproto)
        other.receive(said, 0)
        self.assertTrue(other.is_peerproto)


def updates_sent(network: MemoryNetwork) -> list[int]:
    """How many updates each has sent to each."""
    nodes = network.services.values()
    return [peer.counters.tx_updates for node in nodes for peer in node.peers.values()]


class BeginsAndEndsTests(SynchronousTestCase):
    def test_tie(self) -> None:
        """If a hub begins or ends to relay while it and a peerproto have set the same, both come to
        have one value, whatever their names are and whichever way is the slower one."""
        for leaf, ends, stalled, turns in product("az", (True, False), ("m", "leaf"), range(6)):
            network = MemoryNetwork()
            self.addCleanup(network.stop)
            nodes = [network.peer(name, {"t": LINE}) for name in ("m", leaf)]
            hub = nodes[0]
            hub.share("t", relay=to_all if ends else False)
            network.start()
            network.advance(2)
            (connection,) = network.between("m", leaf)
            connection.stall("m" if stalled == "m" else leaf)
            for number, node in enumerate(nodes, 1):
                node.table("t").set(1, gpc0=number)
            for _ in range(turns):
                network.turn()
            hub.share("t", relay=False if ends else to_all)
            network.advance(0.1)
            connection.flow("m" if stalled == "m" else leaf)
            network.advance(1)
            values = {node.table("t")[1]["gpc0"] for node in nodes}
            self.assertEqual(len(values), 1, (leaf, ends, stalled, turns))
            sent = updates_sent(network)
            network.advance(2)
            self.assertEqual(updates_sent(network), sent)

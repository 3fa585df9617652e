from __future__ import annotations

from pathlib import Path
from typing import Optional

import attrs
from hypothesis import given
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.config import Config
from peerproto.daemon.process import Daemon
from peerproto.peering.session import Session
from peerproto.tables.columns import beyond, not_kept, united
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.testing import MemoryNetwork
from peerproto.wire import varint
from peerproto.wire.frames import DEFINITION, STICK_TABLE, Frame
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Column, Layout
from peerproto.wire.messages import EntryUpdate, TableDefinition, read_message
from tests.strategies import layouts
from tests.support import NodeTestCase, begin, make_node, take

LINE = "type integer size 1k expire 1m store gpc0"
THEIRS = "type integer size 1k expire 1m store server_id,gpc0,server_key"
KEY = (7).to_bytes(4, "big")
OURS = Declaration.parse("t", LINE)


def names(table: TableStore) -> list[str]:
    return [column.name for column in table.layout.columns]


class ColumnsTestCase(NodeTestCase):
    learn_columns = True

    def setUp(self) -> None:
        super().setUp()
        self.node = make_node((OURS,), learn_columns=self.learn_columns)
        self.table = self.node.tables["t"]
        self.sessions: dict[str, Session] = {}

    def session(self, peer: str = "them") -> Session:
        if peer not in self.sessions:
            self.sessions[peer] = begin(self.node, peer)
        return self.sessions[peer]

    def hear(self, line: str, values: Optional[bytes] = None, peer: str = "them") -> None:
        """A peer defines the table by a line, and has an entry."""
        definition = Declaration.parse("t", line).definition(3)
        data = definition.encode()
        if values is not None:
            data += EntryUpdate(1, None, KEY, values).encode(OURS.layout.key_type)
        self.take(self.session(peer), data, 0)

    def entry(self) -> dict[str, object]:
        entry = self.table.get(KEY, 0)
        assert entry is not None
        return dict(entry)

    def taught(self) -> TableDefinition:
        """What a newcomer is told of the table, after a lesson with its entry."""
        session = self.session("newcomer")
        session.teach()
        data = session.pull(1 << 16, 0)
        definition = self.table.declaration.definition(self.node.tables.local_id(self.table))
        self.assertIn(definition.encode(), data)
        return definition


class LearningColumnsTests(ColumnsTestCase):
    def test_declared_table(self) -> None:
        """What a peer stores beyond the line is kept, and taught; the rest is as declared."""
        self.hear(THEIRS, b"\x01\x05\x04\x01\x02s1")
        self.assertEqual(names(self.table), ["server_id", "gpc0", "server_key"])
        self.assertEqual(self.entry(), {"server_id": 1, "gpc0": 5, "server_key": "s1"})
        declared = self.table.declaration
        self.assertEqual([one.name for one in declared.learnt], ["server_id", "server_key"])
        self.assertEqual(
            attrs.evolve(declared, layout=OURS.layout, learnt=()),
            OURS,
        )
        self.assertEqual(self.taught().layout, Declaration.parse("t", THEIRS).layout)
        self.assertEqual((self.session("them").notes(), declared.adopted_from), ([], None))
        self.assertEqual(self.session("them").out_of_step(), [])

    def test_what_was_there_stays(self) -> None:
        """Entries from before keep their values; a peer with fewer columns takes none away."""
        self.hear(LINE, b"\x05")
        self.hear(THEIRS, peer="another")
        self.assertEqual(self.entry(), {"server_id": 0, "gpc0": 5, "server_key": None})
        self.hear(THEIRS, b"\x01\x06\x04\x01\x02s1", peer="another")
        self.hear(LINE, b"\x07")
        self.assertEqual(self.entry(), {"server_id": 1, "gpc0": 7, "server_key": "s1"})

    def test_periods_are_ours(self) -> None:
        """Of a rate that the line has, the line says the period; of others the peer."""
        ours = "type integer size 1k store conn_rate(10s)"
        self.node.declare_table(Declaration.parse("t", ours))
        self.hear("type integer size 1k store conn_rate(1m),sess_rate(1m)")
        self.assertEqual([one.period for one in self.table.layout.columns], [10_000, 60_000])

    def test_longer_arrays(self) -> None:
        """An array is as long as the longest that a peer has."""
        self.node.declare_table(Declaration.parse("t", LINE.replace("gpc0", "gpc(2)")))
        self.hear(LINE.replace("gpc0", "gpc(3)"), b"\x01\x02\x03")
        self.hear(LINE.replace("gpc0", "gpc(1)"), b"\x04", peer="another")
        self.assertEqual(self.entry(), {"gpc0": 4, "gpc1": 2, "gpc2": 3})
        self.assertEqual([one.elements for one in self.table.declaration.learnt], [3])

    def test_counters_beside_their_array(self) -> None:
        """Peers may store both of what one HAProxy does not: each goes by its own name."""
        self.hear(LINE, b"\x05")
        self.hear(LINE.replace("gpc0", "gpc(2)"), b"\x01\x02", peer="another")
        self.assertEqual(self.entry(), {"gpc0": 5, "gpc[0]": 1, "gpc1": 2})
        self.table.set(KEY, {"gpc[0]": 3, "gpc0": 4}, 0)
        self.assertEqual(self.entry(), {"gpc0": 4, "gpc[0]": 3, "gpc1": 2})

    def test_no_period_told(self) -> None:
        """A rate without a period is not stored, since nobody could be taught it, but noted."""
        columns = (Column(OURS.layout.columns[0].data_type), rate_without_period())
        definition = TableDefinition(3, "t", attrs.evolve(OURS.layout, columns=columns), None)
        self.session().receive(definition.encode(), 0)
        self.assertEqual(names(self.table), ["gpc0"])
        self.assertEqual(self.session("them").notes(), ["table t: gpc0_rate is not kept here"])

    def test_unknown_data_types(self) -> None:
        """Data types that only newer peers know are named by their bits; we are in step."""
        bits = OURS.layout.bits | 1 << 27 | 1 << 40
        numbers = (KeyType.INTEGER, 4, bits, 60_000, 27, 1000)
        payload = b"\x03\x01t" + b"".join(map(varint.encode, numbers))
        definition = read_message(Frame(STICK_TABLE, DEFINITION, payload))
        assert isinstance(definition, TableDefinition)
        self.assertEqual(definition.unknown_bits, (27, 40))
        self.session().receive(Frame(STICK_TABLE, DEFINITION, payload).encode(), 0)
        self.assertEqual(
            self.session("them").notes(),
            [
                f"table t: data type {bit}, unknown to this version, is not kept here"
                for bit in (27, 40)
            ],
        )
        self.assertEqual(self.session("them").out_of_step(), [])

    def test_adopted_table(self) -> None:
        """An adopted table has what any peer stores; its first peer alone changes the rest."""
        self.node.remove_table("t")
        self.hear("type integer size 1k expire 1m store gpc(3),conn_rate(1s)")
        self.hear("type integer size 1k expire 2m store gpc(5),conn_rate(2s),gpt0", peer="another")
        table = self.node.tables["t"]
        self.assertEqual(written(table), ["conn_rate 1000", "gpc 5", "gpt0"])
        self.assertEqual(table.declaration.expire, 60_000)
        self.hear("type integer size 1k expire 3m store gpc(2),conn_rate(3s)")
        self.assertEqual(written(table), ["conn_rate 3000", "gpc 5", "gpt0"])
        self.assertEqual(table.declaration.expire, 180_000)
        # A very old version tells neither life nor periods.
        columns = (rate_without_period("conn_rate"),)
        old = TableDefinition(3, "t", attrs.evolve(OURS.layout, columns=columns), None)
        self.session().receive(old.encode(), 0)
        self.assertEqual(written(table), ["conn_rate 3000", "gpc 5", "gpt0"])
        self.assertEqual(table.declaration.expire, 180_000)


def written(table: TableStore) -> list[str]:
    return sorted(
        f"{one.name} {one.elements or one.period or ''}".strip() for one in table.layout.columns
    )


def rate_without_period(name: str = "gpc0_rate") -> Column:
    (rate,) = Declaration.parse("t", f"type ip size 1 store {name}(1s)").layout.columns
    return attrs.evolve(rate, period=None)


class KeepingToTheLineTests(ColumnsTestCase):
    learn_columns = False

    def test_declared_table(self) -> None:
        """With learn-columns off the line holds; what is not kept is noted, and no difference."""
        self.hear(THEIRS, b"\x01\x05\x04\x01\x02s1")
        self.assertIs(self.table.declaration, OURS)
        self.assertEqual(self.entry(), {"gpc0": 5})
        self.assertEqual(
            self.session("them").notes(),
            [f"table t: {name} is not kept here" for name in ("server_id", "server_key")],
        )
        self.assertEqual(self.session("them").out_of_step(), [])

    def test_longer_arrays(self) -> None:
        """Elements beyond those of the line are not kept, and noted."""
        self.node.declare_table(Declaration.parse("t", LINE.replace("gpc0", "gpc(2)")))
        self.hear(LINE.replace("gpc0", "gpc(3)"), b"\x01\x02\x03")
        self.assertEqual(self.entry(), {"gpc0": 1, "gpc1": 2})
        self.assertEqual(
            self.session("them").notes(),
            ["table t: gpc beyond the first 2 elements is not kept here"],
        )

    def test_adopted_table(self) -> None:
        """Adopted tables have no line: they have what any peer stores."""
        self.node.remove_table("t")
        self.hear(LINE, b"\x05")
        self.hear(THEIRS, b"\x01\x06\x04\x01\x02s1", peer="another")
        self.assertEqual(names(self.node.tables["t"]), ["server_id", "gpc0", "server_key"])

    def test_learning_from_now_on(self) -> None:
        """When learn-columns comes, what connected peers store is to be learnt from them."""
        self.hear(THEIRS, b"\x01\x05\x04\x01\x02s1")
        self.assertIsNone(self.node.declare_table(OURS))
        self.node.adoption.learn_columns = True
        self.assertEqual(self.node.declare_table(OURS), "table t stores more")
        self.assertEqual(self.entry(), {"server_id": 0, "gpc0": 5, "server_key": None})
        self.assertEqual(self.session("them").notes(), [])


class DeclaredAnewTests(ColumnsTestCase):
    def test_learnt_columns_stay(self) -> None:
        """Another line leaves what was learnt, also when the peer is gone meanwhile."""
        self.hear(THEIRS, b"\x01\x05\x04\x01\x02s1")
        self.node.ended(self.session(), "it left", 0)
        self.node.declare_table(Declaration.parse("t", "type integer size 2k store gpc0,gpt0"))
        self.assertEqual(self.entry(), {"server_id": 1, "gpt0": 0, "gpc0": 5, "server_key": "s1"})
        self.assertEqual((self.table.declaration.size, self.table.declaration.expire), (2048, 0))

    def test_what_peers_store_stays(self) -> None:
        """What leaves the line stays as long as a peer stores it, and goes when none does."""
        self.node.declare_table(Declaration.parse("t", f"{LINE},gpt0"))
        self.hear(f"{LINE},gpt0", b"\x02\x05")
        self.node.declare_table(OURS)
        self.assertEqual(self.entry(), {"gpt0": 2, "gpc0": 5})
        self.node.ended(self.session(), "it left", 0)
        self.node.declare_table(Declaration.parse("t", "type integer size 1k expire 1m store gpt0"))
        self.assertEqual(self.entry(), {"gpt0": 2})

    def test_adopted_before(self) -> None:
        """A line for a table that was adopted leaves what peers store."""
        self.node.remove_table("t")
        self.hear(THEIRS, b"\x01\x05\x04\x01\x02s1")
        self.table = self.node.tables["t"]
        self.node.ended(self.session(), "it left", 0)
        self.node.declare_table(OURS)
        self.assertEqual(self.entry(), {"server_id": 1, "gpc0": 5, "server_key": "s1"})
        self.assertIsNone(self.table.declaration.adopted_from)

    def test_learning_off(self) -> None:
        """Without learn-columns the line holds from then on."""
        self.hear(THEIRS, b"\x01\x05\x04\x01\x02s1")
        self.node.adoption.learn_columns = False
        self.node.declare_table(OURS)
        self.assertEqual(self.entry(), {"gpc0": 5})
        self.hear(THEIRS, b"\x01\x06\x04\x01\x02s1")
        self.assertEqual(self.entry(), {"gpc0": 6})


class ReloadTests(SynchronousTestCase):
    def test_columns(self) -> None:
        """A file read again leaves what was learnt, whether a line changed or not; off is off."""
        path = Path(self.mktemp())
        text = "[node]\nlocalpeer = us\n[peers]\nthem = 127.0.0.1:1\n[tables]\nt = {}\nu = {}\n"
        path.write_text(text.format(LINE, LINE))
        reactor = MemoryReactorClock()
        daemon = Daemon(str(path), Config.read(str(path)), reactor)
        node = daemon.stick_tables.node
        session = begin(node)
        for number, name in enumerate("tu", 1):
            take(node, session, Declaration.parse(name, THEIRS).definition(number).encode(), 0)
        node.ended(session, "it left", 0)
        wide = ["server_id", "gpc0", "server_key"]
        for learn, lines, expected in (
            ("", (LINE, LINE.replace("1k", "2k")), [wide, wide]),
            ("", (f"{LINE},gpt0", LINE), [["server_id", "gpt0", "gpc0", "server_key"], wide]),
            ("learn-columns = no\n", (LINE, LINE), [["gpc0"], ["gpc0"]]),
        ):
            path.write_text(text.format(*lines).replace("[peers]", f"{learn}[peers]"))
            daemon.reload()
            reactor.advance(1)
            self.assertEqual([names(node.tables[name]) for name in "tu"], expected)


class MeshTests(SynchronousTestCase):
    def test_through_a_narrow_node(self) -> None:
        """What a restarted peer stored beyond our line comes back to it."""
        network = MemoryNetwork()
        self.addCleanup(network.stop)
        network.peer("us", {"t": LINE})
        wide = network.peer("wide", {"t": THEIRS})
        network.start()
        network.advance(6)
        wide.table("t").set(7, gpc0=5, server_id=1, server_key="s1")
        network.advance(1)
        newcomer = network.peer("newcomer", {"t": THEIRS}, calls=["us"])
        network.start()
        network.advance(1)
        entry = newcomer.table("t")[7]
        self.assertEqual(dict(entry), {"server_id": 1, "gpc0": 5, "server_key": "s1"})


class ColumnsTests(SynchronousTestCase):
    @given(layouts(), layouts())
    def test_united(self, one: Layout, other: Layout) -> None:
        """A layout with all columns of another one lacks nothing of either, and has no more."""
        both = united(one, other.columns)
        for layout in (one, other):
            self.assertEqual(beyond(layout.columns, both), [])
        self.assertEqual(both.bits, one.bits | other.bits)
        self.assertEqual(united(both, other.columns), both)
        self.assertEqual(bool(not_kept(TableDefinition(1, "t", both, 0), one)), both != one)

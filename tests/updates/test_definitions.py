from __future__ import annotations

import builtins
import gc
import re
from itertools import chain
from weakref import ref

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering import definitions as module
from peerproto.peering.definitions import Definitions, Unshared
from peerproto.peering.limits import Limits
from peerproto.peering.node import Node
from peerproto.peering.session import Session
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.tables.transcoding import Transcoder
from peerproto.updates import reception
from peerproto.updates.reception import Reception
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.layout import Layout, column, in_bit_order
from peerproto.wire.messages import EntryUpdate, TableDefinition, TableSwitch, read_message
from tests.strategies import definitions
from tests.support import begin, make_node, take

TABLE = Declaration.parse("t", "type integer size 1k expire 10s store gpt0,gpc0,gpc1")
NAMES = Declaration.parse("t", "type string len 20 size 1k store gpc0")


def narrow(*names: str) -> TableDefinition:
    """A definition of `TABLE` with some columns alone."""
    columns = tuple(one for one in TABLE.layout.columns if one.name in names)
    return attrs.evolve(TABLE, layout=attrs.evolve(TABLE.layout, columns=columns)).definition(1)


def sent(definition: TableDefinition, *values: int, number: int = 1) -> bytes:
    """A definition, and an update by it."""
    one = EntryUpdate(None, None, number.to_bytes(4, "big"), bytes(values))
    return definition.encode() + one.encode(definition.layout.key_type)


def node_and_session(*declarations: Declaration) -> tuple[Node, Session]:
    node = make_node(declarations)
    return node, begin(node)


def entries(table: TableStore) -> dict[bytes, dict[str, object]]:
    found = {key: table.entry(key, stored, 0) for key, stored in table.scan()}
    return {key: dict(entry) for key, entry in found.items() if entry is not None}


class CostTests(SynchronousTestCase):
    @given(definitions)
    def test_nothing_is_compiled(self, definition: TableDefinition) -> None:
        """A definition alone compiles neither code nor patterns, which takes ms for long arrays."""

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("compiled")

        (frame,) = FrameBuffer().feed(definition.encode())
        patches = [self.patch(builtins, "compile", refuse), self.patch(re, "compile", refuse)]
        try:
            message = read_message(frame)
            assert isinstance(message, TableDefinition)
            Reception(TableStore(Declaration("t", message.layout)), message.layout, 1000)
        finally:
            for patch in patches:
                patch.restore()

    def test_switching_derives_nothing(self) -> None:
        """Nothing is derived anew for a peer that goes from one definition to another and back."""
        receptions, transcoders = [], []

        class CountedReception(Reception):
            def __init__(
                self, table: TableStore, layout: Layout, expire: int | None, texts: list[bytes]
            ) -> None:
                receptions.append(layout)
                super().__init__(table, layout, expire, texts)

        class CountedTranscoder(Transcoder):
            def __init__(
                self, theirs: Layout, ours: Layout, places: list[int | None] | None = None
            ) -> None:
                transcoders.append(theirs)
                super().__init__(theirs, ours, places)

        self.patch(module, "Reception", CountedReception)
        self.patch(reception, "Transcoder", CountedTranscoder)
        node, session = node_and_session(TABLE)
        changes = sent(narrow("gpt0"), 1) + sent(narrow("gpc0", "gpc1"), 2, 3)
        for _ in range(3):
            take(node, session, changes * 50)
        self.assertEqual(len(receptions), 2)
        self.assertLessEqual(len(transcoders), 2)
        node.declare_table(attrs.evolve(TABLE, expire=5000))
        take(node, session, changes)
        self.assertEqual(len(receptions), 2, "a reception follows its table")
        self.assertEqual(session.peer.counters.rx_updates, 302)
        (entry,) = entries(node.tables["t"]).values()
        self.assertEqual(entry, {"gpt0": 1, "gpc0": 2, "gpc1": 3})

    def test_bounded(self) -> None:
        """What is known is bounded by the values of entries; what was used last stays known."""
        narrow_ones = [attrs.evolve(narrow("gpt0"), id=number) for number in range(200)]
        still = self.known_of(TABLE, narrow_ones)
        self.assertEqual(still, [narrow_ones[0], *narrow_ones[1 - len(still) :]])
        self.assertLess(len(still), 100)
        self.assertGreater(len(still), 20)
        wide = Declaration.parse("t", "type integer size 1k store gpt(100)").definition(1)
        wide_ones = [attrs.evolve(wide, id=number) for number in range(200)]
        self.assertLess(len(self.known_of(TABLE, wide_ones)), len(still) / 4)

    def known_of(
        self, declaration: Declaration, defined: list[TableDefinition]
    ) -> list[TableDefinition]:
        """What is still known where so many are defined; the first one is used again each time."""
        node, session = node_and_session(declaration)
        node.adoption.limits = Limits(tables_per_peer=5)
        known = Definitions(node.tables_of(session.peer), node.adoption.limits, session.differences)
        (shared,) = session.tables
        for definition in defined:
            shared.reception = known.reception(definition, shared, [])
            known.remember(definition, shared)
            self.assertIsNotNone(known.again(defined[0]))
        return [definition for definition in defined if known.again(definition)]

    def test_room_is_given_back(self) -> None:
        """What is looked up again, or forgotten with its table, takes no room from others."""
        node, session = node_and_session(TABLE)
        node.adoption.limits = Limits(tables_per_peer=1)
        known = Definitions(node.tables_of(session.peer), node.adoption.limits, session.differences)
        (shared,) = session.tables
        one, other = narrow("gpt0"), narrow("gpc0")
        for definition in (one, *[other] * 100):
            shared.reception = known.reception(definition, shared, [])
            known.remember(definition, shared)
        self.assertIsNotNone(known.again(one))
        for _ in range(100):
            known.forget(shared)
            self.assertIsNone(known.again(one))
            for definition in (one, other):
                shared.reception = known.reception(definition, shared, [])
                known.remember(definition, shared)
        self.assertIsNotNone(known.again(one))

    def test_ids_are_bounded(self) -> None:
        """However many tables are defined that are not shared, so many ids are known."""
        node, session = node_and_session(TABLE)
        node.adoption.limits = Limits(tables_per_peer=5)
        known = Definitions(node.tables_of(session.peer), node.adoption.limits, session.differences)
        for number in range(100):
            known.remember(
                attrs.evolve(narrow("gpt0"), id=number, name=f"t{number}"), Unshared(None)
            )
        self.assertEqual(len(known.under_ids()), 10)


class SwitchingTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([("gpt0",), ("gpc0",), ("gpt0", "gpc1"), ("gpt0", "gpc0", "gpc1")]),
                st.integers(1, 3),
                st.integers(0, 99),
            ),
            max_size=12,
        )
    )
    def test_like_one_by_one(self, updates: list[tuple[tuple[str, ...], int, int]]) -> None:
        """Updates by definitions in turn, in one read: each has the columns that its own says."""
        node, session = node_and_session(TABLE)
        session.receive(
            b"".join(
                sent(narrow(*names), *[value] * len(names), number=number)
                for names, number, value in updates
            ),
            0,
        )
        expected: dict[bytes, dict[str, object]] = {}
        for names, number, value in updates:
            blank = dict.fromkeys(("gpt0", "gpc0", "gpc1"), 0)
            entry = expected.setdefault(number.to_bytes(4, "big"), {**blank})
            entry.update(dict.fromkeys(names, value))
        self.assertEqual(entries(node.tables["t"]), expected)

    def test_declared_anew(self) -> None:
        """What is known goes with the present declaration of the table."""
        node, session = node_and_session(TABLE)
        take(node, session, sent(narrow("gpt0"), 1) + sent(narrow("gpc0"), 2))
        wider = in_bit_order([*TABLE.layout.columns, column("conn_cnt")])
        node.declare_table(attrs.evolve(TABLE, layout=attrs.evolve(TABLE.layout, columns=wider)))
        take(node, session, sent(narrow("gpt0"), 3) + sent(narrow("gpc0"), 4))
        (entry,) = entries(node.tables["t"]).values()
        self.assertEqual(entry, {"gpt0": 3, "gpc0": 4, "conn_cnt": 0, "gpc1": 0})

    def test_another_table_of_the_name(self) -> None:
        """Updates by what was known of a table go into its successor, and nothing keeps it."""
        node, session = node_and_session(TABLE)
        for name in ("gpc1", "gpt0", "gpc0"):
            take(node, session, sent(narrow(name), 1))
        before = node.tables["t"]
        node.remove_table("t")
        after = node.tables.add(TABLE)
        session.look_again((), 0)
        take(node, session, sent(narrow("gpt0"), 5))
        self.assertEqual((before.used, after.used), (0, 1))
        forgotten = ref(before)
        node.tables.removed.remove(before)  # as upkeep does when its memory was given back
        del before
        gc.collect()
        self.assertIsNone(forgotten())

    def test_lives_in_turn(self) -> None:
        """An adopted table follows the latest definition, though it is known, too."""
        node, session = node_and_session()
        shorter, longer = TABLE.definition(1), attrs.evolve(TABLE, expire=60_000).definition(1)
        for definition in (shorter, longer, shorter, longer):
            take(node, session, definition.encode())
            self.assertEqual(node.tables["t"].declaration.expire, definition.expire)

    def test_differs_in_between(self) -> None:
        """A table that differs by one definition is shared again by one that is known."""
        node, session = node_and_session(TABLE)
        take(node, session, sent(narrow("gpt0"), 1))
        take(node, session, NAMES.definition(1).encode())
        self.assertEqual(len(session.out_of_step()), 1)
        take(node, session, sent(narrow("gpt0"), 2, number=2))
        self.assertEqual(session.out_of_step(), [])
        self.assertEqual(node.tables["t"].used, 2)

    def test_switch(self) -> None:
        """A switch means the latest definition under the id, known or new."""
        node, session = node_and_session(TABLE)
        other = attrs.evolve(TABLE, name="other").definition(2)
        session.receive(
            b"".join(
                chain(
                    (narrow(name).encode() for name in ("gpt0", "gpc0", "gpt0")),
                    (other.encode(), TableSwitch(1).encode()),
                )
            ),
            0,
        )
        one = EntryUpdate(None, None, bytes(4), b"\x07").encode(TABLE.layout.key_type)
        take(node, session, one)
        (entry,) = entries(node.tables["t"]).values()
        self.assertEqual(entry, {"gpt0": 7, "gpc0": 0, "gpc1": 0})

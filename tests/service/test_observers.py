from __future__ import annotations

from typing import Optional

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerproto.peering.limits import Limits
from peerproto.service.batch import Batch
from peerproto.service.observers import ITableObserver
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import SLICE
from peerproto.testing.network import MemoryClock
from peerproto.wire.messages import EntryUpdate
from tests.support import begin, take

NAMES = ("a", "b")
SIZE = 8
ENTRIES = 13


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


@implementer(ITableObserver)
class Mirrors(RuleBasedStateMachine):
    """Dicts that follow tables by what observers are told, and nothing else."""

    names = st.sampled_from(NAMES)
    numbers = st.integers(0, 20)
    few = st.integers(1, 5)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        line = f"type integer size {SIZE} expire 10s store gpc0"
        declarations = [Declaration.parse(name, line) for name in NAMES]
        self.service = StickTableService(
            "us",
            tables=declarations,
            limits=Limits(entries=ENTRIES),
            observers=[self],
            reactor=self.clock,
        )
        self.node = self.service.node
        self.session = begin(self.node)
        self.mirrors: dict[str, dict[bytes, Optional[int]]] = {name: {} for name in NAMES}

    @property
    def now(self) -> int:
        return self.service.now()

    def tableChanged(self, batch: Batch) -> None:
        mirror = self.mirrors[batch.table.name]
        assert batch.raw_keys
        assert batch.origin == ("them" if batch.cause is Cause.LEARNT else None)
        for raw_key in batch.raw_keys:
            if batch.cause in (Cause.LEARNT, Cause.SET):
                mirror[raw_key] = self.value(batch.table.name, raw_key)
            else:
                del mirror[raw_key]

    def value(self, name: str, raw_key: bytes) -> Optional[int]:
        entry = self.node.tables[name].get(raw_key, self.now)
        value = None if entry is None else entry["gpc0"]
        assert value is None or isinstance(value, int)
        return value

    @rule(name=names, number=numbers, value=st.integers(0, 9))
    def set(self, name: str, number: int, value: int) -> None:
        assert self.service.table(name).set(number, gpc0=value)["gpc0"] == value

    @rule(
        name=names,
        updates=st.lists(st.tuples(numbers, st.integers(1, 10_000)), max_size=3 * SIZE),
    )
    def learn(self, name: str, updates: list[tuple[int, int]]) -> None:
        """All of them in one read."""
        table = self.node.tables[name]
        data = table.declaration.definition(self.node.tables.local_id(table)).encode()
        for place, (number, life) in enumerate(updates):
            update = EntryUpdate(place, life, key(number), bytes((place,)))
            data += update.encode(table.layout.key_type)
        self.service.changed(take(self.node, self.session, data, self.now))

    @rule(name=names, number=numbers)
    def remove(self, name: str, number: int) -> None:
        self.service.table(name).remove(number)

    @rule(name=names)
    def clear(self, name: str) -> None:
        self.node.tables[name].clear()

    @rule(name=names, limit=few)
    def discard(self, name: str, limit: int) -> None:
        table = self.node.tables[name]
        self.service.changed([Changes(table, Cause.CLEARED, table.discard(limit), self.now)])

    @rule(name=names, size=st.integers(3, SIZE))
    def resize(self, name: str, size: int) -> None:
        table = self.node.tables[name]
        table.redeclare(attrs.evolve(table.declaration, size=size))

    @rule(name=names, limit=few)
    def shrink(self, name: str, limit: int) -> None:
        table = self.node.tables[name]
        trashed = table.trash(min(limit, table.excess))
        self.service.changed([Changes(table, Cause.TRASHED, trashed, self.now)])

    @rule(ms=st.integers(1, 7000))
    def wait(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    @rule(name=names, limit=few)
    def expire(self, name: str, limit: int) -> None:
        table = self.node.tables[name]
        self.service.changed(
            [Changes(table, Cause.EXPIRED, table.expire(self.now, limit), self.now)]
        )

    @invariant()
    def agree(self) -> None:
        assert not self.session.over, self.session.ended_by
        tables = self.node.tables.values()
        assert all(table.used <= SIZE for table in tables)
        assert sum(table.used for table in tables) <= ENTRIES
        for table in tables:
            mirror = self.mirrors[table.name]
            present = {raw_key for raw_key, _ in table.scan()}
            assert len(present) == table.used
            assert present == set(mirror) or (table.discarding and present < set(mirror))
            for raw_key in present:
                value = self.value(table.name, raw_key)
                assert value is None or value == mirror[raw_key]


class OrderTests(SynchronousTestCase):
    def test_mirror(self) -> None:
        """Whoever follows what is told has what the tables have; nothing goes that is not there."""
        run_state_machine_as_test(Mirrors)

    def test_tables_that_go(self) -> None:
        """A mirror of each table is empty once that is gone, whatever stands in its place: it
        was removed, declared with other keys, or begun anew by its peer."""

        @implementer(ITableObserver)
        class Mirror:
            def tableChanged(self, batch: Batch) -> None:
                mirror = mirrors.setdefault(batch.table, set())
                if batch.cause in (Cause.LEARNT, Cause.SET):
                    mirror |= set(batch.raw_keys)
                    entries.append(len(list(batch.entries())))
                else:
                    mirror -= set(batch.raw_keys)
                    entries.append(-len(list(batch.entries())))

        mirrors: dict[StickTable, set[bytes]] = {}
        entries: list[int] = []
        clock = MemoryClock()
        integers = "type integer size 1m store gpc0"
        service = StickTableService(
            "us", tables={"a": integers, "b": integers}, observers=[Mirror()], reactor=clock
        )
        service.startService()
        session = begin(service.node)
        adopted = Declaration.parse("c", integers).definition(1)
        service.changed(take(service.node, session, adopted.encode()))
        before = [service.table(name) for name in "abc"]
        many = 3 * SLICE
        for table in before:
            store = service.node.tables[table.name]
            service.changed(store.store([(key(one), 5000, b"\x01") for one in range(many)], 0))
        service.remove_table("a")
        service.declare_table(Declaration.parse("b", "type string size 1k store gpc0"))
        other = Declaration.parse("c", "type string size 1k store gpc0").definition(1)
        service.changed(take(service.node, session, other.encode()))
        for name in "bc":
            service.table(name).set("x")
        for _ in range(20):
            clock.advance(0.2)
        self.assertEqual([len(mirrors[table]) for table in before], [0, 0, 0])
        self.assertEqual([len(mirrors[service.table(name)]) for name in "bc"], [1, 1])
        self.assertEqual([table.shared for table in before], [False] * 3)
        self.assertEqual(set(entries), {many, 1, 0})
        service.stopService()

    def test_small_tables_that_go(self) -> None:
        """What a small table had is told at once, before its name has entries anew."""
        told: list[tuple[Cause, list[object]]] = []

        @implementer(ITableObserver)
        class Told:
            def tableChanged(self, batch: Batch) -> None:
                told.append((batch.cause, list(batch.keys())))

        service = StickTableService(
            "us", tables={"t": "type integer size 1k"}, observers=[Told()], reactor=Clock()
        )
        service.table("t").set(1)
        service.declare_table(Declaration.parse("t", "type string size 1k"))
        service.table("t").set("x")
        service.remove_table("t")
        self.assertEqual(
            told,
            [
                (Cause.SET, [1]),
                (Cause.CLEARED, [1]),
                (Cause.SET, ["x"]),
                (Cause.CLEARED, ["x"]),
            ],
        )

    def test_entries(self) -> None:
        """The entries of a batch are those that are there, each once, as they are now."""
        told: list[Batch] = []

        @implementer(ITableObserver)
        class Told:
            def tableChanged(self, batch: Batch) -> None:
                told.append(batch)

        clock = Clock()
        line = "type integer size 9 expire 10s store gpc0"
        service = StickTableService("us", tables={"t": line}, observers=[Told()], reactor=clock)
        table = service.table("t")
        store = service.node.tables["t"]
        updates = [(key(one), 5000, b"\x01") for one in (1, 2, 3, 2)]
        service.changed(store.store([*updates, (key(4), 0, b"\x01")], 0))
        table.remove(1)
        batch = told[0]
        self.assertIs(batch.table, table)
        self.assertEqual([entry.key for entry in batch.entries()], [2, 3])
        self.assertEqual((list(batch.keys()), len(batch)), ([1, 2, 3, 2, 4], 5))
        clock.advance(5)
        self.assertEqual(list(batch.entries()), [])

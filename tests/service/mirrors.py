"""Tables in which everything happens in any order, and dicts that follow them."""

from __future__ import annotations

from typing import Optional

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from peerproto.peering.limits import Limits
from peerproto.service.batch import Batch
from peerproto.service.observers import Observer
from peerproto.service.service import StickTableService
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.wire.messages import EntryUpdate
from tests.support import begin, take

NAMES = ("a", "b")
SIZE = 8
ENTRIES = 13


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


class Mirrors(Observer, RuleBasedStateMachine):
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

    def table_changed(self, batch: Batch) -> None:
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

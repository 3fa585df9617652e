"""Adopted tables, as their peers define them anew."""

from __future__ import annotations

import attrs

from peerproto.peering.limits import Limits
from peerproto.tables.redeclaration import MOST
from peerproto.tables.store import TableStore
from peerproto.wire.messages import Control
from tests.peering.test_session import SessionTestCase, update
from tests.support import make_node
from tests.tables.test_redeclaration import key, of_elements, values_of


class FollowingTests(SessionTestCase):
    def adopt(self, kinds: int) -> TableStore:
        """A table with entries of so many declarations."""
        for number in range(kinds):
            counts = [min(100, max(1, number - less)) for less in (-1, 98, 197)]
            blank = bytes(counts[0] + counts[1] + 3 * counts[2])
            definition = self.defined(of_elements(*counts), 1)
            self.receive(definition + update(1, key(number), blank))
        return self.node.tables["rates"]

    def setUp(self) -> None:
        super().setUp()
        self.node.remove_table("rates")

    def receive(self, data: bytes) -> None:
        self.take(self.session, data, 0)
        self.assertFalse(self.session.over)

    def test_too_many_definitions(self) -> None:
        """A table with entries of as many definitions as can be told from each other does not
        follow, which the peer's report says, and takes updates all the same; it follows when
        its entries are converted and it is defined once more."""
        table = self.adopt(MOST)
        before = table.declaration
        last = self.defined(of_elements(100, 100, 100), 1)
        self.receive(last + update(2, key(7), bytes([9]) * 100 + bytes([8]) * 100 + bytes(300)))
        self.assertEqual(table.declaration, before)
        self.assertEqual([values_of(table, 7)[name] for name in ("gpt0", "gpc0")], [9, 8])
        self.assertEqual(
            self.node.out_of_step(self.peer),
            ["table rates was defined too often to follow another definition yet"],
        )
        table.clear()
        self.receive(last)
        self.assertEqual(table.layout, of_elements(100, 100, 100).layout)
        self.assertEqual(self.session.differences, {})


class RemovedTests(SessionTestCase):
    def test_gives_back_its_room(self) -> None:
        """A table that is shared no longer takes none of the entries that all tables may hold
        together, even if somebody still stores something in it, and is kept until its memory is
        given back, no longer."""
        node = make_node(limits=Limits(entries=10))
        gone, other = (
            node.tables.add(attrs.evolve(of_elements(1), name=name)) for name in ("gone", "other")
        )
        blank = of_elements(1).layout.codec.encode(of_elements(1).layout.codec.blank())
        gone.store([(key(number), 1000, blank) for number in range(10)], 0)
        node.remove_table("gone")
        self.assertEqual(
            (gone.used, node.tables.removed, list(node.tables)), (0, [gone], ["other"])
        )
        gone.store([(key(number), 1000, blank) for number in range(20)], 0)
        other.store([(key(number), 1000, blank) for number in range(10)], 0)
        self.assertEqual((other.used, other.trashed, other.refused), (10, 0, 0))
        other.store([(key(10), 1000, blank)], 0)
        self.assertEqual((other.used, other.trashed, other.refused), (10, 1, 0))
        gone.clear()
        while gone.discarding:
            gone.discard()
        self.assertEqual(list(gone.scan()), [])

    def test_is_not_taught(self) -> None:
        """A lesson that is asked for afterwards has nothing of it, not even its name."""
        self.rates.set(key(1), {"gpc0": 3}, 0)
        self.assertEqual(len(self.session.tables), 1)
        self.node.remove_table("rates")
        self.take(self.session, Control.RESYNC_REQUEST.encode(), 0)
        said = self.pull()
        self.assertEqual([one for one in said if not isinstance(one, Control)], [])

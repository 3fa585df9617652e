from __future__ import annotations

from peerproto import StickTable
from peerproto.aggregation.agenda import Agenda
from tests.aggregation.fleet import AggregateTestCase

KEYS = 3000


class AgendaTests(AggregateTestCase):
    """How many steps and batches it takes until all keys are published, whatever the clock says."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        for peer in ("a", "b"):
            for number in range(KEYS):
                self.hub.table("t").set(number, gpc0=1, peer=peer)
        self.network.advance(3)
        self.agenda = Agenda(20)

    def tables(self) -> list[StickTable]:
        return [*self.hub.table("t").contributions().values(), self.hub.table("t.sum")]

    def walked(self) -> int:
        """In how many steps the tables were looked at."""
        steps = 1
        while self.agenda.walk_on():
            steps += 1
        return steps

    def taken(self) -> list[bytes]:
        """All keys that are to be published."""
        keys = []
        while some := self.agenda.take(100, 0):
            keys += some
        return keys

    def test_each_key_once(self) -> None:
        """A key that several tables have is found in a few steps, and published once."""
        self.agenda.look_at_all(self.tables(), 0)
        self.assertEqual(len(self.tables()), 3)
        self.assertLess(self.walked(), 10)
        self.assertEqual(len(self.agenda), KEYS)
        keys = self.taken()
        self.assertEqual((len(keys), len(set(keys))), (KEYS, KEYS))
        self.assertEqual(self.agenda.oldest(1), 1)

    def test_walk_is_over_first(self) -> None:
        """What a walk has found waits until no other table can have it, too; a change does not."""
        self.agenda.look_at_all(self.tables(), 0)
        self.agenda.walk_on()
        self.assertGreater(len(self.agenda), 1)
        self.assertEqual(self.taken(), [])
        key = next(self.tables()[0].raw_keys())
        self.agenda.changed([key], 0)
        self.assertEqual(self.taken(), [key])
        self.assertEqual(self.agenda.oldest(1), 0)
        self.walked()
        self.assertEqual(len(set(self.taken())), KEYS)

    def test_one_value(self) -> None:
        """Of a column, the keys that have a value in it are found."""
        self.hub.table("t").set(5, conn_cur=1, peer="a")
        self.agenda.look_at(self.tables()[:2], 0, "conn_cur")
        self.walked()
        self.assertEqual(self.taken(), [(5).to_bytes(4, "big")])

    def test_published_once(self) -> None:
        """A node that begins anew with what it has publishes each sum once."""
        self.aggregation.stopService()
        self.aggregation.startService()
        self.network.advance(3)
        (aggregate,) = self.aggregation.aggregates.values()
        self.assertEqual(aggregate.published.total, KEYS)
        self.assertEqual(set(self.sums(self.a).values()), {2})
        self.assertEqual(len(self.sums(self.a)), KEYS)

from __future__ import annotations

from typing import Any, Optional

import attrs
from twisted.trial.unittest import SynchronousTestCase

from peerproto import UNSTAMPED, Declaration, Frequency, LocalProtocolError, StickTableService
from peerproto.service.sums import Sums, Total, check, check_number, summed
from peerproto.testing import MemoryNetwork

LINE = (
    "type integer size 1k expire 1m recv-only store http_req_cnt,conn_cur,http_req_rate(10s)"
    ",server_key,gpt(2),gpc(2),gpc_rate(2,1s)"
)

AB = {"a": "a", "b": "b"}
"""The peers, each of which stands for itself."""


class SumsTests(SynchronousTestCase):
    """The shares of two peers, ``a`` and ``b``."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.service = self.hub()

    def hub(self, line: str = LINE, output: str = LINE) -> StickTableService:
        self.name = f"h{len(self.network.services)}"
        hub = self.network.peer(self.name, {"t": line, "sum": output})
        for name in "ab":
            hub.expect_peer(name)
        hub.share("t", per_peer=True)
        return hub

    def tags(self, sums: Sums) -> list[Any]:
        """The ``gpt`` of key 1 and its ``server_key``, added up and published once more."""
        self.network.advance(0.001)
        ((key, record, life, _),), _ = sums.of([(1).to_bytes(4, "big")], AB, lambda _: True)
        self.service.table("sum").replace_raw([(key, record, life)])
        layout = self.service.table("sum").layout
        values = dict(zip((one.name for one in layout.columns), layout.codec.decode(record, 0)))
        return [values["gpt"], values["server_key"]]

    def test_changed_last(self) -> None:
        """What a peer sends again, with a touch or in a lesson, does not take the place of what
        another one has changed since; what it changes then does."""
        sums = Sums(self.service.table("t"), self.service.table("sum"))
        a: dict[str, Any] = {"gpt[0]": 1, "server_key": "s1"}
        b: dict[str, Any] = {"gpt[0]": 2, "server_key": "s2"}
        self.set("a", **a)
        self.network.advance(0.001)
        self.set("b", **b)
        self.assertEqual(self.tags(sums), [(2, 0), "s2"])
        self.set("a", http_req_cnt=1, **a)
        self.assertEqual(self.tags(sums), [(2, 0), "s2"])
        self.set("a", **{"gpt[1]": 1})
        self.assertEqual(self.tags(sums), [(1, 1), "s1"])
        self.set("b", http_req_cnt=1)
        self.assertEqual(self.tags(sums), [(1, 1), "s1"])
        self.set("b", server_key="s1", **{"gpt[0]": 1, "gpt[1]": 1})
        self.assertEqual(self.tags(sums), [(1, 1), "s1"])
        self.set("a", server_key="s3")
        self.assertEqual(self.tags(sums), [(1, 1), "s3"])

    def test_changed_before_a_touch(self) -> None:
        """Where all have said the same, or one alone has said something, what is changed takes its
        place, though another one has sent what it had once more since, before it is added up."""
        sums = Sums(self.service.table("t"), self.service.table("sum"))
        same: dict[str, Any] = {"gpt[0]": 1, "server_key": "s1"}
        for others in ("a", "ab"):
            for peer in others:
                self.set(peer, **same)
            self.assertEqual(self.tags(sums), [(1, 0), "s1"])
            self.set("b", **{"gpt[0]": 2, "server_key": "s2"})
            self.network.advance(0.001)
            self.set("a", http_req_cnt=1, **same)
            self.assertEqual(self.tags(sums), [(2, 0), "s2"])
            self.set("b", **same)
            self.assertEqual(self.tags(sums), [(1, 0), "s1"])

    def test_known_before(self) -> None:
        """A sum that was published before says nothing of who has changed what: those that arrived
        last come last."""
        for peer, tag in (("a", 2), ("b", 1)):
            self.set(peer, **{"gpt[0]": tag})
            self.network.advance(0.001)
        table = self.service.table("sum")
        table.set(1, {"gpt[0]": 1})
        self.network.advance(0.001)
        self.assertEqual(self.tags(Sums(self.service.table("t"), table))[0], (1, 0))

    def test_one_for_another(self) -> None:
        """A peer that stands for the same as another one has changed nothing by taking its
        place."""
        self.service.expect_peer("c")
        sums = Sums(self.service.table("t"), self.service.table("sum"))
        for peer, tag in (("a", 1), ("b", 2), ("c", 1)):
            self.set(peer, **{"gpt[0]": tag})
            self.network.advance(0.001)
        for peers in ("ab", "cb"):
            words = {peers[0]: "a|c", "b": "b"}
            ((_, record, _, _),), _ = sums.of([(1).to_bytes(4, "big")], words, bool)
            values = self.service.table("sum").layout.codec.decode(record, 0)
            self.assertIn((2, 0), values)

    def test_changed_last_by_one_that_comes_back(self) -> None:
        """A peer whose share has gone and that says something again has changed it."""
        sums = Sums(self.service.table("t"), self.service.table("sum"))
        for peer, tag in (("b", 2), ("a", 1)):
            self.set(peer, **{"gpt[0]": tag})
            self.network.advance(0.001)
        self.assertEqual(self.tags(sums)[0], (1, 0))
        self.service.table("t").contributions()["b"].clear()
        self.assertEqual(self.tags(sums)[0], (1, 0))
        self.set("b", **{"gpt[0]": 2})
        self.assertEqual(self.tags(sums)[0], (2, 0))

    def total(
        self, *peers: str, tags: str = "last", hub: Optional[StickTableService] = None
    ) -> Total:
        """The sum of key 1 of these peers, where ``a`` is connected."""
        hub = hub or self.service
        sums = Sums(hub.table("t"), hub.table("sum"), tags)
        words = dict(zip(peers, peers))
        (total,), nothing = sums.of([(1).to_bytes(4, "big")], words, lambda peer: peer == "a")
        self.assertEqual(nothing, [])
        return total

    def values(self, *peers: str, **more: Any) -> dict[str, Any]:
        hub = more.get("hub") or self.service
        layout = hub.table("sum").layout
        values = layout.codec.decode(self.total(*peers, **more).record, 0)
        return dict(zip((one.name for one in layout.columns), values))

    def set(self, peer: str, **values: Any) -> None:
        self.service.table("t").set(1, values, peer=peer)

    def test_each_kind(self) -> None:
        """Every column is summed by its own rule, and arrays element by element."""
        self.set(
            "a",
            http_req_cnt=1,
            conn_cur=2,
            http_req_rate=3,
            server_key="s",
            **{"gpt[0]": 4, "gpc[1]": 5, "gpc_rate[1]": 6},
        )
        self.network.advance(0.001)
        self.set(
            "b",
            http_req_cnt=10,
            conn_cur=20,
            http_req_rate=30,
            **{"gpt[0]": 8, "gpt[1]": 1, "gpc[1]": 50, "gpc_rate[1]": 60},
        )
        values = self.values("a", "b")
        self.assertEqual(values["http_req_cnt"], 11)
        self.assertEqual(values["conn_cur"], 2)
        self.assertEqual(values["http_req_rate"][1:], (33, 0))
        self.assertEqual(values["server_key"], "s")
        self.assertEqual((values["gpt"], values["gpc"]), ((8, 1), (0, 55)))
        self.assertEqual([one[1:] for one in values["gpc_rate"]], [(0, 0), (66, 0)])
        self.assertEqual(self.values("a", "b", tags="or")["gpt"], (12, 1))
        self.assertEqual(self.values("a")["http_req_cnt"], 1)

    def test_numbers(self) -> None:
        """With numbers of sessions, the last element of ``gpt`` stands for one, and the others are
        summed, of which ``gpt0`` is the first; an output without that element is refused."""
        for line, elements, tags in (
            ("gpc0", 1, ()),
            ("gpt(2)", 3, (7, 0)),
            ("gpt0", 2, (7,)),
        ):
            source = Declaration.parse("sum", f"type integer size 1k expire 1m store {line}")
            output = summed(source, True, False)
            self.assertEqual(
                [one.elements for one in output.layout.columns if one.elements], [elements]
            )
            name = f"h{len(self.network.services)}"
            hub = self.network.peer(name, [attrs.evolve(source, name="t"), output])
            hub.expect_peer("a")
            hub.share("t", per_peer=True)
            hub.table("t").set(1, {"gpt[0]" if line == "gpt(2)" else line: 7}, peer="a")
            sums = Sums(hub.table("t"), hub.table("sum"), stamped=True)
            (total,), _ = sums.of([(1).to_bytes(4, "big")], {"a": "a"}, bool)
            values = dict(
                zip(
                    (one.name for one in output.layout.columns),
                    output.layout.codec.decode(total.record, 0),
                )
            )
            self.assertEqual(values["gpt"], (*tags, UNSTAMPED))
            problem = self.assertRaises(
                LocalProtocolError, check_number, source.layout, source.layout
            )
            self.assertIn(f"gpt({elements}) at least", str(problem))
        self.assertRaises(
            LocalProtocolError, check_number, self.service.table("t").layout.narrowed(source.layout)
        )

    def test_nothing(self) -> None:
        """Keys that nobody has are told."""
        sums = Sums(self.service.table("t"), self.service.table("sum"))
        self.assertEqual(sums.of([b"abcd"], AB, bool), ([], [b"abcd"]))

    def test_life(self) -> None:
        """A sum lives as long as what lives longest of it; what is over is not in it."""
        table = self.service.table("t")
        table.set(1, http_req_cnt=1, expires_in=5000, peer="a")
        table.set(1, http_req_cnt=2, expires_in=9000, peer="b")
        self.assertEqual(self.total("a", "b").life, 9000)
        self.network.clock.advance(6)
        self.assertEqual(self.total("a", "b").life, 3000)
        self.assertEqual(self.values("a", "b")["http_req_cnt"], 2)
        line = "type integer size 1k store gpc0"
        endless = self.hub(line, line)
        endless.table("t").set(1, gpc0=1, peer="a")
        self.assertIsNone(self.total("a", hub=endless).life)

    def test_again(self) -> None:
        """It is to be added up again when the first of its rates is."""
        self.set("a", http_req_rate=Frequency(0, 100, 0))
        self.assertIsNone(self.total("a", "b").again)
        self.set("b", http_req_rate=Frequency(500, 0, 100))
        slow = self.total("a", "b").again
        assert slow is not None
        self.assertTrue(9500 < slow < 10_000, slow)
        self.set("a", **{"gpc_rate[0]": Frequency(0, 9, 0)})
        self.set("b", **{"gpc_rate[0]": Frequency(500, 0, 90)})
        fast = self.total("a", "b").again
        assert fast is not None
        self.assertTrue(500 < fast < 1000, fast)

    def test_other_columns(self) -> None:
        """Columns that the source has not got are 0; those that the output has not got are left
        out; of arrays, what both have is summed."""
        hub = self.hub(
            output="type integer size 1k store gpt0,gpc(3),http_req_rate(10s),gpc_rate(3,1s)"
        )
        hub.table("t").set(1, {"http_req_cnt": 1, "gpc[0]": 4, "gpc[1]": 5}, peer="a")
        values = self.values("a", hub=hub)
        self.assertEqual((values["gpt0"], values["gpc"]), (0, (4, 5, 0)))
        self.assertEqual(values["gpc_rate"], (Frequency(0, 0, 0),) * 3)

    def test_cannot_be_summed(self) -> None:
        """Other keys, rates of other periods and blocks of other sizes are refused."""
        for line, other, problem in (
            ("type ip store gpc0", "type ipv6 store gpc0", "type of keys"),
            ("type string len 8 store gpc0", "type string len 9 store gpc0", "length of keys"),
            (
                "type ip store http_req_rate(10s)",
                "type ip store http_req_rate(1s)",
                "period of http_req_rate: read 1000, expected 10000 (ms)",
            ),
            ("type ip store gpc0", "type ip brates-factor 8 store gpc0", "brates-factor"),
        ):
            declarations = [
                Declaration.parse("t", one.replace(" store", " size 1k store"))
                for one in (line, other)
            ]
            raised = self.assertRaises(LocalProtocolError, check, *declarations)
            self.assertIn(problem, str(raised))

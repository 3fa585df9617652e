"""The node, its peers, its parts, its tables, and whether it is ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

import attrs
from openapi_spec_validator import validate

from peerproto import Declaration, Detail, Member, Part, StickTableService, TableFull
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.service import Aggregation
from peerproto.http.text import quoted
from peerproto.service.part import Plain
from peerproto.testing import MemoryNetwork
from tests.http.client import TABLES, WRITER, HttpTestCase

LINE = "type integer size 1k expire 10m store gpc0"


class Odd(Part):
    """A part that says odd things."""

    def __init__(self) -> None:
        self.why: Optional[str] = None

    def status(self) -> Mapping[str, Plain]:
        return {"<b>": "\udcff\n", "number": 1.5, "none": None, "yes": True}

    def details(self) -> Iterable[Detail]:
        member = Member("a\\", False, "it is \udcfe", {"<i>": "\udcff"}, ("a note",))
        return [Detail("d\udcff", "t<", None, "no \udcff", {"n": 1}, (member,))]

    def not_ready(self) -> Optional[str]:
        return self.why


class NodeTests(HttpTestCase):
    def test_node(self) -> None:
        """The node says how it stands."""
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.clock.advance(3)
        node = self.get("/v1/node").json
        self.assertEqual((node["localpeer"], node["running"], node["uptime"]), ("app", True, 3000))
        self.assertEqual((node["tables"], node["entries"]), (len(TABLES), 0))
        learning = "waiting for a peer to learn from: started"
        self.assertEqual(node["not_ready"], [learning, "no peer is in step"])

    def test_parts(self) -> None:
        """Parts are told with what they say, whatever that is."""
        odd = Odd()
        odd.why = "it is \udcff"
        self.service.add_part("odd", odd)
        parts = self.get("/v1/parts").json
        expected = {"<b>": "\\xFF\n", "number": 1.5, "none": None, "yes": True}
        self.assertEqual(parts["parts"]["odd"], expected)
        self.assertEqual(parts["not_ready"], ["odd: it is \\xFF"])
        (detail,) = parts["details"]["odd"]
        (member,) = detail.pop("members")
        self.assertEqual(
            detail,
            {
                "name": "d\\xFF",
                "reads": "t<",
                "writes": None,
                "not_ready": "no \\xFF",
                "values": {"n": 1},
            },
        )
        self.assertEqual(
            member,
            {
                "name": "a\\\\",
                "is_in": False,
                "state": "it is \\xFE",
                "notes": ["a note"],
                "values": {"<i>": "\\xFF"},
            },
        )

    def test_who_may_write(self) -> None:
        """The node says whether writers may write, and whether who asks is one."""
        for token, may in ((None, False), (WRITER, True)):
            node = self.get("/v1/node", token=token).json
            self.assertEqual((node["allow_writes"], node["may_write"]), (True, may))
        self.access.settings = attrs.evolve(self.settings, allow_writes=False)
        node = self.get("/v1/node", token=WRITER).json
        self.assertEqual((node["allow_writes"], node["may_write"]), (False, False))

    def test_stored(self) -> None:
        """A table says how often something was stored in it."""
        small = self.service.table("small")
        for key in (1, 2, 2):
            small.set(key)
        self.assertRaises(TableFull, small.set, 3)
        self.assertEqual(self.get("/v1/tables/small").json["stored"], 3)

    def test_tables(self) -> None:
        """A table is told with its columns."""
        tables = {one["name"]: one for one in self.get("/v1/tables").json["tables"]}
        self.assertEqual(set(tables), set(TABLES))
        paths = self.get("/v1/tables/paths").json
        self.assertEqual(paths, tables["paths"])
        self.assertEqual((paths["type"], paths["key_length"]), ("string", 20))
        kinds = {one["name"]: (one["kind"], one["period"]) for one in paths["columns"]}
        self.assertEqual(kinds["gpt1"], ("number", None))
        self.assertEqual(kinds["gpc0_rate"], ("rate", 10_000))
        self.assertEqual(kinds["server_key"], ("text", None))
        reply = self.get("/v1/tables/nothing")
        self.assertEqual(reply.status, 404)
        self.assertEqual(reply.json["errors"][0]["field"], "path.table")
        self.assertEqual(self.get("/v1/tables/%5C").json["errors"][0]["field"], "path.table")

    def test_odd_names(self) -> None:
        """A table that some peer has named oddly is found by its name as it is told."""
        for name in ("<script>", 'a"b', "a/b", "a\x1b[2J", "\udcff", "a\\b", "a b%2F", "é\n", "."):
            self.service.add_table(Declaration.parse(name, "type integer size 1k store gpc0"))
            told = self.get("/v1/tables").json["tables"][-1]["name"]
            reply = self.get(f"/v1/tables/{quoted(told)}")
            self.assertEqual((reply.status, reply.json["name"]), (200, told))
            self.assertEqual(
                self.write("PUT", f"/v1/tables/{quoted(told)}/entries/1", {}).status, 201
            )

    def test_document(self) -> None:
        """The document is one of OpenAPI 3.1."""
        whole = self.get("/v1/openapi.json").json
        validate(whole)
        self.assertEqual(whole["openapi"], "3.1.0")
        self.assertIn("/v1/tables/{table}/entries/{key}", whole["paths"])
        self.assertEqual(whole["paths"]["/healthz"]["get"]["security"], [])


class FleetTests(HttpTestCase):
    """A hub that adds up what two peers count, in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.clock = self.network.clock
        self.service = self.network.peer("hub", {"t": LINE, "plain": LINE})
        rules = Rules("t", "t.sum", expect=("a", "b<b>"))
        aggregation = Aggregation(self.service, [rules], self.clock)
        aggregation.startService()
        self.addCleanup(aggregation.stopService)
        self.a, self.b = self.source("a"), self.source("b<b>")
        self.begin()
        self.network.start()
        self.network.advance(10)

    def source(self, name: str) -> StickTableService:
        """A peer that knows the hub alone."""
        tables = {"t": LINE, "plain": LINE, "t.sum": LINE}
        source = self.network.peer(name, tables, calls=["hub"], learn_tables=False)
        for stranger in source.peers.keys() - {"hub"}:
            source.remove_peer(stranger)
        for other, service in self.network.services.items():
            if other not in ("hub", name) and name in service.peers:
                service.remove_peer(name)
        return source

    def test_peers(self) -> None:
        """A peer is told with all that its status has."""
        peers = self.get("/v1/peers").json["peers"]
        self.assertEqual([one["name"] for one in peers], ["a", "b<b>"])
        peer = self.get("/v1/peers/b%3Cb%3E").json
        self.assertEqual((peer["name"], peer["connected"], peer["in_step"]), ("b<b>", True, True))
        self.assertEqual(peer["reconnects"], 0)
        self.assertEqual({one["name"] for one in peer["tables"]}, {"t", "plain", "t.sum"})
        self.assertGreater(peer["counters"]["rx_messages"], 0)
        reply = self.get("/v1/peers/c")
        self.assertEqual(reply.status, 404)
        self.assertIn("one of a, b<b>", reply.json["errors"][0]["expected"])

    def test_ready(self) -> None:
        """A node is ready with a peer in step, and not without; nor with a part that is not."""
        self.assertEqual(self.get("/readyz").status, 200)
        self.assertEqual(self.get("/readyz").json, {"ready": True, "reasons": []})
        odd = Odd()
        self.service.add_part("odd", odd)
        odd.why = "it sulks"
        self.assertEqual(self.get("/readyz").json["reasons"], ["odd: it sulks"])
        odd.why = None
        for name in ("a", "b<b>"):
            self.network.part("hub", name)
        self.network.advance(1)
        self.assertIn("no peer is in step", self.get("/readyz").json["reasons"])
        self.assertEqual(self.get("/readyz").status, 503)

    def test_ready_under_load(self) -> None:
        """Changes that are on their way to all peers do not make a node unready; those that no
        peer acks for some seconds do."""
        for name in ("a", "b<b>"):
            for connection in self.network.between("hub", name):
                connection.caller.stalled = connection.called.stalled = True
        self.assertEqual(self.write("PUT", "/v1/tables/plain/entries/7", {}).status, 201)
        self.network.advance(1)
        peers = self.get("/v1/peers").json["peers"]
        self.assertEqual([one["reasons"] for one in peers], [["behind"], ["behind"]])
        self.assertEqual(self.get("/readyz").status, 200)
        self.network.advance(2.5)
        self.assertIn("no peer is in step", self.get("/readyz").json["reasons"])

    def test_writes_reach_peers(self) -> None:
        """What is set is set on all peers, and what is forgotten is zero there."""
        path = "/v1/tables/plain/entries/7"
        self.assertEqual(self.write("PUT", path, {"values": {"gpc0": 3}}).status, 201)
        self.network.advance(1)
        for peer in (self.a, self.b):
            self.assertEqual(peer.table("plain")[7]["gpc0"], 3)
        reply = self.write("DELETE", path)
        self.assertEqual(reply.json["was_here"], True)
        self.assertEqual(reply.json["seen_by_haproxy"]["in_table_for"], 599_000)
        self.network.advance(1)
        self.assertNotIn(7, self.a.table("plain"))

    def test_forgotten_unseen(self) -> None:
        """Of an entry that is not here, a peer may know for as long as any keeps entries."""
        longer = LINE.replace("10m", "30m")
        for declared, expected in ((longer, 1_800_000), (LINE.replace("expire 10m", ""), None)):
            self.a.declare_table(Declaration.parse("plain", declared))
            self.a.table("plain").set(1)
            self.network.advance(10)
            reply = self.write("DELETE", "/v1/tables/plain/entries/9").json
            self.assertFalse(reply["was_here"])
            self.assertEqual(reply["seen_by_haproxy"]["in_table_for"], expected)

    def test_output(self) -> None:
        """What a part alone writes is not to be written: it would write it again."""
        self.a.table("t").set(1, gpc0=5)
        self.network.advance(1)
        path = "/v1/tables/t.sum/entries"
        self.assertEqual(self.get(f"{path}/1").json["values"]["gpc0"], 5)
        self.assertEqual(self.get("/v1/tables/t.sum").json["written_by"], "aggregation")
        self.assertIsNone(self.get("/v1/tables/t").json["written_by"])
        dataplane = "/v3/services/haproxy/runtime/stick_tables/t.sum/entries"
        for reply in (
            self.write("DELETE", f"{path}/1"),
            self.write("PUT", f"{path}/1", {}),
            self.write("PATCH", f"{path}/1", {}),
            self.write("POST", f"{path}/1/count", {"events": {"gpc0": 1}}),
            self.write("POST", path, {"changes": [{"do": "forget", "key": "1"}]}),
            self.write("POST", dataplane, {"key": "1", "data_type": {"gpc0": 1}}),
        ):
            self.assertEqual(reply.status, 409)
            self.assertIn("part aggregation", reply.body.decode())
        self.assertEqual(self.service.table("t.sum")[1]["gpc0"], 5)

    def test_shares(self) -> None:
        """In a table that is shared per peer, each entry has its peer, and who writes names it."""
        self.a.table("t").set(1, gpc0=5)
        self.b.table("t").set(1, gpc0=6)
        self.network.advance(1)
        path = "/v1/tables/t/entries"
        self.assertEqual(self.get("/v1/tables/t").json["shares"], {"a": 1, "b<b>": 1})
        found = self.get(path).json["entries"]
        self.assertEqual(
            {(one["peer"], one["values"]["gpc0"]) for one in found}, {("a", 5), ("b<b>", 6)}
        )
        (one,) = self.get(f"{path}?peer=b%3Cb%3E").json["entries"]
        self.assertEqual((one["peer"], one["values"]["gpc0"]), ("b<b>", 6))
        self.assertEqual(self.get(f"{path}/1?peer=a").json["values"]["gpc0"], 5)
        self.assertEqual(self.get(f"{path}?sort=-gpc0&limit=1").json["entries"], [one])
        for query in ("", "?peer=c", "?peer=%5C"):
            for reply in (self.get(f"{path}/1{query}"), self.write("PUT", f"{path}/1{query}", {})):
                self.assertEqual(reply.status, 422)
                self.assertEqual(reply.json["errors"][0]["field"], "query.peer")
        self.assertEqual(self.get("/v1/tables/plain/entries/1?peer=a").status, 422)
        self.write("PATCH", f"{path}/1?peer=a", {"values": {"gpc0": 9}})
        self.write("POST", f"{path}/1/count?peer=a", {"events": {"gpc0": 1}})
        change = {"do": "set", "key": "2", "values": {"gpc0": 1}}
        changes = [{**change, "peer": "b<b>"}, change]
        results = self.write("POST", path, {"changes": changes}).json["results"]
        self.assertEqual([one["status"] for one in results], [201, 422])
        self.network.advance(1)
        self.assertEqual(self.a.table("t")[1]["gpc0"], 10)
        self.assertEqual(self.b.table("t")[1]["gpc0"], 6)
        self.assertEqual(self.b.table("t")[2]["gpc0"], 1)
        gone = self.write("DELETE", f"{path}/1?peer=a").json
        self.assertEqual((gone["peer"], gone["was_here"]), ("a", True))
        self.assertEqual(len(self.get(path).json["entries"]), 2)
        dataplane = "/v3/services/haproxy/runtime/stick_tables/t/entries"
        self.assertEqual(len(self.get(dataplane).json), 2)
        self.assertEqual(len(self.get(f"{dataplane}?peer=a").json), 0)
        body = {"key": "3", "data_type": {"gpc0": 1}}
        self.assertEqual(self.write("POST", dataplane, body).status, 422)
        self.assertEqual(self.write("POST", f"{dataplane}?peer=a", body).status, 204)

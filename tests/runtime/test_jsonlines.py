"""Commands for programs: each answer is lines of JSON, without a loss."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from peerproto import NodeTime, Part
from peerproto.runtime.protocol import runtime_commands
from peerproto.service.spelling import written
from peerproto.terminal.runtime import word
from peerproto.testing import MemoryNetwork
from tests.runtime.test_runtime import RuntimeTestCase

NAMES = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


class JsonTestCase(RuntimeTestCase):
    def lines(self, *words: str) -> list[Any]:
        """The objects of an answer."""
        return [json.loads(line) for line in self.said(*words).splitlines()]

    def said(self, *words: str) -> str:
        """An answer, without the empty line at its end."""
        answer = self.ask(" ".join(words))
        self.assertTrue(answer.endswith("\n"))
        return answer[:-1]


class EntryTests(JsonTestCase):
    @given(NAMES)
    def test_any_key(self, key: str) -> None:
        """An entry of any key is written, read and forgotten by the text of its key."""
        # Keys of HAProxy end at their length, and are never cut within the text.
        key = key.replace("\0", "")
        text = word(written(key) or "\\")
        (entry,) = self.lines("json set", word('{"gpc0":7}'), "paths key", text)
        self.assertEqual(entry["values"]["gpc0"], 7)
        self.assertIn(key, self.service.table("paths"))
        self.assertEqual(self.lines("json entries paths key", text), [entry])
        self.assertEqual(self.lines("json forget paths key", text), [{"forgotten": 1}])
        self.assertEqual(self.lines("json entries paths key", text), [])

    def test_chosen(self) -> None:
        """Entries are chosen by their values, by networks and by the first letters of their
        keys, and are as many as is said."""
        rates, paths = self.service.table("rates"), self.service.table("paths")
        for number in range(10):
            rates.set(f"192.0.2.{number}", gpc0=number)
            paths.set(f"/{'ab'[number % 2]}/{number}")
        chosen = self.lines("json entries rates data.gpc0 gt 3 cidr 192.0.2.0/29")
        self.assertEqual({one["values"]["gpc0"] for one in chosen}, {4, 5, 6, 7})
        self.assertEqual(len(self.lines("json entries paths prefix /a top 3")), 3)
        self.assertEqual(len(self.lines("json entries paths prefix /a")), 5)
        self.assertEqual(self.lines("json entries paths key /a/0 prefix /b"), [])

    def test_top(self) -> None:
        """The entries with the highest values come first, or those with the lowest."""
        for number in range(1000):
            self.service.table("ids").set(number, gpc0=number)
        for by, expected in (("gpc0", [999, 998, 997]), ("-gpc0", [0, 1, 2])):
            top = self.lines("json entries ids top 3 by", by)
            self.assertEqual([one["values"]["gpc0"] for one in top], expected)

    def test_forget_some(self) -> None:
        """All that are chosen are forgotten, and counted."""
        for number in range(600):
            self.service.table("ids").set(number, gpc0=number)
        self.assertEqual(self.lines("json forget ids data.gpc0 lt 500"), [{"forgotten": 500}])
        self.assertEqual(len(self.service.table("ids")), 100)

    def test_values(self) -> None:
        """Texts and arrays are set; events are counted."""
        values = word(r'{"gpt[1]":2,"server_key":"s\u00e9","gpc1":1}')
        (entry,) = self.lines("json set", values, "paths key /a")
        self.assertEqual(entry["values"]["gpt1"], 2)
        self.assertEqual(entry["values"]["server_key"], "sé")
        (entry,) = self.lines("json count", word('{"gpc1":2}'), "paths key /a")
        self.assertEqual(entry["values"]["gpc1"], 3)

    def test_wrong(self) -> None:
        """What cannot be done is said in a line that is no object."""
        self.service.add_part("sums", _Writes())
        for words, expected in (
            ("json entries", "name of a table is missing"),
            ("json entries rats", "There are: rates"),
            (r"json tables \\y", r"expected \\ or \xHH"),
            (r"json entries \\y", r"expected \\ or \xHH"),
            ("json tables rats", "There are: rates"),
            ("json entries rates kex 1", "read 'kex', expected data.<type>"),
            ("json entries rates key", "read 'key', expected"),
            ("json entries rates key x", "address"),
            ("json entries rates prefix x", "none: keys of type ip have none"),
            ("json entries rates peer lb1", "read 'peer lb1'"),
            ("json entries rates data.gpc1 gt 0", "Data type not stored"),
            ("json entries rates top x", "top: read 'x'"),
            ("json entries rates by gpc0", "'by' stands behind 'top'"),
            ("json entries rates top 3 by gpc1", "a data type that is stored"),
            ("json set", "expected an object in JSON"),
            ("json set [] rates key 192.0.2.7", "expected an object in JSON"),
            ("json set {} rates", "One key is meant"),
            ('json set {"gpc1":1} rates key 192.0.2.7', "gpc1: it is not stored"),
            ('json set {"gpc0":true} rates key 192.0.2.7', "read true, expected a whole number"),
            ('json set {"gpc0":-1} rates key 192.0.2.7', "read -1, expected 0"),
            ('json set {"server_key":1} paths key x', "read 1, expected a text or null"),
            ('json count {"gpc0":"x"} rates key 192.0.2.7', 'read "x", expected a whole number'),
            ("json set {} ids key 1", "written by the part sums"),
            ("json forget ids", "written by the part sums"),
        ):
            said = self.said(words).splitlines()[0]
            self.assertIn(expected, said)
            self.assertFalse(said.startswith("{"))
        self.assertEqual(len(self.service.table("rates")), 0)


class _Writes(Part):
    def writes(self) -> list[str]:
        return ["ids"]


class ImportTests(JsonTestCase):
    def test_raw(self) -> None:
        """Entries come without a loss: when they end, and both periods of a rate."""
        wall = time.time()
        self.service.time = NodeTime(self.clock, lambda: wall + self.clock.seconds())
        rates = self.service.table("rates")
        rates.count("192.0.2.7", gpc0=1, http_req_rate=5)
        rates.count("192.0.2.8", gpc0=2)
        self.clock.advance(13)
        rates.count("192.0.2.7", http_req_rate=3)
        now = self.service.time.now()
        values = {"gpc0": 1, "http_req_rate": [now - 3000, 3, 5]}
        whole = {"key": "192.0.2.7", "expires": now + 600_000, "values": values}
        for words in ("key 192.0.2.7", "top 1 by -gpc0", "data.gpc0 eq 1", "cidr 192.0.2.7/32"):
            self.assertEqual(self.lines(f"json entries rates {words} raw yes"), [whole])
        (plain,) = self.lines("json entries rates key 192.0.2.7 raw no")
        self.assertEqual(plain["values"]["http_req_rate"], 6)
        self.assertIn("raw: read 'maybe'", self.said("json entries rates raw maybe"))

    def test_import(self) -> None:
        """Many entries are taken at once; each has its own answer, and one that is wrong holds up
        no other."""
        given = [
            {"key": "192.0.2.7", "values": {"gpc0": 1}},
            {"key": "192.0.2.8", "expires": 1, "values": {}},
            {"key": "x", "values": {}},
            {"key": "192.0.2.9", "peer": "lb", "values": {}},
            7,
        ]
        words = json.dumps(given).replace(" ", "")
        answers = self.lines(f"json import {words} rates")
        self.assertEqual(
            [(one["taken"], one["expired"]) for one in answers],
            [(True, False), (False, True), *[(False, False)] * 3],
        )
        problems = [one["problem"] for one in answers]
        self.assertEqual(problems[:2], [None, None])
        for said, expected in zip(problems[2:], ("an IPv4 address", "not shared", "an object")):
            self.assertIn(expected, said)
        (entry,) = self.service.table("rates")
        self.assertEqual((str(entry.key), entry["gpc0"]), ("192.0.2.7", 1))

    def test_refused(self) -> None:
        """What is no array, or no table that may be written, is refused as a whole."""
        self.service.add_part("sums", _Writes())
        for words, expected in (
            ("json import", "Usage"),
            ("json import [] nothing", "nothing"),
            ("json import {} rates", "expected an array in JSON"),
            ("json import [ rates", "expected an array in JSON"),
            ("json import [] ids", "written by the part sums"),
        ):
            said = self.said(words)
            self.assertIn("Usage: json import <entries> <table>", said)
            self.assertIn(expected, said)


class NodeTests(JsonTestCase):
    def test_tables(self) -> None:
        """Tables are told with their columns, empty ones, too."""
        tables = {one["name"]: one for one in self.lines("json tables")}
        self.assertEqual(set(tables), {one.name for one in self.service.tables})
        names = [one["name"] for one in tables["rates"]["columns"]]
        self.assertEqual(names, ["gpc0", "http_req_rate"])
        self.assertEqual(self.lines("json tables rates"), [tables["rates"]])

    def test_node(self) -> None:
        """The node and its parts are told, with why they may not be relied on."""
        self.service.add_part("sums", _Writes())
        (node,) = self.lines("json node")
        self.assertEqual((node["localpeer"], node["tables"]), ("app", len(self.service.tables)))
        (parts,) = self.lines("json parts")
        self.assertEqual(parts, {"parts": {"sums": {}}, "not_ready": [], "details": {"sums": []}})
        self.assertEqual(self.lines("json peers"), [])


class PeerTests(JsonTestCase):
    def test_shares(self) -> None:
        """Peers are told; where a table is shared per peer, one share is chosen and changed."""
        network = MemoryNetwork()
        self.addCleanup(network.stop)
        ids = {"ids": "type integer size 1k store gpc0"}
        hub = network.peer("hub", ids, calls=[])
        lb = network.peer("lb", ids, calls=["hub"])
        hub.share("ids", per_peer=True)
        self.service, self.clock = hub, network.clock
        self.commands = runtime_commands(hub)
        network.start()
        lb.table("ids").set(1, gpc0=3)
        network.advance(6)
        (peer,) = self.lines("json peers")
        self.assertEqual((peer["name"], peer["in_step"]), ("lb", True))
        (entry,) = self.lines("json entries ids peer lb")
        self.assertEqual((entry["peer"], entry["values"]), ("lb", {"gpc0": 3}))
        self.assertIn("expected one of lb", self.said('json set {"gpc0":1} ids key 2'))
        (entry,) = self.lines('json set {"gpc0":1} ids key 2 peer lb')
        self.assertEqual(entry["values"], {"gpc0": 1})
        self.assertEqual(self.lines("json forget ids peer lb data.gpc0 gt 0"), [{"forgotten": 2}])

"""Metrics: what Prometheus is told of a node, and what is odd in names and keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Metric, Part, StickTableService
from peerproto.http.collector import NodeCollector
from peerproto.http.lateness import Lateness
from peerproto.http.metrics import Metrics, TopEntries
from peerproto.http.top import Top, read_tops
from peerproto.service.printable import printable
from peerproto.service.section import ConfigError, Line
from peerproto.service.status import LACKS
from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork, RawPeer
from peerproto.wire.messages import Control

LINE = "type integer size 1m expire 10m store gpc0,http_req_rate(10s)"
NAMES = "type string len 32 size 1k expire 10m store gpc0"


def samples(text: str) -> list[Sample]:
    """All samples of an exposition, as Prometheus's own client reads it."""
    return [one for family in text_string_to_metric_families(text) for one in family.samples]


def value(text: str, name: str, /, **labels: str) -> float:
    """The value of the sample with this name and at least these labels."""
    (found,) = [
        one for one in samples(text) if one.name == name and labels.items() <= one.labels.items()
    ]
    return found.value


class Bell(Part):
    """A part that measures."""

    def __init__(self, why: Optional[str] = None) -> None:
        self._why = why

    def metrics(self) -> Iterable[Metric]:
        """See `Part`."""
        for name, rung in (("big", 3), ("sm\n<b>\udcff", 4)):
            yield Metric("bell_rung_total", "How often", rung, {"bell": name}, counter=True)
        yield Metric("bell_weight", "In kg", 1.5)

    def not_ready(self) -> Optional[str]:
        """See `Part`."""
        return self._why


class NodeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.here = self.network.peer("here", {"t": LINE, "u": NAMES})
        self.there = self.network.peer("there", {"t": LINE})

    def text(self, *tops: Top, node: Optional[StickTableService] = None) -> str:
        service = self.here if node is None else node
        metrics = Metrics(service, NodeCollector(service), TopEntries(service, lambda: tops))
        waiting = metrics.text()
        self.network.advance(1)
        return self.successResultOf(waiting).decode()

    def test_tables(self) -> None:
        """Tables have HAProxy's own names and labels; a size that nobody named is left out."""
        self.network.start()
        self.network.advance(6)
        self.here.table("t").set(1)
        self.here.table("t").set(1, gpc0=1)
        text = self.text()
        table = {"name": "t", "type": "integer"}
        self.assertEqual(value(text, "haproxy_sticktable_size", **table), 1 << 20)
        self.assertEqual(value(text, "haproxy_sticktable_used", **table), 1)
        self.assertEqual(value(text, "haproxy_sticktable_local_updates", **table), 2)
        self.assertIn("# TYPE haproxy_sticktable_local_updates gauge\n", text)
        self.assertEqual(value(text, "peerproto_table_trashed_total", **table), 0)
        self.assertEqual(value(text, "haproxy_sticktable_used", name="u", type="string"), 0)

    def test_peers(self) -> None:
        """A peer that is in step, and one that is away, with all that is known of both."""
        self.network.start()
        self.here.expect_peer("far")
        self.network.advance(6)
        self.here.table("t").set(1)
        self.network.advance(1)
        text = self.text()
        for name, there, far in (
            ("connected", 1, 0),
            ("in_step", 1, 0),
            ("lag_changes", 0, 0),
            ("handshakes_total", 1, 0),
            ("reconnects_total", 0, 0),
            ("refused_definitions_total", 0, 0),
        ):
            for peer, expected in (("there", there), ("far", far)):
                self.assertEqual(value(text, f"peerproto_peer_{name}", peer=peer), expected, name)
        self.assertEqual(value(text, "peerproto_peer_handshake_status", peer="there"), 200)
        began = value(text, "peerproto_peer_last_handshake_timestamp_seconds", peer="there")
        self.assertTrue(self.here.time.now() / 1000 - 10 < began <= self.here.time.now() / 1000)
        self.assertNotIn('last_handshake_timestamp_seconds{peer="far"', text)
        out = {"peer": "there", "direction": "out"}
        self.assertEqual(value(text, "peerproto_peer_updates_total", **out), 1)
        self.assertGreater(value(text, "peerproto_peer_bytes_total", **out), 0)
        self.assertGreater(value(text, "peerproto_peer_messages_total", **out), 0)
        states = [one for one in samples(text) if one.name == "peerproto_peer_state" and one.value]
        self.assertEqual(
            [(one.labels["peer"], one.labels["state"]) for one in states],
            [("there", "live"), ("far", "away")],
        )
        lacks = [one for one in samples(text) if one.name == "peerproto_peer_out_of_step"]
        self.assertEqual(len(lacks), 2 * len(LACKS))
        self.assertEqual(
            [(one.labels["peer"], one.labels["reason"]) for one in lacks if one.value],
            [("far", "not_connected")],
        )

    def test_lag(self) -> None:
        """What a peer has not acked is counted, and how old it is."""
        self.network.start()
        self.network.advance(6)
        self.network.between("here", "there")[0].stall("here")
        self.here.table("t").set(1)
        self.network.advance(2)
        text = self.text()
        self.assertEqual(value(text, "peerproto_peer_lag_changes", peer="there"), 1)
        self.assertGreaterEqual(value(text, "peerproto_peer_lag_seconds", peer="there"), 2)
        behind = {"peer": "there", "reason": "behind"}
        self.assertEqual(value(text, "peerproto_peer_out_of_step", **behind), 1)

    def raw(self) -> RawPeer:
        """A peer that calls, and has a session."""
        raw = self.network.raw_peer("raw", "here")
        self.network.advance(1)
        self.assertEqual(raw.lines, ["200"])
        return raw

    def test_counters(self) -> None:
        """What has happened with a peer is told under the name of what it is: of all this, no two
        have happened as often."""
        self.network.start()
        self.network.advance(6)
        replaced = [self.raw() for _ in range(4)]
        wrong = []
        for _ in range(3):
            wrong.append(self.raw())
            wrong[-1].send(b"\xff" * 20)
            self.network.advance(1)
        silent = self.raw()
        silent.beats = False
        self.network.advance(20)
        last = self.raw()
        for number in range(2, 14):
            last.define(Declaration.parse(f"unknown{number}", LINE), number)
        last.define(Declaration.parse("t", LINE), 1)
        for key in range(40):
            last.update(key, {}, key + 1)
        self.network.advance(12)
        for key in range(25):
            self.here.table("t").set(1000 + key)
        self.network.advance(1)
        self.network.between("here", "raw")[-1].stall("here")
        for key in range(5):
            self.here.table("t").set(2000 + key)
        self.network.advance(2.5)
        counters = self.here.peers["raw"].status().counters
        heard = [one for raw in (*replaced, *wrong, silent, last) for one in raw.heard]
        expected = {
            ("handshakes_total", ""): 9,
            ("reconnects_total", ""): 8,
            ("collisions_total", ""): 4,
            ("protocol_errors_total", ""): 3,
            ("silences_total", ""): 1,
            ("lessons_learnt_total", ""): 2,
            ("refused_definitions_total", ""): 12,
            ("lag_changes", ""): 5,
            ("lag_seconds", ""): 2.5,
            ("updates_total", "in"): 40,
            ("updates_total", "out"): 30,
            ("messages_total", "in"): counters.rx_messages,
            ("messages_total", "out"): len(heard) + 5,
            ("heartbeats_total", "in"): counters.rx_hbt,
            ("heartbeats_total", "out"): heard.count(Control.HEARTBEAT),
            ("bytes_total", "in"): counters.rx_bytes,
            ("bytes_total", "out"): counters.tx_bytes,
        }
        self.assertEqual(len(set(expected.values()) - {0}), len(expected))
        self.assertGreater(counters.rx_messages, 40 + counters.rx_hbt)
        text = self.text()
        for (name, way), figure in expected.items():
            labels = {"peer": "raw", **({"direction": way} if way else {})}
            self.assertEqual(value(text, f"peerproto_peer_{name}", **labels), figure, name)

    def test_node(self) -> None:
        """The node says whether it may be relied on, and where its resync stands."""
        self.network.start()
        before = self.text()
        self.assertEqual(value(before, "peerproto_up_to_date"), 0)
        self.assertEqual(value(before, "peerproto_ready"), 0)
        self.network.advance(6)
        text = self.text()
        self.assertEqual(value(text, "peerproto_up_to_date"), 1)
        self.assertEqual(value(text, "peerproto_ready"), 1)
        states = [one for one in samples(text) if one.name == "peerproto_resync_state"]
        self.assertEqual([one.labels["state"] for one in states if one.value], ["up_to_date"])
        self.assertGreater(len(states), 3)
        self.assertEqual(value(text, "peerproto_build_info", localpeer="here"), 1)
        self.assertGreater(value(text, "peerproto_uptime_seconds"), 6)
        self.assertGreater(value(text, "process_resident_memory_bytes"), 0)

    def test_parts(self) -> None:
        """What parts measure is there under their own names, and whether they are ready."""
        self.here.add_part("bell", Bell())
        self.here.add_part("other", Bell("no clapper"))
        text = self.text()
        self.assertEqual(value(text, "peerproto_part_ready", part="bell"), 1)
        self.assertEqual(value(text, "peerproto_part_ready", part="other"), 0)
        self.assertIn("# TYPE bell_rung_total counter\n", text)
        self.assertEqual(text.count("# HELP bell_rung_total"), 1)
        rung = [one for one in samples(text) if one.name == "bell_rung_total"]
        self.assertEqual(
            [(one.labels["bell"], one.value) for one in rung[:2]],
            [("big", 3), ("sm\\x0A<b>\\xFF", 4)],
        )

    def test_odd_metric(self) -> None:
        """A metric whose name Prometheus cannot read is left out, and logged; the others stay."""

        class Odd(Bell):
            def metrics(self) -> Iterable[Metric]:
                yield Metric("", "", 1)
                yield from super().metrics()

        self.here.add_part("odd", Odd())
        self.assertEqual(value(self.text(), "bell_weight"), 1.5)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_odd_names(self) -> None:
        """Whatever a table, a peer or a key is called, each line is a sample, and nothing in it can
        move a cursor or end a label."""
        odd = 'a"b\\c\n<script>\x00\x1b[31m\udcff\u202e\ue000é'
        self.here.add_table(Declaration.parse(odd, NAMES))
        self.here.expect_peer("p\udcfe\"'")
        self.here.table(odd).set('k"\n\x1b\udcff', gpc0=7)
        text = self.text(Top(odd, "gpc0", 5))
        self.assertTrue(all(one.isprintable() for one in text.replace("\n", "")))
        names = {one.labels["name"] for one in samples(text) if "name" in one.labels}
        self.assertEqual(names, {"t", "u", printable(odd)})
        self.assertEqual(
            printable(odd),
            'a"b\\\\c\\x0A<script>\\x00\\x1B[31m\\xFF\\xE2\\x80\\xAE\\xEE\\x80\\x80é',
        )
        self.assertEqual(value(text, "peerproto_peer_connected", peer="p\\xFE\"'"), 0)
        self.assertEqual(value(text, "peerproto_top", key='k"\\n\\e\\xFF'), 7)
        self.assertEqual(printable("\ud800"), "\\xED\\xA0\\x80")

    def test_no_keys(self) -> None:
        """No key is in it unless it was asked for, and then no more than so many."""
        for key in range(1000, 1030):
            self.here.table("t").set(key, gpc0=key)
        self.assertNotIn("1029", self.text())
        text = self.text(Top("t", "gpc0", 3), Top("gone", "gpc0", 3))
        found = [one for one in samples(text) if one.name == "peerproto_top"]
        self.assertEqual(
            [(one.labels["key"], one.labels["value"], one.value) for one in found],
            [("1029", "gpc0", 1029), ("1028", "gpc0", 1028), ("1027", "gpc0", 1027)],
        )

    def test_top_of_shares(self) -> None:
        """Of a table that is shared per peer, each peer's entry is a sample of its own."""
        self.here.share("t", per_peer=True)
        self.network.start()
        self.network.advance(6)
        self.here.table("t").set(1, gpc0=4, peer="there")
        text = self.text(Top("t", "gpc0", 3))
        self.assertEqual(value(text, "peerproto_top", key="1", peer="there"), 4)
        self.assertEqual(value(text, "peerproto_table_share_entries", name="t", peer="there"), 1)

    def test_top_of_nothing(self) -> None:
        """A value that the table has not is logged once, and the rest is there."""
        top = Top("t", "gpc1", 3)
        metrics = Metrics(
            self.here, NodeCollector(self.here), TopEntries(self.here, lambda: (top,))
        )
        for _ in range(2):
            waiting = metrics.text()
            self.network.advance(1)
            text = self.successResultOf(waiting).decode()
            self.assertEqual(value(text, "haproxy_sticktable_used", name="t"), 0)

    def test_together(self) -> None:
        """All who ask at the same time get the same text, but for those who leave; when the
        service stops, they are told."""
        self.network.start()
        metrics = Metrics(self.here, NodeCollector(self.here), TopEntries(self.here, lambda: ()))
        leaving, first, second = metrics.text(), metrics.text(), metrics.text()
        leaving.addErrback(lambda reason: reason.trap(CancelledError)).cancel()
        self.network.advance(1)
        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        late = metrics.text()
        self.here.stopService()
        self.failureResultOf(late, CancelledError)

    def test_registry(self) -> None:
        """The collector fits a registry of an application that has its own metrics."""
        registry = CollectorRegistry()
        lateness = Lateness(Clock())
        own = [Metric("mine", "", 5)]
        registry.register(NodeCollector(self.here, lateness, lambda: own))
        text = generate_latest(registry).decode()
        self.assertEqual(value(text, "mine"), 5)
        self.assertEqual(value(text, "peerproto_reactor_late_seconds_count"), 0)
        self.assertEqual(value(text, "peerproto_reactor_longest_late_seconds"), 0)


class LatenessTests(SynchronousTestCase):
    def test_late(self) -> None:
        """Calls that come late are counted by how late, and the longest is known for a minute."""
        clock = Clock()
        lateness = Lateness(clock)
        lateness.start()
        clock.pump([0.1] * 10)
        clock.advance(0.4)
        clock.pump([0.1] * 10)
        buckets = {
            one.labels["le"]: one.value
            for one in lateness.histogram("late", "").samples
            if one.name == "late_bucket"
        }
        self.assertEqual((buckets["0.25"], buckets["1.0"], buckets["+Inf"]), (20, 21, 21))
        self.assertAlmostEqual(lateness.longest(), 0.3)
        clock.pump([0.1] * 500)
        self.assertAlmostEqual(lateness.longest(), 0.3)
        clock.pump([0.1] * 250)
        self.assertLess(lateness.longest(), 0.001)
        lateness.stop()
        lateness.stop()
        self.assertEqual(clock.getDelayedCalls(), [])


class TopTests(SynchronousTestCase):
    def read(self, text: str) -> tuple[Top, ...]:
        return read_tops(Line("peers.ini", 7, "metrics-top", text))

    def test_read(self) -> None:
        """Several may be asked for, of tables with any name that a file can have."""
        self.assertEqual(
            self.read("rates:http_req_rate:20  a:b/c:gpc[1]:1"),
            (Top("rates", "http_req_rate", 20), Top("a:b/c", "gpc[1]", 1)),
        )

    def test_wrong(self) -> None:
        """What is wrong, or more than there may be, is refused with its line."""
        many = " ".join(f"t{number}:gpc0:1" for number in range(11))
        for text in ("rates", "rates:gpc0", "t:gpc0:0", "t:gpc0:101", "t:G:1", many, " "):
            self.assertIn("peers.ini:7", str(self.assertRaises(ConfigError, self.read, text)))
        self.assertRaises(ConfigError, self.read, "t:gpc0:1 t:gpc0:2")

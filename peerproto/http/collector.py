"""What Prometheus is told of a node: its status as families of metrics.

Names and labels are HAProxy's own where it has them (``haproxy_sticktable_…``), and begin with
``peerproto_`` where not. No label has a key of a table, nor words that change with what happens.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Optional

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from twisted.logger import Logger

import peerproto
import twisted
from peerproto import Metric as PartMetric
from peerproto import NodeStatus, PeerStatus, StickTableService, TableStatus
from peerproto.http.lateness import Lateness
from peerproto.service.printable import printable
from peerproto.service.status import LACKS, RESYNC_STATES, SESSION_STATES

_log: Final = Logger()

AWAY: Final = "away"
"""The state of a peer with which there is no session."""

Rows = Iterable[tuple[Sequence[str], Optional[float]]]
"""The values of labels, and the value of the metric; ``None`` if there is none."""

_TABLE: Final = ("name", "type")
"""HAProxy's labels of a table."""

_PEER_GAUGES: Final[tuple[tuple[str, str, Callable[[PeerStatus], Optional[float]]], ...]] = (
    ("connected", "Whether there is a session with the peer", lambda one: one.connected),
    ("in_step", "Whether the peer and this node have the same", lambda one: one.in_step),
    (
        "handshake_status",
        "Latest status of a handshake with the peer, such as 200",
        lambda one: one.handshake_status,
    ),
    (
        "lag_changes",
        "Changes made here that the peer has not acked",
        lambda one: one.lag.changes,
    ),
    (
        "lag_seconds",
        "Age of the oldest change made here that the peer has not acked",
        lambda one: one.lag.ms / 1000,
    ),
)

_PEER_COUNTERS: Final[tuple[tuple[str, str, Callable[[PeerStatus], float]], ...]] = (
    ("handshakes", "Handshakes that succeeded", lambda one: one.counters.new_conn),
    ("reconnects", "Sessions after the first one", lambda one: one.reconnects),
    (
        "collisions",
        "Sessions closed because the peer had a newer one",
        lambda one: one.counters.coll,
    ),
    (
        "protocol_errors",
        "Sessions ended by a protocol error, on either side",
        lambda one: one.counters.proto_err,
    ),
    (
        "silences",
        "Sessions ended because nothing came for too long",
        lambda one: one.counters.no_hbt,
    ),
    ("lessons_learnt", "Lessons learnt to the end", lambda one: one.counters.confirm),
    (
        "refused_definitions",
        "Definitions of tables that are not shared, since ours differ or there is none",
        lambda one: one.counters.refused_definitions,
    ),
)

_PEER_WAYS: Final[tuple[tuple[str, str, Callable[[PeerStatus], tuple[float, float]]], ...]] = (
    (
        "bytes",
        "Bytes of sessions, without what TLS and TCP add",
        lambda one: (one.counters.rx_bytes, one.counters.tx_bytes),
    ),
    (
        "messages",
        "Messages of sessions, of all kinds",
        lambda one: (one.counters.rx_messages, one.counters.tx_messages),
    ),
    (
        "updates",
        "Updates of entries",
        lambda one: (one.counters.rx_updates, one.counters.tx_updates),
    ),
    ("heartbeats", "Heartbeats", lambda one: (one.counters.rx_hbt, one.counters.tx_hbt)),
)
"""What goes in and out."""

_TABLE_GAUGES: Final[tuple[tuple[str, str, Callable[[TableStatus], Optional[float]]], ...]] = (
    ("haproxy_sticktable_size", "Stick table size.", lambda one: one.declaration.size),
    (
        "haproxy_sticktable_used",
        "Number of entries used in this stick table.",
        lambda one: one.used,
    ),
    (
        "haproxy_sticktable_local_updates",
        "Number of changes made here, modulo 2^32",
        lambda one: one.update_id,
    ),
    (
        "peerproto_table_tombstones",
        "Entries that were forgotten here and of which peers are still told",
        lambda one: one.tombstones,
    ),
)

_TABLE_COUNTERS: Final[tuple[tuple[str, str, Callable[[TableStatus], float]], ...]] = (
    (
        "peerproto_table_trashed",
        "Entries removed to make room for others",
        lambda one: one.trashed,
    ),
    (
        "peerproto_table_refused",
        "Entries that a full table with nopurge did not take",
        lambda one: one.refused,
    ),
)


class NodeCollector(Collector):
    """A collector for a registry of ``prometheus_client``."""

    def __init__(
        self,
        service: StickTableService,
        lateness: Optional[Lateness] = None,
        own: Callable[[], Iterable[PartMetric]] = lambda: (),
    ) -> None:
        """
        :param lateness: how late the reactor is, if that is looked at.
        :param own: gives what else is measured.
        """
        self._service = service
        self._lateness = lateness
        self._own = own

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the node at the moment."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families, as of the moment in which the first one is asked for."""
        service = self._service
        status = service.status()
        readiness = service.parts.readiness()
        ready = not service.not_ready()
        now = service.time.now()
        yield from _node(status, service.speed, ready)
        yield from _peers(list(status.peers.values()), now)
        yield from _tables(list(status.tables.values()))
        yield _gauge(
            "peerproto_part_ready",
            "Whether a part of the node is ready",
            ("part",),
            (((name,), why is None) for name, why in readiness.items()),
        )
        yield from _measured([*service.parts.metrics(), *self._own()])
        if self._lateness is not None:
            yield self._lateness.histogram(
                "peerproto_reactor_late_seconds", "How late calls of the reactor were"
            )
            yield _gauge(
                "peerproto_reactor_longest_late_seconds",
                "How late the latest call of the last minute was",
                (),
                [((), self._lateness.longest())],
            )


def _node(status: NodeStatus, speed: str, ready: bool) -> Iterator[Metric]:
    build = InfoMetricFamily("peerproto_build", "What runs")
    build.add_metric(
        (),
        {
            "version": peerproto.__version__,
            "speed": speed,
            "python": platform.python_version(),
            "twisted": twisted.__version__,
            "localpeer": printable(status.localpeer),
        },
    )
    yield build
    uptime = [((), status.uptime / 1000)]
    yield _gauge("peerproto_uptime_seconds", "How long the node has run", (), uptime)
    yield _gauge("peerproto_ready", "Whether the node may be relied on", (), [((), ready)])
    yield _gauge(
        "peerproto_up_to_date",
        "Whether the node counts itself up to date, and learns from nobody",
        (),
        [((), status.up_to_date)],
    )
    yield _gauge(
        "peerproto_resync_state",
        "Where the node stands as a learner: 1 for one state, 0 for the others",
        ("state",),
        (((one,), one == status.resync) for one in RESYNC_STATES),
    )


def _peers(peers: list[PeerStatus], now: int) -> Iterator[Metric]:
    """Families about peers; ``now`` in ms since the epoch."""
    names = {one.name: printable(one.name) for one in peers}
    info = InfoMetricFamily("peerproto_peer", "What is known of a peer", labels=("peer",))
    for one in peers:
        more = {"address": printable(one.address), "protocol": one.version or "none"}
        info.add_metric((names[one.name],), more)
    yield info
    yield _gauge(
        "peerproto_peer_state",
        "The state of the session with a peer: 1 for one state, 0 for the others",
        ("peer", "state"),
        (
            ((names[one.name], _word(state)), state == (one.state or AWAY))
            for one in peers
            for state in (AWAY, *SESSION_STATES)
        ),
    )
    yield _gauge(
        "peerproto_peer_out_of_step",
        "Kinds of reasons why a peer and this node do not have the same: 1 for those that hold",
        ("peer", "reason"),
        (((names[one.name], lack), lack in one.lacks) for one in peers for lack in LACKS),
    )
    for word, words, value in _PEER_GAUGES:
        rows = (((names[one.name],), value(one)) for one in peers)
        yield _gauge(f"peerproto_peer_{word}", words, ("peer",), rows)
    yield _gauge(
        "peerproto_peer_last_handshake_timestamp_seconds",
        "When the latest session with the peer began, in seconds since the epoch",
        ("peer",),
        (
            ((names[one.name],), None if (ago := one.handshake_ago) is None else (now - ago) / 1000)
            for one in peers
        ),
    )
    for word, words, count in _PEER_COUNTERS:
        rows = (((names[one.name],), count(one)) for one in peers)
        yield _counter(f"peerproto_peer_{word}", words, ("peer",), rows)
    for word, words, both in _PEER_WAYS:
        ways = [
            ((names[one.name], way), value)
            for one in peers
            for way, value in zip(("in", "out"), both(one))
        ]
        yield _counter(f"peerproto_peer_{word}", words, ("peer", "direction"), ways)


def _tables(tables: list[TableStatus]) -> Iterator[Metric]:
    labels = {
        one.name: (printable(one.name), one.declaration.layout.key_type.word) for one in tables
    }
    for name, words, value in _TABLE_GAUGES:
        yield _gauge(name, words, _TABLE, ((labels[one.name], value(one)) for one in tables))
    for name, words, count in _TABLE_COUNTERS:
        yield _counter(name, words, _TABLE, ((labels[one.name], count(one)) for one in tables))
    yield _gauge(
        "peerproto_table_share_entries",
        "Entries of the share that a peer has of a table",
        (*_TABLE, "peer"),
        (
            ((*labels[one.name], printable(peer)), used)
            for one in tables
            for peer, used in one.shares.items()
        ),
    )


def _measured(metrics: Iterable[PartMetric]) -> Iterator[Metric]:
    """What parts measure: those of one name together. What Prometheus could not read is left
    out."""
    families: dict[str, Metric] = {}
    for one in metrics:
        family = families.get(one.name)
        if family is None:
            make = CounterMetricFamily if one.counter else GaugeMetricFamily
            try:
                family = families[one.name] = make(one.name, one.help, labels=tuple(one.labels))
            except ValueError:
                _log.failure("metric {name} of a part is left out", name=one.name)
                continue
        values = {label: printable(value) for label, value in one.labels.items()}
        family.add_sample(family.name + ("_total" if one.counter else ""), values, one.value)
    yield from families.values()


def _gauge(name: str, words: str, labels: Sequence[str], rows: Rows) -> Metric:
    return _filled(GaugeMetricFamily(name, words, labels=labels), name, labels, rows)


def _counter(name: str, words: str, labels: Sequence[str], rows: Rows) -> Metric:
    return _filled(CounterMetricFamily(name, words, labels=labels), f"{name}_total", labels, rows)


def _filled(family: Metric, sample: str, labels: Sequence[str], rows: Rows) -> Metric:
    for values, value in rows:
        if value is not None:
            family.add_sample(sample, dict(zip(labels, values)), value)
    return family


def _word(text: str) -> str:
    return text.replace(" ", "_")

"""Metrics of a real node in a real Prometheus: dashboard, alerts, and HAProxy's own names."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred

from testbed import (
    HAProxy,
    Mesh,
    Peerproto,
    Prometheus,
    closed,
    converse,
    free_port,
    get,
    promtool,
    until,
    write_token,
)

DOC = Path(__file__).parent.parent / "doc"
TOKEN = "t0ken-of-readers"

DECLARED = {
    "t_ip6": "type ipv6 size 1m expire 30m store gpc0,bytes_out_cnt",
    "t_str": "type string len 32 size 1m expire 2h store gpc0,http_req_rate(5m)",
    "t_bin": "type binary len 8 size 1m expire 2h store gpc0,http_req_cnt",
    "t_never": "type integer size 1m store gpc0",
}
"""Tables as HAProxy declares them: nothing on the wire tells of their size."""

LINE = "type string len 32 size 10k expire 10m store http_req_cnt"
TABLES = f"""\
backend counted
    stick-table {LINE} peers mesh
backend counted.agg
    stick-table {LINE} peers mesh
"""
RULES = """\
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request track-sc0 url_param(u) table {table}
    http-request return status 200
"""


@pytest.fixture
def prometheus(mesh: Mesh) -> Iterator[Prometheus]:
    """One that is ended after the test."""
    made = Prometheus(mesh.folder)
    yield made
    made.kill()


async def exposition(port: int, token: str = "") -> str:
    """The text at ``/metrics`` of a port."""
    conversation = await converse(port)
    allowed = f"Authorization: Bearer {token}\r\n" if token else ""
    conversation.send(f"GET /metrics HTTP/1.0\r\nHost: localhost\r\n{allowed}\r\n".encode())
    answer = await closed(conversation, "/metrics")
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.split()[1] == "200", answer
    return body


def of_tables(text: str) -> dict[tuple[str, str, str, str], tuple[str, float]]:
    """By metric, its type, and the labels of a table: its help and its value."""
    text = "".join(one for one in text.splitlines(True) if "haproxy_sticktable_" in one)
    return {
        (family.name, family.type, one.labels["name"], one.labels["type"]): (
            family.documentation,
            one.value,
        )
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.labels["name"] in DECLARED
    }


@ensureDeferred
async def test_names_of_haproxy(mesh: Mesh) -> None:
    """What HAProxy's exporter says of stick tables, ours says of the same tables in the same words
    and with the same figures."""
    mesh.rules = RULES.format(table="t_str") + mesh.rules
    declared = "\n".join(f"{name} = {line}" for name, line in DECLARED.items())
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto(declared=declared)
    port = free_port()
    peer.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\n"
    mesh.start()
    await haproxy.up()
    await peer.in_step("lb1")
    for user in range(5):
        assert await get(haproxy.web, f"/?u=user{user}") == 200

    async def same() -> bool:
        theirs = of_tables(await exposition(haproxy.web))
        ours = of_tables(await exposition(port))
        for key, said in theirs.items():
            assert ours.get(key) == said, key
        return len(theirs) == 2 * len(DECLARED)

    await until(same, "both say the same")
    ours = of_tables(await exposition(port))
    assert ours["haproxy_sticktable_used", "gauge", "t_str", "string"][1] == 5
    print(
        f"counted: {len(ours)} metrics of tables, as HAProxy {haproxy.program.version} names them"
    )


async def fleet(mesh: Mesh) -> tuple[Peerproto, int, list[HAProxy]]:
    """Two HAProxies and a node that adds up what they count, and is asked with a token."""
    mesh.tables, mesh.rules = TABLES, RULES.format(table="counted")
    token = write_token(mesh.folder / "token", TOKEN)
    hub = mesh.peerproto(
        "hub",
        f"counted = {LINE} recv-only\nids = type integer size 1k expire 1h store gpc0",
    )
    port = free_port()
    hub.more = (
        f"[http]\nbind = tcp:{port}:interface=127.0.0.1\nread-token-file = {token}\n"
        "metrics-top = ids:gpc0:3\n"
        "[aggregate counted]\nto = counted.agg\nexpect = lb1 lb2\ngrace = 10m\n"
    )
    haproxies = [mesh.haproxy("lb1"), mesh.haproxy("lb2")]
    hub.start(mesh.nodes)
    for one in haproxies:
        one.start([one, hub])
        await one.up()
    await hub.in_step("lb1", "lb2")
    return hub, port, haproxies


def panels() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of each query of the dashboard."""
    dashboard = json.loads((DOC / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$instance", ".*")
            expression = expression.replace("$__rate_interval", "10s")
            assert "$" not in expression, expression
            yield panel["title"], expression, target["legendFormat"]


@ensureDeferred
async def test_dashboard_and_alerts(mesh: Mesh, prometheus: Prometheus) -> None:
    """A Prometheus that scrapes a node has something for each panel of the dashboard; no key is in
    it but those that were asked for. Each alert fires when its time has come."""
    hub, port, haproxies = await fleet(mesh)
    # What lasts minutes in the file takes a second here; the time itself is tried by promtool.
    rules, count = re.subn(r"\bfor: \w+", "for: 1s", (DOC / "alerts.yml").read_text())
    assert count == len(re.findall(r"- alert:", rules))
    prometheus.start(port, mesh.folder / "token", rules)
    for number in range(20):
        assert await get(haproxies[number % 2].web, f"/?u=visitor-{number}") == 200
    await hub.ask("set table ids key 4711 data.gpc0 9; set table ids key 4712 data.gpc0 8")
    queries = 0
    for title, expression, legend in panels():
        found = await prometheus.has(expression)
        assert not all(math.isnan(float(one["value"][1])) for one in found), (title, expression)
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert all(label in one["metric"] for one in found), (title, legend, found)
        queries += 1
    top = await prometheus.has('peerproto_top{table="ids"}')
    assert {one["metric"]["key"]: one["value"][1] for one in top} == {"4711": "9", "4712": "8"}
    assert "visitor" not in await exposition(port, TOKEN)
    in_step = await prometheus.query("peerproto_peer_in_step")
    assert {one["metric"]["peer"]: one["value"][1] for one in in_step} == {"lb1": "1", "lb2": "1"}
    print(f"counted: {queries} queries of the dashboard, none of them empty")
    await alerts_fire(prometheus, haproxies, rules)


async def alerts_fire(prometheus: Prometheus, haproxies: list[HAProxy], rules: str) -> None:
    """Stop a HAProxy, and wait for all alerts."""
    expected = set(re.findall(r"- alert: (\w+)", rules))
    assert await prometheus.alerts() == []
    haproxies[1].send_signal(signal.SIGSTOP)
    # The sums that change now are not acked by the one that was stopped.
    assert await get(haproxies[0].web, "/?u=late") == 200

    async def all_fire() -> bool:
        firing = [one for one in await prometheus.alerts() if one["state"] == "firing"]
        assert {one["labels"]["alertname"] for one in firing} == expected, firing
        blamed = {one["labels"].get("peer") for one in firing} - {None}
        assert blamed == {"lb2"}, [one["annotations"] for one in firing]
        return True

    await until(all_fire, "all alerts fire")
    (told,) = [
        one
        for one in await prometheus.alerts()
        if one["labels"]["alertname"] == "PeerprotoPeerOutOfStep"
    ]
    assert "not_connected" in told["annotations"]["description"], told
    haproxies[1].send_signal(signal.SIGCONT)
    print(f"counted: {len(expected)} alerts fired: {', '.join(sorted(expected))}")


def test_times_of_alerts(tmp_path: Path) -> None:
    """Each alert fires once its time is over, and no earlier."""

    def case(name: str, series: str, values: str, minutes: int, labels: str) -> dict[str, Any]:
        # It holds from the third minute on.
        alert = {"exp_labels": json.loads(labels)}
        all_sources = 'peerproto_aggregate_sources{instance="a",table="t",to="t.agg"}'
        more = [{"series": all_sources, "values": "2x25"}]
        return {
            "interval": "1m",
            "input_series": [{"series": series, "values": values}, *more],
            "alert_rule_test": [
                {"eval_time": f"{2 + minutes}m", "alertname": name, "exp_alerts": [alert]},
                {"eval_time": f"{1 + minutes}m", "alertname": name, "exp_alerts": []},
                {"eval_time": "20m", "alertname": name, "exp_alerts": []},
            ],
        }

    gone, back = "1 1 0x8", "1x10"
    peer = '"severity": "warning", "instance": "a", "peer": "lb1"'
    cases = [
        case(
            "PeerprotoPeerOutOfStep",
            'peerproto_peer_in_step{instance="a",peer="lb1"}',
            f"{gone} {back}",
            5,
            f"{{{peer}}}",
        ),
        case(
            "PeerprotoLag",
            'peerproto_peer_lag_seconds{instance="a",peer="lb1"}',
            "0 10 11x8 0x10",
            1,
            f"{{{peer}}}",
        ),
        case(
            "PeerprotoNoAuthority",
            'peerproto_aggregate_authority{instance="a",table="t",to="t.agg"}',
            f"{gone} {back}",
            1,
            '{"severity": "critical", "instance": "a", "table": "t", "to": "t.agg"}',
        ),
        case(
            "PeerprotoSourceMissing",
            'peerproto_aggregate_sources_in{instance="a",table="t",to="t.agg"}',
            "2 2 1x8 2x10",
            5,
            '{"severity": "warning", "instance": "a", "table": "t", "to": "t.agg"}',
        ),
        case(
            "PeerprotoNotReady",
            'peerproto_ready{instance="a"}',
            f"{gone} {back}",
            5,
            '{"severity": "critical", "instance": "a"}',
        ),
    ]
    rules = (DOC / "alerts.yml").read_text()
    assert len(cases) == len(re.findall(r"- alert:", rules))
    # What an alert says is not compared here.
    bare = re.sub(r"\n        annotations:\n(          .*\n)+", "\n", rules)
    (tmp_path / "alerts.yml").write_text(bare)
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    promtool("check", "rules", str(DOC / "alerts.yml"), folder=tmp_path)
    assert "SUCCESS" in promtool("test", "rules", "tests.yml", folder=tmp_path)

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from .mesh import HAProxy, Node, Peerproto

ALL_TABLES = """\
backend t_ip
    stick-table type ip size 1m expire 1h store server_id,gpt0,gpc0,gpc0_rate(10s),conn_cnt,\
conn_rate(10s),conn_cur,sess_cnt,sess_rate(10s),http_req_cnt,http_req_rate(10s),http_err_cnt,\
http_err_rate(10s),bytes_in_cnt,bytes_in_rate(10s),bytes_out_cnt,bytes_out_rate(10s),gpc1,\
gpc1_rate(10s),http_fail_cnt,http_fail_rate(10s) peers mesh
backend t_ip6
    stick-table type ipv6 size 1m expire 30m store gpc0,bytes_out_cnt peers mesh
backend t_str
    stick-table type string len 32 size 1m expire 2h store gpc0,http_req_rate(60s) peers mesh
backend t_bin
    stick-table type binary len 8 size 1m expire 2h store gpc0,http_req_cnt peers mesh
backend t_arr
    stick-table type string len 64 size 1m expire 1h store gpt(4),gpc(3),gpc_rate(2,10s) peers mesh
backend t_never
    stick-table type integer size 1m store gpc0 peers mesh
backend t_srv
    stick-table type string len 32 size 1m expire 1h store server_id,server_key peers mesh
    stick on url_param(u)
    server s1 127.0.0.1:{origin}
    server s2-with-a-longer-name 127.0.0.1:{origin}
"""
"""Every key type, and every data type that HAProxy 2.6 knows."""

ALL_RULES = """\
    http-request track-sc0 src table t_ip
    http-request track-sc1 base32+src table t_bin
    http-request track-sc2 path table t_arr
    http-request sc-set-gpt(1,2) 7
    http-request sc-inc-gpc(0,2)
    http-request sc-inc-gpc(2,2)
    use_backend t_srv
"""


@attrs.define
class Mesh:
    """Makes peers, and ends them all."""

    folder: Path
    nodes: list[Node] = attrs.Factory(list)

    def haproxy(self, name: str, tables: str = ALL_TABLES, frontend: str = ALL_RULES) -> HAProxy:
        node = HAProxy(name, self.folder, tables=tables, frontend=frontend)
        self.nodes.append(node)
        return node

    def peerproto(self, name: str = "peerproto", declared: str = "") -> Peerproto:
        node = Peerproto(name, self.folder, declared=declared)
        self.nodes.append(node)
        return node

    def start(self, *nodes: Node) -> None:
        """Start nodes; all nodes know each other."""
        for node in nodes or self.nodes:
            assert isinstance(node, (HAProxy, Peerproto))
            node.start(self.nodes)


@pytest.fixture
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """An empty mesh. The logs of its peers are shown when a test fails."""
    # Paths of UNIX sockets must be short.
    with tempfile.TemporaryDirectory(prefix="pp") as folder:
        made = Mesh(Path(folder))
        yield made
        for node in made.nodes:
            node.kill()
            if node.log.exists():
                print(f"--- {node.name}\n{node.log.read_text()}")

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Browser, HAProxy, Mesh, Program, default, missing, programs

from .checked import check_files

ALL_TABLES = """\
backend t_ip
    stick-table type ip size 1m expire 1h store server_id,gpt0,gpc0,gpc0_rate(10m),conn_cnt,\
conn_rate(10m),conn_cur,sess_cnt,sess_rate(10m),http_req_cnt,http_req_rate(10m),http_err_cnt,\
http_err_rate(10m),bytes_in_cnt,bytes_in_rate(10m),bytes_out_cnt,bytes_out_rate(10m),gpc1,\
gpc1_rate(10m),http_fail_cnt,http_fail_rate(10m) peers mesh
backend t_ip6
    stick-table type ipv6 size 1m expire 30m store gpc0,bytes_out_cnt peers mesh
backend t_str
    stick-table type string len 32 size 1m expire 2h store gpc0,http_req_rate(5m) peers mesh
backend t_bin
    stick-table type binary len 8 size 1m expire 2h store gpc0,http_req_cnt peers mesh
backend t_arr
    stick-table type string len 64 size 1m expire 1h store gpt(4),gpc(3),gpc_rate(2,10m) peers mesh
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


_EVERY = [pytest.param(one, id=one.branch) for one in programs().values()]

every_haproxy = pytest.mark.parametrize("program", _EVERY)
"""Runs a test, or all tests of a module, with each HAProxy that there is."""

IS_LONG = bool(os.environ.get("EVERY_HAPROXY"))
"""Whether this is ``make long``."""

oldest_and_newest = pytest.mark.parametrize(
    "program", _EVERY if IS_LONG else [*_EVERY[:1], *_EVERY[1:][-1:]]
)
"""The same with two of them, for tests that take long; ``make long`` runs these with each."""


@pytest.fixture
def program() -> Program:
    """The HAProxy of a test that runs with one alone."""
    return default()


@pytest.fixture
def mesh(program: Program) -> Iterator[Mesh]:
    """An empty mesh. The logs of its peers are shown when a test fails."""
    # Paths of UNIX sockets must be short.
    with tempfile.TemporaryDirectory(prefix="pp") as folder:
        made = Mesh(Path(folder), program=program, tables=ALL_TABLES, rules=ALL_RULES)
        yield made
        made.end()
        haproxies = [node for node in made.nodes if isinstance(node, HAProxy)]
        check_files(node.file for node in haproxies if node.file.exists())


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser, in whose pages nothing may be wrong in the end."""
    made = Browser()
    try:
        yield made
        for window in made.windows:
            assert not window.complaints, window.complaints
    finally:
        made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which HAProxies the tests ran with, and which of those that they should have."""
    found = programs()
    terminalreporter.section("HAProxies")
    for program in found.values():
        terminalreporter.line(f"{program.branch}: {program.version}, {program.command[0]}")
    for report in terminalreporter.getreports("passed"):
        for line in report.capstdout.splitlines():
            if line.startswith("counted: "):
                terminalreporter.line(line)
    for branch, why in missing().items():
        terminalreporter.line(f"{branch}: MISSING, NOTHING WAS TRIED WITH IT: {why}", red=True)

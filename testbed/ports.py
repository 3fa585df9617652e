"""Loopback ports that nothing else uses."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path


def _first_ephemeral() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def _own() -> range:
    """The ports of this process: tests that run side by side share none."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(15_000 + number, _first_ephemeral(), count)


_ports = iter(random.sample(_own(), len(_own()) // 2))


def free_port() -> int:
    """A loopback port that nobody uses now, and that no outgoing connection will get.

    Processes are killed and started again on their ports: among the ephemeral ones
    that the system picks, a connection may have taken theirs meanwhile.

    :raises RuntimeError: all ports were given out.
    """
    for port in _ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError("all ports were given out")

"""Who came where: each HAProxy counts for itself in one table, and a visitor's counts are added up.

With plain peers, HAProxies that count the same visitor overwrite each other's counters. Here each
has a share of its own, which it is taught again after a restart. Run it beside HAProxies that know
this peer, and not each other::

    python doc/examples/shares.py lb1=127.0.0.1:10000 lb2=127.0.0.1:10002
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from peerproto import StickTableService


def report(service: StickTableService) -> list[str]:
    """A line for each visitor: the sum, and what each HAProxy has counted; then who is away."""
    counts: dict[str, dict[str, int]] = {}
    for entry in service.table("rates"):
        counts.setdefault(str(entry.key), {})[entry.peer or ""] = entry.number("gpc0")
    lines = []
    for visitor, by_peer in sorted(counts.items()):
        each = ", ".join(f"{count} at {peer}" for peer, count in by_peer.items())
        lines.append(f"{visitor}: {sum(by_peer.values())} ({each})")
    for name, peer in service.status().peers.items():
        if not peer.connected:
            lines.append(f"{name} is away: {peer.trouble}")
        elif peer.out_of_step:
            lines.append(f"{name} is not in step: {'; '.join(peer.out_of_step)}")
    return lines


async def main(reactor: Any, *peers: str) -> None:
    service = StickTableService(
        "peerproto",
        peers=dict(peer.split("=", 1) for peer in peers),
        tables={"rates": "type ip size 1m expire 10m store gpc0"},
        bind="tcp:10001:interface=127.0.0.1",
        reactor=reactor,
    )
    service.share("rates", per_peer=True)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    while service.running:
        for line in report(service):
            print(line, flush=True)
        await deferLater(reactor, 1)


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))

"""A report on the visitors that a HAProxy knows: queries and lookup, without an observer.

Run it beside the HAProxy of haproxy.cfg, with the address of a visitor or without::

    python doc/examples/visitors.py 127.0.0.1
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from peerproto import Entry, StickTable, StickTableService


def busiest(rates: StickTable, number: int) -> list[Entry]:
    """The entries with the highest rate of requests, highest first."""
    return rates.top(number, "http_req_rate")


def report(rates: StickTable, address: str | None) -> str:
    """What is known of one visitor, or of the ten busiest."""
    if address is None:
        entries = busiest(rates, 10)
    else:
        entry = rates.get(address)
        if entry is None:
            return f"{address} was not here in the last 10 minutes"
        entries = [entry]
    return "\n".join(f"{entry.key!s:<16}{entry['http_req_rate']} in 10 s" for entry in entries)


async def main(reactor: Any, address: str | None) -> None:
    service = StickTableService(
        "peerproto",
        peers={"haproxy1": "tcp:127.0.0.1:10000"},
        tables={"rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)"},
        reactor=reactor,
    )
    service.startService()
    await service.when_up_to_date()
    print(report(service.table("rates"), address))
    await service.stopService()


if __name__ == "__main__":
    visitor = sys.argv[1] if len(sys.argv) > 1 else None
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, visitor)))

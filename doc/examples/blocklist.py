"""An application with a stick table of its own: it blocks visitors who knock too often.

Run it beside the HAProxy of haproxy.cfg, and send that a few requests::

    python doc/examples/blocklist.py
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from peerproto import Batch, Cause, Observer, StickTableService

LIMIT = 5
"""Requests in 10 s that are one too many."""

TABLES = {"rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)"}


class Doorkeeper(Observer):
    """Sets ``gpc0`` of who comes too often; HAProxy denies those."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def table_changed(self, batch: Batch) -> None:
        if batch.cause is not Cause.LEARNT:
            return
        for entry in batch.entries():
            rate, blocked = entry["http_req_rate"], entry["gpc0"]
            if isinstance(rate, int) and rate >= LIMIT and not blocked:
                print(f"{entry.key!s} came {rate} times in 10 s: blocked", flush=True)
                self._service.table(batch.table.name).set(entry.key, gpc0=1)


def application(service: StickTableService) -> MultiService:
    """The service with the doorkeeper watching it, and whatever else the application has."""
    service.add_observer(Doorkeeper(service))
    parent = MultiService()
    service.setServiceParent(parent)
    return parent


async def main(reactor: Any) -> None:
    service = StickTableService(
        "peerproto",
        peers={"haproxy1": "tcp:127.0.0.1:10000"},
        tables=TABLES,
        bind="tcp:10001:interface=127.0.0.1",
        reactor=reactor,
    )
    parent = application(service)
    parent.startService()
    reactor.addSystemEventTrigger("before", "shutdown", parent.stopService)
    print("up to date:", await service.when_up_to_date(), flush=True)
    print(f"{len(service.table('rates'))} visitors known", flush=True)
    await Deferred()


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))

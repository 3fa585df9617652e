"""A report of what changes, at a pace of its own: a feed, read once a second.

Run it beside the HAProxy of haproxy.cfg::

    python doc/examples/watch.py
"""

from __future__ import annotations

from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from peerproto import Feed, FeedOverrun, StickTableService


def report(feed: Feed, service: StickTableService) -> list[str]:
    """A line for each visitor who came or went since the last report, however often."""
    try:
        batches = feed.take()
    except FeedOverrun:
        # Too many to tell one by one. The feed goes on with what changes from here on.
        return [f"very many changes: {len(table)} in {table.name}" for table in service.tables]
    lines = []
    for batch in batches:
        if batch.cause.removes:
            lines += [f"{key!s} is gone: {batch.cause.value}" for key in batch.keys()]
        else:
            lines += [f"{entry.key!s}: {dict(entry)}" for entry in batch.entries()]
    return lines


async def watch(service: StickTableService, reactor: Any) -> None:
    """Print a report every second, until the service stops."""
    feed = service.feed(tables=["rates"])
    while service.running:
        for line in report(feed, service):
            print(line, flush=True)
        await deferLater(reactor, 1)


async def main(reactor: Any) -> None:
    service = StickTableService(
        "peerproto",
        peers={"haproxy1": "tcp:127.0.0.1:10000"},
        bind="tcp:10001:interface=127.0.0.1",
        reactor=reactor,
    )
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    await service.when_up_to_date()
    await watch(service, reactor)


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))

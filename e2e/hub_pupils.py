"""50 peers in one process, that call a hub and are taught by it: ``hub_pupils.py <port> <count>``.

Prints a line when all are up to date, and one with their counters when told to end.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from peerproto import StickTableService


async def main(reactor: Any, port: str, count: str) -> None:
    services = []
    for number in range(int(count)):
        service = StickTableService(
            f"pupil{number}", {"peerproto": f"tcp:127.0.0.1:{port}"}, reactor=reactor
        )
        service.startService()
        services.append(service)
    began = reactor.seconds()
    reasons = await gatherResults([service.when_up_to_date() for service in services])
    entries = {sum(map(len, service.tables)) for service in services}
    print(
        json.dumps(
            {
                "seconds": reactor.seconds() - began,
                "reasons": sorted(set(reasons)),
                "entries": sorted(entries),
                "dead": sum(one.peers["peerproto"].counters.no_hbt for one in services),
                "sessions": sum(one.peers["peerproto"].counters.new_conn for one in services),
            }
        ),
        flush=True,
    )
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])

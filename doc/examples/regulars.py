"""A feature of an application's own: who came how often, as a part of the node.

It has a command on the runtime socket (``show regulars``) and a place in ``show parts``. Run it
beside the HAProxy of haproxy.cfg, and ask it::

    python doc/examples/regulars.py &
    echo "show regulars 3" | socat - UNIX-CONNECT:/tmp/regulars.sock
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString

from peerproto import Command, CommandError, Part, StickTableService
from peerproto.runtime.protocol import runtime_service


class Regulars(Part):
    """Says who has the highest rates."""

    def __init__(self, service: StickTableService, table: str) -> None:
        self._service, self._name = service, table

    def status(self) -> Mapping[str, Any]:
        table = self._service.find_table(self._name)
        return {"visitors": 0 if table is None else len(table)}

    def commands(self) -> Iterable[Command]:
        return [Command(("show", "regulars"), "[<count>]", "who comes most often", self._show)]

    def _show(self, arguments: list[str]) -> Any:
        if arguments and not arguments[0].isdecimal():
            raise CommandError(f"How many of them: read '{arguments[0]}', expected a number")
        count = int(arguments[0]) if arguments else 10
        for entry in self._service.table(self._name).top(count, "http_req_rate"):
            yield f"{entry.key!s} {entry['http_req_rate']}\n"


async def main(reactor: Any) -> None:
    service = StickTableService(
        "peerproto",
        peers={"haproxy1": "tcp:127.0.0.1:10000"},
        bind="tcp:10001:interface=127.0.0.1",
        reactor=reactor,
    )
    service.add_part("regulars", Regulars(service, "rates"))
    runtime = runtime_service(
        service, serverFromString(reactor, "unix:/tmp/regulars.sock:mode=600"), reactor
    )
    for one in (service, runtime):
        one.startService()
        reactor.addSystemEventTrigger("before", "shutdown", one.stopService)
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))

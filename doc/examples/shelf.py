"""Tables that outlive their process: a keeper that writes them into a file when it stops.

Run it, stop it with Ctrl-C, and run it again::

    python doc/examples/shelf.py shelf.pickle
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any, Optional

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from peerproto import IKeeper, Record, StickTableService


@implementer(IKeeper)
class Shelf:
    """Keeps all tables in one file: loaded before peers are called, written after the last session.

    Records refer to nothing that goes on: they may be written by a thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._service: Optional[StickTableService] = None
        self._loaded = False

    async def _load(self, service: StickTableService) -> None:
        self._service = service
        self._loaded = False
        if not self._path.exists():
            self._loaded = True
            return
        # The file is our own: pickle runs whatever a stranger's file tells it to.
        shelf: tuple[int, list[Record]] = await deferToThread(
            lambda: pickle.loads(self._path.read_bytes())
        )
        step, records = shelf
        for table in service.tables:
            mine = [record for record in records if record.declaration.name == table.name]
            print(f"{table.name}: {table.restore(mine, step)} entries are back", flush=True)
        self._loaded = True

    def load(self, service: StickTableService) -> Deferred[None]:
        return Deferred.fromCoroutine(self._load(service))

    def stop(self) -> Optional[Deferred[Any]]:
        service = self._service
        if service is None or not self._loaded:
            return None  # what could not be read is not to be written over
        # All sessions are over: nobody waits for the reactor any more.
        records = [record for table in service.tables for record in table.records()]
        return deferToThread(self._write, pickle.dumps((service.time.step(), records)))

    def _write(self, data: bytes) -> None:
        new = self._path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(self._path)


async def main(reactor: Any, path: str) -> None:
    service = StickTableService(
        "peerproto",
        peers={"haproxy1": "tcp:127.0.0.1:10000"},
        tables={"rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)"},
        bind="tcp:10001:interface=127.0.0.1",
        keeper=Shelf(Path(path)),
        reactor=reactor,
    )
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    await service.when_listening()
    print("ready", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))

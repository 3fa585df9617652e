"""How a node stands: an event for each peer, table and part, and for the resync."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peerproto import PeerStatus, StickTableService, TableStatus
from peerproto.http.sse import event
from peerproto.http.text import shown, written

Subject = tuple[str, str]
"""What an event is about: a kind, and a name."""


class Standing:
    """Finds out what stands otherwise than it did."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service
        self.texts: dict[Subject, bytes] = {}
        """By what it is about, the latest event."""

    def look(self) -> dict[Subject, bytes]:
        """The events of what stands otherwise than it did when this was asked for last."""
        before, self.texts = self.texts, dict(self._all())
        news = {about: text for about, text in self.texts.items() if before.get(about) != text}
        for kind, name in before.keys() - self.texts.keys():
            news[kind, name] = event(kind, {"name": written(name), "removed": True})
        return news

    def _all(self) -> Iterator[tuple[Subject, bytes]]:
        status = self._service.status()
        resync = {
            "state": status.resync,
            "reason": shown(status.reason),
            "up_to_date": status.up_to_date,
        }
        yield ("resync", ""), event("resync", resync)
        for peer in status.peers.values():
            yield ("peer", peer.name), event("peer", _peer(peer))
        for table in status.tables.values():
            yield ("table", table.name), event("table", _table(table))
        readiness = self._service.parts.readiness()
        for name, values in status.parts.items():
            why = readiness.get(name)
            value = {
                "name": written(name),
                "ready": why is None,
                "reason": None if why is None else shown(why),
                "status": {
                    written(key): shown(one) if isinstance(one, str) else one
                    for key, one in values.items()
                },
            }
            yield ("part", name), event("part", value)


def _peer(peer: PeerStatus) -> dict[str, Any]:
    return {
        "name": written(peer.name),
        "connected": peer.connected,
        "state": peer.state,
        "in_step": peer.in_step,
        "out_of_step": [shown(one) for one in peer.out_of_step],
        "reasons": sorted(peer.lacks),
        "trouble": None if peer.trouble is None else shown(peer.trouble),
        "reconnects": peer.reconnects,
    }


def _table(table: TableStatus) -> dict[str, Any]:
    declaration = table.declaration
    return {
        "name": written(table.name),
        "type": declaration.layout.key_type.word,
        "size": declaration.size,
        "expire": declaration.expire,
        "values": [cell.name for cell in declaration.layout.printed],
    }

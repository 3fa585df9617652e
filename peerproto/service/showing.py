"""What a node has, as values for JSON: the same for all ways into it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, Optional

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from peerproto.peering.reasons import Lack
from peerproto.service.filters import Cell
from peerproto.service.part import Detail
from peerproto.service.service import StickTableService
from peerproto.service.spelling import key_text, shown, written
from peerproto.service.status import PeerStatus
from peerproto.service.sticktable import StickTable
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry

ON_THE_WAY: Final = 3000
"""Time in ms that changes may take to a peer which counts as in step all the same."""


def entry_shown(entry: Entry) -> dict[str, Any]:
    """An entry."""
    layout = entry.layout
    value: dict[str, Any] = {
        "key": key_text(entry.raw_key, layout.key_type),
        "expires_in": entry.expires_in,
        "values": {cell.name: _value(entry.value(cell)) for cell in layout.printed},
    }
    if entry.peer is not None:
        value["peer"] = written(entry.peer)
    return value


def _value(value: Any) -> Any:
    return written(value) if isinstance(value, str) else value


def declaration_shown(declaration: Declaration) -> dict[str, Any]:
    """How a table is declared."""
    layout = declaration.layout
    is_string = layout.key_type.word == "string"
    return {
        "name": written(declaration.name),
        "type": layout.key_type.word,
        "key_length": layout.key_length - is_string,
        "size": declaration.size,
        "expire": declaration.expire or None,
        "nopurge": declaration.nopurge,
        "brates_factor": declaration.brates_factor,
        "columns": [_column(cell) for cell in layout.printed],
    }


def table_shown(table: StickTable, writers: Mapping[str, str]) -> dict[str, Any]:
    """A table; ``writers`` are the parts that alone write a table, by its name."""
    status, declaration = table.status(), table.declaration
    return {
        **declaration_shown(declaration),
        "used": status.used,
        "adopted_from": None if status.adopted_from is None else written(status.adopted_from),
        "written_by": writers.get(table.name),
        "shares": (
            {written(peer): used for peer, used in status.shares.items()}
            if table.per_peer
            else None
        ),
        "update_id": status.update_id,
        "stored": status.stored,
        "trashed": status.trashed,
        "refused": status.refused,
        "tombstones": status.tombstones,
    }


def _column(cell: Cell) -> dict[str, Any]:
    kind = "text" if cell.is_text else "number" if cell.column.period is None else "rate"
    return {
        "name": cell.name,
        "data_type": cell.column.name,
        "period": cell.column.period,
        "kind": kind,
    }


def plain(value: Any) -> Any:
    """An attrs object, and what is in it, as JSON has it."""
    if attrs.has(type(value)):
        return {one.name: plain(getattr(value, one.name)) for one in attrs.fields(type(value))}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return shown(value) if isinstance(value, str) else value


def peer_shown(peer: PeerStatus) -> dict[str, Any]:
    """A peer."""
    value: dict[str, Any] = plain(peer)
    return {
        **value,
        "name": written(peer.name),
        "reconnects": peer.reconnects,
        "in_step": peer.in_step,
        "keeps_up": keeps_up(peer),
        "reasons": sorted(peer.lacks),
    }


def not_ready(service: StickTableService) -> list[str]:
    """Why a node may not be relied on, in words."""
    reasons = service.not_ready()
    if not any(keeps_up(one.status()) for one in service.peers.values()):
        reasons.append("no peer is in step")
    return reasons


def keeps_up(peer: PeerStatus) -> bool:
    """Whether a peer is in step, but for changes of the last `ON_THE_WAY` ms: under load there are
    always some that it has not acked."""
    return peer.in_step or (peer.lacks == {Lack.BEHIND.value} and peer.lag.ms < ON_THE_WAY)


def parts_shown(service: StickTableService) -> dict[str, Any]:
    """The parts of the node."""
    parts = service.parts
    return {
        "parts": {
            shown(name): {shown(key): plain(value) for key, value in status.items()}
            for name, status in parts.status().items()
        },
        "not_ready": [shown(one) for one in parts.not_ready()],
        "details": {
            shown(name): [_detail_shown(one) for one in details]
            for name, details in parts.details().items()
        },
    }


def _detail_shown(detail: Detail) -> dict[str, Any]:
    return {
        "name": written(detail.name),
        "reads": None if detail.reads is None else written(detail.reads),
        "writes": None if detail.writes is None else written(detail.writes),
        "not_ready": None if detail.not_ready is None else shown(detail.not_ready),
        "values": {shown(key): plain(value) for key, value in detail.values.items()},
        "members": [
            {
                "name": written(one.name),
                "is_in": one.is_in,
                "state": shown(one.state),
                "notes": [shown(note) for note in one.notes],
                "values": {shown(key): plain(value) for key, value in one.values.items()},
            }
            for one in detail.members
        ],
    }


def node_shown(service: StickTableService, version: str) -> dict[str, Any]:
    """The node; ``version`` is that of peerproto."""
    status = service.status()
    return {
        "localpeer": written(status.localpeer),
        "version": version,
        "speed": service.speed,
        "running": status.running,
        "uptime": status.uptime,
        "up_to_date": status.up_to_date,
        "resync": status.resync,
        "resync_in_words": status.resync_in_words,
        "reason": shown(status.reason),
        "peers": len(status.peers),
        "connected": status.connected,
        "tables": len(status.tables),
        "entries": status.entries,
        "not_ready": [shown(one) for one in not_ready(service)],
        "listens": _address(service.address()),
    }


def _address(address: Any) -> Optional[str]:
    if isinstance(address, (IPv4Address, IPv6Address)):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{host}:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return shown(os.fsdecode(address.name))
    return None

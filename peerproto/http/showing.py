"""What a node has, as values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

import peerproto
from peerproto import Entry, PeerStatus, StickTable, StickTableService
from peerproto.http.schemas import Schema, schema_of
from peerproto.http.text import key_text, shown, written
from peerproto.service.filters import Cell


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


def table_shown(table: StickTable, writers: Mapping[str, str]) -> dict[str, Any]:
    """A table; ``writers`` are the parts that alone write a table, by its name."""
    status, declaration = table.status(), table.declaration
    layout = declaration.layout
    is_string = layout.key_type.word == "string"
    return {
        "name": written(table.name),
        "type": layout.key_type.word,
        "key_length": layout.key_length - is_string,
        "size": declaration.size,
        "used": status.used,
        "expire": declaration.expire or None,
        "nopurge": declaration.nopurge,
        "columns": [_column(cell) for cell in layout.printed],
        "adopted_from": None if status.adopted_from is None else written(status.adopted_from),
        "written_by": writers.get(table.name),
        "shares": (
            {written(peer): used for peer, used in status.shares.items()}
            if table.per_peer
            else None
        ),
        "update_id": status.update_id,
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
    }


def _peer_schema() -> Schema:
    schema = schema_of(PeerStatus)
    more = {"reconnects": {"type": "integer", "minimum": 0}, "in_step": {"type": "boolean"}}
    return {
        **schema,
        "required": [*schema["required"], *more],
        "properties": {**schema["properties"], **more},
    }


PEER: Final = _peer_schema()


def node_shown(service: StickTableService, not_ready: list[str]) -> dict[str, Any]:
    """The node."""
    status = service.status()
    return {
        "localpeer": written(status.localpeer),
        "version": peerproto.__version__,
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
        "not_ready": [shown(one) for one in not_ready],
    }

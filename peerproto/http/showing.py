"""What a node has, as values for JSON, see `peerproto.service.showing`.

And the schema of a peer.
"""

from __future__ import annotations

from typing import Final

from peerproto import PeerStatus
from peerproto.http.schemas import Schema, schema_of
from peerproto.service.showing import (
    ON_THE_WAY,
    entry_shown,
    node_shown,
    not_ready,
    parts_shown,
    peer_shown,
    plain,
    table_shown,
)
from peerproto.service.status import LACKS

__all__ = [
    "PEER",
    "entry_shown",
    "node_shown",
    "not_ready",
    "parts_shown",
    "peer_shown",
    "plain",
    "table_shown",
]


def _peer_schema() -> Schema:
    schema = schema_of(PeerStatus)
    more = {
        "reconnects": {"type": "integer", "minimum": 0},
        "in_step": {"type": "boolean"},
        "keeps_up": {
            "type": "boolean",
            "description": "Whether it is in step, but for changes of the last "
            f"{ON_THE_WAY // 1000} s that are on their way.",
        },
        "reasons": {
            "type": "array",
            "items": {"enum": sorted(LACKS)},
            "description": "The kinds of the reasons why it is out of step.",
        },
    }
    return {
        **schema,
        "required": [*schema["required"], *more],
        "properties": {**schema["properties"], **more},
    }


PEER: Final = _peer_schema()

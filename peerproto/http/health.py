"""Health: whether the process answers, and whether the node may be relied on."""

from __future__ import annotations

from typing import Final

from peerproto import StickTableService
from peerproto.http.answers import Answer
from peerproto.http.routes import Call
from peerproto.http.showing import not_ready
from peerproto.http.text import shown

HEALTH: Final = {
    "type": "object",
    "required": ["alive"],
    "additionalProperties": False,
    "properties": {"alive": {"const": True}},
}

READINESS: Final = {
    "type": "object",
    "required": ["ready"],
    "additionalProperties": False,
    "properties": {
        "ready": {"type": "boolean"},
        "reasons": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Why it is not ready; left out for those who may not read.",
        },
    },
}


class Health:
    """What is asked by those who watch or balance."""

    def __init__(self, service: StickTableService) -> None:
        self._service = service

    def alive(self, call: Call) -> Answer:
        """Answer: so the reactor turns."""
        return Answer({"alive": True})

    def ready(self, call: Call) -> Answer:
        """Answer whether the node is up to date, has a peer in step, and all parts are ready."""
        reasons = self.not_ready()
        value: dict[str, object] = {"ready": not reasons}
        if call.caller.may_read:
            value["reasons"] = [shown(one) for one in reasons]
        return Answer(value, 503 if reasons else 200)

    def not_ready(self) -> list[str]:
        """Why the node may not be relied on, in words."""
        return not_ready(self._service)

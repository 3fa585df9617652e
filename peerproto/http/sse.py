"""Server-sent events: their text, and the numbers that a client may go on from.

See https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from typing import Any, Final, Optional

import attrs

from peerproto.http.answers import as_json

CONTENT_TYPE: Final = "text/event-stream"

HEARTBEAT: Final = b":\n\n"
"""A comment: it says that the node is there."""

_PLACE: Final = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,18})", re.ASCII)


@attrs.frozen
class Place:
    """A place in the stream: all changes up to a number were sent, in one process."""

    epoch: str
    """Tells processes from each other."""
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Optional[Place]:
        """The place whose text this is; ``None`` if it is none."""
        found = _PLACE.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]))


def event(name: str, value: Any) -> bytes:
    """The text of an event. What is odd in the value is escaped, so that it is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode("ascii"), as_json(value))


def placed(texts: list[bytes], place: Place) -> bytes:
    """Events together, the last of which has the place that is reached with it."""
    return b"".join((*texts[:-1], b"id: %s\n" % str(place).encode("ascii"), texts[-1]))

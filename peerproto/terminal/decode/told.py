"""What is told of a recording, as people read it and as programs do."""

from __future__ import annotations

from typing import Any, Final, Optional

import attrs

from peerproto.wire.printable import printable

BREAKS: Final = "breaks"
"""Kind of what is against the protocol: a peer that reads it ends the session."""

ODD: Final = "odd"
"""Kind of what a peer skips or takes, and what still deserves a look."""


@attrs.frozen
class Told:
    """A message, or a remark about some bytes."""

    offset: Optional[int]
    """Its first byte in its direction; ``None`` of what is about more than one."""
    kind: str
    text: str
    """Everything in it is printable."""
    fields: dict[str, Any] = attrs.Factory(dict)
    """The same in parts; texts are escaped."""


def remark(kind: str, offset: int, what: str, read: str, expected: Optional[str] = None) -> Told:
    """What was read at a place, and what was expected there; the texts are escaped already."""
    fields = {"what": what, "read": read}
    text = f"{what}: read {read}"
    if expected is not None:
        fields["expected"] = expected
        text += f", expected {expected}"
    return Told(offset, kind, text, fields)


def word(text: str) -> str:
    r"""A name or a text in one word: as ``printable`` has it, and blanks as ``\x20``."""
    return printable(text).replace(" ", "\\x20")


def some(data: bytes, most: int = 24) -> str:
    """Bytes, or the first ones of many."""
    return f"{data[:most].hex(' ')}{' …' if len(data) > most else ''}" if data else "nothing"


def counted(count: int, what: str) -> str:
    """A number and a noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

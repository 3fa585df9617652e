"""What does not fit, with its place and what to change."""

from __future__ import annotations

import attrs

from peerproto.wire.printable import printable


@attrs.frozen
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{printable(self.file)}:{self.line}"


@attrs.frozen
class Finding:
    """Something that was read, and what was expected instead."""

    place: Place
    read: str
    expected: str
    change: str
    """What to do about it."""
    is_note: bool = False
    """Whether it works as it is: only to be known."""

    def __str__(self) -> str:
        kind = "note: " if self.is_note else ""
        return (
            f"{self.place}: {kind}read {printable(self.read)}, expected {printable(self.expected)};"
            f" {printable(self.change)}"
        )

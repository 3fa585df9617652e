"""Where messages begin, in bytes of which the first ones may be the end of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Optional

from peerproto.wire import varint
from peerproto.wire.errors import MalformedMessage, OversizedMessage
from peerproto.wire.frames import (
    CONTROL,
    DEFINITION,
    ERROR,
    INCREMENTAL_TIMED_UPDATE,
    PEERPROTO,
    STICK_TABLE,
    UPDATE,
    Frame,
    FrameBuffer,
)
from peerproto.wire.messages import TableDefinition, read_message

_TYPES: Final = {
    # Zeros are everywhere in values: a resync request is no sign of anything.
    CONTROL: range(1, 5),
    ERROR: range(2),
    STICK_TABLE: range(UPDATE, INCREMENTAL_TIMED_UPDATE + 1),
    PEERPROTO: range(1, 2),
}
"""The types of messages that are known, by their class."""

_DEFINITION: Final = bytes((STICK_TABLE, DEFINITION))

ENOUGH: Final = 3
"""Messages in a row that all look like ones."""


def place_of_message(data: bytes, longest: int, latest: int) -> Optional[int]:
    """Where messages seem to begin in these bytes; ``None`` if nowhere.

    ``latest`` is how many of them came last: with these a sender may have begun to write, so that a
    message is likely to begin there. Elsewhere, only a definition can be told from anything else.
    ``longest`` is the most bytes that a payload has.
    """
    if latest == len(data) and _fits(data, longest):
        return 0
    at = data.find(_DEFINITION)
    while at >= 0:
        if _is_definition(data, at, longest):
            return at
        at = data.find(_DEFINITION, at + 1)
    begin = len(data) - latest
    return begin if begin and _fits(data[begin:], longest) else None


def may_be_messages(data: bytes, longest: int) -> bool:
    """Whether these bytes, with which a recording begins, are messages as far as can be told.

    A message that is not complete is one, too, and so is one resync request.
    """
    known = {**_TYPES, CONTROL: range(5)}
    frames, rest, good = _frames(data, longest, known)
    if not good or frames.count(Frame(CONTROL, 0)) > 1:
        return False
    return not rest or _may_begin(rest, known) or len(frames) > ENOUGH


def _frames(
    data: bytes, longest: int, known: Mapping[int, range] = _TYPES
) -> tuple[list[Frame], bytes, bool]:
    """The first messages in these bytes, what is left, and whether nothing among it is odd."""
    buffer = FrameBuffer(longest)
    frames: list[Frame] = []
    try:
        for frame in buffer.feed(data):
            if frame.message_type not in known.get(frame.message_class, ()):
                return frames, b"", False
            frames.append(frame)
            if len(frames) > ENOUGH:
                break
    except (MalformedMessage, OversizedMessage):
        return frames, b"", False
    return frames, buffer.rest(), True


def _fits(data: bytes, longest: int) -> bool:
    frames, rest, good = _frames(data, longest)
    if not good or len(frames) > ENOUGH:
        return good
    # A single message that is all there is, or some with the begin of another one behind them.
    return bool(frames) and (not rest or _may_begin(rest))


def _may_begin(rest: bytes, known: Mapping[int, range] = _TYPES) -> bool:
    types = known.get(rest[0], range(0))
    return len(types) > 0 and (len(rest) < 2 or rest[1] in types)


def _is_definition(data: bytes, at: int, longest: int) -> bool:
    """Whether there is a whole definition, and something behind it that fits or nothing."""
    try:
        length, begin = varint.decode(data, at + 2)
        if length > longest or begin + length > len(data):
            return False
        message = read_message(Frame(STICK_TABLE, DEFINITION, data[begin : begin + length]))
    except MalformedMessage:
        return False
    if not isinstance(message, TableDefinition):
        return False
    behind = data[begin + length : begin + length + 2]
    return not behind or (behind[0] == STICK_TABLE and _may_begin(behind)) or behind[0] == CONTROL

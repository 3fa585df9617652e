"""Bytes to frames: the class and type of each message, and its payload.

Source: doc/protocol.md, "Frames". Messages of a type below 128 are two bytes;
the others announce the length of their payload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Optional

from peerproto.wire import varint
from peerproto.wire.errors import MalformedMessage, OversizedMessage

MAX_PAYLOAD: Final = 16384
"""Longest payload in bytes: HAProxy's buffer size (doc/protocol.md, "Sizes")."""

# Classes of messages.
CONTROL: Final = 0
ERROR: Final = 1
STICK_TABLE: Final = 10
PEERPROTO: Final = 112
"""Ours: HAProxy skips a class that it does not know."""
RESERVED: Final = 255

UPDATE: Final = 0x80
INCREMENTAL_UPDATE: Final = 0x81
DEFINITION: Final = 0x82
SWITCH: Final = 0x83
ACK: Final = 0x84
TIMED_UPDATE: Final = 0x85
INCREMENTAL_TIMED_UPDATE: Final = 0x86
"""Types of messages about stick tables."""

RELAYED: Final = 0x80
"""Type of a message of the class `PEERPROTO`."""


class Frame(NamedTuple):
    """One message, not yet read: its two header bytes and its payload."""

    message_class: int
    message_type: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as it travels."""
        head = bytes((self.message_class, self.message_type))
        if self.message_type < 128:
            return head
        return head + varint.encode(len(self.payload)) + self.payload


class FrameBuffer:
    """Cuts a stream into frames; keeps at most one unfinished frame.

    Between two frames, another reader may take several at once: see `read_run`.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self._max_payload = max_payload
        self._data = b""
        self._position = 0
        """Where the next frame begins in these."""
        self._received = 0
        """How many bytes came in all."""
        self._counted = 0
        """How many of them `take_count` has told of."""
        self._needed = 2
        """How many of them there must be for the frame that is waited for to be complete."""
        self._kept: list[bytes] = []
        """What came of it after them."""

    def __len__(self) -> int:
        """Bytes kept of an unfinished frame."""
        return len(self._data) - self._position + sum(map(len, self._kept))

    def take_count(self) -> int:
        """How many bytes came since this was asked last: cheaper than to count at each read."""
        count = self._received - self._counted
        self._counted = self._received
        return count

    def add(self, data: bytes) -> bool:
        """Take bytes: whether they may complete a frame. Only then call `next`, until ``None``.

        The others are put aside with no more than a look at the frame's head, so a
        peer that sends one byte at a time costs little for each.
        """
        self._received = received = self._received + len(data)
        if received < self._needed:
            self._kept.append(data)
            return False
        if self._kept:
            self._kept.append(data)
            data = b"".join(self._kept)
            self._kept.clear()
        if self._position < len(self._data):
            data = self._data[self._position :] + data
        self._data, self._position = data, 0
        size = len(data)
        if size < 2:
            missing = 2 - size
        elif data[1] < 128 or data[0] == RESERVED:
            missing = 0
        elif size < 3:
            missing = 1
        else:
            # A longer length is for `next` to read.
            missing = 3 + data[2] - size if data[2] < 240 else 0
        self._needed = received + missing
        return missing <= 0

    def next(self) -> Optional[Frame]:
        """The next frame; ``None`` if it is not complete.

        :raises OversizedMessage: a length above the limit was announced.
        :raises MalformedMessage: a class of 255, or a length of over 10 bytes.
        """
        data, start = self._data, self._position
        rest = len(data) - start
        if rest < 2:
            self._needed = self._received + 2 - rest
            return None
        message_class, message_type = data[start], data[start + 1]
        if message_class == RESERVED:
            raise MalformedMessage("message class", message_class, "0 to 254")
        if message_type < 128:
            self._position += 2
            return Frame(message_class, message_type)
        if rest < 3:
            self._needed = self._received + 1
            return None
        length, begin = data[start + 2], start + 3
        if length >= 240:
            if rest < 2 + varint.MAX_BYTES and not varint_ends(data, start + 2):
                self._needed = self._received + 1
                return None
            length, begin = varint.decode(data, start + 2)
        if length > self._max_payload:
            raise OversizedMessage(
                f"length of a message of class {message_class}, type {message_type:#x}",
                length,
                f"at most {self._max_payload} bytes",
            )
        end = begin + length
        if end > len(data):
            self._needed = self._received + end - len(data)
            return None
        self._position = end
        return Frame(message_class, message_type, data[begin:end])

    def read_run(self, read: Callable[[bytes, int, int], int], now: int) -> bool:
        """Let ``read(data, start, now)`` take whole frames: it returns where the rest begins.

        ``now`` is in ms. Returns whether there is a rest, of which `next` may make something.
        """
        self._position = read(self._data, self._position, now)
        if self._position < len(self._data):
            return True
        self._needed = self._received + 2
        return False

    def rest(self) -> bytes:
        """The bytes of the frame that is not complete."""
        return self._data[self._position :] + b"".join(self._kept)

    def drop(self) -> None:
        """Drop all bytes that were not taken."""
        self._data, self._position = b"", 0
        self._kept.clear()
        self._needed = self._received + 2

    def feed(self, data: bytes) -> Iterator[Frame]:
        """`add`, and all frames that are complete then. Take them before the next call."""
        if self.add(data):
            while (frame := self.next()) is not None:
                yield frame


def varint_ends(data: bytes, offset: int) -> bool:
    """Whether the encoded integer at ``offset`` is all there."""
    if data[offset] < 240:
        return True
    return any(byte < 128 for byte in data[offset + 1 : offset + varint.MAX_BYTES])

"""Dictionary values: text that is sent once and referred to by an id from then on.

Source: PROTOCOL.md, "Data types". Each connection has a cache for each
direction, of 128 places, empty at its start. A value is ``0`` for none, or a
length, an id from 1, and, when the id is new or taken over, the text.
"""

from __future__ import annotations

from typing import Optional

from peerproto.wire import varint
from peerproto.wire.errors import MalformedMessage

PLACES = 128
"""Number of ids in a cache."""


class SendingDictionary:
    """What this side has sent under which id.

    Ids are given out in turn, as HAProxy does it: the one used longest ago for
    a new text is taken over when all are in use.
    """

    def __init__(self) -> None:
        self.references: dict[bytes, bytes] = {b"": b"\x00"}
        """By text: the value that refers to it."""
        self._texts: list[Optional[bytes]] = [None] * PLACES
        self._next = 0

    def write(self, text: bytes) -> bytes:
        """The value for ``text``; empty text is none."""
        reference = self.references.get(text)
        if reference is not None:
            return reference
        place = self._next
        self._next = (place + 1) % PLACES
        forgotten = self._texts[place]
        if forgotten is not None:
            del self.references[forgotten]
        self._texts[place] = text
        number = varint.encode(place + 1)
        self.references[text] = b"\x01" + number
        value = number + varint.encode(len(text)) + text
        return varint.encode(len(value)) + value


class ReceivingDictionary:
    """What the peer has sent under which id."""

    def __init__(self) -> None:
        self._texts: list[Optional[bytes]] = [None] * PLACES
        self.known = [b""] * 256
        """By the byte that an id is: its text as it stands in a record, with its length."""

    def read(self, message: bytes, offset: int) -> tuple[bytes, int]:
        """The text at ``offset``, empty for none, and where the next value starts.

        :raises MalformedMessage: an id that is 0, above 128 or was never sent,
            or a length that runs past the value or the message.
        """
        length, start = varint.decode(message, offset)
        if not length:
            return b"", start
        end = start + length
        value = message[start:end]
        if end > len(message):
            raise MalformedMessage(
                f"dictionary value at byte {offset}", value, f"{length} bytes in the message"
            )
        number, position = varint.decode(value, 0)
        if not 1 <= number <= PLACES:
            raise MalformedMessage(f"dictionary id at byte {start}", number, f"1 to {PLACES}")
        if position < length:
            size, begin = varint.decode(value, position)
            if begin + size > length:
                raise MalformedMessage(
                    f"dictionary text at byte {start + begin}",
                    value[begin:],
                    f"{size} bytes in the value",
                )
            text = value[begin : begin + size]
            self._texts[number - 1] = text
            self.known[number] = varint.encode(size) + text
            return text, end
        known = self._texts[number - 1]
        if known is None:
            raise MalformedMessage(
                f"dictionary id at byte {start}", number, "an id that was sent with its text before"
            )
        return known, end

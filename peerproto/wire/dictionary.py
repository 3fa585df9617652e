"""Dictionary values: text that is sent once and referred to by an id from then on.

Source: doc/protocol.md, "Dictionary values". Each connection has a cache for each
direction, of 128 places, empty at its start. A value is ``0``, which says
nothing, or a length, an id from 1, and, when the id is new or taken over, the
text. An id that was never sent with a text says nothing either: HAProxy gives
out ids in messages that it finds too long to send. Where nothing is said, the
receiver keeps the text that it has. A text of length 0 is said: it clears.
"""

from __future__ import annotations

from typing import Final, Optional

from peerproto.wire import varint
from peerproto.wire.errors import MalformedMessage
from peerproto.wire.texts import TEXTS

PLACES: Final = 128
"""Number of ids in a cache."""

LONGEST_TEXT: Final = 1024
"""Bytes of a text at most. HAProxy before 3.5 writes a longer one without a look at the end of
its buffer when it teaches: so none is taken, and none is given."""

_UNSAID: Final = b"\x00"
"""The value that says nothing."""


class SendingDictionary:
    """What this side has sent under which id.

    Ids are given out in turn, as HAProxy does it: the one used longest ago for
    a new text is taken over when all are in use.
    """

    def __init__(self) -> None:
        self.references: dict[bytes, bytes] = {b"": _UNSAID}
        """By text: the value that refers to it."""
        self._texts: list[Optional[bytes]] = [None] * PLACES
        self._next = 0
        self._empty: Optional[bytes] = None
        """The value that refers to an empty text that was said."""

    def write(self, text: bytes) -> bytes:
        """The value for ``text`` as records keep it (`peerproto.wire.texts`).

        Of an empty one nothing is said: the peer keeps what it has.
        """
        reference = self.references.get(text)
        if reference is not None:
            return reference
        number = self._take_place(text)
        self.references[text] = b"\x01" + number
        whole = TEXTS.text(text)
        value = number + varint.encode(len(whole)) + whole
        return varint.encode(len(value)) + value

    def write_empty(self) -> bytes:
        """The value for a text that was cleared: the peer clears it, too.

        It is for a change that was made here to the text itself. In what tells the
        present state, as lessons do, an empty text is written by `write`: the peer may
        know a text that we never learnt.
        """
        if self._empty is not None:
            return self._empty
        number = self._take_place(b"")
        self._empty = b"\x01" + number
        return b"\x02" + number + b"\x00"

    def _take_place(self, text: bytes) -> bytes:
        """The id that stands for ``text`` from now on, encoded."""
        place = self._next
        self._next = (place + 1) % PLACES
        forgotten = self._texts[place]
        if forgotten:
            del self.references[forgotten]
        elif forgotten is not None:
            self._empty = None
        self._texts[place] = text
        return varint.encode(place + 1)


class ReceivingDictionary:
    """What the peer has sent under which id."""

    def __init__(self) -> None:
        self.known: list[bytes] = TEXTS.known(256)
        """By the byte that an id is: its text as it stands in a record, with its length; empty if
        it says nothing."""
        self.longest_refused: int = 0
        """Bytes of the longest text so far that was too long to be taken."""

    def read(self, message: bytes, offset: int) -> tuple[bytes, int]:
        """The text at ``offset`` as it stands in a record, and where the next value starts.

        It is empty if no text is said. A text is cut at the first NUL, as HAProxy cuts
        it; one that is longer than `LONGEST_TEXT` then, or for which there is no room
        (`peerproto.wire.texts`), counts as not said.

        :raises MalformedMessage: an id that is 0 or above 128, or a length that runs
            past the value or the message.
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
            text = value[begin : begin + size].partition(b"\x00")[0]
            if len(text) > LONGEST_TEXT:
                self.longest_refused = max(self.longest_refused, len(text))
                self.known[number] = b""
            else:
                kept = TEXTS.keep(text)
                self.known[number] = b"" if kept is None else varint.encode(len(kept)) + kept
        return self.known[number], end

"""Texts of dictionary values, with what was really said of them."""

from __future__ import annotations

from typing import Final, NamedTuple

from peerproto.wire import varint
from peerproto.wire.dictionary import PLACES, ReceivingDictionary
from peerproto.wire.texts import TEXTS


class Said(NamedTuple):
    """What an update said of a text."""

    id: int
    """0 if it said nothing."""
    is_new: bool
    """Whether the text itself was sent."""
    is_known: bool
    """Whether the text was sent at any time, and is not too long to be taken."""


class HeardTexts:
    """What a direction has sent under which id."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        """Of the update that is read: one for each text in it."""
        self.forget()

    def forget(self) -> None:
        """Begin anew: what stands for which text is not known."""
        self._texts = ReceivingDictionary()
        self._sent = [False] * (PLACES + 1)

    def read(self, message: bytes, offset: int) -> tuple[bytes, int]:
        """See `ReceivingDictionary.read`."""
        found = self._texts.read(message, offset)
        length, start = varint.decode(message, offset)
        if not length:
            self.said.append(Said(0, False, False))
            return found
        number, end = varint.decode(message, start)
        is_new = end < start + length
        if is_new:
            # None stands for a text that is too long, or that there is no room for.
            self._sent[number] = bool(found[0])
        self.said.append(Said(number, is_new, self._sent[number]))
        return found


_NO_RECORDS: Final[tuple[tuple[bytes, ...], ...]] = ((),)


def drop_unused() -> None:
    """Forget long texts that nothing stands for any more, if there are many of them."""
    if TEXTS.size >= TEXTS.due_at:
        for _ in TEXTS.forget_unused(_NO_RECORDS):
            pass

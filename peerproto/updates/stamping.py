"""The number of a session, in updates that are written once for all peers.

A HAProxy may have an entry from this node, or from somebody who got it from this node at another
time. Where that matters, an element of ``gpt`` of each entry tells by which session it was sent.
A table has `UNSTAMPED` there; the number of each session takes its place as the updates are sent.
All these numbers are equally long on the wire, so that nothing else of an update changes.
"""

from __future__ import annotations

import secrets
from typing import Final, Optional

from peerproto.tables.declaration import Declaration
from peerproto.wire.datatypes import BY_NAME
from peerproto.wire.frames import DEFINITION, STICK_TABLE, TIMED_UPDATE, UPDATE, Frame
from peerproto.wire.layout import Layout
from peerproto.wire.messages import TableDefinition, read_message
from peerproto.wire.varint import decode, encode

UNSTAMPED: Final = 0xF0F0F0F0
"""What a table has in place of the number of a session."""

_LEAST: Final = 240 + 2048 + (2048 << 7) + (2048 << 14)
"""The least number that is as long on the wire."""

_MARK: Final = encode(UNSTAMPED)
_WIDTH: Final = len(_MARK)
_GPT: Final = BY_NAME["gpt"].bit

_MOST_CUT: Final = 32
"""Data of which the pieces are kept."""


def new_number() -> int:
    """A number for a session, by chance: no session had it before, but for one in 4,000,000,000."""
    while True:
        number = _LEAST + secrets.randbelow((1 << 32) - _LEAST)
        if number != UNSTAMPED:
            return number


class Cutter:
    """Finds where the numbers stand in updates of one layout."""

    def __init__(
        self, key_length: int, before: list[bool], has_number: bool, is_last: bool
    ) -> None:
        """
        :param key_length: bytes of every key; 0 if they differ.
        :param before: for each field of a record before the number, whether it is a text.
        :param has_number: whether there is a number at all.
        :param is_last: whether an update ends with it.
        """
        self.is_last = is_last
        self._key_length = key_length
        self._before = before
        self._has_number = has_number

    def cut(self, data: bytes, at: int, places: list[int]) -> int:
        """Add the places of the numbers in the updates from ``at`` on: where these end, by another
        message or by the end of ``data``."""
        end = len(data)
        while at < end and data[at] == STICK_TABLE:
            kind = data[at + 1]
            if kind not in (UPDATE, TIMED_UPDATE):
                break
            length = data[at + 2]
            at += 3
            if length >= 240:
                length, at = decode(data, at - 1)
            following = at + length
            # The id, and the life.
            at += 4 if kind == UPDATE else 8
            if self._key_length:
                at += self._key_length
            else:
                length, at = decode(data, at)
                at += length
            for is_text in self._before:
                length = data[at]
                at += 1
                if length >= 240:
                    length, at = decode(data, at - 1)
                if is_text:
                    at += length
            if self._has_number and data[at : at + _WIDTH] == _MARK:
                places.append(at)
            at = following
        return at


def are_updates(pieces: list[bytes]) -> bool:
    """Whether each piece and the mark behind it are one whole update, and nothing follows.

    That is so of nearly all that is sent, and needs no look at what is in an update.
    """
    if pieces[-1]:
        return False
    for piece in pieces[:-1]:
        size = len(piece) + _WIDTH - 3
        if size >= 240 or size < _WIDTH or piece[0] != STICK_TABLE or piece[2] != size:
            return False
        if piece[1] not in (UPDATE, TIMED_UPDATE):
            return False
    return True


class Stamping:
    """Puts the numbers of sessions into the updates of one table."""

    def __init__(self, element: int) -> None:
        """``element`` is the one of ``gpt`` that has the number, -1 the last one."""
        self.element = element
        self._cutters: dict[Layout, Cutter] = {}
        self._declaration: Optional[Declaration] = None
        self._pieces: dict[bytes, list[bytes]] = {}
        """What data of this declaration has between the numbers: others are given the same soon."""

    def stamped(self, data: bytes, declaration: Declaration, number: bytes) -> bytes:
        """The same updates with the encoded ``number`` of a session.

        :param declaration: that by which the first update was announced.
        """
        if declaration is not self._declaration:
            self._declaration = declaration
            self._pieces.clear()
        pieces = self._pieces.get(data)
        if pieces is None:
            pieces = data.split(_MARK)
            if not (self._cutter(declaration.layout).is_last and are_updates(pieces)):
                pieces = self._cut(data, declaration.layout)
            if len(self._pieces) >= _MOST_CUT:
                del self._pieces[next(iter(self._pieces))]
            self._pieces[data] = pieces
        return number.join(pieces)

    def _cut(self, data: bytes, layout: Layout) -> list[bytes]:
        places: list[int] = []
        at = 0
        while True:
            at = self._cutter(layout).cut(data, at, places)
            if at == len(data):
                break
            # Definitions stand between updates that have other columns.
            length, begin = decode(data, at + 2)
            at = begin + length
            message = read_message(Frame(STICK_TABLE, DEFINITION, data[begin:at]))
            assert isinstance(message, TableDefinition)
            layout = message.layout
        ends = [*places, len(data)]
        begins = [0, *(place + _WIDTH for place in places)]
        return [data[begin:end] for begin, end in zip(begins, ends)]

    def _cutter(self, layout: Layout) -> Cutter:
        cutter = self._cutters.get(layout)
        if cutter is None:
            columns = [one for one in layout.columns if one.data_type.bit < _GPT]
            before = [is_text for one in columns for is_text in one.fields]
            elements = layout.elements.get(_GPT, 0)
            element = self.element + (elements if self.element < 0 else 0)
            before += [False] * element
            has_number = 0 <= element < elements
            is_last = has_number and element + 1 == elements and layout.columns[-1].name == "gpt"
            cutter = Cutter(
                layout.fixed_key_length, before if has_number else [], has_number, is_last
            )
            self._cutters[layout] = cutter
        return cutter

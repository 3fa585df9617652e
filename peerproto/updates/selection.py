"""Some columns of a table, and updates of these alone."""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.row import record_at
from peerproto.tables.transcoding import Transcoder
from peerproto.updates.writer import UpdateWriter
from peerproto.wire.dictionary import SendingDictionary


class Selection:
    """Some columns of a declaration: how they are announced, taken out of a row, and written."""

    def __init__(
        self,
        declaration: Declaration,
        columns: int,
        local_id: int,
        life: int,
        dictionary: SendingDictionary,
        left_out: dict[bytes, int],
    ) -> None:
        """``columns`` are the bits of data types that the declaration has. ``life`` is that
        of an entry of the peers in ms, 0 if it is not known: of our own, then. ``left_out``
        is where the writers note what is too long."""
        whole = declaration.layout
        self.columns = columns
        self.declaration = declaration
        self._at = record_at(whole)
        self._transcoder: Optional[Transcoder] = None
        if columns != whole.bits:
            places = [
                place
                for place, column in enumerate(whole.columns)
                if columns >> column.data_type.bit & 1
            ]
            selected = tuple(whole.columns[place] for place in places)
            layout = attrs.evolve(whole, columns=selected)
            self.declaration = attrs.evolve(declaration, layout=layout)
            self._transcoder = Transcoder(whole, layout, [*places])
        self.definition = self.declaration.definition(local_id).encode()
        """The message that announces these columns."""
        theirs = attrs.evolve(self.declaration, expire=life or declaration.expire)
        self.writers = (
            UpdateWriter(self.declaration, dictionary, False, clears=True, left_out=left_out),
            UpdateWriter(theirs, dictionary, True, clears=True, left_out=left_out),
        )
        """What writes updates, by whether they have a life."""

    def of(self, stored: bytes) -> bytes:
        """What is stored, with these columns alone."""
        if self._transcoder is None:
            return stored
        return stored[: self._at] + self._transcoder.transcode(stored, self._at)

"""Entries to bytes, for one session: live changes and lessons.

Every update carries its id: HAProxy 3.3 and later acks wrongly after one that
does not. With 2.1, those of lessons carry their expiry, too; for those of live
changes see `peerproto.updates.live`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Final, Optional

import attrs

from peerproto.peering.memory import Counters
from peerproto.tables.declaration import Declaration
from peerproto.tables.log import ID_MASK
from peerproto.tables.store import TableStore
from peerproto.updates.lesson import LessonRequest
from peerproto.updates.live import Live, LiveBytes
from peerproto.updates.outgoing import Outgoing
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.varint import encode

_LONGEST_LIFE: Final = 0x7FFFFFFF
"""In ms: HAProxy reads a signed number."""


class Sender:
    """What was said on this session so far, as far as encoding depends on it."""

    def __init__(
        self,
        timed: bool,
        counters: Counters,
        other_names: Mapping[int, str],
        number: Optional[int] = None,
    ) -> None:
        """``timed`` is whether the peer takes updates with a life; ``counters`` are the peer's;
        ``other_names`` are those of tables that go by another name with it, by our ids of them.
        ``number`` is that of the session, if there is to be one in tables that are stamped."""
        self._number = None if number is None else encode(number)
        self._other_names = other_names
        self.now = 0
        """The time in ms that expiries and ages are reckoned to."""
        self.taught = 0
        """Entries in the current lesson so far."""
        self._counters = counters
        self.skipped = False
        """Whether not all of a table was taught in the current lesson: it went away meanwhile, or
        too many of its entries came and went."""
        self._timed = timed
        self._dictionary = SendingDictionary()
        self._definitions: dict[int, tuple[Declaration, bytes]] = {}
        """By our ids of the tables: the declaration that was announced last, and how."""
        self._current: tuple[int, Optional[Declaration]] = 0, None
        """What the next update belongs to, for the peer: our id of the table, and how it was
        announced. Shares of one table are declared alike."""
        self._live: dict[int, LiveBytes] = {}
        """By our ids of the tables, for those with texts."""

    def changes(
        self,
        local_id: int,
        outgoing: Outgoing,
        sent: int,
        room: int,
        expire: Optional[int],
        peer: object,
    ) -> tuple[bytes, Live]:
        """The changes after ``sent`` that are for a peer, until they have ``room`` bytes.

        ``expire`` (ms) is what the peer's own definition of the table says, if it is known.
        """
        life: Optional[int] = None
        if self._timed:
            life = min(expire, _LONGEST_LIFE) if expire else 0
        table = outgoing.store
        if table.layout.codec.has_texts:
            updates = self._own_updates(local_id, outgoing, life)
        else:
            updates = outgoing.live(local_id, life)
        live = updates.after(table, sent, room, self.now, peer)
        if not live.count:
            return b"", live
        self._counters.tx_updates += live.count
        self._counters.tx_messages += live.count + live.definitions
        data = self._stamped(outgoing, live.data, live.first)
        current_id, current = self._current
        if live.first is not current or local_id != current_id:
            data = self._announce_some(local_id, table.declaration, live) + data
        self._current = local_id, live.last
        return data, live

    def _stamped(
        self, outgoing: Outgoing, data: bytes, declaration: Optional[Declaration]
    ) -> bytes:
        """Updates of a table, with the number of the session if that is to be in them."""
        stamping = outgoing.stamping
        if stamping is None or self._number is None or declaration is None:
            return data
        return stamping.stamped(data, declaration, self._number)

    def _own_updates(self, local_id: int, outgoing: Outgoing, life: Optional[int]) -> LiveBytes:
        """What writes the changes of a table with texts."""
        updates = self._live.get(local_id)
        if updates is None or updates.life != life:
            updates = self._live[local_id] = outgoing.live(local_id, life, self._dictionary)
        return updates

    def _announce_some(self, local_id: int, declaration: Declaration, live: Live) -> bytes:
        """The definition of what a few changes are of.

        All columns of the table are announced before, once, for a peer that adopts it.
        """
        announced, _ = self._definitions.get(local_id, (None, b""))
        if announced is declaration:
            self._counters.tx_messages += 1
            return live.definition
        whole = self.announce(local_id, declaration)
        if live.first is declaration:
            return whole
        self._counters.tx_messages += 1
        return whole + live.definition

    def forget_but(self, local_ids: Container[int]) -> None:
        """Forget what was said of tables that are gone: their ids do not come again."""
        for known in (self._definitions, self._live):
            for local_id in [one for one in known if one not in local_ids]:
                del known[local_id]

    def define_again(self) -> bytes:
        """The definition of the table that the latest updates were of; empty without any.

        It says nothing new, but that a lesson goes on of which there is nothing to send yet.
        """
        current_id, current = self._current
        for local_id, (declaration, definition) in self._definitions.items():
            if declaration is current and local_id == current_id:
                self._counters.tx_messages += 1
                return definition
        return b""

    def begin_lesson(self) -> None:
        """Count the entries of one more lesson from 0."""
        self.taught = 0
        self.skipped = False

    def lesson(
        self, tables: list[tuple[int, Outgoing]], is_shared: Callable[[TableStore], bool]
    ) -> Iterator[bytes]:
        """Every entry of the tables, given with our ids of them, a chunk at a time.

        A table of which ``is_shared`` says no in mid-lesson is left: another one of its
        name may have been defined meanwhile.

        All updates of a table carry the id of its latest change at the start:
        a peer that acks it says that it needs nothing from before.
        """
        requests = []
        for local_id, outgoing in tables:
            update_id = (outgoing.store.log.head & ID_MASK).to_bytes(4, "big")
            requests.append((local_id, outgoing, outgoing.request(self._timed, update_id)))
        return self._answers(requests, is_shared)

    def _answers(
        self,
        requests: list[tuple[int, Outgoing, LessonRequest]],
        is_shared: Callable[[TableStore], bool],
    ) -> Iterator[bytes]:
        for local_id, outgoing, request in requests:
            yield from self._answer(local_id, outgoing, request, is_shared)
            if request.left_out or not is_shared(request.table):
                self.skipped = True

    def _answer(
        self,
        local_id: int,
        outgoing: Outgoing,
        request: LessonRequest,
        is_shared: Callable[[TableStore], bool],
    ) -> Iterator[bytes]:
        if not is_shared(request.table):
            return
        yield self.announce(local_id, request.table.declaration)
        for chunk in request.answer(self._dictionary, lambda: self.now):
            if not is_shared(request.table):
                break
            self.taught += chunk.count
            self._counters.tx_updates += chunk.count
            self._counters.tx_messages += chunk.count
            yield b"".join(
                self.announce(local_id, declaration) + self._stamped(outgoing, data, declaration)
                for declaration, data in chunk.stretches
            )

    def announce(self, local_id: int, declaration: Declaration) -> bytes:
        """A table's definition; empty if the updates so far were of it."""
        current_id, current = self._current
        if declaration is current and local_id == current_id:
            return b""
        self._current = local_id, declaration
        self._counters.tx_messages += 1
        announced, definition = self._definitions.get(local_id, (None, b""))
        if announced is not declaration:
            message = declaration.definition(local_id)
            if local_id in self._other_names:
                message = attrs.evolve(message, name=self._other_names[local_id])
            definition = message.encode()
            self._definitions[local_id] = declaration, definition
        return definition

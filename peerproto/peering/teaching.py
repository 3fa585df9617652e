"""The lessons that a session gives its peer.

Source: doc/protocol.md, "Lessons".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Optional

from peerproto.peering.peertables import PeerTables
from peerproto.peering.sending import Sender
from peerproto.peering.sharedtable import SharedTable
from peerproto.tables.store import TableStore
from peerproto.wire.messages import Control

SIGN_OF_LIFE: Final = 200
"""Time in ms in which a pupil hears something of its lesson, while that is put in order."""


class Teaching:
    """One lesson after the other, and what the peer has as soon as it confirms the last."""

    def __init__(
        self,
        sender: Sender,
        directory: PeerTables,
        tables: Callable[[], list[SharedTable]],
        is_in_lessons: Callable[[SharedTable], bool],
        can_finish: Callable[[], bool],
    ) -> None:
        """``tables`` tells what there is to teach, ``can_finish`` whether a lesson may end with
        *finished* as things stand. A table of which ``is_in_lessons`` says no comes behind
        another one: all changes of it go out once the lesson is confirmed."""
        self._sender = sender
        self._directory = directory
        self._tables = tables
        self._is_in_lessons = is_in_lessons
        self._can_finish = can_finish
        self._could_finish = False
        """Whether a lesson might have ended so when this one began."""
        self._lesson: Optional[Iterator[bytes]] = None
        self._said_at = 0
        """When (in ms) something of the lesson was sent last."""
        self._unconfirmed = 0
        """How many lessons the peer has yet to confirm."""
        self.origins: list[tuple[SharedTable, int]] = []
        """The tables of the latest lesson, and where their logs were when it began."""

    def begin(self) -> None:
        """Give a lesson, or give it again: it begins when its first bytes are drawn."""
        self._lesson = None

    @property
    def entries(self) -> int:
        """How many entries the tables of the latest lesson have."""
        return sum(one.table.used for one, _ in self.origins if self._is_in_lessons(one))

    def draw(self, out: bytearray, room: int) -> Optional[Control]:
        """Add about ``room`` bytes to ``out``: the message that ends the lesson, once it does."""
        if self._lesson is None:
            self._lesson = self._updates()
            self._said_at = self._sender.now
        for message in self._lesson:
            out += message
            if message:
                self._said_at = self._sender.now
            elif self._sender.now - self._said_at >= SIGN_OF_LIFE:
                # A pupil takes a lesson of which nothing comes for one that does not go on.
                out += self._sender.define_again()
                self._said_at = self._sender.now
            if not message or len(out) >= room:
                # Without anything to send there was other work to do, which is enough for once.
                return None
        self._lesson = None
        self._unconfirmed += 1
        whole = self._could_finish and not self._sender.skipped
        finished = whole and self._can_finish()
        end = Control.RESYNC_FINISHED if finished else Control.RESYNC_PARTIAL
        out += end.encode()
        return end

    def confirmed(self) -> bool:
        """The peer confirms a lesson: whether it has confirmed all."""
        self._unconfirmed = max(0, self._unconfirmed - 1)
        return not self._unconfirmed

    def _updates(self) -> Iterator[bytes]:
        self._could_finish = self._can_finish()
        self.origins = []
        self._sender.begin_lesson()
        taught: set[TableStore] = set()
        # Tables may come meanwhile: the peer takes what it is told of them for the lesson's.
        while more := [shared for shared in self._tables() if shared.table not in taught]:
            taught.update(shared.table for shared in more)
            later = [one for one in more if not self._is_in_lessons(one)]
            more = [one for one in more if one not in later]
            self.origins += [(one, one.table.log.head) for one in more]
            self.origins += [(one, 0) for one in later]
            yield from self._sender.lesson(
                [(one.local_id, one.outgoing) for one in more], self._directory.shares
            )

"""What is written of one table for all peers: lessons that are shared, and live changes."""

from __future__ import annotations

from typing import Final, Optional

from peerproto.tables.store import TableStore
from peerproto.updates.lesson import LessonRequest, Lessons
from peerproto.updates.live import LiveBytes
from peerproto.updates.stamping import Stamping
from peerproto.wire.dictionary import SendingDictionary

_MOST_LIVES: Final = 16
"""For so many lives changes are written for all peers; there are few of them in a fleet."""


class Outgoing:
    """The updates of one table on their way to peers."""

    def __init__(self, store: TableStore, stamped: Optional[int] = None) -> None:
        """See `stamp`."""
        self.store = store
        self.stamp(stamped)
        self.left_out: dict[bytes, int] = {}
        """Entries that were too long to be sent and of which that was not said yet: by key, how
        many bytes of payload an update would have had."""
        self._lessons = Lessons(store, self.left_out)
        self.lessons = self._lessons.shared
        """Those under way that others can join (`peerproto.updates.lesson`)."""
        self._live: dict[Optional[int], LiveBytes] = {}

    def stamp(self, element: Optional[int]) -> None:
        """Send the numbers of sessions in this element of ``gpt``, or in none."""
        self.stamping = None if element is None else Stamping(element)

    def request(self, timed: bool, update_id: bytes) -> LessonRequest:
        """A peer wants to learn the table: ``timed`` is whether updates tell their life, and
        ``update_id`` the 4 bytes that all of them carry."""
        return LessonRequest(self._lessons, timed, update_id)

    def live(
        self,
        local_id: int,
        life: Optional[int],
        dictionary: Optional[SendingDictionary] = None,
    ) -> LiveBytes:
        """What writes the changes for peers of this ``life`` (ms): for all of them, or for the
        one that has this ``dictionary``."""
        if dictionary is not None:
            return LiveBytes(local_id, life, self.left_out, dictionary)
        live = self._live.get(life)
        if live is None:
            if len(self._live) >= _MOST_LIVES:
                self._live.clear()
            live = self._live[life] = LiveBytes(local_id, life, self.left_out)
        return live

    @property
    def lives(self) -> int:
        """For how many lives changes are written."""
        return len(self._live)

"""What a peer has yet to ack of the changes that were made until a moment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from peerproto.peering.session import Session
from peerproto.service.peer import Peer
from peerproto.tables.store import TableStore


class Delivery:
    """The changes of some tables until now, on their way to one peer.

    An entry that is changed again goes to another place in the log, and is sent later than it
    would have been. So it is not enough that the peer acks the number that the log has now: it
    has to ack the number that the log had when everything was sent to it, on the same session.
    """

    def __init__(self, tables: Collection[TableStore]) -> None:
        self._left = set(tables)
        """Those of which the peer may not have everything."""
        self._session: Optional[Session] = None
        self._all_sent: dict[TableStore, int] = {}
        """By table, the latest change when all was sent on this session."""

    def reached(self, peer: Peer) -> bool:
        """Whether it has come to the peer; to be asked again and again."""
        session = peer.session
        if session is not self._session:
            self._session = session
            self._all_sent = {}
        self._left.intersection_update(peer.tables())
        for table in list(self._left):
            if session is not None and table not in self._all_sent and session.has_sent_all(table):
                self._all_sent[table] = table.log.head
            acked = peer.acked(table)
            sent = self._all_sent.get(table)
            if (sent is not None and acked >= sent) or not table.log.count_after(acked):
                self._left.discard(table)
        return not self._left

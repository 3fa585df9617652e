"""Acks on one session: how far the peer has our changes, and what is to be acked to it."""

from __future__ import annotations

from peerproto.peering.memory import PeerMemory
from peerproto.peering.peertables import PeerTables
from peerproto.peering.precedence import Precedence
from peerproto.peering.receiving import Receiver
from peerproto.peering.sharedtable import SharedTable
from peerproto.wire.messages import Ack


class Acks:
    """Those of both sides."""

    def __init__(
        self,
        peer: PeerMemory,
        directory: PeerTables,
        receiver: Receiver,
        precedence: Precedence,
    ) -> None:
        self._peer = peer
        self._directory = directory
        self._receiver = receiver
        self._precedence = precedence

    # -- the peer's --------------------------------------------------------

    def took(self, ack: Ack, now: int) -> None:
        """Move on to what the peer has taken, as of ``now`` (ms), if it is something that we sent.

        HAProxy 3.3 and later may send other numbers: those did not come.
        """
        for shared in self._receiver.tables:
            if shared.local_id == ack.table_id:
                log = shared.table.log
                number = log.number_of_id(ack.update_id, shared.sent)
                if number is not None and number > self._peer.acked.get(log, 0):
                    # What the peer wrote before this ack, it wrote without our change.
                    self._receiver.store(now)
                    before = self._peer.acked.get(log, 0)
                    self._peer.took(log, number, now)
                    self.end_sparing(shared, now)
                    self._precedence.acked(shared.table, before, number)

    def end_sparing(self, shared: SharedTable, now: int) -> None:
        """What the peer was spared needs no ack, once all that it was sent is acked."""
        log = shared.table.log
        has = self._peer.acked.get(log, 0)
        if shared.said <= has < shared.sent and log.spares(self._peer, has):
            self._peer.took(log, shared.sent, now)

    def missing(self) -> int:
        """How many changes the peer has yet to ack, of the tables that it is known to have.

        HAProxy does not ack, and does not have, what it has no table for.
        """
        count = 0
        for shared in self._receiver.sent:
            acked = self._peer.acked.get(shared.table.log, 0)
            if acked or shared.remote_id is not None:
                count += shared.table.log.count_after(acked)
        return count

    # -- ours --------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether there is something to ack, and that may be done now.

        Not during a lesson, whose ids are not in the order of changes.
        """
        return bool(self._receiver.to_ack) and not self._precedence.learning

    def write(self, out: bytearray) -> None:
        """Add an ack to ``out`` for each table of which updates came since the last one."""
        for shared in self._receiver.to_ack:
            got = shared.got
            if got is None or got == shared.acked or not self._directory.shares(shared.table):
                continue
            assert shared.remote_id is not None
            out += Ack(shared.remote_id, got).encode()
            self._peer.counters.tx_messages += 1
            shared.acked = got
        self._receiver.to_ack.clear()

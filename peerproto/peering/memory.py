"""The memory of a peer: what is known of it from one session to the next."""

from __future__ import annotations

from typing import Final, Optional
from weakref import WeakKeyDictionary, WeakSet

import attrs

from peerproto.peering.boundedlog import BoundedLog
from peerproto.peering.recentacks import RecentAcks
from peerproto.tables.log import ChangeLog
from peerproto.tables.store import TableStore
from peerproto.updates.stamping import new_number
from peerproto.wire.handshake import DOWNGRADED_MINOR, MINOR, Status
from peerproto.wire.printable import printable

_FIRST: Final = 1
"""The id of a process in a container: the next container has the same."""


@attrs.define
class Counters:
    """What has happened with a peer since the start, by HAProxy's names."""

    new_conn: int = 0
    """Handshakes that succeeded."""
    coll: int = 0
    """Sessions closed because the peer had a newer one."""
    proto_err: int = 0
    """Sessions ended by a protocol error, on either side."""
    no_hbt: int = 0
    """Sessions ended because nothing came for too long."""
    rx_hbt: int = 0
    tx_hbt: int = 0
    confirm: int = 0
    """Lessons learnt to the end."""
    rx_updates: int = 0
    tx_updates: int = 0
    rx_messages: int = 0
    """Messages of sessions, of all kinds; hellos and answers to them are none."""
    tx_messages: int = 0
    rx_bytes: int = 0
    """Bytes of sessions, without what TLS and TCP add. Those of a message that is not whole yet are
    counted some seconds later at most."""
    tx_bytes: int = 0
    refused_definitions: int = 0
    """Definitions of tables that are not shared, since ours differ or there is none."""


@attrs.define(eq=False)
class PeerMemory:
    """One peer of this node, as long as it is one; the local peer (our old process) is one too."""

    name: str
    log: BoundedLog
    """For log lines that the peer can cause."""
    process: Optional[int] = attrs.field(default=None, kw_only=True)
    """The id of the process of it that is known to have got back what it had."""
    whole: WeakSet[TableStore] = attrs.field(factory=WeakSet, kw_only=True)
    """Its shares that are known to have had all that it had: since then, what they have is what it
    has, or is to get back."""
    number: int = attrs.field(default=0, kw_only=True)
    """That of its sessions: another one, once it may have something from another process; 0 before
    the first."""
    local: bool = False
    minor: int = MINOR
    """Version to say in the next hello: 2.0 after it answered 502."""
    heartless: bool = False
    """Whether it had sent no heartbeat when it was taken for dead the last time."""
    status: Optional[int] = None
    """Latest status of a handshake with it, in either direction."""
    established_at: Optional[int] = None
    """When (in ms) the latest session began; ``None`` if there was none yet."""
    trouble: Optional[str] = None
    """Why there is no session, in words."""
    acked: WeakKeyDictionary[ChangeLog, int] = attrs.Factory(WeakKeyDictionary)
    """By log: the number of our latest change in it that the peer has taken."""
    recent_acks: RecentAcks = attrs.Factory(RecentAcks)
    """When the peer has taken them."""
    expires: WeakKeyDictionary[TableStore, int] = attrs.Factory(WeakKeyDictionary)
    """By table: how long the peer keeps an entry, in ms, as it has defined the table last."""
    differences: dict[str, str] = attrs.Factory(dict)
    """By table: why the peer's is not shared with ours, in words, as it was defined last."""
    relays: set[str] = attrs.Factory(set)
    """The tables of which it passes on what it is told, as it has said on its session."""
    given_up: int = 0
    """How many lessons of it in a row were given up, since nothing more came of them."""
    not_taken: dict[str, str] = attrs.Factory(dict)
    """What it sent since its latest lesson began and was too long to be taken, in words."""
    counters: Counters = attrs.Factory(Counters)

    @property
    def shown(self) -> str:
        """Its name in a line of the log, or in a reason, with odd characters escaped."""
        return printable(self.name)

    def established(self, now: int) -> None:
        """Note that a session begins at ``now`` (ms)."""
        self.counters.new_conn += 1
        self.established_at = now

    def took(self, log: ChangeLog, number: int, now: int) -> None:
        """Note that the peer has taken our changes up to a number, at ``now`` (ms)."""
        self.acked[log] = number
        self.recent_acks.note(log, number, now)

    def began(self, process: Optional[int]) -> bool:
        """Note the process with which a session begins: whether it is not known to have got back
        what it had.

        What it may have from us by way of an old process has another number then.
        """
        if self.local or (process not in (None, _FIRST) and process == self.process):
            return False
        self.process = None
        self.number = new_number()
        return True

    def answered(self, status: int) -> Optional[str]:
        """Note the status that it gave to our hello; in words, if it is a refusal."""
        self.status = status
        if status == Status.SUCCEEDED:
            return None
        if status == Status.BAD_VERSION:
            self.minor = DOWNGRADED_MINOR
        known = {one.value: one.meaning for one in Status}
        return f"it refused us with {status}: {known.get(status, 'an unknown status')}"

    def called(self, minor: int) -> None:
        """Note that it has called with success, and said version 2.``minor``."""
        self.status = Status.SUCCEEDED
        if minor >= MINOR:
            # It speaks more than it did when it answered 502.
            self.minor = MINOR

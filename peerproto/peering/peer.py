"""A remote peer: what is remembered of it from one session to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import attrs

from peerproto.wire.handshake import DOWNGRADED_MINOR, MINOR, Status

if TYPE_CHECKING:
    from peerproto.peering.calling import Caller
    from peerproto.peering.protocol import SessionProtocol
    from peerproto.peering.session import Session


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


@attrs.define(eq=False)
class Peer:
    """One peer of this node; the local peer (our old process) is one too."""

    name: str
    address: str = "-"
    """Where it is called, as configured."""
    local: bool = False
    minor: int = MINOR
    """Version to say in the next hello: 2.0 after it answered 502."""
    session: Optional[Session] = None
    connection: Optional[SessionProtocol] = None
    """What the session runs on."""
    caller: Optional[Caller] = None
    """What calls it; ``None`` for the local peer."""
    status: Optional[int] = None
    """Latest status of a handshake with it, in either direction."""
    trouble: Optional[str] = None
    """Why there is no session, in words."""
    acked: dict[str, int] = attrs.Factory(dict)
    """By table: the latest of our changes that it has taken."""
    differences: dict[str, str] = attrs.Factory(dict)
    """By table: why the peer's is not shared with ours, in words."""
    counters: Counters = attrs.Factory(Counters)

    def answered(self, status: int) -> Optional[str]:
        """Note the status that it gave to our hello; in words, if it is a refusal."""
        self.status = status
        if status == Status.SUCCEEDED:
            return None
        if status == Status.BAD_VERSION:
            self.minor = DOWNGRADED_MINOR
        known = {one.value: one.meaning for one in Status}
        return f"it refused us with {status}: {known.get(status, 'an unknown status')}"

    def out_of_step(self) -> list[str]:
        """Every reason why this peer and we do not have the same, in words."""
        if self.session is None:
            return [self.trouble or "not connected yet"]
        reasons = list(self.differences.values())
        if self.session.learning:
            reasons.append("it is teaching us")
        if self.session.teaching:
            reasons.append("we are teaching it")
        elif self.session.behind():
            reasons.append(f"{self.session.behind()} changes are still to be sent to it")
        return reasons

"""Authority: whether a sum may be relied on, and if not, why."""

from __future__ import annotations

from typing import Final, Optional

from peerproto import StickTableService
from peerproto.aggregation.rules import Rules

_LOOK: Final = 100
"""Time in ms after which it is looked at again who has taught."""


class Authority:
    """Knows which of the expected peers are in the sum.

    A node that starts publishes nothing before all of them have taught, or have had the time to:
    HAProxies keep what they have meanwhile. When one is missed later, the sum has no authority
    until it comes back, or the grace is over: from then on its share counts as it was.
    """

    def __init__(self, service: StickTableService, rules: Rules) -> None:
        self._service = service
        self._rules = rules
        self.has_begun = False
        """Whether anything may be published."""
        self._wait_until = 0
        self._missing: dict[str, int] = {}
        """Expected peers that are not in, and since when (in ms)."""
        self._heard: set[str] = set()
        """Expected peers that have taught. A new process of one may have yet to get back what it
        had: until then its share counts as it was."""

    def begin(self, now: int) -> None:
        """The node starts, at ``now`` (ms)."""
        self.has_begun = False
        self._wait_until = now + self._rules.expect_timeout
        self._missing = {}
        self._heard = set()
        self.look(now)

    def look(self, now: int) -> None:
        """See who is in, as of ``now`` (ms)."""
        missing = [name for name in self._rules.expect if not self._is_in(name)]
        self._missing = {name: self._missing.get(name, now) for name in missing}
        if not self.has_begun:
            learnt = self._service.resync.up_to_date and not missing
            self.has_begun = learnt or now >= self._wait_until

    def _is_in(self, name: str) -> bool:
        peer = self._service.peers.get(name)
        if peer is None:
            self._heard.discard(name)
            return False
        if peer.has_taught:
            self._heard.add(name)
        return peer.connected and name in self._heard

    @property
    def next_due(self) -> Optional[int]:
        """When (in ms) something may be otherwise, though nothing happens; ``None`` for never."""
        now = self._service.now()
        times = [since + self._rules.grace for since in self._missing.values()]
        if not self.has_begun:
            times = [self._wait_until, now + _LOOK]
        elif any(name not in self._heard for name in self._missing):
            times.append(now + _LOOK)
        return min((time for time in times if time > now), default=None)

    def why_not(self) -> Optional[str]:
        """Why the sum has no authority, in words; ``None`` if it has."""
        if not self.has_begun:
            waits = ", ".join(self._missing) or "this node to be up to date"
            return f"it waits for {waits}"
        now, grace = self._service.now(), self._rules.grace
        late = [name for name, since in self._missing.items() if now - since < grace]
        return f"{', '.join(late)} missing" if late else None

    def count_in(self) -> int:
        """How many sources are connected."""
        peers = self._service.peers
        return sum(peers[name].connected for name in self._rules.of(peers))

    def since(self, name: str) -> Optional[int]:
        """Since when (in ms) an expected peer is not in; ``None`` if it is."""
        return self._missing.get(name)

"""Authority: whether a sum may be relied on, and if not, why."""

from __future__ import annotations

from typing import Optional

from peerproto import StickTableService
from peerproto.aggregation.rules import Rules


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

    def begin(self, now: int) -> None:
        """The node starts, at ``now`` (ms)."""
        self.has_begun = False
        self._wait_until = now + self._rules.expect_timeout
        self._missing = {}
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
        return peer is not None and peer.connected and peer.has_taught

    @property
    def next_due(self) -> Optional[int]:
        """When (in ms) something may be otherwise, though nothing happens; ``None`` for never."""
        if not self.has_begun:
            return self._wait_until
        now = self._service.now()
        ends = [since + self._rules.grace for since in self._missing.values()]
        return min((end for end in ends if end > now), default=None)

    def why_not(self) -> Optional[str]:
        """Why the sum has no authority, in words; ``None`` if it has."""
        if not self.has_begun:
            waits = ", ".join(self._missing) or "this node to be up to date"
            return f"it waits for {waits}"
        now, grace = self._service.now(), self._rules.grace
        late = [name for name, since in self._missing.items() if now - since < grace]
        return f"{', '.join(late)} missing" if late else None

    def since(self, name: str) -> Optional[int]:
        """Since when (in ms) an expected peer is not in; ``None`` if it is."""
        return self._missing.get(name)

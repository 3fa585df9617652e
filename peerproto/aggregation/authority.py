"""Authority: whether a sum may be relied on, and if not, why."""

from __future__ import annotations

from typing import Final, Optional

from peerproto import StickTableService
from peerproto.aggregation.lease import Vouch
from peerproto.aggregation.rules import Rules
from peerproto.aggregation.sources import Sources

_LOOK: Final = 100
"""Time in ms after which it is looked at again who has taught."""


class Authority:
    """Knows which of the expected peers are in the sum.

    A node that starts publishes nothing before all of them have taught, or have had the time to:
    HAProxies keep what they have meanwhile. When one is missed later, the sum has no authority
    until it comes back, or the grace is over: from then on its share counts as it was.
    """

    def __init__(self, service: StickTableService, rules: Rules, sources: Sources) -> None:
        self._service = service
        self._rules = rules
        self._sources = sources
        self.has_begun = False
        """Whether anything may be published."""
        self._wait_until = 0
        self._looked_at = 0
        """When (in ms) it was looked at last who is in."""
        self._missing: dict[str, int] = {}
        """Expected sources that are not in, and since when (in ms)."""

    def begin(self, now: int) -> None:
        """The node starts, or the source is another table, at ``now`` (ms)."""
        self.has_begun = False
        self._wait_until = now + self._rules.expect_timeout
        self._missing = {}

    def look(self, now: int) -> None:
        """See who is in, as of ``now`` (ms)."""
        self._looked_at = now
        missing = [word for word in self._rules.expect if not self._sources.is_in(word)]
        self._missing = {word: self._missing.get(word, now) for word in missing}
        if not self.has_begun:
            learnt = self._service.up_to_date and not missing
            self.has_begun = learnt or now >= self._wait_until

    @property
    def next_due(self) -> Optional[int]:
        """When (in ms) something may be otherwise, though nothing happens; ``None`` for never."""
        now = self._service.now()
        ends = [since + self._rules.grace for since in self._missing.values()]
        if not self.has_begun:
            ends = [self._wait_until]
        times = [end for end in ends if end > now]
        comes_in = self._rules.source_lease is not None or self._sources.may_come_in
        if not self.has_begun or comes_in:
            # From the last look on: who asks for this more often is not to put it off for ever.
            times.append(self._looked_at + _LOOK)
        return min(times, default=None)

    def why_not(self) -> Optional[str]:
        """Why the sum has no authority, in words; ``None`` if it has."""
        if not self.has_begun:
            waits = ", ".join(self._missing) or "this node to be up to date"
            return f"it waits for {waits}"
        now, grace = self._service.now(), self._rules.grace
        late = [name for name, since in self._missing.items() if now - since < grace]
        return f"{', '.join(late)} missing" if late else None

    def vouch(self) -> Optional[Vouch]:
        """What the sums are vouched for; ``None`` if they may be behind.

        They may be at once when a source is missed, before the next look.
        """
        if self.why_not() is not None or self._misses_another:
            return None
        return self._sources.vouch()

    @property
    def _misses_another(self) -> bool:
        """Whether a source is not in that was at the last look."""
        return any(
            word not in self._missing and not self._sources.is_in(word)
            for word in self._rules.expect
        )

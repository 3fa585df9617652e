"""What the node that adds up sends to a HAProxy is held back, or lost without a word."""

from __future__ import annotations

import signal
import time

from pytest_twisted import ensureDeferred

from testbed import Mesh, pause

from .conftest import oldest_and_newest
from .witnesses import BEHIND, UNHEARD, Decision, Witnesses

HELD = 3.0
"""Seconds for which bytes are held back."""

FROZEN = 4
"""How often the node is frozen."""

LOCAL = 1.2
"""Seconds after the last byte from which on a HAProxy decides by what it counts itself."""


class Held(Witnesses):
    """The last HAProxy is cut off, in one way or the other."""

    def hold_back(self) -> None:
        """Let nothing of the node through: it waits."""
        self.link.stall(back=True)

    def lose(self) -> None:
        """Let nothing through in either direction: it is lost."""
        self.link.hole = True

    def fell_back(self, last: float, until: float) -> int:
        """See that the HAProxy decided without sums in time, by its own clock: after how many ms it
        did so first.

        :param last: when (in seconds since the epoch) the last byte came that was let through.
        :param until: when the next one came.
        """
        decided = [one for one in self.of(self.last, until=until) if one.now > last]
        late = [one for one in decided if one.lacked is not None and one.now > last + LOCAL]
        assert not late, f"{len(late)} decisions by sums later than {LOCAL} s: {late[:3]}"
        return round((next(one.now for one in decided if one.lacked is None) - last) * 1000)

    def others_missed_it(self, last: float, until: float) -> int:
        """See that the leases of the others said in time that a source is missing: after how many
        ms one said otherwise last.

        :param last: when (in seconds since the epoch) the last byte of that source was let through.
        :param until: when it was let through again.
        """
        full = [
            one.now - last
            for one in self.of(*self.without_link(), until=until)
            if one.lacked is not None and one.sources == len(self.haproxies)
        ]
        assert max(full) <= UNHEARD, f"they still counted it after {max(full)} s"
        return round(max(full) * 1000)


@oldest_and_newest
@ensureDeferred
async def test_held_back_and_lost(mesh: Mesh) -> None:
    """Bytes of the node are held back for 3 s and then let go, and later all bytes are lost, until
    the others decide without that source: nothing is decided by a sum that is not fresh, local
    limits hold 1.2 s after the last byte, and sums again once bytes come."""
    held = Held(mesh)
    await held.start()
    try:
        held.hold_back()
        await pause(HELD)
        held_at, let_go = held.link.last_back, time.time()
        held.link.heal()
        await held.all_by_sums()

        held.lose()
        lost_at, silent_at = held.link.last_back, held.link.last_there
        others = held.without_link()
        await held.decide(others, len(others))
        healed = time.time()
        held.link.heal()
        await held.all_by_sums()
    finally:
        await held.end()

    def may_be(one: Decision) -> float:
        if one.counted_at != held.last:
            return BEHIND
        if one.sources < len(held.haproxies):
            # The share of a source that is missing counts as it was.
            return float("inf")
        missing = one.place != held.last and silent_at < one.answered and one.began < healed
        return UNHEARD if missing else BEHIND

    decisions, most = held.check(may_be)
    stale = held.timeless_stale()
    held.show(
        "held back 3 s and cut off",
        {
            "decisions by sums": decisions,
            "that lacked nothing older than": f"{most:.0f} ms",
            "local limits after": f"{held.fell_back(held_at, let_go)} ms"
            f" and {held.fell_back(lost_at, healed)} ms",
            "the others knew after": f"{held.others_missed_it(silent_at, healed)} ms",
            "stale but for the lease's time": stale,
        },
    )
    assert stale > 0, "a lease without a time would have done: nothing was held back"


@ensureDeferred
async def test_frozen(mesh: Mesh) -> None:
    """The node is frozen and resumed, again and again: nothing is decided by sums that lack what
    HAProxies said meanwhile, which it has yet to read."""
    held = Held(mesh)
    await held.start()
    try:
        for _ in range(FROZEN):
            held.hub.send_signal(signal.SIGSTOP)
            await held.decide(range(len(held.haproxies)), 0)
            await pause(1)
            held.hub.send_signal(signal.SIGCONT)
            await held.all_by_sums()
    finally:
        held.hub.send_signal(signal.SIGCONT)
        await held.end()
    decisions, most = held.check(lambda _: BEHIND)
    held.show(
        f"frozen {FROZEN} times",
        {
            "decisions by sums": decisions,
            "that lacked nothing older than": f"{most:.0f} ms",
            "stale but for the lease's time": held.timeless_stale(),
        },
    )

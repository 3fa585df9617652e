"""The node that adds up is gone for a time, or what it sends to a HAProxy is held back, or lost
without a word."""

from __future__ import annotations

import signal
import time
from typing import Optional

from pytest_twisted import ensureDeferred

from testbed import Mesh, pause

from .conftest import IS_LONG, oldest_and_newest
from .witnesses import BEHIND, UNHEARD, Decision, Witnesses

HELD = 3.0
"""Seconds for which bytes are held back."""

FROZEN = 3.0
"""Seconds for which the node is frozen."""

HOWS = [signal.SIGKILL, signal.SIGTERM, *[signal.SIGSTOP] * (4 if IS_LONG else 2)]
"""What the node is sent, one after the other."""

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

    def fell_back(self, last: float, until: float, place: Optional[int] = None) -> int:
        """See that a HAProxy decided without sums in time, by its own clock: after how many ms it
        decided by one last.

        :param last: when (in seconds since the epoch) the last byte came that was let through.
        :param until: when the next one came.
        :param place: which HAProxy, the last one unless told otherwise.
        """
        place = self.last if place is None else place
        decided = [one for one in self.of(place, until=until) if one.now > last]
        assert [one for one in decided if one.lacked is None], "nobody came meanwhile"
        by_sums = [one.now - last for one in decided if one.lacked is not None]
        assert max(by_sums, default=0.0) <= LOCAL, f"decisions by sums after {max(by_sums)} s"
        return round(max(by_sums, default=0.0) * 1000)

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
            "none by a sum after": f"{held.fell_back(held_at, let_go)} ms"
            f" and {held.fell_back(lost_at, healed)} ms",
            "the others knew after": f"{held.others_missed_it(silent_at, healed)} ms",
            "stale but for the lease's time": stale,
        },
    )
    assert stale > 0, "a lease without a time would have done: nothing was held back"


@oldest_and_newest
@ensureDeferred
async def test_gone_and_back(mesh: Mesh) -> None:
    """The node is killed, stopped, and frozen for 3 s, again and again: nothing is decided by a sum
    that is not fresh, nor by one that lacks what HAProxies said while it was frozen, which it has
    yet to read; local limits hold 1.2 s after it, and sums again once it is back."""
    held = Held(mesh)
    await held.start()
    everywhere = range(len(held.haproxies))
    after: dict[str, list[int]] = {}
    try:
        for how in HOWS:
            last = time.time()
            if how == signal.SIGSTOP:
                held.hub.send_signal(how)
            else:
                await held.hub.stop(how)
                # One that is stopped speaks until it ends.
                last = time.time()
            await held.decide(everywhere, 0)
            if how == signal.SIGSTOP:
                await pause(last + FROZEN - time.time())
            came_back = time.time()
            if how == signal.SIGSTOP:
                held.hub.send_signal(signal.SIGCONT)
            else:
                held.start_hub()
            await held.all_by_sums()
            after.setdefault(how.name, []).append(
                max(held.fell_back(last, came_back, place) for place in everywhere)
            )
    finally:
        if held.hub.process is not None:
            held.hub.send_signal(signal.SIGCONT)
        await held.end()
    decisions, most = held.check(lambda _: BEHIND)
    held.show(
        "the node killed, stopped, and frozen 3 s",
        {
            "decisions by sums": decisions,
            "that lacked nothing older than": f"{most:.0f} ms",
            "none by a sum after": ", ".join(f"{max(ms)} ms ({how})" for how, ms in after.items()),
            "stale but for the lease's time": held.timeless_stale(),
        },
    )
